"""The boot reference in the boot entries of EFI firmware.

`BootOrder` lists the entries `Boot####` that the firmware tries one after the other. `BootNext` names the one that it
starts before them once: it deletes BootNext before it does (UEFI Specification, sections 3.1 and 3.3). The entry of a
slot has the description `updated-<slot>`, or only the slot's name as RAUC has it (src/bootloaders/efi.c of RAUC).

    BootNext names it, and it is not the first good one    trial: one try, before all others
    in BootOrder, and active                               good, in this order
    neither, and noted as bad                              bad: rejected
    neither, and BootCurrent names it                      bad: a trial that is used up, and runs
    neither, and not active or noted as empty              empty
    neither, and noted as a trial                          trial, behind the good ones
    neither                                                bad: a trial that is used up

An entry that is not active is left out by the firmware even where it puts entries back into BootOrder by itself.

The notes stand in a file beside the copies of the entries, a line such as `b=bad` for each slot: `bad`, `empty`,
`trial`, or `again` for a rejected slot that is being armed again, which is `bad` unless BootCurrent names it. They are
written while the variables still name the slot, or removed when they do already, and mean nothing as long as they do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from bootctl import durable
from bootctl.efivars import GLOBAL_GUID, NON_VOLATILE, EfiVariables
from bootctl.errors import BootError
from bootctl.model import EMPTY, MAX_PRIORITY, REJECTED, BootView, SlotState, next_boot

_ACTIVE: Final = 1
_FIXED: Final = 6  # attributes, and the length of the device path
_END_OF_PATH: Final = (0x7F, 0xFF)
_ENTRY: Final = re.compile(r"Boot([0-9A-F]{4})")
# RAUC lets any description name a slot, but one such as "debian" belongs to another system.
_DESCRIPTION: Final = re.compile(r"updated-([a-z0-9]{1,16})|([a-z0-9]|system[0-9])", re.ASCII | re.IGNORECASE)
_NOTES: Final = "notes"
_NOTE: Final = re.compile(r"([a-z0-9]{1,16})=(empty|trial|bad|again)")
_COPY: Final = re.compile(r"([a-z0-9]{1,16})\.entry")
_COPY_ATTRIBUTES: Final = NON_VOLATILE.to_bytes(4, "little")
# Apple's firmware sets the highest bit, which the kernel does not take back.
_KNOWN_ATTRIBUTES: Final = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class LoadOption:
    """What a boot entry says: EFI_LOAD_OPTION (UEFI Specification, section 3.1.3).

    `device_path` holds whole device paths, and `optional_data` is what the entry passes to the program, mostly its
    command line.
    """

    attributes: int
    description: str
    device_path: bytes
    optional_data: bytes = b""

    @property
    def active(self) -> bool:
        return bool(self.attributes & _ACTIVE)

    def with_active(self, active: bool) -> LoadOption:
        return replace(self, attributes=self.attributes & ~_ACTIVE | (_ACTIVE if active else 0))

    def format(self) -> bytes:
        fixed = self.attributes.to_bytes(4, "little") + len(self.device_path).to_bytes(2, "little")
        return fixed + f"{self.description}\0".encode("utf-16-le") + self.device_path + self.optional_data


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry `Boot####` of a slot. `number` is None when the firmware has lost it, and there is only its copy."""

    number: int | None
    option: LoadOption


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the boot reference is read from.

    `entries` and `notes` go by slot; `order` is BootOrder, `once` is BootNext, and `current` is BootCurrent. `taken`
    are the numbers of all entries, also of those of other systems.
    """

    entries: Mapping[str, Entry]
    order: tuple[int, ...] = ()
    once: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    taken: frozenset[int] = frozenset()
    current: int | None = None

    def runs(self, slot: str) -> bool:
        """Whether the firmware has started the entry of `slot`."""
        number = self.entries[slot].number
        return number is not None and number == self.current


def parse_option(data: bytes) -> LoadOption:
    """Raises BootError `efi-corrupt` for what the firmware would not start."""
    end = _end_of_description(data)
    if end is None:
        raise _corrupt_option("its description has no end")
    try:
        description = data[_FIXED:end].decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise _corrupt_option(f"its description is no UTF-16 ({error.reason})") from error
    start, length = end + 2, int.from_bytes(data[4:_FIXED], "little")
    device_path = data[start : start + length]
    if len(device_path) != length:
        raise _corrupt_option(f"{len(device_path)} of the {length} bytes of its device path are there")
    _check_device_path(device_path)
    return LoadOption(int.from_bytes(data[:4], "little"), description, device_path, data[start + length :])


def slot_of(description: str) -> str | None:
    """The slot that an entry of this description belongs to."""
    match = _DESCRIPTION.fullmatch(description)
    return (match[1] or match[2]).lower() if match else None


def decode(found: Situation) -> BootView:
    """The boot reference in `found`."""
    trial, good = _named(found)
    named = [trial, *good] if trial else good
    unnamed = {slot: _unnamed(found, slot) for slot in found.entries if slot not in named}
    ranked = [*named, *(slot for slot, what in unnamed.items() if good and what == "trial")]
    states = {}
    for priority, slot in enumerate(reversed(ranked), start=1):
        states[slot] = SlotState(priority, 0 if slot in good else 1, slot in good)
    for slot in unnamed.keys() - ranked:
        # A trial that is used up was before all others.
        used_up = SlotState(len(ranked) + 1, 0, False)
        states[slot] = {"bad": REJECTED, "empty": EMPTY}.get(unnamed[slot], used_up)
    return BootView(tuple(sorted(states.items())))


def encode(found: Situation, view: BootView) -> Situation:
    """`found` with the boot reference `view`, with all entries of other systems, and with none of ours lost.

    Raises BootError `bad-tries`.
    """
    for slot, state in view.slots:
        if state.bootable and state.tries_left > (0 if state.confirmed else 1):
            raise BootError(
                "bad-tries",
                f"slot {slot}",
                f"EFI firmware can't count {state.tries_left} boots",
                "Give a trial 1 try, and a confirmed slot none.",
            )
    by_priority = sorted(view.slots, key=lambda slot: -slot[1].priority)
    ranked = [slot for slot, state in by_priority if state.bootable]
    good = [slot for slot in ranked if view.state(slot).confirmed]
    trial = ranked[0] if ranked[:1] != good[:1] else None
    named = {trial, *good}
    notes = {slot: note for slot, state in view.slots if slot not in named and (note := _note(state))}
    numbers = _numbers(found)
    entries = {
        slot: Entry(numbers[slot], entry.option.with_active(notes.get(slot) != "empty"))
        for slot, entry in found.entries.items()
    }
    ours = frozenset(numbers.values())
    return replace(
        found,
        entries=entries,
        order=_with_ours(found.order, ours, [numbers[slot] for slot in good]),
        once=numbers[trial] if trial else None if found.once in ours else found.once,
        notes=notes,
        taken=found.taken | ours,
    )


def way(found: Situation, wanted: Situation) -> list[Situation]:
    """The situations from `found` to `wanted`, each one write after the one before.

    With two slots each reads as `found` or as `wanted`: one write changes the meaning, those before it mean nothing
    yet, and those after it nothing any more. With more slots each starts a slot that one of the two starts. A trial
    that starts from any of them reads as used up then, unless `wanted` rejects it.
    """
    old, new = decode(found), decode(wanted)
    steps = [found]

    def step(**changes: Any) -> None:
        steps.append(replace(steps[-1], **changes))

    step(notes=_notes_between(found, old, wanted))
    # An entry of ours that is not active means nothing in BootOrder now, but would when it is.
    asleep = {entry.number for entry in found.entries.values() if not entry.option.active}
    step(order=tuple(number for number in found.order if number not in asleep))
    for slot, entry in wanted.entries.items():
        if entry.option.active:
            step(entries={**steps[-1].entries, slot: entry})
    steps.append(
        min(
            replace(steps[-1], order=wanted.order),
            replace(steps[-1], once=wanted.once),
            key=lambda first: _harm(decode(first), old, new),
        )
    )
    step(order=wanted.order, once=wanted.once)
    step(notes=wanted.notes)
    for slot, entry in wanted.entries.items():
        step(entries={**steps[-1].entries, slot: entry})
    return steps


class Efi:
    """The backend for the variables in the folder `efivars`. The folder `backup` holds a copy of each slot's entry,
    since some firmware removes an entry when it can't find its file system.

    The firmware knows an order and no priorities: what was committed with 1 and 0 may be read back as 2 and 0.
    """

    def __init__(self, efivars: str, backup: str) -> None:
        self.name = "efi"
        self.most_tries = 1
        self.counts_confirmed = False
        self._folder = efivars
        self._variables = EfiVariables(efivars)
        self._backup = backup

    def read(self) -> BootView:
        """Raises BootError `efi-variables-missing`, `efi-unreadable`, `efi-corrupt`, `no-slots`."""
        found, _ = self._find()
        return decode(found)

    def commit(self, view: BootView) -> None:
        """Also makes lost entries anew, and copies of all. Raises BootError: what `read` raises, `efi-not-writable`,
        `bad-tries`, `unknown-slot`, `read-back-differs`.
        """
        found, _ = self._find()
        current = decode(found)
        for slot in {*current.names, *view.names}:
            for one in (current, view):
                one.state(slot)
        wanted = encode(found, view)
        for before, after in pairwise(way(found, wanted)):
            self._write(before, after)
        found, copies = self._find()
        if decode(found) != decode(wanted):
            raise BootError(
                "read-back-differs",
                self._folder,
                f"it holds {decode(found)} instead of {decode(wanted)}",
                "The firmware doesn't keep what is written to it: update it, or use another backend.",
            )
        stale = _stale(found, copies)
        for slot, copy in stale.items():
            self._save(f"{slot}.entry", copy)
        if stale and _stale(*self._find()):
            raise BootError(
                "read-back-differs",
                self._backup,
                "it does not hold what was written to it",
                "The disk doesn't keep what is written to it: replace it.",
            )

    def problems(self) -> tuple[str, ...]:
        found, copies = self._find()
        wanted = encode(found, decode(found))
        problems = []
        for slot, entry in found.entries.items():
            if entry.number is None:
                problems.append(f"slot {slot}: the firmware has lost its boot entry")
            elif entry != wanted.entries[slot]:
                active = "active" if entry.option.active else "not active"
                condition = decode(found).state(slot).condition
                problems.append(f"Boot{entry.number:04X}: it is {active}, and slot {slot} is {condition}")
        _, good = _named(found)
        rejected = {slot: "bad" for slot in good if found.notes.get(slot) == "bad"}
        problems += [
            f"BootOrder: it lists slot {slot}, which was rejected: reject it again, unless it was confirmed since then"
            for slot in rejected
        ]
        if found.order != wanted.order:
            problems.append("BootOrder: it lists a slot that is not good, or one twice")
        if found.once != wanted.once:
            problems.append("BootNext: it names a slot that is the first one without it")
        if found.notes != {**wanted.notes, **rejected}:
            problems.append(f"{os.path.join(self._backup, _NOTES)}: it does not fit the boot entries")
        problems += [
            f"{os.path.join(self._backup, slot)}.entry: it is no copy of the boot entry of slot {slot}"
            for slot in _stale(found, copies)
        ]
        return tuple(problems)

    def limits(self) -> tuple[str, ...]:
        return (
            "A trial is one boot and not counted: one that hangs stays there until a watchdog or a person resets it.",
            "Some firmware forgets BootNext when BootOrder lacks the entry: the confirmed slot starts then.",
            "Some firmware puts entries back into BootOrder by itself, which makes a rejected slot good (see doctor).",
            "The boots of a confirmed slot are not counted: nothing falls back from one that breaks later.",
        )

    def begin_reboot(self) -> str:
        return ""

    def current_slot(self) -> str | None:
        """The slot whose entry the firmware has started (BootCurrent), or None when that is none of ours.

        Raises BootError as `read`.
        """
        found, _ = self._find()
        return next((slot for slot in found.entries if found.runs(slot)), None)

    def _find(self) -> tuple[Situation, Mapping[str, bytes]]:
        """The situation, and the copies as they are."""
        copies = self._copies()
        lost = {slot: Entry(None, option) for slot, copy in copies.items() if (option := _option_of_copy(slot, copy))}
        present: dict[str, Entry] = {}
        taken = set()
        for number in self._entry_numbers():
            taken.add(number)
            option = self._option(number)
            slot = slot_of(option.description) if option else None
            if option is None or slot is None:
                continue
            if slot in present:
                raise BootError(
                    "efi-corrupt",
                    self._folder,
                    f"Boot{present[slot].number:04X} and Boot{number:04X} both belong to slot {slot}",
                    f"Delete the wrong one (efibootmgr -B -b {number:04X}).",
                )
            present[slot] = Entry(number, option)
        entries = dict(sorted({**lost, **present}.items()))
        if not entries:
            raise BootError(
                "no-slots",
                self._folder,
                "no boot entry is called updated-a or the like",
                "Create one for each slot (efibootmgr -c -L updated-a -d DISK -p PARTITION -l LOADER).",
            )
        if len(entries) > MAX_PRIORITY:
            raise BootError(
                "efi-corrupt", self._folder, f"it names {len(entries)} slots", "Delete those that are none."
            )
        found = Situation(
            entries, self._order(), self._number("BootNext"), self._notes(), frozenset(taken), self._current()
        )
        return found, copies

    def _entry_numbers(self) -> list[int]:
        names = (name for name, guid in self._variables.names() if guid == GLOBAL_GUID)
        return [int(match[1], 16) for match in map(_ENTRY.fullmatch, names) if match]

    def _option(self, number: int) -> LoadOption | None:
        """What the entry says, or None when it can't be one of ours, whatever it is then."""
        name = f"Boot{number:04X}"
        try:
            variable = self._variables.read(name, GLOBAL_GUID)
        except BootError as error:
            if error.code == "efi-corrupt":
                return None
            raise
        if variable is None or slot_of(_description(variable.data)) is None:
            return None
        try:
            return parse_option(variable.data)
        except BootError as error:
            raise BootError(
                error.code,
                self._path(name),
                error.cause,
                f"Delete it (efibootmgr -B -b {number:04X}); the next change makes it anew if it was copied.",
            ) from error

    def _order(self) -> tuple[int, ...]:
        data = self._data("BootOrder")
        if len(data) % 2:
            raise BootError(
                "efi-corrupt",
                self._path("BootOrder"),
                f"it has {len(data)} bytes, and each number in it takes two",
                "Set it anew, with the slot that runs now first (efibootmgr -o 0001,0002).",
            )
        return tuple(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2))

    def _number(self, name: str) -> int | None:
        data = self._data(name)
        if len(data) not in (0, 2):
            raise BootError(
                "efi-corrupt",
                self._path(name),
                f"it has {len(data)} bytes instead of 2",
                "Delete it (BootNext: efibootmgr -N), or restart the machine.",
            )
        return int.from_bytes(data, "little") if data else None

    def _current(self) -> int | None:
        """None also when it is damaged: what starts does not depend on it."""
        try:
            return self._number("BootCurrent")
        except BootError as error:
            if error.code == "efi-corrupt":
                return None
            raise

    def _data(self, name: str) -> bytes:
        variable = self._variables.read(name, GLOBAL_GUID)
        return variable.data if variable else b""

    def _notes(self) -> Mapping[str, str]:
        text = self._load(_NOTES).decode("ascii", errors="replace")
        return {match[1]: match[2] for match in map(_NOTE.fullmatch, text.split("\n")) if match}

    def _copies(self) -> dict[str, bytes]:
        try:
            names = os.listdir(self._backup)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unreadable(self._backup, error) from error
        return {match[1]: self._load(match[0]) for match in map(_COPY.fullmatch, names) if match}

    def _load(self, name: str) -> bytes:
        path = os.path.join(self._backup, name)
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _write(self, before: Situation, after: Situation) -> None:
        if before.notes != after.notes:
            self._save(_NOTES, "".join(f"{slot}={note}\n" for slot, note in after.notes.items()).encode("ascii"))
        if before.order != after.order:
            self._set("BootOrder", after.order)
        if before.once != after.once:
            self._set("BootNext", () if after.once is None else (after.once,))
        for slot, entry in after.entries.items():
            if entry.number is not None and entry != before.entries[slot]:
                self._set_data(f"Boot{entry.number:04X}", entry.option.format())

    def _set(self, name: str, numbers: Iterable[int]) -> None:
        data = b"".join(number.to_bytes(2, "little") for number in numbers)
        if data:
            self._set_data(name, data)
        else:
            self._variables.delete(name, GLOBAL_GUID)

    def _set_data(self, name: str, data: bytes) -> None:
        # The firmware refuses to change the attributes of a variable.
        old = self._variables.read(name, GLOBAL_GUID)
        attributes = old.attributes & _KNOWN_ATTRIBUTES if old else NON_VOLATILE
        self._variables.write(name, GLOBAL_GUID, data, attributes)

    def _save(self, name: str, content: bytes) -> None:
        path = os.path.join(self._backup, name)
        try:
            _make_folder(os.path.abspath(self._backup))
            if content:
                durable.write_file(path, content)
            else:
                durable.remove(path)
        except OSError as error:
            raise BootError(
                "efi-not-writable",
                path,
                f"it can't be written ({error.strerror})",
                "Check that its file system is mounted for writing and has room, and run this as root.",
            ) from error

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, f"{name}-{GLOBAL_GUID}")

    @staticmethod
    def _unreadable(path: str, error: OSError) -> BootError:
        return BootError("efi-unreadable", path, f"it can't be read ({error.strerror})", "Run this as root.")


