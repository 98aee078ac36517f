"""What boot entries of EFI firmware and our notes mean, and how they change: values and rules, without any I/O.

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

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bootctl.efi_option import LoadOption
from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState, next_boot

_NOTE: Final = re.compile(r"([a-z0-9]{1,16})=(empty|trial|bad|again)")


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


def parse_notes(data: bytes) -> dict[str, str]:
    """The notes by slot; a line that is none means nothing."""
    lines = data.decode("ascii", errors="replace").split("\n")
    return {match[1]: match[2] for match in map(_NOTE.fullmatch, lines) if match}


def format_notes(notes: Mapping[str, str]) -> bytes:
    return "".join(f"{slot}={note}\n" for slot, note in notes.items()).encode("ascii")


def decode(found: Situation) -> BootView:
    """The boot reference in `found`."""
    trial, good = trial_and_good(found)
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


def trial_and_good(found: Situation) -> tuple[str | None, list[str]]:
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
    trial, good = trial_and_good(found)
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
