"""What the node does next: `decide(state, event, policy) -> Decision`, a table of pure functions.

An event that does not fit the phase is ignored with a reason, and never raises. Every effect may run twice: the state
that asks for it is durable before it runs, and after a crash it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bootctl.model import SlotState
from updated.core.errors import UpdatedError
from updated.core.policy import Policy, install_obstacles, is_due, next_check, pauses, reboot_obstacles, retry_at
from updated.core.selection import Reason
from updated.core.state import BootFacts, Denial, Fallback, Hold, Offer, Phase, State, Target

# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `now` (epoch seconds). `chance` in [0, 1) is drawn by the engine."""

    now: int
    chance: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The daemon started; what it was doing before is over."""

    facts: BootFacts


@dataclass(frozen=True, slots=True)
class Observed(Event):
    """The boot reference and the verdict were read again."""

    facts: BootFacts


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time passed."""


@dataclass(frozen=True, slots=True)
class CheckRequested(Event):
    """A person asks what there is."""

    by: str


@dataclass(frozen=True, slots=True)
class InstallRequested(Event):
    """A person wants the newest release now: no wave, no hold."""

    by: str


@dataclass(frozen=True, slots=True)
class RebootRequested(Event):
    """A person wants the reboot into what is staged now."""

    by: str


@dataclass(frozen=True, slots=True)
class RollbackRequested(Event):
    """A person wants the other slot back."""

    by: str


@dataclass(frozen=True, slots=True)
class ChannelRequested(Event):
    """A person chose a channel."""

    by: str
    channel: str


@dataclass(frozen=True, slots=True)
class HoldRequested(Event):
    """A person pauses updates, until a time or without end."""

    by: str
    until: int | None


@dataclass(frozen=True, slots=True)
class UnholdRequested(Event):
    """A person ends the pause."""

    by: str


@dataclass(frozen=True, slots=True)
class AllowRequested(Event):
    """A person takes a release off the denylist."""

    by: str
    version: str


@dataclass(frozen=True, slots=True)
class CheckDone(Event):
    """The channel was read: there is an offer, or there are reasons why not.

    `withdrawn`: why the release that is staged is not shipped any more, if that is so.
    """

    offer: Offer | None
    reasons: tuple[Reason, ...]
    withdrawn: str | None = None


@dataclass(frozen=True, slots=True)
class FetchDone(Event):
    """The release is written to the passive slot."""


@dataclass(frozen=True, slots=True)
class SealDone(Event):
    """The passive slot was read back, and is what was signed."""


@dataclass(frozen=True, slots=True)
class ArmDone(Event):
    """The boot reference names the passive slot."""


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """An effect of the present phase failed."""

    error: UpdatedError


# --------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that the engine does; each may run twice."""


@dataclass(frozen=True, slots=True)
class Check(Effect):
    """Ask the repository what the channel has."""

    channel: str
    any_wave: bool


@dataclass(frozen=True, slots=True)
class Invalidate(Effect):
    """Make the passive slot unbootable."""

    slot: str


@dataclass(frozen=True, slots=True)
class Fetch(Effect):
    """Write the release to the passive slot."""

    target: Target


@dataclass(frozen=True, slots=True)
class Seal(Effect):
    """Verify the signatures again and read the slot back."""

    target: Target


@dataclass(frozen=True, slots=True)
class Arm(Effect):
    """Let the passive slot boot on trial."""

    slot: str
    tries: int


@dataclass(frozen=True, slots=True)
class Reject(Effect):
    """Take a slot that failed out of the boot reference."""

    slot: str


@dataclass(frozen=True, slots=True)
class RollBack(Effect):
    """Let the boot reference name the other, confirmed slot."""


@dataclass(frozen=True, slots=True)
class Reboot(Effect):
    """Reboot the machine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop(Effect):
    """End the child process that runs."""


@dataclass(frozen=True, slots=True)
class Record(Effect):
    """Write a line of history."""

    kind: str
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The new state, what to do in order, and why a request was refused."""

    state: State
    effects: tuple[Effect, ...] = ()
    refusal: UpdatedError | None = None


