"""What follows from what goes on around the node: people who are warned of a reboot."""

from __future__ import annotations

from dataclasses import replace

from updated.core.decision import Decision
from updated.core.effects import Warn
from updated.core.events import Event, Surrounded
from updated.core.policy import Policy
from updated.core.state import Phase, State
from updated.core.surroundings import Grace

# People are warned when their time begins, and once more so many seconds before it ends.
LAST_WARNING_SECONDS = 60


def surrounded(state: State, event: Surrounded, policy: Policy) -> Decision:
    """Keeps what was seen; the tick that follows acts upon it."""
    return Decision(state.with_changes(around=event.around))


def with_grace(decision: Decision, event: Event) -> Decision:
    """`decision`, and the warnings where people who are logged in are all that the reboot waits for."""
    state = decision.state
    target = state.target
    if state.grace is not None and (target is None or target.version != state.grace.version):
        state = state.with_changes(grace=None)
    if state.phase is not Phase.STAGED or target is None:
        # In a check meanwhile, and until the last look before the reboot, the time goes on.
        return replace(decision, state=state)
    users = [reason.until for reason in state.reasons if reason.code == "users"]
    if len(state.reasons) != 1 or not users or users[0] is None:
        return replace(decision, state=state.with_changes(grace=None))
    until = users[0]
    fresh = state.grace is None or state.grace.until != until
    last = event.now >= until - LAST_WARNING_SECONDS
    if not fresh and (not last or (state.grace is not None and state.grace.last)):
        return replace(decision, state=state)
    grace = Grace(target.version, until, last)
    warning = Warn(target.version, until, max(until - event.now, 0))
    return replace(decision, state=state.with_changes(grace=grace), effects=(*decision.effects, warning))
