"""The reboot into the passive slot: to boot what is staged, or to leave what runs.

The baseline is taken once more, since days may lie between; then the hooks are asked, which may stop what the checks
look at; then it is seen whether the reboot is still allowed.
"""

from __future__ import annotations

from updated.core.decision import Decision, resting_phase
from updated.core.effects import AskHooks, Baseline, Effect, Reboot, Record, Reject, RollBack
from updated.core.errors import UpdatedError
from updated.core.events import Failed, HooksPassed, Tick
from updated.core.failures import failed
from updated.core.inhibit import inhibited
from updated.core.policy import Policy, reboot_obstacles, reboot_window_obstacles
from updated.core.selection import Reason
from updated.core.state import Phase, State

# How long a machine may take to go down before the command counts as failed.
REBOOT_SECONDS = 600


def begin_reboot(state: State, how: AskHooks, version: str) -> Decision:
    """Makes everything ready for the reboot into `version`, which is staged."""
    preparing = state.with_changes(phase=Phase.REBOOTING, reasons=(), error=None, since=0)
    return Decision(preparing, (Baseline(version), how))


def hooks_passed(state: State, event: HooksPassed, policy: Policy) -> Decision:
    """Reboots, unless something came in between that stands in the way: hooks may take long."""
    if state.leaving:
        return Decision(state.with_changes(since=event.now), (Reboot(event.reason, onward=False),))
    if state.target is None:
        return Decision(state.with_changes(phase=resting_phase(state)))
    obstacles = reboot_obstacles(state, policy, event.now)
    if event.insist:
        obstacles = obstacles_despite_insisting(state, policy, event.now) if state.insist else inhibited(state.around)
    if obstacles:
        return Decision(state.with_changes(phase=Phase.STAGED, reasons=obstacles, insist=False))
    return reboot_now(state, event.reason, event.now)


def reboot_now(state: State, reason: str, now: int) -> Decision:
    """Reboots into what is staged."""
    rebooting = state.with_changes(phase=Phase.REBOOTING, reasons=(), error=None, since=now)
    version = state.target.version if state.target else ""
    return Decision(rebooting, (Record("reboot", version, reason), Reboot(reason, onward=True)))


def tick_rebooting(state: State, event: Tick, policy: Policy) -> Decision:
    """A machine that is still up long after the command to reboot gets it again, and people are told."""
    if state.preparing or abs(event.now - state.since) < REBOOT_SECONDS:
        return Decision(state)
    error = UpdatedError(
        "reboot-failed", "the machine", f"is still up {REBOOT_SECONDS // 60} minutes after the command to reboot",
        "See what keeps it: systemd-inhibit --list, systemctl list-jobs.",
    )
    if state.leaving:
        decision = leave_slot(state)
        refused = state.error is not None and state.error.code == "hook-refused"
        return decision if refused else Decision(decision.state.with_changes(error=error), decision.effects)
    return failed(state, Failed(event.now, event.chance, error), policy)


def can_leave_slot(state: State) -> bool:
    """Whether the other slot holds a confirmed system."""
    other = state.facts.view.state(state.passive)
    return other.confirmed and other.priority > 0


def leave_slot(state: State) -> Decision:
    """Brings the machine out of the slot that a person wants to leave; may be asked for again until it is done."""
    slot = state.facts.slot
    away: Effect = RollBack() if state.confirmed else Reject(slot)
    rebooting = state.with_changes(phase=Phase.REBOOTING, since=0)
    return Decision(rebooting, (away, AskHooks(f"to leave {state.facts.version} in slot {slot}", insist=True)))


def obstacles_despite_insisting(state: State, policy: Policy, now: int) -> tuple[Reason, ...]:
    """What stands against the reboot for a person who wants a release at once.

    They don't thereby give up the windows: 'updatectl reboot' does.
    """
    return (*reboot_window_obstacles(state, policy, now), *inhibited(state.around))