Handler = Callable[[State, Any, Policy], Decision]


def first_state(facts: BootFacts, channel: str, seed: float) -> State:
    """The state of a node that never had one, or lost it."""
    return State(facts=facts, channel=channel, seed=seed, versions={facts.slot: facts.version})


def decide(state: State, event: Event, policy: Policy) -> Decision:
    """What follows from `event` in `state`. Pure; never raises for any event in any phase."""
    handler = TABLE.get((state.phase, type(event))) or ANY_PHASE.get(type(event))
    if handler is None:
        return Decision(state)
    return handler(state, event, policy)


def _refuse(state: State, what: str, cause: str, mend: str) -> Decision:
    return Decision(state, refusal=UpdatedError("not-possible-now", what, cause, mend))


# ------------------------------------------------------------------------------------------------- boot and verdict


def _started(state: State, event: Started, policy: Policy) -> Decision:
    """What ran before is over: an unfinished check, download or seal begins again and resumes."""
    if state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING, Phase.WAITING):
        keep = state.target if state.target is not None and state.target.armed else None
        phase = Phase.IDLE if keep is None else Phase.STAGED
        state = state.with_changes(phase=phase, target=keep, offer=None, next_check=event.now)
    elif state.phase is Phase.REBOOTING and event.facts.boot_id == state.facts.boot_id:
        phase = Phase.STAGED if state.target is not None else Phase.IDLE
        state = state.with_changes(phase=phase)
    return _observed(state, event, policy)


def _observed(state: State, event: Started | Observed, policy: Policy) -> Decision:
    """Compares what was expected with the slot that runs: on trial, confirmed, fallen back, or not tried yet."""
    facts = event.facts
    other_boot = facts.boot_id != state.facts.boot_id
    verdict = facts.verdict
    news = verdict is not None and verdict.boot_id != state.judged
    state = state.with_changes(facts=facts, versions={**state.versions, facts.slot: facts.version})
    if state.target is not None and state.target.slot not in facts.view.names:
        # The state is that of another disk or boot loader.
        state = state.with_changes(phase=_resting(state), target=None)
    if news and verdict is not None and verdict.verdict == "rejected" and verdict.slot != facts.slot:
        known = state.target is not None and state.target.version == verdict.version
        manifest = state.target.manifest if known and state.target is not None else ""
        rejected = Target(verdict.version, manifest, verdict.slot)
        state = state.with_changes(judged=verdict.boot_id)
        return _fall_back(state, event, rejected, verdict.reason or "its health checks failed")
    if state.target is not None and other_boot and state.target.slot != facts.slot:
        return _booted_the_old_slot(state, event, state.target)
    if state.target is not None and state.target.slot == facts.slot:
        if facts.view.state(facts.slot).confirmed:
            return _confirmed(state, event, state.target.version)
        return Decision(state.with_changes(phase=Phase.TRIAL, error=None))
    going_down = state.phase is Phase.REBOOTING and not other_boot
    if not facts.view.state(facts.slot).confirmed and state.phase is not Phase.TRIAL and not going_down:
        unknown = Target(facts.version, "", facts.slot, tries=policy.tries)
        return Decision(state.with_changes(phase=Phase.TRIAL, target=unknown, error=None))
    left = facts.view.state(state.passive)
    if state.target is None and left.priority > 0 and not left.bootable:
        stranger = Target(state.versions.get(state.passive, "unknown"), "", state.passive)
        return _fall_back(state, event, stranger, _not_up(stranger))
    if state.phase is Phase.REBOOTING and other_boot:
        return Decision(state.with_changes(phase=_resting(state), next_check=event.now))
    return Decision(state)


def _confirmed(state: State, event: Event, version: str) -> Decision:
    settled = state.with_changes(
        phase=Phase.IDLE, target=None, offer=None, reasons=(), error=None, failures=0, fallback=None, insist=False,
        next_check=event.now,
    )
    return Decision(settled, (Record("confirmed", version, f"slot {state.facts.slot} passed its health checks"),))


