"""The boot reference in the entries of systemd-boot: their names count the boots, their versions give the order.

Each slot X has one entry on the partition of the loader: loader/entries/updated-X.conf (type 1 of the Boot Loader
Specification) or a unified kernel image EFI/Linux/updated-X.efi (type 2).

    updated-X.conf                                      confirmed; its boots are not counted
    updated-X+3-0.conf                                  a trial with 3 boots left, none of them used
    updated-X+2-1.conf with "# updated: confirmed"      confirmed and counted: 2 boots left
    updated-X+0-3.conf with "# updated: confirmed"      confirmed once, its boots are used up: the last resort
    updated-X+0-1.conf to updated-X+0-49.conf           a trial whose boots are used up; it may run on its last one
    updated-X+0-50.conf, and +0- with a higher number   rejected
    updated-X+0-0.conf, or no entry that can start      empty: nothing whole is in it

The loader takes one boot off the name before it starts the entry. It starts the first entry in its order: entries with
no boots left come last, then sort-key, machine-id and version decide, the highest version first. Entries of type 1 get
the same sort-key and a number as their version. A unified kernel image is signed together with its version, so its
place in the order is what it is, and it has no room for the mark.

An explicit choice (LoaderEntryDefault, LoaderEntryPreferred, and the same in loader.conf) overrides the order, and a
default also the counters: one that panics is started for ever. So there are two ways, which are never mixed:

1. Counting: nothing is chosen explicitly; the order and the counters decide.
2. One shot, for a loader that does not count and for an order that can't be had: LoaderEntryDefault names the confirmed
   entry, and LoaderEntryOneShot, which the loader deletes as it reads it, the one on trial. A trial has one boot.

When all boots of all slots are used up, the loader starts the first in its order. This is the slot that was confirmed,
unless a trial failed and the confirmed slot before it could be put first again.

Sources: the specification; src/boot/boot.c of systemd 246 to 259; systemd's documents BOOT_LOADER_INTERFACE and
AUTOMATIC_BOOT_ASSESSMENT; what FAT makes of a rename: fs/fat/namei_vfat.c of Linux.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cmp_to_key
from typing import Final

from bootctl import bls
from bootctl.efivars import LOADER_GUID, EfiVariables, decode_text, encode_text
from bootctl.errors import BootError, mend_of
from bootctl.model import MAX_PRIORITY, MAX_TRIES, BootView
from bootctl.systemd_boot_entries import (
    COUNT_PATH,
    COUNTS_BOOTS,
    DEFAULT,
    LAST_BOOTED,
    ONE_SHOT,
    PREFERRED,
    SELECTED,
    SORTS_BY_VERSION,
    EntryFile,
    Found,
    alike,
    decoded,
    first_bootable,
    newer_behind,
    sorted_by_name,
    sorted_first,
)
from bootctl.systemd_boot_files import carry_out, content_of, remove_leftovers, unreadable, unusable
from bootctl.systemd_boot_plan import MOST_FILES, Change, Plan, planned

ENTRIES: Final = "loader/entries"
UKIS: Final = "EFI/Linux"
LOADER_CONF: Final = "loader/loader.conf"
CHOICES: Final = (DEFAULT, PREFERRED, ONE_SHOT)
_USUAL_SLOTS: Final = ("a", "b")


class SystemdBoot:
    """The backend for the partition mounted at `esp`, which holds the entries, and the EFI variables in `efivars`.

    The entries know an order and no numbers: what was committed with the priorities 1 and 0 is read back as 2 and 0.
    `most_tries` and `counts_confirmed` depend on the loader and the entries, and are right after each `read`.
    """

    def __init__(self, esp: str, efivars: str) -> None:
        self.name = "systemd_boot"
        self.most_tries = MAX_TRIES
        self.counts_confirmed = True
        self._esp = esp
        self._variables = EfiVariables(efivars)

    def read(self) -> BootView:
        """Raises BootError `entries-missing`, `entries-unreadable`, `entry-corrupt`, `kernel-missing`, `no-slots`,
        `efi-unreadable`.
        """
        return decoded(self._look())

    def commit(self, view: BootView) -> None:
        """Raises BootError: what `read` raises, `entry-missing`, `entry-ambiguous`, `entry-not-writable`, `bad-tries`,
        `loader-conf-default`, `efi-not-writable`, `unknown-slot`, `read-back-differs`.
        """
        found = self._look()
        now = decoded(found)
        for slot in {*now.names, *view.names}:
            for one in (now, view):
                one.state(slot)
        plan = planned(found, view)
        self._check(plan)
        if not plan.changes and not plan.pending:
            return
        late = plan.late
        if not plan.one_shot and plan.pending:
            late = self._settle(found, now, plan.wanted)
            plan = replace(plan, found=self._look())
        self._choose(plan, [name for name in plan.pending if name not in late])
        self._apply(plan.changes)
        self._choose(plan, [name for name in plan.pending if name in late])
        self._verify(plan)

    def problems(self) -> tuple[str, ...]:
        """Raises BootError as `read`."""
        found = self._look()
        view = decoded(found)
        plan = planned(found, view)
        return (*_problems_of_files(found), *_problems_of_choices(plan), *self._problems_of_configuration(found))

    def limits(self) -> tuple[str, ...]:
        """Raises BootError as `read`."""
        found = self._look()
        return (*_limits_of_counting(found), *_limits_of_order(found))

    def begin_reboot(self) -> str:
        return ""

    def _problems_of_configuration(self, found: Found) -> Iterator[str]:
        if found.forced is not None:
            key, value = found.forced
            yield f"{self._path(LOADER_CONF)}: {key} {value} overrides the order of the entries and their counters"

    def _check(self, plan: Plan) -> None:
        if plan.found.forced is not None:
            key, value = plan.found.forced
            raise BootError(
                "loader-conf-default",
                self._path(LOADER_CONF),
                f"its line {key} {value} overrides the order of the entries and their counters",
                "Remove this line.",
            )
        for slot, state in plan.wanted.slots:
            self._check_files(plan.found, slot, bootable=state.bootable)
        for slot, state in plan.wanted.slots:
            counted = state.confirmed and state.tries_left > 0
            too_many = plan.one_shot and (state.tries_left > 1 or counted)
            if state.bootable and (too_many or (counted and not plan.found.orderable)):
                raise BootError(
                    "bad-tries",
                    f"slot {slot}",
                    f"{state.tries_left} boots of it can't be counted by this loader with these entries",
                    "See its limits (updated-bootctl doctor).",
                )

    def _check_files(self, found: Found, slot: str, *, bootable: bool) -> None:
        files = found.files[slot]
        if len({file.name.suffix for file in files}) > 1:
            raise BootError(
                "entry-ambiguous",
                files[-1].path,
                f"slot {slot} has {files[0].file_name} too",
                f"Remove one of them. The image that an entry names must not lie in {UKIS}.",
            )
        if bootable and not files:
            folder, suffix = (ENTRIES, bls.CONF) if found.orderable else (UKIS, bls.UKI)
            raise BootError(
                "entry-missing",
                self._path(folder, str(bls.slot_name(slot, suffix, 0))),
                f"there is no such file, nor another one that starts slot {slot}",
                "Write it, together with the kernel of this slot.",
            )
        if bootable and files[0].fault:
            raise unusable(files[0])

    def _settle(self, found: Found, now: BootView, wanted: BootView) -> Collection[str]:
        """Give up explicit choices without a change of what boots next; the ones that have to wait are returned.

        They go before an entry gets a counter, since a default would override it.
        """
        plan = Plan(found, now, one_shot=False)
        named = found.named
        if found.orderable:
            self._apply(plan.changes)
        elif (
            named is not None
            and named != first_bootable(now, found.natural)
            and now.state(named).condition == wanted.state(named).condition == "good"
        ):
            return (DEFAULT, PREFERRED)  # until the other slot has given up its place
        self._choose(plan, list(plan.pending))
        return ()

    def _choose(self, plan: Plan, names: Sequence[str]) -> None:
        for name in names:
            value = plan.choices[name]
            if value is None:
                self._variables.delete(name, LOADER_GUID)
            else:
                self._variables.write(name, LOADER_GUID, encode_text(value))

    def _apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            folder = os.path.dirname(change.path)
            try:
                carry_out(change, folder)
                remove_leftovers(folder)
            except OSError as error:
                raise BootError(
                    "entry-not-writable",
                    change.path,
                    f"it can't be written ({error.strerror})",
                    mend_of(error, "Check that its file system is mounted for writing and has room."),
                ) from error

    def _verify(self, plan: Plan) -> None:
        found = self._look()
        view = decoded(found)
        if not alike(view, plan.expected) or replace(plan, found=found).pending:
            raise BootError(
                "read-back-differs",
                self._path(ENTRIES),
                f"it holds {view} instead of {plan.expected}",
                "The disk or the firmware doesn't keep what is written to it: replace it.",
            )

    def _look(self) -> Found:
        chosen = {name: text for name in CHOICES if (text := self._text(name)) is not None}
        told = {name: text for name in (LAST_BOOTED, SELECTED, COUNT_PATH) if (text := self._text(name)) is not None}
        files = list(self._files())
        slots: dict[str, list[EntryFile]] = {}
        for file in files:
            if file.name.slot is not None:
                slots.setdefault(file.name.slot, []).append(file)
        self._require_slots(slots)
        if slots.keys() <= set(_USUAL_SLOTS):
            slots = {slot: slots.get(slot, []) for slot in _USUAL_SLOTS}
        ordered = {slot: tuple(sorted(each, key=cmp_to_key(sorted_first))) for slot, each in slots.items()}
        others = tuple(file for file in files if file.name.slot is None)
        found = Found(ordered, others, chosen, self._configured(), told, self._features())
        if not found.has(SORTS_BY_VERSION):
            found = sorted_by_name(found)
        self.counts_confirmed = found.counts and found.orderable
        counts_trial = found.counts and (found.orderable or newer_behind(found, decoded(found)))
        self.most_tries = MAX_TRIES if counts_trial else 1
        return found

    def _require_slots(self, slots: Mapping[str, Sequence[EntryFile]]) -> None:
        if not slots:
            raise BootError(
                "no-slots",
                self._path(ENTRIES),
                f"neither it nor {self._path(UKIS)} has an entry of a slot, such as updated-a.conf or updated-a.efi",
                "Write an entry for each slot, or set esp in the table [boot].",
            )
        if len(slots) > MAX_PRIORITY:
            raise BootError(
                "entry-corrupt",
                self._path(ENTRIES),
                f"there are entries of {len(slots)} slots",
                "Remove those of slots that there are not.",
            )
        for slot, each in slots.items():
            if len(each) > MOST_FILES:
                raise BootError(
                    "entry-corrupt",
                    each[-1].path,
                    f"slot {slot} has {len(each)} entries",
                    "Remove all of them but one.",
                )
        files = [file for each in slots.values() for file in each]
        if all(file.fault for file in files):
            raise unusable(files[0])

    def _files(self) -> Iterator[EntryFile]:
        folders = 0
        for folder, suffix, parse in ((ENTRIES, bls.CONF, self._conf), (UKIS, bls.UKI, self._uki)):
            try:
                file_names = sorted(os.listdir(self._path(folder)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise unreadable(self._path(folder), error) from error
            folders += 1
            for file_name in file_names:
                name, path = bls.parse_name(file_name), self._path(folder, file_name)
                if name is not None and name.suffix == suffix and os.path.isfile(path):
                    yield parse(path, name)
        if not folders:
            raise BootError(
                "entries-missing",
                self._path(ENTRIES),
                f"there is no such folder, and no {self._path(UKIS)}",
                "Mount the partition with systemd-boot's entries there, or set esp in the table [boot].",
            )

    def _conf(self, path: str, name: bls.FileName) -> EntryFile:
        content = content_of(path)
        conf = bls.parse_conf(content)
        kinds = {key for key, _ in conf.programs}
        fault, absent = "", ""
        if len(kinds) != 1:
            fault = f"it has {'more than one' if kinds else 'none'} of the keys {', '.join(bls.PROGRAMS)}"
        elif kinds != {"uki-url"}:
            program = self._path(conf.programs[-1][1].replace("\\", "/").lstrip("/"))
            if not os.path.isfile(program):
                fault, absent = f"there is no {program}", program
        entry = bls.Entry(name, conf.sort_key, conf.machine_id, conf.version)
        return EntryFile(path, entry, content, conf.confirmed, fault, absent, countable=kinds <= {"linux", "uki"})

    def _uki(self, path: str, name: bls.FileName) -> EntryFile:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                entry = bls.uki_entry(name, lambda offset, length: os.pread(fd, length, offset))
            finally:
                os.close(fd)
        except OSError as error:
            raise unreadable(path, error) from error
        if entry is None:
            return EntryFile(path, bls.Entry(name), fault="it is no unified kernel image with an os-release")
        return EntryFile(path, entry)

    def _configured(self) -> dict[str, str]:
        path = self._path(LOADER_CONF)
        values = dict(bls.pairs(content_of(path))) if os.path.isfile(path) else {}
        return {key: values[key].lower() for key in ("default", "preferred") if key in values}

    def _features(self) -> int | None:
        try:
            variable = self._variables.read("LoaderFeatures", LOADER_GUID)
        except BootError as error:
            if error.code == "efi-variables-missing":
                return None
            if error.code == "efi-corrupt":
                return 0
            raise
        return int.from_bytes(variable.data[:8], "little") if variable else 0

    def _text(self, name: str) -> str | None:
        """The text of a variable; "" if it can't be made out, None when it is not set."""
        try:
            variable = self._variables.read(name, LOADER_GUID)
            return None if variable is None else decode_text(variable.data)
        except BootError as error:
            if error.code == "efi-variables-missing":
                return None
            if error.code == "efi-corrupt":
                return ""
            raise

    def _path(self, *names: str) -> str:
        return os.path.join(self._esp, *names)


