"""What a boot turned out to be: on trial, confirmed, fallen back, or not tried yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bootctl.model import SlotState
from updated.core.decision import Decision, denied_with, resting_phase
from updated.core.effects import Effect, Invalidate, Record, Reject, Seal, Stop
from updated.core.errors import UpdatedError
from updated.core.events import Event, Observed, Started
from updated.core.failures import IMPORT_AGAIN, concerned
from updated.core.policy import Policy, not_confirmed, with_reboot
from updated.core.rebooting import can_leave_slot, leave_slot
from updated.core.state import Denial, Fallback, Phase, State, Target
from updated.core.version import newer_of, same_version


def started(state: State, event: Started, policy: Policy) -> Decision:
    """What ran before is over: unfinished work begins again and resumes; what is not armed yet is sealed again."""
    if state.importing:
        error = UpdatedError("child-failed", "the import", "was ended by a restart of the daemon", IMPORT_AGAIN)
        about = concerned(state)
        record = Record("failed", about.version if about is not None else "", str(error))
        decision = started(state.with_changes(importing=False, error=error), event, policy)
        return Decision(decision.state, (record, *decision.effects))
    if state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING, Phase.WAITING):
        staged = state.target is not None and (state.target.armed or state.phase is Phase.CHECKING)
        keep = state.target if staged else None
        phase = resting_phase(state) if keep is None else Phase.STAGED
        state = state.with_changes(phase=phase, target=keep, offer=None, next_check=event.now)
    elif state.phase is Phase.REBOOTING and state.target is not None and event.facts.boot_id == state.facts.boot_id:
        state = state.with_changes(phase=Phase.STAGED)
    decision = observed(state, event, policy)
    after = decision.state
    target = after.target
    if after.phase is Phase.STAGED and target is not None and not target.armed and not target.withdrawn:
        # It may be armed, and nobody heard of it; what does not pass the seal shall not boot.
        again = (Invalidate(target.slot), Seal(target))
        return Decision(after.with_changes(phase=Phase.SEALING), (*decision.effects, *again))
    if after.leaving and after.phase is Phase.REBOOTING and not decision.effects:
        return leave_slot(after)
    return decision


def observed(state: State, event: Started | Observed, policy: Policy) -> Decision:
    """Compares what was expected with the slot that runs: on trial, confirmed, fallen back, or not tried yet."""
    facts = event.facts
    other_boot = facts.boot_id != state.facts.boot_id
    state = state.with_changes(facts=facts, versions={**state.versions, facts.slot: facts.version})
    if state.confirmed:
        state = state.with_changes(highest=newer_of(state.highest, facts.version))
    if state.target is not None and state.target.slot not in facts.view.names:
        # The state is that of another disk or boot loader.
        state = state.with_changes(phase=resting_phase(state), target=None)
    if state.leaving and (facts.slot != state.leaving or not can_leave_slot(state)):
        state = state.with_changes(leaving="", phase=resting_phase(state), next_check=event.now)
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
        return _in_the_new_slot(state, event, policy, state.target)
    target = state.target
    # What was withdrawn and is out of the boot reference did not fail, even if a power cut came before that was saved.
    taken_out = target is not None and bool(target.withdrawn) and facts.view.state(target.slot) == SlotState()
    if target is not None and other_boot and not taken_out:
        return _booted_the_old_slot(state, event, target)
    if target is not None and (target.armed or target.withdrawn) and not facts.view.state(target.slot).bootable:
        # Taken out of the boot reference: by us, since it was withdrawn, or by a person with bootctl. What was
        # withdrawn before it was armed never was in it.
        gone = state.with_changes(phase=resting_phase(state), target=None, next_check=event.now)
        return Decision(gone, (Stop(),) if state.phase is Phase.CHECKING else ())
    if state.leaving:
        return Decision(state)
    if not facts.view.state(facts.slot).confirmed and state.phase is not Phase.TRIAL:
        unknown = Target(facts.version, state.manifests.get(facts.slot, ""), facts.slot, tries=policy.tries)
        return Decision(_on_trial(state, target=unknown))
    passive = facts.view.state(state.passive)
    if state.target is None and passive.priority > 0 and not passive.bootable:
        left = _left(state, state.passive, "unknown")
        return _fall_back(state, event, left, _not_up(state, left))
    if state.phase is Phase.REBOOTING and other_boot:
        return Decision(state.with_changes(phase=resting_phase(state), next_check=event.now))
    return Decision(state)


def _left(state: State, slot: str, version: str) -> Target:
    """The release in a slot that failed, as well as it is known; `version` is what others call it."""
    if state.target is not None and state.target.slot == slot:
        return state.target
    # A version without a manifest is a guess of a start that found no state; a verdict names what was judged.
    known = slot in state.manifests or version == "unknown"
    return Target(state.versions.get(slot, version) if known else version, state.manifests.get(slot, ""), slot)


def _on_trial(state: State, **changes: Any) -> State:
    # What kept the node from the reboot is over.
    return state.with_changes(phase=Phase.TRIAL, error=None, reasons=(not_confirmed(state),), **changes)


def _in_the_new_slot(state: State, event: Event, policy: Policy, target: Target) -> Decision:
    facts = state.facts
    if not facts.view.state(facts.slot).confirmed:
        # Only of a reboot that was asked for here it is known when it began.
        since = state.since if state.phase in (Phase.REBOOTING, Phase.TRIAL) else 0
        return Decision(_on_trial(state, since=since))
    settled = state.with_changes(
        phase=Phase.IDLE, target=None, offer=None, reasons=(), error=None, failures=0, fallback=None, insist=False,
        next_check=event.now, since=0, reboots_took=with_reboot(state, policy, event.now),
    )
    records: tuple[Effect, ...] = (
        Record("confirmed", target.version, f"slot {facts.slot} passed its health checks"),
    )
    if not same_version(target.version, facts.version):
        # Otherwise the channel would seem to have something newer for ever.
        reason = f"its os-release says that it is {facts.version}"
        denial = Denial(target.version, target.manifest, reason, event.now)
        settled = settled.with_changes(denied=denied_with(state, denial))
        records = (*records, Record("failed", target.version, reason))
    return Decision(settled, records)


def _booted_the_old_slot(state: State, event: Event, target: Target) -> Decision:
    theirs = state.facts.view.state(target.slot)
    if theirs.priority > 0 and not theirs.confirmed and theirs.tries_left > 0 and theirs.tries_left >= target.tries:
        # Only a reboot of ours says that the loader passes it by: a Raspberry Pi begins a trial at no other one.
        ignored = target.ignored + (state.phase is Phase.REBOOTING)
        armed = replace(target, tries=theirs.tries_left, ignored=ignored)
        return Decision(state.with_changes(phase=Phase.STAGED, target=armed))
    if not target.armed and theirs == SlotState():
        return Decision(state.with_changes(phase=Phase.STAGED))
    return _fall_back(state, event, target, _not_up(state, target))


def _not_up(state: State, target: Target) -> str:
    reason = f"slot {target.slot} did not come up on trial"
    ending = state.facts.ending
    about_it = ending is not None and ending.slot == target.slot and same_version(ending.version, target.version)
    return f"{reason}: {ending.cause}" if ending is not None and about_it else reason


def _fall_back(state: State, event: Event, target: Target, reason: str) -> Decision:
    denial = Denial(target.version, target.manifest, reason, event.now)
    fallen = state.with_changes(
        phase=Phase.FALLEN_BACK, target=None, offer=None, reasons=(), error=None, insist=False,
        fallback=Fallback(target.version, reason, event.now), denied=denied_with(state, denial), next_check=event.now,
        versions={**state.versions, target.slot: target.version},
    )
    return Decision(fallen, (Reject(target.slot), Record("fell-back", target.version, reason)))