def _booted_the_old_slot(state: State, event: Event, target: Target) -> Decision:
    theirs = state.facts.view.state(target.slot)
    if theirs.priority > 0 and not theirs.confirmed and theirs.tries_left > 0 and theirs.tries_left >= target.tries:
        armed = replace(target, tries=theirs.tries_left)
        return Decision(state.with_changes(phase=Phase.STAGED, target=armed))
    if not target.armed and theirs == SlotState():
        return Decision(state.with_changes(phase=Phase.STAGED))
    return _fall_back(state, event, target, _not_up(target))


def _not_up(target: Target) -> str:
    return f"slot {target.slot} did not come up on trial"


def _fall_back(state: State, event: Event, target: Target, reason: str) -> Decision:
    denial = Denial(target.version, target.manifest, reason, event.now)
    fallen = state.with_changes(
        phase=Phase.FALLEN_BACK, target=None, offer=None, reasons=(), error=None, insist=False,
        fallback=Fallback(target.version, reason, event.now), denied=_deny(state, denial), next_check=event.now,
        versions={**state.versions, target.slot: target.version},
    )
    return Decision(fallen, (Reject(target.slot), Record("fell-back", target.version, reason)))


def _deny(state: State, denial: Denial) -> tuple[Denial, ...]:
    return (*(each for each in state.denied if each.version != denial.version), denial)


def _resting(state: State) -> Phase:
    return Phase.IDLE if state.fallback is None else Phase.FALLEN_BACK


# ------------------------------------------------------------------------------------------------- check and install


def _tick_at_rest(state: State, event: Tick, policy: Policy) -> Decision:
    """When the time has come: look for a release."""
    if not is_due(policy, state.next_check, event.now):
        return Decision(state)
    return _check(state)


def _check(state: State) -> Decision:
    return Decision(state.with_changes(phase=Phase.CHECKING), (Check(state.channel, state.insist),))


def _check_requested(state: State, event: CheckRequested, policy: Policy) -> Decision:
    """Looks for a release now."""
    return _check(state)


def _install_requested(state: State, event: InstallRequested, policy: Policy) -> Decision:
    """Looks for a release now, and installs it whatever wave or hold there is."""
    return _check(state.with_changes(insist=True))


def _install_while_checking(state: State, event: InstallRequested, policy: Policy) -> Decision:
    """Begins the check again, without waves."""
    decision = _check(state.with_changes(insist=True))
    return Decision(decision.state, (Stop(), *decision.effects))


def _at_it_already(state: State, event: CheckRequested, policy: Policy) -> Decision:
    """The check that runs answers it."""
    return Decision(state)


def _busy(state: State, event: Any, policy: Policy) -> Decision:
    """Refuses: the node is at work already."""
    return _refuse(state, "the request", f"the node is at work (it is {state.phase})", "See 'updatectl status'.")


def _check_done(state: State, event: CheckDone, policy: Policy) -> Decision:
    """Nothing new: rest. A release: install it, or wait with the reasons."""
    state = state.with_changes(
        last_check=event.now, next_check=next_check(policy, event.now, event.chance), reasons=event.reasons,
        error=None, failures=0, offer=event.offer,
    )
    ends = [reason.until for reason in event.reasons if reason.until is not None]
    if ends:
        state = state.with_changes(next_check=min(state.next_check, *ends))
    if state.target is not None and event.withdrawn is not None:
        return _withdrawn(state, event, policy, state.target, event.withdrawn)
    if state.target is not None and (event.offer is None or event.offer.manifest == state.target.manifest):
        return _staged_again(state, event, policy)
    if event.offer is None:
        return Decision(state.with_changes(phase=_resting(state), insist=False))
    return _begin_or_wait(state, event, policy, event.offer)


