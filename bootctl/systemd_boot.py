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
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key, partial
from typing import Any, Final

from bootctl import bls, durable
from bootctl.efivars import LOADER_GUID, EfiVariables, decode_text, encode_text
from bootctl.errors import BootError
from bootctl.model import EMPTY, MAX_PRIORITY, MAX_TRIES, REJECTED, BootView, SlotState

ENTRIES: Final = "loader/entries"
UKIS: Final = "EFI/Linux"
LOADER_CONF: Final = "loader/loader.conf"

# Bits of LoaderFeatures (BOOT_LOADER_INTERFACE).
COUNTS_BOOTS: Final = 1 << 4
SORTS_BY_VERSION: Final = 1 << 8

_PREFERRED: Final = "LoaderEntryPreferred"
_DEFAULT: Final = "LoaderEntryDefault"
_ONE_SHOT: Final = "LoaderEntryOneShot"
_CHOICES: Final = (_DEFAULT, _PREFERRED, _ONE_SHOT)
_LAST: Final = "LoaderEntryLastBooted"
_SELECTED: Final = "LoaderEntrySelected"
_COUNTED: Final = "LoaderBootCountPath"
_SAVED: Final = "@saved"
_AUTOMATIC: Final = "auto-"
_USUAL_SLOTS: Final = ("a", "b")
_GOOD: Final = SlotState(1, 0, confirmed=True)
_USED_UP: Final = SlotState(1, 0, confirmed=False)
_LAST_RESORT: Final = SlotState(0, 0, confirmed=True)
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9._-]+")
_LEADING: Final = re.compile(r"[0-9]{1,9}(?![0-9])")
# The boots done of a slot that has none left: from here on it was rejected; what counts stays below.
_REJECTED_DONE: Final = 50
_MOST_DONE: Final = 99
# Fewer than there are names for a slot's next file.
_MOST_FILES: Final = 32
_SECTOR: Final = 512
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _File:
    """The file of an entry; `fault` says why systemd-boot ignores it, `absent` what it would start and can't."""

    path: str
    entry: bls.Entry
    content: bytes = b""
    marked: bool = False
    fault: str = ""
    absent: str = ""
    countable: bool = True

    @property
    def name(self) -> bls.FileName:
        return self.entry.name

    @property
    def file_name(self) -> str:
        return os.path.basename(self.path)

    @property
    def state(self) -> SlotState:
        """What the name and the mark say; the priority of what is not empty, rejected or the last resort is 1."""
        left = self.name.left
        if self.fault or (left == 0 and not self.name.done):
            return EMPTY
        if left is None:
            return _GOOD
        if self.marked and not left:
            return _LAST_RESORT
        if not left and self.name.done >= _REJECTED_DONE:
            return REJECTED
        return SlotState(1, min(left, MAX_TRIES), confirmed=self.marked)

    def is_meant_by(self, pattern: str) -> bool:
        """Whether any loader takes it for `pattern`: older ones leave the counter in the id, newer ones don't."""
        ids = (self.file_name.lower(), self.name.identity)
        return any(bls.matches(pattern.lower(), identity) for identity in ids)


