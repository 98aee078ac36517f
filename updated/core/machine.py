"""What the node does next: `decide(state, event, policy) -> Decision`, a table of pure functions.

An event that does not fit the phase is ignored with a reason, and never raises. Every effect may run twice: the state
that asks for it is durable before it runs, and after a crash it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bootctl.model import SlotState
from updated.core.effects import Arm, Check, Effect, Fetch, Invalidate, Reboot, Record, Reject, RollBack, Seal, Stop
from updated.core.errors import UpdatedError
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
    InstallRequested,
    Observed,
    RebootRequested,
    RollbackRequested,
    SealDone,
    Started,
    Tick,
    UnholdRequested,
)
from updated.core.policy import Policy, install_obstacles, is_due, next_check, pauses, reboot_obstacles, retry_at
from updated.core.state import BootFacts, Denial, Fallback, Hold, Offer, Phase, State, Target
from updated.core.version import same_version


@dataclass(frozen=True, slots=True)
class Decision:
    """The new state, what to do in order, and why a request was refused."""

    state: State
    effects: tuple[Effect, ...] = ()
    refusal: UpdatedError | None = None


# How long a machine may take to go down before the command counts as failed.
REBOOT_SECONDS = 600
# A reason that ends soon is not looked at more often than this.
SHORTEST_WAIT_SECONDS = 60

Handler = Callable[[State, Any, Policy], Decision]


def first_state(facts: BootFacts, seed: float) -> State:
    """The state of a node that never had one, or lost it."""
    return State(facts=facts, seed=seed, versions={facts.slot: facts.version})


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
    """What ran before is over: unfinished work begins again and resumes; what is not armed yet is sealed again."""
    if state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING, Phase.WAITING):
        keep = state.target if state.target is not None and state.target.armed else None
        phase = _resting(state) if keep is None else Phase.STAGED
        state = state.with_changes(phase=phase, target=keep, offer=None, next_check=event.now)
    elif state.phase is Phase.REBOOTING and state.target is not None and event.facts.boot_id == state.facts.boot_id:
        state = state.with_changes(phase=Phase.STAGED)
    decision = _observed(state, event, policy)
    after = decision.state
    if after.phase is Phase.STAGED and after.target is not None and not after.target.armed:
        return Decision(after.with_changes(phase=Phase.SEALING), (*decision.effects, Seal(after.target)))
    if after.leaving and after.phase is Phase.REBOOTING and not decision.effects:
        return _leave(after, event)
    return decision


def _observed(state: State, event: Started | Observed, policy: Policy) -> Decision:
    """Compares what was expected with the slot that runs: on trial, confirmed, fallen back, or not tried yet."""
    facts = event.facts
    other_boot = facts.boot_id != state.facts.boot_id
    state = state.with_changes(facts=facts, versions={**state.versions, facts.slot: facts.version})
    if state.target is not None and state.target.slot not in facts.view.names:
        # The state is that of another disk or boot loader.
        state = state.with_changes(phase=_resting(state), target=None)
    if state.leaving and (facts.slot != state.leaving or not _can_leave(state)):
        state = state.with_changes(leaving="", phase=_resting(state), next_check=event.now)
    verdict = facts.verdict
    if verdict is not None and verdict.boot_id != state.judged:
        told = facts.view.state(verdict.slot) if verdict.slot in facts.view.names else None
        if told is None or told.confirmed:
            # It was judged again since, and found good.
            state = state.with_changes(judged=verdict.boot_id)
        elif verdict.slot != facts.slot:
            left = _left(state, verdict.slot, verdict.version)
            state = state.with_changes(judged=verdict.boot_id)
            return _fall_back(state, event, left, verdict.reason or "its health checks failed")
    if state.target is not None and state.target.slot == facts.slot:
        return _in_the_new_slot(state, event, state.target)
    if state.target is not None and other_boot:
        return _booted_the_old_slot(state, event, state.target)
    if state.target is not None and state.target.armed and not facts.view.state(state.target.slot).bootable:
        # Taken out of the boot reference: by us, since it was withdrawn, or by a person with bootctl.
        gone = state.with_changes(phase=_resting(state), target=None, next_check=event.now)
        return Decision(gone, (Stop(),) if state.phase is Phase.CHECKING else ())
    if state.leaving:
        return Decision(state)
    if not facts.view.state(facts.slot).confirmed and state.phase is not Phase.TRIAL:
        unknown = Target(facts.version, state.manifests.get(facts.slot, ""), facts.slot, tries=policy.tries)
        return Decision(state.with_changes(phase=Phase.TRIAL, target=unknown, error=None))
    passive = facts.view.state(state.passive)
    if state.target is None and passive.priority > 0 and not passive.bootable:
        left = _left(state, state.passive, "unknown")
        return _fall_back(state, event, left, _not_up(left))
    if state.phase is Phase.REBOOTING and other_boot:
        return Decision(state.with_changes(phase=_resting(state), next_check=event.now))
    return Decision(state)


def _left(state: State, slot: str, version: str) -> Target:
    """The release in a slot that failed, as well as it is known; `version` is what others call it."""
    if state.target is not None and state.target.slot == slot:
        return state.target
    return Target(state.versions.get(slot, version), state.manifests.get(slot, ""), slot)


def _in_the_new_slot(state: State, event: Event, target: Target) -> Decision:
    facts = state.facts
    if not facts.view.state(facts.slot).confirmed:
        return Decision(state.with_changes(phase=Phase.TRIAL, error=None))
    settled = state.with_changes(
        phase=Phase.IDLE, target=None, offer=None, reasons=(), error=None, failures=0, fallback=None, insist=False,
        next_check=event.now,
    )
    records: tuple[Effect, ...] = (
        Record("confirmed", target.version, f"slot {facts.slot} passed its health checks"),
    )
    if not same_version(target.version, facts.version):
        # Otherwise the channel would seem to have something newer for ever.
        reason = f"its os-release says that it is {facts.version}"
        settled = settled.with_changes(denied=_deny(state, Denial(target.version, target.manifest, reason, event.now)))
        records = (*records, Record("failed", target.version, reason))
    return Decision(settled, records)


def _booted_the_old_slot(state: State, event: Event, target: Target) -> Decision:
    theirs = state.facts.view.state(target.slot)
    if theirs.priority > 0 and not theirs.confirmed and theirs.tries_left > 0 and theirs.tries_left >= target.tries:
        armed = replace(target, tries=theirs.tries_left, ignored=target.ignored + 1)
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
    return (*(each for each in state.denied if not same_version(each.version, denial.version)), denial)


def _resting(state: State) -> Phase:
    return Phase.IDLE if state.fallback is None else Phase.FALLEN_BACK


# ------------------------------------------------------------------------------------------------- check and install


def _tick_at_rest(state: State, event: Tick, policy: Policy) -> Decision:
    """When the time has come: look for a release."""
    if not is_due(policy, state.next_check, event.now):
        return Decision(state)
    return _check(state)


def _check(state: State) -> Decision:
    return Decision(state.with_changes(phase=Phase.CHECKING), (Check(state.insist),))


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
    again = event.offer is not None and event.offer.manifest == state.failing
    state = state.with_changes(
        last_check=event.now, next_check=next_check(policy, event.now, event.chance), reasons=event.reasons,
        error=None, failures=state.failures if again else 0, offer=event.offer,
    )
    ends = [reason.until for reason in event.reasons if reason.until is not None]
    if ends:
        state = state.with_changes(next_check=min(state.next_check, max(event.now + SHORTEST_WAIT_SECONDS, min(ends))))
    target = state.target
    if target is not None and event.withdrawn is not None:
        leaving = state.with_changes(phase=Phase.STAGED, target=replace(target, withdrawn=event.withdrawn))
        return Decision(leaving, (Invalidate(target.slot), Record("withdrawn", target.version, event.withdrawn)))
    if target is not None and (event.offer is None or event.offer.manifest == target.manifest):
        return _staged_again(state, event, policy)
    if event.offer is None:
        later = any(reason.code == "wave" for reason in event.reasons)
        return Decision(state.with_changes(phase=Phase.WAITING if later else _resting(state), insist=False))
    return _begin_or_wait(state, event, policy, event.offer)


def _begin_or_wait(state: State, event: Event, policy: Policy, offer: Offer) -> Decision:
    obstacles = install_obstacles(state, policy, offer, event.now)
    if obstacles:
        if state.target is not None:
            return _staged_again(state, event, policy)
        return Decision(state.with_changes(phase=Phase.WAITING, reasons=obstacles, insist=False))
    target = Target(offer.version, offer.manifest, state.passive)
    fetching = state.with_changes(
        phase=Phase.FETCHING, target=target, reasons=(), versions=_without(state.versions, target.slot),
        manifests=_without(state.manifests, target.slot),
    )
    begun = Record("install", offer.version, f"into slot {target.slot}")
    return Decision(fetching, (Invalidate(target.slot), begun, Fetch(target)))


def _without(values: Mapping[str, str], slot: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name != slot}


def _tick_waiting(state: State, event: Tick, policy: Policy) -> Decision:
    """Begins as soon as nothing stands in the way, and looks again when the time has come."""
    if is_due(policy, state.next_check, event.now):
        return _check(state)
    if state.offer is None:
        return Decision(state)
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
    target = state.target
    staged = state.with_changes(
        phase=Phase.STAGED, failures=0, error=None, failing="",
        versions={**state.versions, target.slot: target.version},
        manifests={**state.manifests, target.slot: target.manifest},
    )
    return Decision(staged, (Arm(target.slot, policy.tries),))


def _arm_done(state: State, event: ArmDone, policy: Policy) -> Decision:
    """Reboots when that is allowed."""
    if state.target is None:
        return Decision(state.with_changes(phase=_resting(state)))
    target = replace(state.target, tries=event.tries)
    text = f"slot {target.slot} boots next, with {event.tries} tries"
    decision = _staged_again(state.with_changes(target=target, error=None), event, policy)
    return Decision(decision.state, (Record("staged", target.version, text), *decision.effects))


def _staged_again(state: State, event: Event, policy: Policy) -> Decision:
    state = state.with_changes(phase=Phase.STAGED)
    if state.target is not None and not state.target.armed:
        return Decision(state, (Arm(state.target.slot, policy.tries),))
    obstacles = () if state.insist and policy.reboot_automatically else reboot_obstacles(state, policy, event.now)
    if obstacles:
        return Decision(state.with_changes(reasons=obstacles, insist=False))
    return _reboot(state, f"to boot {state.target.version} on trial" if state.target else "", event.now)


def _tick_staged(state: State, event: Tick, policy: Policy) -> Decision:
    """Arms again if that failed, reboots when allowed, and looks for something newer when the time has come."""
    if state.target is None:
        return Decision(state.with_changes(phase=_resting(state)))
    if state.target.withdrawn:
        return Decision(state, (Invalidate(state.target.slot),))
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


def _reboot(state: State, reason: str, now: int) -> Decision:
    rebooting = state.with_changes(phase=Phase.REBOOTING, reasons=(), error=None, since=now)
    return Decision(rebooting, (Record("reboot", state.target.version if state.target else "", reason), Reboot(reason)))


def _reboot_staged(state: State, event: RebootRequested, policy: Policy) -> Decision:
    """Reboots now."""
    if state.target is None or not state.target.armed or state.target.withdrawn:
        return _refuse(state, "the reboot", "the boot reference does not name the new slot yet", "Try it again soon.")
    return _reboot(state, f"asked for by {event.by}", event.now)


def _tick_rebooting(state: State, event: Tick, policy: Policy) -> Decision:
    """A machine that is still up long after the command to reboot gets it again, and people are told."""
    if abs(event.now - state.since) < REBOOT_SECONDS:
        return Decision(state)
    error = UpdatedError(
        "reboot-failed", "the machine", f"is still up {REBOOT_SECONDS // 60} minutes after the command to reboot",
        "See what keeps it: systemd-inhibit --list, systemctl list-jobs.",
    )
    if state.leaving:
        decision = _leave(state, event)
        return Decision(decision.state.with_changes(error=error), decision.effects)
    return _failed(state, Failed(event.now, event.chance, error), policy)


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
    failing = state.target.manifest if state.target is not None else ""
    state = state.with_changes(error=event.error, failures=failures, next_check=again, insist=False, failing=failing)
    record = Record("failed", state.target.version if state.target else "", str(event.error))
    if state.phase is Phase.CHECKING and state.target is not None:
        return Decision(state.with_changes(phase=Phase.STAGED), (record,))
    if state.phase in (Phase.STAGED, Phase.REBOOTING) and state.target is not None:
        return Decision(state.with_changes(phase=Phase.STAGED), (record,))
    if state.phase is Phase.REBOOTING and state.leaving:
        return Decision(state.with_changes(since=event.now), (record,))
    return Decision(state.with_changes(phase=Phase.FAILED, target=None, offer=None), (record,))


# ---------------------------------------------------------------------------------------------------- people's words


def _rollback(state: State, event: RollbackRequested, policy: Policy) -> Decision:
    """Boots the other slot, which must be able to, and denies the release that runs; a slot on trial is rejected."""
    if not _can_leave(state):
        return _refuse(
            state, "the roll back", f"slot {state.passive} holds no confirmed system",
            "Install the wanted release instead, from its channel.",
        )
    slot, version = state.facts.slot, state.facts.version
    reason = f"rolled back by {event.by}"
    manifest = state.manifests.get(slot, "")
    busy = state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING)
    left = state.with_changes(
        target=None, offer=None, reasons=(), error=None, leaving=slot,
        denied=_deny(state, Denial(version, manifest, reason, event.now)),
        fallback=Fallback(version, reason, event.now, by=event.by),
    )
    decision = _leave(left, event)
    first: tuple[Effect, ...] = (Stop(),) if busy else ()
    return Decision(decision.state, (*first, Record("rolled-back", version, reason), *decision.effects))


def _can_leave(state: State) -> bool:
    other = state.facts.view.state(state.passive)
    return other.confirmed and other.priority > 0


def _leave(state: State, event: Event) -> Decision:
    """Brings the machine out of the slot that a person wants to leave; may be asked for again until it is done."""
    slot = state.facts.slot
    away: Effect = RollBack() if state.confirmed else Reject(slot)
    rebooting = state.with_changes(phase=Phase.REBOOTING, since=event.now)
    return Decision(rebooting, (away, Reboot(f"to leave {state.facts.version} in slot {slot}")))


def _channel(state: State, event: ChannelRequested, policy: Policy) -> Decision:
    """Takes the channel over and looks into it at once; a download from the former channel is given up."""
    before = policy.followed(state)
    if event.channel == before:
        return Decision(state.with_changes(channel=event.channel))
    changed = state.with_changes(channel=event.channel, next_check=event.now, offer=None)
    record = Record("channel", state.facts.version, f"from {before} to {event.channel}, by {event.by}")
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
    kept = tuple(denial for denial in state.denied if not same_version(denial.version, event.version))
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
    (Phase.REBOOTING, Tick): _tick_rebooting,
    **{
        (Phase.REBOOTING, kind): _late
        for kind in (CheckRequested, InstallRequested, RebootRequested, RollbackRequested)
    },
}