def _withdrawn(state: State, event: CheckDone, policy: Policy, target: Target, why: str) -> Decision:
    disarmed: tuple[Effect, ...] = (Invalidate(target.slot), Record("withdrawn", target.version, why))
    state = state.with_changes(target=None)
    if event.offer is None:
        return Decision(state.with_changes(phase=_resting(state), insist=False), disarmed)
    decision = _begin_or_wait(state, event, policy, event.offer)
    return Decision(decision.state, (*disarmed, *decision.effects))


def _begin_or_wait(state: State, event: Event, policy: Policy, offer: Offer) -> Decision:
    obstacles = install_obstacles(state, policy, offer, event.now)
    if obstacles:
        if state.target is not None:
            return _staged_again(state, event, policy)
        return Decision(state.with_changes(phase=Phase.WAITING, reasons=obstacles, insist=False))
    target = Target(offer.version, offer.manifest, state.passive)
    versions = {slot: version for slot, version in state.versions.items() if slot != target.slot}
    fetching = state.with_changes(phase=Phase.FETCHING, target=target, reasons=(), versions=versions)
    begun = Record("install", offer.version, f"into slot {target.slot}")
    return Decision(fetching, (Invalidate(target.slot), begun, Fetch(target)))


def _tick_waiting(state: State, event: Tick, policy: Policy) -> Decision:
    """Begins as soon as nothing stands in the way, and looks again when the time has come."""
    if is_due(policy, state.next_check, event.now) or state.offer is None:
        return _check(state)
    return _begin_or_wait(state, event, policy, state.offer)


def _fetch_done(state: State, event: FetchDone, policy: Policy) -> Decision:
    """Has the slot verified."""
    if state.target is None:
        return Decision(state.with_changes(phase=_resting(state)))
    return Decision(state.with_changes(phase=Phase.SEALING), (Seal(state.target),))


def _seal_done(state: State, event: SealDone, policy: Policy) -> Decision:
    """Records "staged", then arms the trial."""
    if state.target is None:
        return Decision(state.with_changes(phase=_resting(state)))
    versions = {**state.versions, state.target.slot: state.target.version}
    staged = state.with_changes(phase=Phase.STAGED, versions=versions, failures=0, error=None)
    return Decision(staged, (Arm(state.target.slot, policy.tries),))


def _arm_done(state: State, event: ArmDone, policy: Policy) -> Decision:
    """Reboots when that is allowed."""
    if state.target is None:
        return Decision(state.with_changes(phase=_resting(state)))
    target = replace(state.target, tries=policy.tries)
    text = f"slot {target.slot} boots next, with {policy.tries} tries"
    decision = _staged_again(state.with_changes(target=target, error=None), event, policy)
    return Decision(decision.state, (Record("staged", target.version, text), *decision.effects))


def _staged_again(state: State, event: Event, policy: Policy) -> Decision:
    state = state.with_changes(phase=Phase.STAGED)
    if state.target is not None and not state.target.armed:
        return Decision(state, (Arm(state.target.slot, policy.tries),))
    obstacles = () if state.insist and policy.reboot_automatically else reboot_obstacles(state, policy, event.now)
    if obstacles:
        return Decision(state.with_changes(reasons=obstacles, insist=False))
    return _reboot(state, f"to boot {state.target.version} on trial" if state.target else "")


def _tick_staged(state: State, event: Tick, policy: Policy) -> Decision:
    """Arms again if that failed, reboots when allowed, and looks for something newer when the time has come."""
    if state.target is None:
        return Decision(state.with_changes(phase=_resting(state)))
    if not state.target.armed:
        due = state.error is None or is_due(policy, state.next_check, event.now)
        return Decision(state, (Arm(state.target.slot, policy.tries),) if due else ())
    if state.error is not None and not is_due(policy, state.next_check, event.now):
        return Decision(state)
    if not reboot_obstacles(state, policy, event.now):
        return _staged_again(state, event, policy)
    if is_due(policy, state.next_check, event.now) and not pauses(state, policy, event.now):
        return _check(state)
    return Decision(state.with_changes(reasons=reboot_obstacles(state, policy, event.now)))