def _sorted_first(one: _File, other: _File) -> int:
    """Which of two files the loader would start, for a slot that has both."""
    by_name = (one.file_name > other.file_name) - (one.file_name < other.file_name)
    return bool(one.fault) - bool(other.fault) or bls.compare(one.entry, other.entry) or by_name


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there.

    The first of a slot's `files` is the one that counts; `others` are entries of no slot. `chosen` are the variables of
    explicit choices that are set, `configured` those of loader.conf, `told` what the loader left about this boot.
    `features` is None where there is no firmware to ask.
    """

    files: Mapping[str, tuple[_File, ...]]
    others: tuple[_File, ...]
    chosen: Mapping[str, str]
    configured: Mapping[str, str]
    told: Mapping[str, str]
    features: int | None

    def has(self, feature: int) -> bool:
        return self.features is None or bool(self.features & feature)

    def state(self, slot: str) -> SlotState:
        files = self.files[slot]
        return files[0].state if files else EMPTY

    @property
    def usable(self) -> dict[str, _File]:
        """The entries that the loader sees, of the slots that have one."""
        return {slot: files[0] for slot, files in self.files.items() if files and not files[0].fault}

    @property
    def passed_over_a_counter(self) -> bool:
        """Whether the loader has started a counted entry of ours now without counting.

        Up to systemd 257 LoaderEntrySelected keeps the name that the entry had before.
        """
        selected = bls.parse_name(self.told.get(_SELECTED, ""))
        counted = selected is not None and selected.slot is not None and selected.left is not None
        return counted and _COUNTED not in self.told

    @property
    def counts(self) -> bool:
        countable = all(file.countable for file in self.usable.values())
        return self.has(COUNTS_BOOTS) and countable and not self.passed_over_a_counter

    @property
    def orderable(self) -> bool:
        """Whether the order of the entries can be set."""
        return self.has(SORTS_BY_VERSION) and all(file.name.suffix == bls.CONF for file in self.usable.values())

    @property
    def uniform(self) -> bool:
        """Whether nothing but the versions gives the order."""
        keys = {(file.entry.sort_key, file.entry.machine_id) for file in self.usable.values()}
        return len(keys) == 1 and all(sort_key for sort_key, _ in keys)

    @property
    def new_sort_key(self) -> str | None:
        """What gives each entry that gets it a place by its version, before those that don't have it yet."""
        if self.uniform:
            return None
        keys = (file.entry.sort_key or "" for file in self.usable.values())
        return min(filter(_PLAIN_KEY.fullmatch, keys), default=bls.SORT_KEY)

    @property
    def numbers(self) -> dict[str, int | None]:
        """The versions that are ours."""
        return {slot: bls.number(file.entry.version) if self.uniform else None for slot, file in self.usable.items()}

    @property
    def natural(self) -> list[str]:
        """The usable slots in the loader's order, as if no boots were used up."""
        usable = self.usable
        return sorted(usable, key=_order_key(usable, bad_last=False))

    @property
    def named(self) -> str | None:
        """The slot that an explicit choice lets the loader start, other than once."""
        usable = self.usable
        in_order = sorted(usable, key=_order_key(usable, bad_last=True))
        for pattern, skips_bad in self._patterns():
            for slot in in_order:
                if usable[slot].is_meant_by(pattern) and not (skips_bad and usable[slot].name.left == 0):
                    return slot
        return None

    @property
    def one_shot(self) -> bool:
        """Whether LoaderEntryOneShot alone can start a trial."""
        named = self.named
        return not self.counts or (named is not None and self.usable[named].name.left is None)

    @property
    def forced(self) -> tuple[str, str] | None:
        """A choice in loader.conf, (key, value), that fits some entry. That file belongs to people."""
        files = [*self.others, *(file for files in self.files.values() for file in files)]
        for key, value in self.configured.items():
            fits = any(file.is_meant_by(value) for file in files if not file.fault)
            if fits or value == _SAVED or value.startswith(_AUTOMATIC):
                return key, value
        return None

    def shoots(self, slot: str) -> bool:
        """Whether LoaderEntryOneShot names the slot."""
        pattern = self.chosen.get(_ONE_SHOT)
        return pattern is not None and any(file.is_meant_by(pattern) for file in self.files[slot])

    def _patterns(self) -> Iterator[tuple[str, bool]]:
        values = (
            (self.chosen.get(_PREFERRED), True),
            (self.configured.get("preferred"), True),
            (self.chosen.get(_DEFAULT), False),
            (self.configured.get("default"), False),
        )
        for value, skips_bad in values:
            pattern = self.told.get(_LAST) if value is not None and value.lower() == _SAVED else value
            if pattern:
                yield pattern, skips_bad


