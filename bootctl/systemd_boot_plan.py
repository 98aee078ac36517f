"""How entries of systemd-boot change for a boot reference: names, versions, explicit choices; without any I/O.

The formats are in bootctl/systemd_boot.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from bootctl import bls
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from bootctl.systemd_boot_entries import (
    DEFAULT,
    LAST_RESORT,
    ONE_SHOT,
    PREFERRED,
    REJECTED_DONE,
    SORTS_BY_VERSION,
    EntryFile,
    Found,
    counting_suffices,
    ranking,
)

_USED_UP: Final = SlotState(1, 0, confirmed=False)
_LEADING: Final = re.compile(r"[0-9]{1,9}(?![0-9])")
_MOST_DONE: Final = 99
# Fewer than there are names for a slot's next file.
MOST_FILES: Final = 32


@dataclass(frozen=True, slots=True)
class Label:
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
            return range(REJECTED_DONE, _MOST_DONE + 1)
        return range(REJECTED_DONE - 1 - self.left) if self.left else range(1, REJECTED_DONE)

    def is_on(self, file: EntryFile) -> bool:
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


def label_of(state: SlotState, suffix: str) -> Label:
    if state == EMPTY:
        return Label(0, empty=True)
    if state.bootable and state.confirmed and not state.tries_left:
        return Label()
    marked = state.confirmed and suffix == bls.CONF
    rejected = state.priority == 0 and not state.confirmed
    return Label(state.tries_left if state.bootable else 0, marked=marked, rejected=rejected)


def _meet(one: bls.FileName, other: bls.FileName) -> bool:
    same = (one.left, one.done) == (other.left, other.done)
    return same or one.becomes(other) or other.becomes(one)


def fresh_name(slot: str, label: Label, files: Sequence[EntryFile]) -> bls.FileName:
    """A name that no counting meets: the loader can't rename a file to a name that is taken, and counts no further."""
    suffix = files[0].name.suffix
    if label.left is None or label.empty:
        return bls.slot_name(slot, suffix, label.left)
    names = (bls.slot_name(slot, suffix, label.left, done) for done in label.dones)
    # Each file meets one of them at most, and there are no more than MOST_FILES.
    return next(name for name in names if not any(_meet(name, file.name) for file in files))


@dataclass(frozen=True, slots=True)
class Change:
    """The first of the `files` of a slot gets this name, and this content unless it is None; the others go."""

    files: tuple[EntryFile, ...]
    file_name: str
    content: bytes | None

    @property
    def path(self) -> str:
        return os.path.join(os.path.dirname(self.files[0].path), self.file_name)


@dataclass(frozen=True, slots=True)
class Plan:
    """What leads from what is `found` to `wanted`, by counting or with `one_shot`."""

    found: Found
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
        label = label_of(state, file.name.suffix)
        if label.rejected:
            return REJECTED
        return LAST_RESORT if label.marked else _USED_UP

    @property
    def choices(self) -> dict[str, str | None]:
        """The variables of explicit choices as they shall be. A one-shot choice of foreign entries is left alone."""
        wanted: dict[str, str | None] = {DEFAULT: None, PREFERRED: None}
        if any(self.found.shoots(slot) for slot in self.found.files) or self.found.chosen.get(ONE_SHOT) == "":
            wanted[ONE_SHOT] = None
        if self.one_shot:
            ranked = ranking(self.wanted)
            good = next((slot for slot in ranked if self.wanted.state(slot).condition == "good"), None)
            if good is not None:
                wanted[DEFAULT] = str(bls.slot_name(good, self.found.usable[good].name.suffix))
            if self.wanted.state(ranked[0]).condition == "trial":
                wanted[ONE_SHOT] = self._shot(ranked[0])
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
        label = label_of(self.wanted.state(slot), files[0].name.suffix)
        return files[0].file_name if label.is_on(files[0]) else str(fresh_name(slot, label, files))

    @property
    def late(self) -> Collection[str]:
        """The variables that are changed after the files, so that meanwhile each names what may boot."""
        if not self.one_shot:
            return ()
        late = {ONE_SHOT} if self.choices.get(ONE_SHOT) else set()
        first = ranking(self.wanted)[0]
        if self.wanted.state(first).condition == "good" and self.found.shoots(first):
            late.add(ONE_SHOT)
        present = {file.file_name.lower() for file in self.found.usable.values()}
        return late if self.choices[DEFAULT] in present else late | {DEFAULT, PREFERRED}

    @property
    def changes(self) -> list[Change]:
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
        ranked = ranking(self.wanted)
        if self.one_shot:
            ranked.sort(key=lambda slot: self.wanted.state(slot).condition != "good")
        return ranked

    def _change(self, slot: str, version: int | None) -> Change | None:
        files = self.found.files[slot]
        first = files[0]
        name = self._file_name(slot)
        if first.name.suffix == bls.UKI:
            return None if name == first.file_name and len(files) == 1 else Change(files, name, None)
        content, label = first.content, label_of(self.wanted.state(slot), bls.CONF)
        if label.left is not None and label.marked != first.marked:
            content = bls.with_mark(content, confirmed=label.marked)
        if version is not None:
            content = bls.with_version(content, version, sort_key=self.found.new_sort_key)
        if name == first.file_name and content == first.content and len(files) == 1:
            return None
        return Change(files, name, content)

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


def planned(found: Found, view: BootView) -> Plan:
    """By counting if that can be. One shot starts no other trial than the first slot: one behind it is given up."""
    if counting_suffices(found, view):
        return Plan(found, view, one_shot=False)
    first = ranking(view)[0]
    for slot, state in view.slots:
        if state.condition == "trial" and slot != first:
            view = view.with_state(slot, _USED_UP)
    return Plan(found, view, one_shot=not counting_suffices(found, view))
