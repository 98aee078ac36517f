"""autoboot.txt, from which the Raspberry Pi's firmware takes the boot partition: text and values, without any I/O.

The firmware reads it from the first FAT partition.

    [all]
    tryboot_a_b=1
    boot_partition=2        the boot partition of the slot that is confirmed
    [tryboot]
    boot_partition=3        what a reboot with the argument "0 tryboot" starts, once
    # updated: b=trial a=good boot=6f2c...

The firmware's keys say what it starts, and they win. What they can't express stands in one comment: the slots in their
order, each of them good, on trial, tried (its trial is used up), bad or empty; and the boot that began a trial. So one
write of one sector changes everything at once. [tryboot] names the other slot when it is good or on trial, and
otherwise the confirmed one: whoever asks for a tryboot starts nothing that is empty or was rejected. All other lines
stay.

The firmware counts nothing and leaves no trace of a trial that hung, so a trial is marked as begun just before the
reboot that starts it, with the boot in which that happens; from then on it is used up in every other boot. Without the
mark it has its try in every boot but its own, however many of them pass by: a plain reboot or a power cut takes nothing
from a release that was never tried.

Sources: autoboot.adoc, conditional.adoc and what_is_config_txt.adoc (computers/config_txt), bootflow-eeprom.adoc
(computers/raspberry-pi) of github.com/raspberrypi/documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState

MOST_BYTES: Final = 512
AUTOBOOT: Final = "autoboot.txt"
LAYOUT: Final = "the lines [all], tryboot_a_b=1 and boot_partition=N with the boot partition of the slot that runs now"
# Of the boot that begins a trial.
BOOT_ID_DIGITS: Final = 32

_MEND: Final = f"Write it anew: {LAYOUT}."
_BLANKS: Final = " \t\r\n"
_PADDING: Final = b"\0\n"
_FILTER: Final = re.compile(r"\[(.*)\]")
_SETTING: Final = re.compile(r"(tryboot_a_b|boot_partition)=(.*)")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_OURS: Final = "# updated:"
_MARK: Final = " boot="
_COMMENT: Final = re.compile(
    r"# updated:((?: [a-z0-9]+=(?:empty|bad|tried|trial|good))+)(?: boot=([0-9a-z]+))?", re.ASCII
)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Autoboot:
    """The lines of the file (bytes as Latin-1, each with its end), and what they say.

    The firmware starts the partition `starts`, and `tries` when it was asked for a tryboot: None when the files for
    that would be others. `noted` are (slot, condition) of our comment in their order; `boot` is the one that began the
    trial, "" while none has.
    """

    lines: tuple[str, ...]
    starts: int
    tries: int | None
    noted: tuple[tuple[str, str], ...]
    boot: str

    def format(self) -> bytes:
        return "".join(self.lines).encode("latin-1")


def parse(data: bytes) -> Autoboot:
    """Raises BootError `autoboot-corrupt`, and `no-slots` for a text that names no boot partition."""
    if len(data) > MOST_BYTES:
        raise _corrupt(f"it has more than the {MOST_BYTES} bytes that the firmware reads")
    text = data.rstrip(_PADDING)
    if not text.strip():
        raise _corrupt("it is empty")
    if b"\0" in text:
        raise _corrupt("it has bytes of zero within its text")
    lines = tuple(f"{line}\n" for line in text.decode("latin-1").split("\n"))
    starts = _number(_effective(lines, "boot_partition", tryboot=False))
    if starts is None:
        raise _no_partition(text)
    tries = _number(_effective(lines, "boot_partition", tryboot=True))
    if _effective(lines, "tryboot_a_b", tryboot=True) != "1":
        tries = None
    comments = [found for line in lines if (found := _COMMENT.fullmatch(line.strip(_BLANKS)))]
    if not comments:
        return Autoboot(lines, starts, tries, (), "")
    words = [word.partition("=") for word in comments[0][1].split()]
    return Autoboot(lines, starts, tries, tuple((slot, noted) for slot, _, noted in words), comments[0][2] or "")


def decode(file: Autoboot, partitions: Sequence[tuple[str, int]], *, boot: str, trial_runs: int | None) -> BootView:
    """The boot reference as it is in the boot `boot`, in which partition `trial_runs` was started for a trial.

    Raises BootError `no-slots`.
    """
    confirmed, other = confirmed_and_other(file, partitions)
    noted = dict(file.noted)
    agrees = noted.get(confirmed) == "good" and other in noted
    word = noted.get(other, "empty")
    if not agrees and word in ("trial", "tried"):
        word = "bad"  # somebody swapped the partitions, and nobody confirmed this slot
    first = other if word in ("trial", "tried") and next(iter(noted)) == other else confirmed
    used_up = first == other and (file.boot not in ("", boot) or file.tries == trial_runs)
    tries_left = int(word == "trial" and file.tries == dict(partitions)[other] and not used_up)
    states = {confirmed: SlotState(2 if first == confirmed else 1, tries_left=0, confirmed=True)}
    if word in ("empty", "bad"):
        states[other] = EMPTY if word == "empty" else REJECTED
    else:
        states[other] = SlotState(2 if first == other else 1, tries_left, confirmed=word == "good")
    return BootView(tuple((slot, states[slot]) for slot, _ in partitions))


def encode(file: Autoboot, partitions: Sequence[tuple[str, int]], view: BootView, *, begun_in: str = "") -> bytes:
    """The file with the boot reference `view`, and with all foreign lines as they are.

    `begun_in` is the boot that begins the trial. Raises BootError `bad-tries`, `no-confirmed-slot`, `autoboot-full`.
    """
    _require_countable(view)
    ranked = _ranked(view)
    good = [slot for slot, state in ranked if state.condition == "good"]
    if not good:
        raise BootError(
            "no-confirmed-slot",
            AUTOBOOT,
            "no slot would be confirmed, but the firmware always starts one",
            "Confirm the slot that is known to work (updated-bootctl confirm SLOT).",
        )
    other = view.other(good[0])
    numbers = dict(partitions)
    tried = other if view.state(other).bootable else good[0]
    note = " ".join([_OURS, *(f"{slot}={_word(state)}" for slot, state in ranked)])
    if begun_in:
        note += f"{_MARK}{begun_in}"
    lines = _with_settings(file.lines, numbers[good[0]], numbers[tried], f"{note}\n")
    data = "".join(lines).encode("latin-1")
    # A trial that could not be marked later must not be armed either.
    still_to_come = ranked[0][1].condition == "trial" and not begun_in
    needed = len(data) + (len(_MARK) + BOOT_ID_DIGITS if still_to_come else 0)
    if needed > MOST_BYTES:
        raise BootError(
            "autoboot-full",
            AUTOBOOT,
            f"it would have {needed} bytes, and the firmware reads {MOST_BYTES}",
            "Remove lines that nobody needs.",
        )
    return data


def confirmed_and_other(file: Autoboot, partitions: Sequence[tuple[str, int]]) -> tuple[str, str]:
    """The slot that the firmware starts, and the other one. Raises BootError `no-slots`."""
    confirmed = [slot for slot, number in partitions if number == file.starts]
    others = [slot for slot, number in partitions if number != file.starts]
    if len(confirmed) != 1 or len(others) != 1:
        known = ", ".join(f"{slot} = {number}" for slot, number in partitions)
        raise BootError(
            "no-slots",
            AUTOBOOT,
            f"its section [all] starts partition {file.starts}, and the slots have {known or 'none'}",
            "Correct it, or set tryboot_partitions in the table [boot].",
        )
    return confirmed[0], others[0]


def contradictions(file: Autoboot, partitions: Sequence[tuple[str, int]]) -> list[str]:
    """Where the comment says something that the firmware's keys don't, which count."""
    confirmed, other = confirmed_and_other(file, partitions)
    noted = dict(file.noted)
    if not noted:
        return []
    if noted.get(confirmed) != "good" or other not in noted:
        return [f"its comment does not call slot {confirmed} good, which its section [all] starts"]
    if noted[other] == "trial" and file.tries != dict(partitions)[other]:
        return [f"its section [tryboot] does not start slot {other}, which is on trial"]
    return []


def meaning(view: BootView) -> tuple[tuple[str, str, int], ...]:
    """What is kept of `view`: the order, and what each slot is."""
    return tuple((slot, _word(state), state.tries_left if state.bootable else 0) for slot, state in _ranked(view))


def _no_partition(text: bytes) -> BootError:
    cause = "its section [all] names no boot_partition"
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return _corrupt(cause)
    if _CONTROL.search(text):
        return _corrupt(cause)
    return BootError("no-slots", AUTOBOOT, cause, _MEND)


def _sections(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line with its section: "all", "tryboot", or "other" below any further filter.

    Filters add up until [all] resets them.
    """
    filters: set[str] = set()
    for line in lines:
        header = _FILTER.fullmatch(line.strip(_BLANKS))
        if header:
            filters = set() if header[1] == "all" else {*filters, header[1]}
        yield line, "all" if not filters else "tryboot" if filters == {"tryboot"} else "other"


