"""The boot reference in the boot entries of EFI firmware.

What an entry says is in bootctl/efi_option.py, and what all of them mean in bootctl/efi_situation.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

from bootctl import durable
from bootctl.efi_option import LoadOption, description_of, parse_option, slot_of
from bootctl.efi_situation import Entry, Situation, decode, encode, format_notes, parse_notes, trial_and_good, way
from bootctl.efivars import GLOBAL_GUID, NON_VOLATILE, EfiVariables
from bootctl.errors import BootError, mend_of
from bootctl.model import MAX_PRIORITY, BootView

_ENTRY: Final = re.compile(r"Boot([0-9A-F]{4})")
_NOTES: Final = "notes"
_COPY: Final = re.compile(r"([a-z0-9]{1,16})\.entry")
_COPY_ATTRIBUTES: Final = NON_VOLATILE.to_bytes(4, "little")
# Apple's firmware sets the highest bit, which the kernel does not take back.
_KNOWN_ATTRIBUTES: Final = 0x7FFFFFFF


class Efi:
    """The backend for the variables in the folder `efivars`. The folder `backup` holds a copy of each slot's entry,
    since some firmware removes an entry when it can't find its file system. Without `by_firmware` the kernel that runs
    was started by kexec, and BootCurrent is that of a boot before.

    The firmware knows an order and no priorities: what was committed with 1 and 0 may be read back as 2 and 0.
    """

    def __init__(self, efivars: str, backup: str, *, by_firmware: bool = True) -> None:
        self.name = "efi"
        self.most_tries = 1
        self.counts_confirmed = False
        self._folder = efivars
        self._variables = EfiVariables(efivars)
        self._backup = backup
        self._by_firmware = by_firmware

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
        _, good = trial_and_good(found)
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
        if variable is None or slot_of(description_of(variable.data)) is None:
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
        if not self._by_firmware:
            return None
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
        return parse_notes(self._load(_NOTES))

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
            self._save(_NOTES, format_notes(after.notes))
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
                mend_of(error, "Check that its file system is mounted for writing and has room."),
            ) from error

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, f"{name}-{GLOBAL_GUID}")

    @staticmethod
    def _unreadable(path: str, error: OSError) -> BootError:
        return BootError("efi-unreadable", path, f"it can't be read ({error.strerror})", mend_of(error))


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


def _make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder))
        os.mkdir(folder)
        durable.sync_directory(os.path.dirname(folder))