def _named(found: Situation) -> tuple[str | None, list[str]]:
    """The slot that BootNext puts on trial, and the good ones in their order."""
    slots = {entry.number: slot for slot, entry in found.entries.items() if entry.number is not None}
    in_order = dict.fromkeys(slots[number] for number in found.order if number in slots)
    good = [slot for slot in in_order if found.entries[slot].option.active]
    trial = None if found.once is None else slots.get(found.once)
    if good[:1] == [trial]:
        return None, good  # it starts next, and stays the first one
    return trial, [slot for slot in good if slot != trial]


def _unnamed(found: Situation, slot: str) -> str:
    """What a slot is that the variables don't name: `bad`, `empty`, `trial`, or `tried`, a trial that is used up."""
    note = found.notes.get(slot, "")
    runs = found.runs(slot)
    if note == "bad" or (note == "again" and not runs):
        return "bad"
    if runs:
        # Its note is from before it was armed when there was a cut before the note was removed.
        return "tried"
    if note == "empty" or not found.entries[slot].option.active:
        return "empty"
    return note or "tried"


def _note(state: SlotState) -> str:
    """What has to be noted of a slot in this state that the variables don't name."""
    if state.bootable:
        return "trial"
    if state == EMPTY:
        return "empty"
    return "" if state.priority else "bad"