def _effective(lines: Sequence[str], name: str, *, tryboot: bool) -> str | None:
    """The value of `name` at a usual boot, or with `tryboot` at one of a trial: the last one counts."""
    value = None
    for line, section in _sections(lines):
        setting = _SETTING.fullmatch(line.strip(_BLANKS))
        if setting and setting[1] == name and (section == "all" or (tryboot and section == "tryboot")):
            value = setting[2]
    return value


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _require_countable(view: BootView) -> None:
    for slot, state in view.slots:
        if state.tries_left > (0 if state.confirmed else 1):
            raise BootError(
                "bad-tries",
                f"slot {slot}",
                f"{state.tries_left} tries can't be counted by this firmware, which starts a trial once",
                "Give a trial one try, and a confirmed slot none.",
            )


def _ranked(view: BootView) -> list[tuple[str, SlotState]]:
    """In the order in which they are started; the firmware knows no equals."""
    return sorted(view.slots, key=lambda slot: -slot[1].priority)


def _word(state: SlotState) -> str:
    tried = state.priority > 0 and not state.confirmed and not state.tries_left
    return "tried" if tried else state.condition


def _with_settings(lines: Sequence[str], starts: int, tries: int, note: str) -> list[str]:
    wanted = {
        ("all", "boot_partition"): str(starts), ("tryboot", "boot_partition"): str(tries),
        ("all", "tryboot_a_b"): "1", ("tryboot", "tryboot_a_b"): "1",
    }  # fmt: skip
    changed: list[str] = []
    for line, section in _sections(lines):
        setting = _SETTING.fullmatch(line.strip(_BLANKS))
        if line.strip(_BLANKS).startswith(_OURS):
            continue
        if setting and (section, setting[1]) in wanted:
            end = line[len(line.rstrip(_BLANKS)) :]
            changed.append(f"{setting[1]}={wanted[section, setting[1]]}{end}")
        else:
            changed.append(line)
    if _effective(changed, "boot_partition", tryboot=True) != str(tries):
        last = _boot_partition_lines(changed)[-1] + 1
        following = [line.strip(_BLANKS) for line in changed[last:] if line.strip(_BLANKS)]
        reset = ["[all]\n"] if following and following[0] != "[all]" else []
        changed[last:last] = ["[tryboot]\n", f"boot_partition={tries}\n", *reset]
    if _effective(changed, "tryboot_a_b", tryboot=True) != "1":
        changed.insert(_boot_partition_lines(changed)[0], "tryboot_a_b=1\n")
    return [*changed, note]


def _boot_partition_lines(lines: Sequence[str]) -> list[int]:
    """Where the boot partition of every boot is set."""
    return [
        index
        for index, (line, section) in enumerate(_sections(lines))
        if section == "all" and line.strip(_BLANKS).startswith("boot_partition=")
    ]


def _corrupt(cause: str) -> BootError:
    return BootError("autoboot-corrupt", AUTOBOOT, cause, _MEND)
