"""Which slot boots next: values and rules, without any I/O.

Every bootloader that counts trial boots can be read as this model: each slot has a priority, a number of tries and a
mark that says "confirmed". A backend translates between the loader's own format and `BootView`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bootctl.errors import BootError

MAX_PRIORITY = 15
MAX_TRIES = 15
DEFAULT_TRIES = 3

Condition = Literal["empty", "bad", "trial", "good"]


@dataclass(frozen=True, slots=True)
class SlotState:
    """What the boot reference says about one slot.

    `priority` 0 means "never boot this"; among the others the highest is started. `tries_left` counts the boots that
    an unconfirmed slot still gets; of a confirmed one 0 says that its boots are not counted, and a number that they
    are: when it is used up the priority becomes 0. Both lie in 0..15, the width of the GPT's fields; otherwise
    ValueError.
    """

    priority: int = 0
    tries_left: int = 0
    confirmed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise ValueError(f"priority {self.priority} is not within 0..{MAX_PRIORITY}")
        if not 0 <= self.tries_left <= MAX_TRIES:
            raise ValueError(f"tries_left {self.tries_left} is not within 0..{MAX_TRIES}")

    @property
    def bootable(self) -> bool:
        """Whether the loader may start this slot."""
        return self.priority > 0 and (self.confirmed or self.tries_left > 0)

    @property
    def condition(self) -> Condition:
        """`good`: confirmed and bootable; `trial`: bootable, not confirmed yet; `bad`: rejected, or its tries are used
        up; `empty`: nothing whole is in it."""
        if self.bootable:
            return "good" if self.confirmed else "trial"
        return "empty" if self == EMPTY else "bad"


EMPTY = SlotState(priority=0, tries_left=0, confirmed=False)
# The try that is left over tells it from an empty slot, in formats that have these numbers alone.
REJECTED = SlotState(priority=0, tries_left=1, confirmed=False)


@dataclass(frozen=True, slots=True)
class BootView:
    """The whole boot reference. The order of `slots` is that of the partitions, which breaks ties of priority."""

    slots: tuple[tuple[str, SlotState], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.slots)

    def state(self, slot: str) -> SlotState:
        """The state of `slot`. Raises BootError `unknown-slot`."""
        for name, state in self.slots:
            if name == slot:
                return state
        raise BootError(
            "unknown-slot",
            f"slot {slot}",
            f"the boot reference has only the slots {', '.join(self.names) or '(none)'}",
            "Name one of these.",
        )

    def with_state(self, slot: str, state: SlotState) -> BootView:
        """A copy in which `slot` has `state`. Raises BootError `unknown-slot`."""
        self.state(slot)
        return BootView(tuple((name, state if name == slot else old) for name, old in self.slots))

    def other(self, slot: str) -> str:
        """The other one of two slots. Raises BootError `unknown-slot`, `not-two-slots`."""
        self.state(slot)
        others = [name for name in self.names if name != slot]
        if len(others) != 1:
            raise BootError(
                "not-two-slots",
                f"slot {slot}",
                f"the boot reference has {len(self.slots)} slots, so that none is the other one",
                "Lay out the disk with exactly two slots.",
            )
        return others[0]


def next_boot(view: BootView) -> tuple[str | None, BootView]:
    """What the loader does at the next boot: (slot that it starts, boot reference that it leaves behind).

    Unconfirmed slots are counted, and confirmed ones that have tries. When all are used up, a slot that was confirmed
    boots rather than none; None when there is none of these either.
    """
    best: str | None = None
    for name, state in view.slots:
        if state.bootable and (best is None or state.priority > view.state(best).priority):
            best = name
    if best is None:
        return next((name for name, state in view.slots if state.confirmed), None), view
    state = view.state(best)
    if not state.tries_left:
        return best, view
    left = replace(state, tries_left=state.tries_left - 1)
    if state.confirmed and not left.tries_left:
        left = replace(left, priority=0)
    return best, view.with_state(best, left)


def boot_sequence(view: BootView, failures: int) -> tuple[str | None, ...]:
    """The slot that boots now, and then after each of `failures` boots in a row that nobody confirms."""
    sequence: list[str | None] = []
    for _ in range(failures + 1):
        slot, view = next_boot(view)
        sequence.append(slot)
    return tuple(sequence)


def _require_way_back(view: BootView, slot: str, active: str) -> SlotState:
    view.state(slot)
    state = view.state(active)
    if slot == active:
        raise BootError(
            "slot-is-active",
            f"slot {slot}",
            "it is the one that runs now",
            "Name the other slot: the running one is never given up.",
        )
    if not state.confirmed:
        raise BootError(
            "active-not-confirmed",
            f"slot {active}",
            "it runs now but was not confirmed, so that there would be no way back",
            "Wait until its health checks have confirmed it, or see why they don't.",
        )
    return state


def invalidate(view: BootView, slot: str, *, active: str) -> BootView:
    """Make `slot` unbootable before it is written.

    Raises BootError `slot-is-active`, `active-not-confirmed`, `active-not-bootable`, `unknown-slot`.
    """
    if not _require_way_back(view, slot, active).bootable:
        raise BootError(
            "active-not-bootable",
            f"slot {active}",
            "it runs now but the boot reference forbids to start it, so that nothing would be left to boot",
            f"Confirm it first (updated-bootctl confirm {active}) if it is to be kept.",
        )
    return view.with_state(slot, EMPTY)


def arm_trial(view: BootView, slot: str, *, active: str, tries: int = DEFAULT_TRIES) -> BootView:
    """Boot `slot` next, at most `tries` times (1..15), with `active` behind it as the way back.

    Raises BootError `bad-tries`, `slot-is-active`, `active-not-confirmed`, `unknown-slot`.
    """
    if not 1 <= tries <= MAX_TRIES:
        raise BootError(
            "bad-tries",
            f"slot {slot}",
            f"{tries} tries can't be counted by the bootloader",
            f"Give a number from 1 to {MAX_TRIES}.",
        )
    behind = replace(_require_way_back(view, slot, active), priority=1)
    armed = view.with_state(slot, SlotState(priority=2, tries_left=tries, confirmed=False))
    return armed.with_state(active, behind)


def confirm(view: BootView, slot: str, *, counted: int = 0) -> BootView:
    """Mark `slot` as good and first in order; the others stay what they are, at most second. Idempotent.

    `counted` are the boots that it gets until `recount` gives it all of them again; with 0 none is counted.
    Raises BootError `unknown-slot`.
    """
    view.state(slot)
    return BootView(
        tuple(
            (
                name,
                SlotState(priority=2, tries_left=counted, confirmed=True)
                if name == slot
                else replace(state, priority=min(state.priority, 1)),
            )
            for name, state in view.slots
        )
    )


def recount(view: BootView, active: str, *, counted: int) -> BootView:
    """Give the slot that runs all its boots again if it was confirmed: the machine came up. With 0 none is counted.

    A trial stays what it is. Raises BootError `unknown-slot`.
    """
    state = view.state(active)
    if not state.confirmed:
        return view
    return view.with_state(active, replace(state, priority=max(state.priority, 1), tries_left=counted))


def reject(view: BootView, slot: str) -> BootView:
    """Make `slot` unbootable after it failed. Idempotent.

    Raises BootError `last-bootable-slot` when no other slot could boot, or when it is confirmed and no other one is
    good: a trial beside it may still fail, and then even a confirmed slot that is used up boots; `unknown-slot`.
    """
    confirmed = view.state(slot).confirmed
    others = [state for name, state in view.slots if name != slot]
    if not any(state.condition == "good" if confirmed else state.bootable for state in others):
        raise BootError(
            "last-bootable-slot",
            f"slot {slot}",
            f"no other slot {'is good' if confirmed else 'can boot'}, so that the machine might never start again",
            "Install a release into the other slot first, and have it confirmed.",
        )
    return view.with_state(slot, REJECTED)


def roll_back(view: BootView, *, active: str) -> BootView:
    """Put the other slot first, by a person's word; the active one stays behind it as it is.

    Raises BootError `no-confirmed-slot` when the other slot was never confirmed or was given up, `unknown-slot`,
    `not-two-slots`.
    """
    other = view.other(active)
    if view.state(other).condition != "good":
        raise BootError(
            "no-confirmed-slot",
            f"slot {other}",
            f"it can't be rolled back to, since its condition is {view.state(other).condition}",
            "Install a release instead.",
        )
    current = view.state(active)
    back = view.with_state(active, replace(current, priority=min(current.priority, 1)))
    return back.with_state(other, replace(view.state(other), priority=2))