def _reboot(state: State, reason: str) -> Decision:
    rebooting = state.with_changes(phase=Phase.REBOOTING, reasons=(), error=None)
    return Decision(rebooting, (Record("reboot", state.target.version if state.target else "", reason), Reboot(reason)))


def _reboot_staged(state: State, event: RebootRequested, policy: Policy) -> Decision:
    """Reboots now."""
    if state.target is None or not state.target.armed:
        return _refuse(state, "the reboot", "the boot reference does not name the new slot yet", "Try it again soon.")
    return _reboot(state, f"asked for by {event.by}")


def _nothing_staged(state: State, event: RebootRequested, policy: Policy) -> Decision:
    """Refuses: nothing is staged."""
    return _refuse(
        state, "the reboot", "no release is staged",
        "See 'updatectl status'; to reboot all the same, use 'systemctl reboot'.",
    )


# ---------------------------------------------------------------------------------------------------------- failures


def _failed_at_rest(state: State, event: Failed, policy: Policy) -> Decision:
    """Keeps the error for people."""
    return Decision(state.with_changes(error=event.error))


def _failed(state: State, event: Failed, policy: Policy) -> Decision:
    """Tries again later: soon and then more rarely if that can help, otherwise at the next regular check."""
    failures = state.failures + 1
    again = retry_at(policy, event.now, failures, event.chance)
    if not event.error.retry:
        again = next_check(policy, event.now, event.chance)
    state = state.with_changes(error=event.error, failures=failures, next_check=again, insist=False)
    version = state.target.version if state.target else state.facts.version
    record = Record("failed", version, str(event.error))
    if state.phase is Phase.CHECKING and state.target is not None:
        return Decision(state.with_changes(phase=Phase.STAGED), (record,))
    if state.phase in (Phase.STAGED, Phase.REBOOTING) and state.target is not None:
        return Decision(state.with_changes(phase=Phase.STAGED), (record,))
    return Decision(state.with_changes(phase=Phase.FAILED, target=None, offer=None), (record,))


# ---------------------------------------------------------------------------------------------------- people's words


def _rollback(state: State, event: RollbackRequested, policy: Policy) -> Decision:
    """Boots the other, confirmed slot, and denies the release that runs."""
    other = state.facts.view.state(state.passive)
    if not (other.confirmed and other.priority > 0):
        return _refuse(
            state, "the roll back", f"slot {state.passive} holds no confirmed system",
            "Install the wanted release instead, from its channel.",
        )
    reason = f"rolled back by {event.by}"
    effects: tuple[Effect, ...] = (RollBack(), Record("rolled-back", state.facts.version, reason), Reboot(reason))
    if state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING):
        effects = (Stop(), *effects)
    return Decision(_rolled_back(state, event, reason), effects)


def _rolled_back(state: State, event: Event, reason: str) -> State:
    manifest = state.target.manifest if state.target is not None and state.phase is Phase.TRIAL else ""
    denial = Denial(state.facts.version, manifest, reason, event.now)
    return state.with_changes(
        phase=Phase.REBOOTING, target=None, offer=None, reasons=(), error=None, denied=_deny(state, denial),
        fallback=Fallback(state.facts.version, reason, event.now),
    )


def _rollback_on_trial(state: State, event: RollbackRequested, policy: Policy) -> Decision:
    """Rejects the slot on trial, and boots the old one."""
    if not state.facts.view.state(state.passive).bootable:
        return _refuse(
            state, "the roll back", f"slot {state.passive} can not boot",
            "Let the trial end, or install another release.",
        )
    reason = f"rolled back by {event.by}"
    effects = (Reject(state.facts.slot), Record("rolled-back", state.facts.version, reason), Reboot(reason))
    return Decision(_rolled_back(state, event, reason), effects)