def _harm(between: BootView, old: BootView, new: BootView) -> tuple[bool, bool]:
    starts = {next_boot(view)[0] for view in (old, new)}
    return between not in (old, new), next_boot(between)[0] not in starts


def _notes_between(found: Situation, old: BootView, wanted: Situation) -> dict[str, str]:
    """Of a slot that the variables name now, what will count when they don't; of the others what counts now."""
    trial, good = _named(found)
    notes = {}
    for slot in found.entries:
        if slot == trial or slot in good:
            notes[slot] = wanted.notes.get(slot, "")
        else:
            notes[slot] = _note(old.state(slot))
            if notes[slot] == "bad" and wanted.entries[slot].number == wanted.once:
                notes[slot] = "again"
    return {slot: note for slot, note in notes.items() if note}


def _numbers(found: Situation) -> dict[str, int]:
    """The number of each slot's entry; that of a lost one is free, and means nothing yet."""
    taken = {*found.taken, *found.order, found.once, found.current}
    free = (number for number in range(0x10000) if number not in taken)
    return {slot: next(free) if entry.number is None else entry.number for slot, entry in found.entries.items()}


def _with_ours(order: tuple[int, ...], ours: frozenset[int], wanted: list[int]) -> tuple[int, ...]:
    """`order` with `wanted` in the places of `ours`: more of them at the first place, less of them in the first ones.

    Without such a place they come first.
    """
    places = sum(number in ours for number in order)
    if not places:
        return (*wanted, *order)
    changed: list[int] = []
    left = list(wanted)
    for number in order:
        if number not in ours:
            changed.append(number)
            continue
        count = max(1, len(left) - places + 1)
        changed += left[:count]
        del left[:count]
        places -= 1
    return tuple(changed)


