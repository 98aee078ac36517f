"""The boot reference in autoboot.txt, which the Raspberry Pi's firmware reads from the first FAT partition.

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
(computers/raspberry-pi) and device-tree.adoc (computers/configuration) of github.com/raspberrypi/documentation; the
reboot argument is read by drivers/firmware/raspberrypi.c of github.com/raspberrypi/linux.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bootctl import durable, model
from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState

MOST_BYTES: Final = 512
BACKUP_SUFFIX: Final = ".backup"
TRYBOOT_ARGUMENT: Final = "0 tryboot"

# One byte below the limit, in case that a firmware counts the end of the text as well.
_GROWN: Final = MOST_BYTES - 1
_BLANKS: Final = " \t\r\n"
_PADDING: Final = b"\0\n"
_FILTER: Final = re.compile(r"\[(.*)\]")
_SETTING: Final = re.compile(r"(tryboot_a_b|boot_partition)=(.*)")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_OURS: Final = "# updated:"
_MARK: Final = " boot="
_BOOT_ID_DIGITS: Final = 32
_COMMENT: Final = re.compile(
    r"# updated:((?: [a-z0-9]+=(?:empty|bad|tried|trial|good))+)(?: boot=([0-9a-z]+))?", re.ASCII
)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TRYBOOT_A_B_CAPABILITY: Final = 1 << 2
_LIMITS: Final = (
    (
        "A trial gets one boot, by the reboot that `updated` asks for (updatectl reboot): any other starts the "
        "confirmed slot, and the trial waits. Once that was asked for, its one boot is used up, even if it is cut off."
    ),
    "The boots of a confirmed slot are not counted: nothing falls back from one that breaks later.",
    (
        "A boot that hangs is ended by the hardware watchdog alone: set kernel_watchdog_timeout in config.txt (on old "
        "firmware dtparam=watchdog=on), and RuntimeWatchdogSec= in systemd's system.conf."
    ),
    (
        "The firmware reads one copy of autoboot.txt: set PARTITION_WALK=1 in the configuration of its EEPROM, so that "
        "it looks for a partition that boots when that copy is lost."
    ),
)
_TOO_OLD: Final = "This firmware is too old for tryboot_a_b, so that no trial begins: update it (rpi-eeprom-update -a)."


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


def _no_partition(text: bytes) -> BootError:
    cause = "its section [all] names no boot_partition"
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return _corrupt(cause)
    if _CONTROL.search(text):
        return _corrupt(cause)
    return BootError("no-slots", _FILE, cause, _MEND)


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


def decode(file: Autoboot, partitions: Sequence[tuple[str, int]], *, boot: str, trial_runs: int | None) -> BootView:
    """The boot reference as it is in the boot `boot`, in which partition `trial_runs` was started for a trial.

    Raises BootError `no-slots`.
    """
    confirmed, other = _confirmed_and_other(file, partitions)
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


def _confirmed_and_other(file: Autoboot, partitions: Sequence[tuple[str, int]]) -> tuple[str, str]:
    confirmed = [slot for slot, number in partitions if number == file.starts]
    others = [slot for slot, number in partitions if number != file.starts]
    if len(confirmed) != 1 or len(others) != 1:
        known = ", ".join(f"{slot} = {number}" for slot, number in partitions)
        raise BootError(
            "no-slots",
            _FILE,
            f"its section [all] starts partition {file.starts}, and the slots have {known or 'none'}",
            "Correct it, or set tryboot_partitions in the table [boot].",
        )
    return confirmed[0], others[0]


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
            _FILE,
            "no slot would be confirmed, but the firmware always starts one",
            "Confirm the slot that is known to work (python3 -m bootctl confirm SLOT).",
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
    needed = len(data) + (len(_MARK) + _BOOT_ID_DIGITS if still_to_come else 0)
    if needed > MOST_BYTES:
        raise BootError(
            "autoboot-full",
            _FILE,
            f"it would have {needed} bytes, and the firmware reads {MOST_BYTES}",
            "Remove lines that nobody needs.",
        )
    return data


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


def _meaning(view: BootView) -> tuple[tuple[str, str, int], ...]:
    """What is kept of `view`: the order, and what each slot is."""
    return tuple((slot, _word(state), state.tries_left if state.bootable else 0) for slot, state in _ranked(view))


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


class Tryboot:
    """The backend for the file `autoboot`, of which a second copy is kept beside it.

    `partitions` gives each of the two slots the number of its boot partition. /proc is looked for below `root`. The
    file knows an order and no numbers: what was committed with the priorities 1 and 0 is read back as 2 and 0.
    """

    def __init__(self, autoboot: str, partitions: tuple[tuple[str, int], ...], root: str) -> None:
        self.name = "tryboot"
        self.most_tries = 1
        self.counts_confirmed = False
        self._path = os.path.realpath(autoboot)
        self._backup = self._path + BACKUP_SUFFIX
        self._partitions = partitions
        self._root = root

    def read(self) -> BootView:
        """From the second copy if the first one is damaged; the firmware does not do that, and `problems` tells.

        Raises BootError `autoboot-missing`, `autoboot-unreadable`, `autoboot-corrupt`, `no-slots`.
        """
        with self._named():
            return self._view(self._read()[0])

    def commit(self, view: BootView) -> None:
        """Also mends a damaged copy, the one of the firmware first. Raises BootError: what `read` raises, `bad-tries`,
        `no-confirmed-slot`, `autoboot-full`, `autoboot-not-writable`, `unknown-slot`, `read-back-differs`.
        """
        with self._named():
            file, first_is_whole = self._read()
            current = self._view(file)
            for name in {*current.names, *view.names}:
                for one in (current, view):
                    one.state(name)
            unchanged = _meaning(view) == _meaning(current) and not self._contradictions(file)
            data = _bytes(file) if unchanged else encode(file, self._partitions, view)
            self._write_copies(data, first_is_whole=first_is_whole)

    def problems(self) -> tuple[str, ...]:
        """Raises BootError as `read`."""
        with self._named():
            file, _ = self._read()
        found = []
        for path in (self._path, self._backup):
            cause = self._damage(path)
            if cause and path == self._path:
                found.append(
                    f"{path}: {cause}; the firmware can't use it, and starts whatever partition it finds first, until "
                    f"the next change writes it anew from {self._backup}"
                )
            elif cause:
                found.append(f"{path}: {cause}")
            elif self._content(path) != _bytes(file):
                found.append(f"{path}: it differs from the copy that counts")
        return (*found, *(f"{self._path}: {text}" for text in self._contradictions(file)))

    def limits(self) -> tuple[str, ...]:
        capabilities = self._property("capabilities")
        too_old = capabilities is not None and not capabilities & _TRYBOOT_A_B_CAPABILITY
        return (*_LIMITS, _TOO_OLD) if too_old else _LIMITS

    def begin_reboot(self) -> str:
        """Mark the trial that starts next as begun: it is used up in any other boot than this one.

        Writes as `commit`: durable when it returns, and nothing when there is no trial or it is marked already. Raises
        BootError: what `read` raises, `boot-id-unreadable`, `autoboot-full`, `autoboot-not-writable`,
        `read-back-differs`.
        """
        with self._named():
            file, first_is_whole = self._read()
            view = self._view(file)
            slot, _ = model.next_boot(view)
            if slot is None or view.state(slot).condition != "trial":
                return ""
            data = _bytes(file)
            if not file.boot:
                data = encode(file, self._partitions, view, begun_in=self._require_boot_id())
            self._write_copies(data, first_is_whole=first_is_whole)
            return TRYBOOT_ARGUMENT

    def booted(self) -> tuple[int, bool] | None:
        """The boot partition that the firmware started, and whether by tryboot; None where it doesn't tell."""
        partition, tryboot = self._property("partition"), self._property("tryboot")
        return None if partition is None or tryboot is None else (partition, tryboot == 1)

    def _property(self, name: str) -> int | None:
        """A number that the firmware left in the device tree, where its cells are big-endian."""
        try:
            with open(os.path.join(self._root, "proc/device-tree/chosen/bootloader", name), "rb") as file:
                cell = file.read(5)
        except OSError:
            return None
        return int.from_bytes(cell, "big") if len(cell) == 4 else None

    def _boot_id(self) -> str:
        for root in (self._root, "/"):
            try:
                with open(os.path.join(root, "proc/sys/kernel/random/boot_id"), "rb") as file:
                    text = file.read(64).decode("latin-1").lower()
            except OSError:
                continue
            if boot := re.sub(r"[^0-9a-z]", "", text)[:_BOOT_ID_DIGITS]:
                return boot
        return ""

    def _require_boot_id(self) -> str:
        boot = self._boot_id()
        if not boot:
            raise BootError(
                "boot-id-unreadable",
                "/proc/sys/kernel/random/boot_id",
                "it can't be read, so that nobody could tell later whether the trial was used up",
                "Mount /proc.",
            )
        return boot

    def _view(self, file: Autoboot) -> BootView:
        partition, tryboot = self.booted() or (0, False)
        return decode(file, self._partitions, boot=self._boot_id(), trial_runs=partition if tryboot else None)

    def _contradictions(self, file: Autoboot) -> list[str]:
        """Where the comment says something that the firmware's keys don't, which count."""
        confirmed, other = _confirmed_and_other(file, self._partitions)
        noted = dict(file.noted)
        if not noted:
            return []
        if noted.get(confirmed) != "good" or other not in noted:
            return [f"its comment does not call slot {confirmed} good, which its section [all] starts"]
        if noted[other] == "trial" and file.tries != dict(self._partitions)[other]:
            return [f"its section [tryboot] does not start slot {other}, which is on trial"]
        return []

    def _read(self) -> tuple[Autoboot, bool]:
        """The copy that counts, and whether it is the first one."""
        try:
            return self._parsed(self._path), True
        except (BootError, FileNotFoundError) as error:
            try:
                return self._parsed(self._backup), False
            except (BootError, FileNotFoundError):
                if isinstance(error, BootError):
                    raise error from None
                raise BootError("autoboot-missing", self._path, "there is no such file", _MEND_MISSING) from None

    def _parsed(self, path: str) -> Autoboot:
        file = parse(self._load(path))
        _confirmed_and_other(file, self._partitions)
        return file

    def _damage(self, path: str) -> str:
        try:
            self._parsed(path)
        except BootError as error:
            return error.cause
        except FileNotFoundError:
            return "there is no such file"
        return ""

    def _content(self, path: str) -> bytes | None:
        """The text of a copy that is whole."""
        try:
            return _bytes(self._parsed(path))
        except (BootError, FileNotFoundError):
            return None

    def _load(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BootError(
                "autoboot-unreadable", path, f"it can't be read ({error.strerror})", "Run this as root."
            ) from error

    def _write_copies(self, data: bytes, *, first_is_whole: bool) -> None:
        """Write those copies that differ from `data`, and read them back."""
        # What the firmware would read now is written last; the other copy can stand in for it meanwhile.
        both = (self._backup, self._path) if first_is_whole else (self._path, self._backup)
        stale = [path for path in both if self._content(path) != data]
        for path in stale:
            self._write(path, data)
        if any(self._content(path) != data for path in stale):
            raise BootError(
                "read-back-differs",
                self._path,
                "it does not hold what was written to it",
                "The disk doesn't keep what is written to it: replace it.",
            )

    def _write(self, path: str, data: bytes) -> None:
        try:
            if not _overwritten_on_fat(path, data):
                mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
                durable.write_file(path, data, mode=mode)
            durable.sync_filesystem_of(path)
        except OSError as error:
            raise BootError(
                "autoboot-not-writable",
                path,
                f"it can't be written ({error.strerror})",
                "Check that its file system is mounted for writing and has room, and run this as root.",
            ) from error

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors about the file name it."""
        try:
            yield
        except BootError as error:
            if error.what == _FILE:
                raise BootError(error.code, self._path, error.cause, error.mend) from error
            raise


def _overwritten_on_fat(path: str, data: bytes) -> bool:
    """On FAT a cut during a rename can lose both names, but the one sector of the file can be written in place.

    A longer text must not come together with the new size, which stands in another sector: first the file grows by
    empty lines, which mean nothing, and then its text is replaced within that size.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        size = os.fstat(fd).st_size
        if durable.filesystem_magic(fd) != durable.FAT_MAGIC or size > MOST_BYTES:
            return False
        if size < len(data):
            grown = max(_GROWN, len(data))
            durable.overwrite(fd, size, b"\n" * (grown - size))
            size = grown
        durable.overwrite(fd, 0, data.ljust(size, b"\n"))
    finally:
        os.close(fd)
    return True


def _bytes(file: Autoboot) -> bytes:
    return "".join(file.lines).encode("latin-1")


_FILE: Final = "autoboot.txt"
_LAYOUT: Final = "the lines [all], tryboot_a_b=1 and boot_partition=N with the boot partition of the slot that runs now"
_MEND: Final = f"Write it anew: {_LAYOUT}."
_MEND_MISSING: Final = f"Create it ({_LAYOUT}), or set autoboot in the table [boot]."


def _corrupt(cause: str) -> BootError:
    return BootError("autoboot-corrupt", _FILE, cause, _MEND)