def _channel(state: State, event: ChannelRequested, policy: Policy) -> Decision:
    """Takes the channel over and looks into it at once; a download from the former channel is given up."""
    if event.channel == state.channel:
        return Decision(state)
    changed = state.with_changes(channel=event.channel, next_check=event.now, offer=None)
    record = Record("channel", state.facts.version, f"from {state.channel} to {event.channel}, by {event.by}")
    if state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING):
        return Decision(_given_up(changed), (Stop(), record))
    return Decision(changed, (record,))


def _given_up(state: State) -> State:
    if state.target is not None and state.target.armed:
        return state.with_changes(phase=Phase.STAGED, insist=False)
    return state.with_changes(phase=_resting(state), target=None, insist=False)


def _hold(state: State, event: HoldRequested, policy: Policy) -> Decision:
    """Pauses; a download is given up and resumes later."""
    held = state.with_changes(hold=Hold(event.by, event.until))
    record = Record("hold", state.facts.version, f"by {event.by}")
    if state.phase in (Phase.FETCHING, Phase.SEALING):
        return Decision(_given_up(held.with_changes(next_check=event.now)), (Stop(), record))
    return Decision(held, (record,))


def _unhold(state: State, event: UnholdRequested, policy: Policy) -> Decision:
    """Ends the pause."""
    if state.hold is None:
        return Decision(state)
    return Decision(state.with_changes(hold=None), (Record("unhold", state.facts.version, f"by {event.by}"),))


def _allow(state: State, event: AllowRequested, policy: Policy) -> Decision:
    """Takes a release off the denylist."""
    kept = tuple(denial for denial in state.denied if denial.version != event.version)
    if kept == state.denied:
        return _refuse(
            state, f"release {event.version}", "is not on the denylist", "'updatectl status' shows what is denied."
        )
    allowed = state.with_changes(denied=kept, next_check=event.now)
    return Decision(allowed, (Record("allow", event.version, f"by {event.by}"),))


def _late(state: State, event: Event, policy: Policy) -> Decision:
    """Ignored: the machine is going down, and does the rest at its next start."""
    return _refuse(state, "the request", "the node is rebooting", "Ask again when it is up.")


ANY_PHASE: Mapping[type[Event], Handler] = {
    Started: _started,
    Observed: _observed,
    CheckRequested: _busy,
    InstallRequested: _busy,
    RebootRequested: _nothing_staged,
    RollbackRequested: _rollback,
    ChannelRequested: _channel,
    HoldRequested: _hold,
    UnholdRequested: _unhold,
    AllowRequested: _allow,
}

_RESTING = (Phase.IDLE, Phase.WAITING, Phase.FALLEN_BACK, Phase.FAILED)

TABLE: Mapping[tuple[Phase, type[Event]], Handler] = {
    **{(phase, Tick): _tick_at_rest for phase in (Phase.IDLE, Phase.FALLEN_BACK, Phase.FAILED)},
    **{(phase, CheckRequested): _check_requested for phase in (*_RESTING, Phase.STAGED)},
    **{(phase, InstallRequested): _install_requested for phase in (*_RESTING, Phase.STAGED)},
    **{(phase, Failed): _failed_at_rest for phase in (*_RESTING, Phase.TRIAL)},
    **{
        (phase, Failed): _failed
        for phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING, Phase.STAGED, Phase.REBOOTING)
    },
    (Phase.WAITING, Tick): _tick_waiting,
    (Phase.CHECKING, CheckDone): _check_done,
    (Phase.CHECKING, CheckRequested): _at_it_already,
    (Phase.CHECKING, InstallRequested): _install_while_checking,
    (Phase.FETCHING, FetchDone): _fetch_done,
    (Phase.SEALING, SealDone): _seal_done,
    (Phase.STAGED, ArmDone): _arm_done,
    (Phase.STAGED, Tick): _tick_staged,
    (Phase.STAGED, RebootRequested): _reboot_staged,
    (Phase.TRIAL, RollbackRequested): _rollback_on_trial,
    **{
        (Phase.REBOOTING, kind): _late
        for kind in (CheckRequested, InstallRequested, RebootRequested, RollbackRequested)
    },
}