def _stale(found: Situation, copies: Mapping[str, bytes]) -> dict[str, bytes]:
    """The copies that are missing or differ, as they should be: variables of active entries."""
    wanted = {slot: _COPY_ATTRIBUTES + entry.option.with_active(True).format() for slot, entry in found.entries.items()}
    return {slot: copy for slot, copy in wanted.items() if copies.get(slot) != copy}


def _option_of_copy(slot: str, copy: bytes) -> LoadOption | None:
    try:
        option = parse_option(copy[len(_COPY_ATTRIBUTES) :])
    except BootError:
        return None
    return option if slot_of(option.description) == slot else None


def _end_of_description(data: bytes) -> int | None:
    return next((at for at in range(_FIXED, len(data) - 1, 2) if data[at : at + 2] == b"\0\0"), None)


def _description(data: bytes) -> str:
    """As far as it can be read."""
    end = _end_of_description(data)
    return "" if end is None else data[_FIXED:end].decode("utf-16-le", errors="replace")


def _check_device_path(path: bytes) -> None:
    """UEFI Specification, section 10.3: nodes of type, subtype, length (two bytes) and the rest; the last is an end."""
    position, node = 0, (0, 0)
    while position < len(path):
        length = int.from_bytes(path[position + 2 : position + 4], "little")
        if length < 4 or position + length > len(path):
            raise _corrupt_option(f"its device path is broken at byte {position}")
        node = (path[position], path[position + 1])
        position += length
    if node != _END_OF_PATH:
        raise _corrupt_option("its device path has no end")


def _corrupt_option(cause: str) -> BootError:
    return BootError("efi-corrupt", "a boot entry", cause, "Delete it, and create it anew (efibootmgr).")


def _make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder))
        os.mkdir(folder)
        durable.sync_directory(os.path.dirname(folder))