def _problems_of_files(found: Found) -> Iterator[str]:
    for slot, files in found.files.items():
        for file in files[1:]:
            yield f"{file.path}: slot {slot} has {files[0].file_name} too, which is what counts"
        for file in files[:1]:
            if file.fault and file.name.left != 0:
                yield f"{file.path}: {file.fault}, so that systemd-boot ignores it"


def _problems_of_choices(plan: Plan) -> Iterator[str]:
    for name, value in plan.pending.items():
        present = plan.found.chosen.get(name) or "nothing that is text"
        if value is None:
            yield f"{name} names {present}, which overrides the order of the entries and their counters"
        elif name in plan.found.chosen:
            yield f"{name} names {present} instead of {value}"
        else:
            yield f"{name} is not set, and should name {value}"


def _limits_of_counting(found: Found) -> Iterator[str]:
    once = (
        f"a trial is started once, by {ONE_SHOT}, and is not counted; one that hangs ends only with a hardware "
        "watchdog (RuntimeWatchdogSec= in systemd-system.conf(5))"
    )
    if not found.has(COUNTS_BOOTS):
        yield f"the loader does not count boots: {once}"
    if found.passed_over_a_counter:
        yield f"the loader has not counted the boot of {found.told[SELECTED]}: {once}"
    for file in found.usable.values():
        if not file.countable:
            yield f"{file.path} starts neither linux nor uki, and newer loaders count nothing else: {once}"
    if found.features is None:
        yield "there are no EFI variables here, so that nobody knows the loader: it is taken to count boots"


def _limits_of_order(found: Found) -> Iterator[str]:
    usable = found.usable.values()
    if found.counts and not found.orderable:
        yield (
            "the order of these entries can't be set: a release that sorts behind the running one is tried once, by "
            f"{ONE_SHOT}, and boots of a confirmed slot are not counted"
        )
    for other in found.others:
        if not other.fault and all(bls.compare(other.entry, file.entry) < 0 for file in usable):
            yield f"{other.path} comes before all slots, so that systemd-boot starts it: give it a higher sort-key"
