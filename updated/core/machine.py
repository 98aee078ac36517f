"""What the node does next: `decide(state, event, policy) -> Decision`, a table of pure functions.

An event that does not fit the phase is ignored with a reason, and never raises. Every effect may run twice: the state
that asks for it is durable before it runs, and after a crash it is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from updated.core import booted, commands, failures, grace, rebooting, update
from updated.core.decision import Decision, Handler
from updated.core.events import (
    AllowRequested,
    ArmDone,
    ChannelRequested,
    CheckDone,
    CheckRequested,
    Event,
    Failed,
    FetchDone,
    HoldRequested,
    HooksPassed,
    ImportRequested,
    InstallRequested,
    Observed,
    RebootRequested,
    Reconfigured,
    RollbackRequested,
    SealDone,
    Started,
    Surrounded,
    Tick,
    UnholdRequested,
)
from updated.core.policy import Policy
from updated.core.state import BootFacts, Phase, State


def first_state(facts: BootFacts, seed: float) -> State:
    """The state of a node that never had one, or lost it."""
    return State(facts=facts, seed=seed, versions={facts.slot: facts.version})


def decide(state: State, event: Event, policy: Policy) -> Decision:
    """What follows from `event` in `state`. Pure; never raises for any event in any phase."""
    handler = TABLE.get((state.phase, type(event))) or ANY_PHASE.get(type(event))
    if handler is None:
        return Decision(state)
    decision = grace.with_grace(handler(state, event, policy), event)
    if decision.state.importing and decision.state.phase not in _IMPORTING:
        return replace(decision, state=decision.state.with_changes(importing=False))
    return decision


ANY_PHASE: Mapping[type[Event], Handler] = {
    Started: booted.started,
    Observed: booted.observed,
    Surrounded: grace.surrounded,
    CheckRequested: commands.busy,
    InstallRequested: commands.busy,
    ImportRequested: commands.busy,
    RebootRequested: commands.nothing_staged,
    RollbackRequested: commands.roll_back,
    ChannelRequested: commands.channel,
    HoldRequested: commands.hold,
    UnholdRequested: commands.unhold,
    AllowRequested: commands.allow,
    Reconfigured: commands.reconfigured,
}

# An import is over when the node leaves these, whatever it was that ended it.
_IMPORTING = (Phase.CHECKING, Phase.FETCHING, Phase.SEALING)
_RESTING = (Phase.IDLE, Phase.WAITING, Phase.FALLEN_BACK, Phase.FAILED)

TABLE: Mapping[tuple[Phase, type[Event]], Handler] = {
    **{(phase, Tick): update.tick_at_rest for phase in (Phase.IDLE, Phase.FALLEN_BACK, Phase.FAILED)},
    **{(phase, CheckRequested): commands.check_requested for phase in (*_RESTING, Phase.STAGED)},
    **{(phase, InstallRequested): commands.install_requested for phase in (*_RESTING, Phase.STAGED)},
    **{(phase, ImportRequested): commands.import_requested for phase in (*_RESTING, Phase.STAGED)},
    **{(phase, Failed): failures.failed_at_rest for phase in (*_RESTING, Phase.TRIAL)},
    **{
        (phase, Failed): failures.failed
        for phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING, Phase.STAGED, Phase.REBOOTING)
    },
    (Phase.WAITING, Tick): update.tick_waiting,
    (Phase.CHECKING, CheckDone): update.check_done,
    (Phase.CHECKING, ArmDone): update.armed_while_checking,
    (Phase.CHECKING, CheckRequested): commands.at_it_already,
    (Phase.CHECKING, InstallRequested): commands.install_while_checking,
    (Phase.CHECKING, ImportRequested): commands.import_while_checking,
    (Phase.CHECKING, RebootRequested): commands.reboot_while_checking,
    (Phase.FETCHING, Tick): update.tick_fetching,
    (Phase.FETCHING, FetchDone): update.fetch_done,
    (Phase.SEALING, SealDone): update.seal_done,
    (Phase.STAGED, ArmDone): update.arm_done,
    (Phase.STAGED, Tick): update.tick_staged,
    (Phase.STAGED, RebootRequested): commands.reboot_staged,
    (Phase.REBOOTING, Tick): rebooting.tick_rebooting,
    (Phase.REBOOTING, HooksPassed): rebooting.hooks_passed,
    **{
        (Phase.REBOOTING, kind): commands.late
        for kind in (CheckRequested, InstallRequested, ImportRequested, RebootRequested, RollbackRequested)
    },
}