def _order_key(usable: Mapping[str, _File], *, bad_last: bool) -> Callable[[str], Any]:
    key = cmp_to_key(partial(bls.compare, bad_last=bad_last))
    return lambda slot: key(usable[slot].entry)


def _decoded(found: _Found) -> BootView:
    """The boot reference as the loader reads it."""
    order, named = found.natural, found.named
    if named is not None:
        order.sort(key=lambda slot: slot != named)
    if found.one_shot:
        # No order is kept between a trial and the confirmed slot then; the one that was armed last is first.
        order.sort(key=lambda slot: not found.state(slot).priority or found.state(slot).confirmed)
    order += sorted(found.files.keys() - set(order))
    return BootView(tuple((slot, _state(found, slot, len(order) - order.index(slot))) for slot in sorted(order)))


def _state(found: _Found, slot: str, priority: int) -> SlotState:
    state = found.state(slot)
    if state.confirmed and state.bootable and not found.counts:
        state = _GOOD
    if state.priority and not state.confirmed and found.one_shot:
        state = replace(state, tries_left=min(state.tries_left, int(found.shoots(slot))))
    return replace(state, priority=priority) if state.priority else state


def _ranked(view: BootView) -> list[str]:
    """The slots in their order. When none may boot, one that was confirmed comes first: it is started then."""
    some = any(state.bootable for _, state in view.slots)

    def rank(slot: str) -> tuple[bool, int, bool, bool]:
        state = view.state(slot)
        idle = not state.bootable
        return not some and not state.confirmed, -state.priority, idle, idle and not state.confirmed

    return sorted(view.names, key=rank)


def _first_bootable(view: BootView, order: Sequence[str]) -> str | None:
    return next((slot for slot in order if view.state(slot).bootable), None)


def _alike(one: BootView, other: BootView) -> bool:
    """Whether two views are the same but for the numbers of their priorities."""

    def essence(view: BootView) -> tuple[object, object]:
        states = {slot: (state.condition, state.tries_left, state.confirmed) for slot, state in view.slots}
        return states, [slot for slot in _ranked(view) if view.state(slot).bootable]

    return essence(one) == essence(other)


def _counting_suffices(found: _Found, view: BootView) -> bool:
    """Whether the order of the entries and their counters can express `view`."""
    if not found.counts or found.orderable:
        return found.counts
    wanted, natural = (
        [slot for slot in order if view.state(slot).bootable] for order in (_ranked(view), found.natural)
    )
    return wanted == natural


def _newer_behind(found: _Found, view: BootView) -> bool:
    """Whether the slots behind the first one would come before it by their versions, if they could boot."""
    first = _first_bootable(view, _ranked(view))
    natural = found.natural
    return first is None or natural.index(first) == len(natural) - 1


@dataclass(frozen=True, slots=True)
class _Label:
    """What the name and the mark of an entry have to say."""

    left: int | None = None
    empty: bool = False
    marked: bool = False
    rejected: bool = False

    @property
    def dones(self) -> range:
        """The boots done that a new name may have. Those of a trial stay below what means rejected as they grow."""
        if self.empty or self.left is None:
            return range(1)
        if self.rejected:
            return range(_REJECTED_DONE, _MOST_DONE + 1)
        return range(_REJECTED_DONE - 1 - self.left) if self.left else range(1, _REJECTED_DONE)

    def is_on(self, file: _File) -> bool:
        name = file.name
        if self.left is None or name.left is None:
            return self.left == name.left
        if name.left != self.left or self.empty:
            return name.left == self.left and name.done == 0
        if self.left == 0 and (self.marked or self.rejected):
            # The loader goes on counting what it starts as the last resort.
            fits = name.done >= self.dones.start
        else:
            fits = name.done in self.dones
        return fits and self.marked == file.marked


