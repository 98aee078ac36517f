"""What systemd-boot sees of its entries, and what it would start: values and rules, without any I/O.

The formats are in bootctl/systemd_boot.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key, partial
from typing import Any, Final

from bootctl import bls
from bootctl.model import EMPTY, MAX_TRIES, REJECTED, BootView, SlotState

# Bits of LoaderFeatures (BOOT_LOADER_INTERFACE).
COUNTS_BOOTS: Final = 1 << 4
SORTS_BY_VERSION: Final = 1 << 8
PREFERRED: Final = "LoaderEntryPreferred"
DEFAULT: Final = "LoaderEntryDefault"
ONE_SHOT: Final = "LoaderEntryOneShot"
LAST_BOOTED: Final = "LoaderEntryLastBooted"
SELECTED: Final = "LoaderEntrySelected"
COUNT_PATH: Final = "LoaderBootCountPath"
_SAVED: Final = "@saved"
_AUTOMATIC: Final = "auto-"
_GOOD: Final = SlotState(1, 0, confirmed=True)
LAST_RESORT: Final = SlotState(0, 0, confirmed=True)
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9._-]+")
# The boots done of a slot that has none left: from here on it was rejected; what counts stays below.
REJECTED_DONE: Final = 50


@dataclass(frozen=True, slots=True)
class EntryFile:
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
            return LAST_RESORT
        if not left and self.name.done >= REJECTED_DONE:
            return REJECTED
        return SlotState(1, min(left, MAX_TRIES), confirmed=self.marked)

    def is_meant_by(self, pattern: str) -> bool:
        """Whether any loader takes it for `pattern`: older ones leave the counter in the id, newer ones don't."""
        ids = (self.file_name.lower(), self.name.identity)
        return any(bls.matches(pattern.lower(), identity) for identity in ids)


def sorted_first(one: EntryFile, other: EntryFile) -> int:
    """Which of two files the loader would start, for a slot that has both."""
    by_name = (one.file_name > other.file_name) - (one.file_name < other.file_name)
    return bool(one.fault) - bool(other.fault) or bls.compare(one.entry, other.entry) or by_name


@dataclass(frozen=True, slots=True)
class Found:
    """What is there.

    The first of a slot's `files` is the one that counts; `others` are entries of no slot. `chosen` are the variables of
    explicit choices that are set, `configured` those of loader.conf, `told` what the loader left about this boot.
    `features` is None where there is no firmware to ask.
    """

    files: Mapping[str, tuple[EntryFile, ...]]
    others: tuple[EntryFile, ...]
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
    def usable(self) -> dict[str, EntryFile]:
        """The entries that the loader sees, of the slots that have one."""
        return {slot: files[0] for slot, files in self.files.items() if files and not files[0].fault}

    @property
    def passed_over_a_counter(self) -> bool:
        """Whether the loader has started a counted entry of ours now without counting.

        Up to systemd 257 LoaderEntrySelected keeps the name that the entry had before.
        """
        selected = bls.parse_name(self.told.get(SELECTED, ""))
        counted = selected is not None and selected.slot is not None and selected.left is not None
        return counted and COUNT_PATH not in self.told

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
        pattern = self.chosen.get(ONE_SHOT)
        return pattern is not None and any(file.is_meant_by(pattern) for file in self.files[slot])

    def _patterns(self) -> Iterator[tuple[str, bool]]:
        values = (
            (self.chosen.get(PREFERRED), True),
            (self.configured.get("preferred"), True),
            (self.chosen.get(DEFAULT), False),
            (self.configured.get("default"), False),
        )
        for value, skips_bad in values:
            pattern = self.told.get(LAST_BOOTED) if value is not None and value.lower() == _SAVED else value
            if pattern:
                yield pattern, skips_bad


def _order_key(usable: Mapping[str, EntryFile], *, bad_last: bool) -> Callable[[str], Any]:
    key = cmp_to_key(partial(bls.compare, bad_last=bad_last))
    return lambda slot: key(usable[slot].entry)


def decoded(found: Found) -> BootView:
    """The boot reference as the loader reads it."""
    order, named = found.natural, found.named
    if named is not None:
        order.sort(key=lambda slot: slot != named)
    if found.one_shot:
        # No order is kept between a trial and the confirmed slot then; the one that was armed last is first.
        order.sort(key=lambda slot: not found.state(slot).priority or found.state(slot).confirmed)
    order += sorted(found.files.keys() - set(order))
    return BootView(tuple((slot, _state(found, slot, len(order) - order.index(slot))) for slot in sorted(order)))


def _state(found: Found, slot: str, priority: int) -> SlotState:
    state = found.state(slot)
    if state.confirmed and state.bootable and not found.counts:
        state = _GOOD
    if state.priority and not state.confirmed and found.one_shot:
        state = replace(state, tries_left=min(state.tries_left, int(found.shoots(slot))))
    return replace(state, priority=priority) if state.priority else state


def ranking(view: BootView) -> list[str]:
    """The slots in their order. When none may boot, one that was confirmed comes first: it is started then."""
    some = any(state.bootable for _, state in view.slots)

    def rank(slot: str) -> tuple[bool, int, bool, bool]:
        state = view.state(slot)
        idle = not state.bootable
        return not some and not state.confirmed, -state.priority, idle, idle and not state.confirmed

    return sorted(view.names, key=rank)


def first_bootable(view: BootView, order: Sequence[str]) -> str | None:
    return next((slot for slot in order if view.state(slot).bootable), None)


def alike(one: BootView, other: BootView) -> bool:
    """Whether two views are the same but for the numbers of their priorities."""

    def essence(view: BootView) -> tuple[object, object]:
        states = {slot: (state.condition, state.tries_left, state.confirmed) for slot, state in view.slots}
        return states, [slot for slot in ranking(view) if view.state(slot).bootable]

    return essence(one) == essence(other)


def counting_suffices(found: Found, view: BootView) -> bool:
    """Whether the order of the entries and their counters can express `view`."""
    if not found.counts or found.orderable:
        return found.counts
    wanted, natural = (
        [slot for slot in order if view.state(slot).bootable] for order in (ranking(view), found.natural)
    )
    return wanted == natural


def newer_behind(found: Found, view: BootView) -> bool:
    """Whether the slots behind the first one would come before it by their versions, if they could boot."""
    first = first_bootable(view, ranking(view))
    natural = found.natural
    return first is None or natural.index(first) == len(natural) - 1


def sorted_by_name(found: Found) -> Found:
    """As the loaders before systemd 251 see it, which sort by nothing but the names."""

    def plain(files: Iterable[EntryFile]) -> tuple[EntryFile, ...]:
        named = (replace(file, entry=bls.Entry(file.name)) for file in files)
        return tuple(sorted(named, key=cmp_to_key(sorted_first)))

    files = {slot: plain(files) for slot, files in found.files.items()}
    return replace(found, files=files, others=plain(found.others))