def _label(state: SlotState, suffix: str) -> _Label:
    if state == EMPTY:
        return _Label(0, empty=True)
    if state.bootable and state.confirmed and not state.tries_left:
        return _Label()
    marked = state.confirmed and suffix == bls.CONF
    rejected = state.priority == 0 and not state.confirmed
    return _Label(state.tries_left if state.bootable else 0, marked=marked, rejected=rejected)


def _meet(one: bls.FileName, other: bls.FileName) -> bool:
    same = (one.left, one.done) == (other.left, other.done)
    return same or one.becomes(other) or other.becomes(one)


def _new_name(slot: str, label: _Label, files: Sequence[_File]) -> bls.FileName:
    """A name that no counting meets: the loader can't rename a file to a name that is taken, and counts no further."""
    suffix = files[0].name.suffix
    if label.left is None or label.empty:
        return bls.slot_name(slot, suffix, label.left)
    names = (bls.slot_name(slot, suffix, label.left, done) for done in label.dones)
    # Each file meets one of them at most, and there are no more than _MOST_FILES.
    return next(name for name in names if not any(_meet(name, file.name) for file in files))


@dataclass(frozen=True, slots=True)
class _Change:
    """The first of the `files` of a slot gets this name, and this content unless it is None; the others go."""

    files: tuple[_File, ...]
    file_name: str
    content: bytes | None

    @property
    def path(self) -> str:
        return os.path.join(os.path.dirname(self.files[0].path), self.file_name)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What leads from what is `found` to `wanted`, by counting or with `one_shot`."""

    found: _Found
    wanted: BootView
    one_shot: bool

    @property
    def expected(self) -> BootView:
        """`wanted` as it will be read back."""
        return BootView(tuple((slot, self._read_back(slot)) for slot in self.wanted.names))

    def _read_back(self, slot: str) -> SlotState:
        state = self.wanted.state(slot)
        if state.bootable or state == EMPTY:
            return state
        file = self.found.usable.get(slot)
        if file is None:
            return EMPTY
        label = _label(state, file.name.suffix)
        if label.rejected:
            return REJECTED
        return _LAST_RESORT if label.marked else _USED_UP

    @property
    def choices(self) -> dict[str, str | None]:
        """The variables of explicit choices as they shall be. A one-shot choice of foreign entries is left alone."""
        wanted: dict[str, str | None] = {_DEFAULT: None, _PREFERRED: None}
        if any(self.found.shoots(slot) for slot in self.found.files) or self.found.chosen.get(_ONE_SHOT) == "":
            wanted[_ONE_SHOT] = None
        if self.one_shot:
            ranked = _ranked(self.wanted)
            good = next((slot for slot in ranked if self.wanted.state(slot).condition == "good"), None)
            if good is not None:
                wanted[_DEFAULT] = str(bls.slot_name(good, self.found.usable[good].name.suffix))
            if self.wanted.state(ranked[0]).condition == "trial":
                wanted[_ONE_SHOT] = self._shot(ranked[0])
        return wanted

    @property
    def pending(self) -> dict[str, str | None]:
        """Those that are not so yet."""
        return {name: value for name, value in self.choices.items() if value != self.found.chosen.get(name)}

    def _shot(self, slot: str) -> str:
        """The loaders that sort by version take patterns here, and not all have the counter in the id; older loaders
        compare it with the whole name."""
        if self.found.has(SORTS_BY_VERSION):
            return f"{bls.slot_name(slot, '')}[+.]*"
        return self._file_name(slot)

    def _file_name(self, slot: str) -> str:
        files = self.found.files[slot]
        label = _label(self.wanted.state(slot), files[0].name.suffix)
        return files[0].file_name if label.is_on(files[0]) else str(_new_name(slot, label, files))

    @property
    def late(self) -> Collection[str]:
        """The variables that are changed after the files, so that meanwhile each names what may boot."""
        if not self.one_shot:
            return ()
        late = {_ONE_SHOT} if self.choices.get(_ONE_SHOT) else set()
        first = _ranked(self.wanted)[0]
        if self.wanted.state(first).condition == "good" and self.found.shoots(first):
            late.add(_ONE_SHOT)
        present = {file.file_name.lower() for file in self.found.usable.values()}
        return late if self.choices[_DEFAULT] in present else late | {_DEFAULT, _PREFERRED}

    @property
    def changes(self) -> list[_Change]:
        """In their order: what may boot is written before what may not, so that something always may, and the first
        slot before the others, so that none of them comes first meanwhile."""
        ranked = self._file_order()
        versions = self._versions([slot for slot in ranked if slot in self.found.usable])
        may_boot = [slot for slot in ranked if self.wanted.state(slot).bootable]
        order = [*may_boot, *(slot for slot in ranked if slot not in may_boot)]
        changes = (self._change(slot, versions.get(slot)) for slot in order if self.found.files[slot])
        return [change for change in changes if change is not None]

    def _file_order(self) -> list[str]:
        """A trial by one shot comes last, so that it is not started when the firmware loses its variables."""
        ranked = _ranked(self.wanted)
        if self.one_shot:
            ranked.sort(key=lambda slot: self.wanted.state(slot).condition != "good")
        return ranked

    def _change(self, slot: str, version: int | None) -> _Change | None:
        files = self.found.files[slot]
        first = files[0]
        name = self._file_name(slot)
        if first.name.suffix == bls.UKI:
            return None if name == first.file_name and len(files) == 1 else _Change(files, name, None)
        content, label = first.content, _label(self.wanted.state(slot), bls.CONF)
        if label.left is not None and label.marked != first.marked:
            content = bls.with_mark(content, confirmed=label.marked)
        if version is not None:
            content = bls.with_version(content, version, sort_key=self.found.new_sort_key)
        if name == first.file_name and content == first.content and len(files) == 1:
            return None
        return _Change(files, name, content)

    def _versions(self, ranked: Sequence[str]) -> dict[str, int]:
        """The versions of the entries so that these slots are in this order; {} when nothing has to change.

        As many as possible stay what they are, above all those of slots that may boot. An entry that gets a new name
        gets a new version too: while both are there, a tie would not tell which one counts.
        """
        usable = self.found.usable
        moving = {slot for slot in ranked if self._file_name(slot) != usable[slot].file_name}
        if not self.found.orderable or (not moving and self.found.natural == ranked):
            return {}
        present = self.found.numbers
        staying = [
            version for slot, version in present.items()
            if version is not None and slot not in moving and self.wanted.state(slot).bootable
        ]  # fmt: skip
        versions: dict[str, int] = {}
        # A version of another kind is older than any number above the one that it begins with.
        foreign = [usable[slot].entry.version or "" for slot in ranked if present[slot] is None]
        below = max((int(found[0]) for version in foreign if (found := _LEADING.match(version))), default=-1)
        for slot in reversed(ranked):
            version, may_boot = present[slot], self.wanted.state(slot).bootable
            fits = version is not None and version > below and slot not in moving
            if version is not None and fits and (may_boot or all(other > version for other in staying)):
                below = version
            else:
                below += 1
                if version is not None and slot in moving and may_boot and slot == ranked[0]:
                    below = max(below, version + 1)
                elif below == version and slot in moving and may_boot:
                    below += 1
            versions[slot] = below
        return versions


def _planned(found: _Found, view: BootView) -> _Plan:
    """By counting if that can be. One shot starts no other trial than the first slot: one behind it is given up."""
    if _counting_suffices(found, view):
        return _Plan(found, view, one_shot=False)
    first = _ranked(view)[0]
    for slot, state in view.slots:
        if state.condition == "trial" and slot != first:
            view = view.with_state(slot, _USED_UP)
    return _Plan(found, view, one_shot=not _counting_suffices(found, view))


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
        return _decoded(self._look())

    def commit(self, view: BootView) -> None:
        """Raises BootError: what `read` raises, `entry-missing`, `entry-ambiguous`, `entry-not-writable`, `bad-tries`,
        `loader-conf-default`, `efi-not-writable`, `unknown-slot`, `read-back-differs`.
        """
        found = self._look()
        now = _decoded(found)
        for slot in {*now.names, *view.names}:
            for one in (now, view):
                one.state(slot)
        plan = _planned(found, view)
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
        view = _decoded(found)
        plan = _planned(found, view)
        return (*_problems_of_files(found), *_problems_of_choices(plan), *self._problems_of_configuration(found))

    def limits(self) -> tuple[str, ...]:
        """Raises BootError as `read`."""
        found = self._look()
        return (*_limits_of_counting(found), *_limits_of_order(found))

    def begin_reboot(self) -> str:
        return ""

    def _problems_of_configuration(self, found: _Found) -> Iterator[str]:
        if found.forced is not None:
            key, value = found.forced
            yield f"{self._path(LOADER_CONF)}: {key} {value} overrides the order of the entries and their counters"

    def _check(self, plan: _Plan) -> None:
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
                    "See its limits (python3 -m bootctl doctor).",
                )

    def _check_files(self, found: _Found, slot: str, *, bootable: bool) -> None:
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
            raise _unusable(files[0])

    def _settle(self, found: _Found, now: BootView, wanted: BootView) -> Collection[str]:
        """Give up explicit choices without a change of what boots next; the ones that have to wait are returned.

        They go before an entry gets a counter, since a default would override it.
        """
        plan = _Plan(found, now, one_shot=False)
        named = found.named
        if found.orderable:
            self._apply(plan.changes)
        elif (
            named is not None
            and named != _first_bootable(now, found.natural)
            and now.state(named).condition == wanted.state(named).condition == "good"
        ):
            return (_DEFAULT, _PREFERRED)  # until the other slot has given up its place
        self._choose(plan, list(plan.pending))
        return ()

    def _choose(self, plan: _Plan, names: Sequence[str]) -> None:
        for name in names:
            value = plan.choices[name]
            if value is None:
                self._variables.delete(name, LOADER_GUID)
            else:
                self._variables.write(name, LOADER_GUID, encode_text(value))

    def _apply(self, changes: Sequence[_Change]) -> None:
        for change in changes:
            folder = os.path.dirname(change.path)
            try:
                _carry_out(change, folder)
                _remove_leftovers(folder)
            except OSError as error:
                raise BootError(
                    "entry-not-writable",
                    change.path,
                    f"it can't be written ({error.strerror})",
                    "Check that its file system is mounted for writing and has room, and run this as root.",
                ) from error

    def _verify(self, plan: _Plan) -> None:
        found = self._look()
        view = _decoded(found)
        if not _alike(view, plan.expected) or replace(plan, found=found).pending:
            raise BootError(
                "read-back-differs",
                self._path(ENTRIES),
                f"it holds {view} instead of {plan.expected}",
                "The disk or the firmware doesn't keep what is written to it: replace it.",
            )

    def _look(self) -> _Found:
        chosen = {name: text for name in _CHOICES if (text := self._text(name)) is not None}
        told = {name: text for name in (_LAST, _SELECTED, _COUNTED) if (text := self._text(name)) is not None}
        files = list(self._files())
        slots: dict[str, list[_File]] = {}
        for file in files:
            if file.name.slot is not None:
                slots.setdefault(file.name.slot, []).append(file)
        self._require_slots(slots)
        if slots.keys() <= set(_USUAL_SLOTS):
            slots = {slot: slots.get(slot, []) for slot in _USUAL_SLOTS}
        ordered = {slot: tuple(sorted(each, key=cmp_to_key(_sorted_first))) for slot, each in slots.items()}
        others = tuple(file for file in files if file.name.slot is None)
        found = _Found(ordered, others, chosen, self._configured(), told, self._features())
        if not found.has(SORTS_BY_VERSION):
            found = _sorted_by_name(found)
        self.counts_confirmed = found.counts and found.orderable
        counts_trial = found.counts and (found.orderable or _newer_behind(found, _decoded(found)))
        self.most_tries = MAX_TRIES if counts_trial else 1
        return found

    def _require_slots(self, slots: Mapping[str, Sequence[_File]]) -> None:
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
            if len(each) > _MOST_FILES:
                raise BootError(
                    "entry-corrupt",
                    each[-1].path,
                    f"slot {slot} has {len(each)} entries",
                    "Remove all of them but one.",
                )
        files = [file for each in slots.values() for file in each]
        if all(file.fault for file in files):
            raise _unusable(files[0])

    def _files(self) -> Iterator[_File]:
        folders = 0
        for folder, suffix, parse in ((ENTRIES, bls.CONF, self._conf), (UKIS, bls.UKI, self._uki)):
            try:
                file_names = sorted(os.listdir(self._path(folder)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _unreadable(self._path(folder), error) from error
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

    def _conf(self, path: str, name: bls.FileName) -> _File:
        content = _content(path)
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
        return _File(path, entry, content, conf.confirmed, fault, absent, countable=kinds <= {"linux", "uki"})

    def _uki(self, path: str, name: bls.FileName) -> _File:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                entry = bls.uki_entry(name, lambda offset, length: os.pread(fd, length, offset))
            finally:
                os.close(fd)
        except OSError as error:
            raise _unreadable(path, error) from error
        if entry is None:
            return _File(path, bls.Entry(name), fault="it is no unified kernel image with an os-release")
        return _File(path, entry)

    def _configured(self) -> dict[str, str]:
        path = self._path(LOADER_CONF)
        values = dict(bls.pairs(_content(path))) if os.path.isfile(path) else {}
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


def _sorted_by_name(found: _Found) -> _Found:
    """As the loaders before systemd 251 see it, which sort by nothing but the names."""

    def plain(files: Iterable[_File]) -> tuple[_File, ...]:
        named = (replace(file, entry=bls.Entry(file.name)) for file in files)
        return tuple(sorted(named, key=cmp_to_key(_sorted_first)))

    files = {slot: plain(files) for slot, files in found.files.items()}
    return replace(found, files=files, others=plain(found.others))


def _problems_of_files(found: _Found) -> Iterator[str]:
    for slot, files in found.files.items():
        for file in files[1:]:
            yield f"{file.path}: slot {slot} has {files[0].file_name} too, which is what counts"
        for file in files[:1]:
            if file.fault and file.name.left != 0:
                yield f"{file.path}: {file.fault}, so that systemd-boot ignores it"


def _problems_of_choices(plan: _Plan) -> Iterator[str]:
    for name, value in plan.pending.items():
        present = plan.found.chosen.get(name) or "nothing that is text"
        if value is None:
            yield f"{name} names {present}, which overrides the order of the entries and their counters"
        elif name in plan.found.chosen:
            yield f"{name} names {present} instead of {value}"
        else:
            yield f"{name} is not set, and should name {value}"


def _limits_of_counting(found: _Found) -> Iterator[str]:
    once = (
        f"a trial is started once, by {_ONE_SHOT}, and is not counted; one that hangs ends only with a hardware "
        "watchdog (RuntimeWatchdogSec= in systemd-system.conf(5))"
    )
    if not found.has(COUNTS_BOOTS):
        yield f"the loader does not count boots: {once}"
    if found.passed_over_a_counter:
        yield f"the loader has not counted the boot of {found.told[_SELECTED]}: {once}"
    for file in found.usable.values():
        if not file.countable:
            yield f"{file.path} starts neither linux nor uki, and newer loaders count nothing else: {once}"
    if found.features is None:
        yield "there are no EFI variables here, so that nobody knows the loader: it is taken to count boots"


def _limits_of_order(found: _Found) -> Iterator[str]:
    usable = found.usable.values()
    if found.counts and not found.orderable:
        yield (
            "the order of these entries can't be set: a release that sorts behind the running one is tried once, by "
            f"{_ONE_SHOT}, and boots of a confirmed slot are not counted"
        )
    for other in found.others:
        if not other.fault and all(bls.compare(other.entry, file.entry) < 0 for file in usable):
            yield f"{other.path} comes before all slots, so that systemd-boot starts it: give it a higher sort-key"


def _carry_out(change: _Change, folder: str) -> None:
    """By a new file beside the old one where there is room, since a rename on FAT may lose both names.

    Linux writes the new name there without the place and the size of the file at first: only a sync of the whole file
    system brings these, and the old name has to stay until then.
    """
    first = change.files[0]
    if change.content is None:
        if change.path != first.path:
            durable.rename(first.path, change.path)
    elif change.path != first.path:
        durable.write_file(change.path, change.content, mode=_mode(first.path))
    elif change.content != first.content and not _patched(change.path, first.content, change.content):
        _replace(change, change.content, folder)
    durable.sync_filesystem_of(folder)
    # The one that counts goes last, so that none of the others counts meanwhile.
    for files in (change.files[1:], change.files[:1]):
        for file in files:
            # FAT takes names that differ in their case only for the same.
            if os.path.exists(file.path) and not os.path.samefile(file.path, change.path):
                durable.remove(file.path)
        if files:
            durable.sync_filesystem_of(folder)


def _replace(change: _Change, content: bytes, folder: str) -> None:
    """Write the entry anew under its name, with a second one beside it meanwhile.

    Only one name means that a slot is good and not counted, so that of a good slot the second one is counted; of
    another slot it is bad, and rejected if it may not be judged again. The first commit after a cut puts it right.
    """
    first = change.files[0]
    good = first.state.condition == "good"
    bad = _Label(0, rejected=first.state in (EMPTY, REJECTED))
    label = _Label(MAX_TRIES, marked=True) if good else bad
    spare = os.path.join(folder, str(_new_name(first.name.slot or "", label, change.files)))
    old = first.content if first.marked == good else bls.with_mark(first.content, confirmed=good)
    durable.write_file(spare, old, mode=_mode(first.path))
    durable.sync_filesystem_of(folder)
    durable.write_file(change.path, content, mode=_mode(first.path))
    durable.sync_filesystem_of(folder)
    durable.remove(spare)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _patched(path: str, old: bytes, new: bytes) -> bool:
    """Write in place if that changes one sector only, which a disk writes as a whole."""
    changed = [at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other]
    if len(old) != len(new) or changed[0] // _SECTOR != changed[-1] // _SECTOR:
        return False
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        durable.overwrite(fd, changed[0], new[changed[0] : changed[-1] + 1])
    finally:
        os.close(fd)
    return True


def _remove_leftovers(folder: str) -> None:
    """Of writes that a cut has ended."""
    for file_name in os.listdir(folder):
        if file_name.startswith(".updated-") and file_name.endswith(".tmp"):
            durable.remove(os.path.join(folder, file_name))


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > _MOST_BYTES:
        raise BootError("entry-corrupt", path, f"it has more than {_MOST_BYTES} bytes", "Write it anew.")
    return content


def _unreadable(path: str, error: OSError) -> BootError:
    return BootError("entries-unreadable", path, f"it can't be read ({error.strerror})", "Run this as root.")


def _unusable(file: _File) -> BootError:
    if file.absent:
        return BootError(
            "kernel-missing", file.absent, "there is no such file", f"Write it, or correct {file.path}, which names it."
        )
    return BootError("entry-corrupt", file.path, f"systemd-boot ignores it: {file.fault}", "Write it anew.")
