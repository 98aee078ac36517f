"""What people command, each by one event."""

from __future__ import annotations

from typing import Any

from updated.core.decision import Decision, denied_with, refusal, resting_phase
from updated.core.document import format_time
from updated.core.effects import AskHooks, Baseline, Effect, Record, Stop
from updated.core.events import (
    AllowRequested,
    ChannelRequested,
    CheckRequested,
    Event,
    HoldRequested,
    ImportRequested,
    InstallRequested,
    RebootRequested,
    Reconfigured,
    RollbackRequested,
    UnholdRequested,
)
from updated.core.inhibit import inhibited
from updated.core.policy import Policy, no_repository
from updated.core.rebooting import begin_reboot, can_leave_slot, leave_slot, reboot_now
from updated.core.selection import why_denied
from updated.core.state import ROLLED_BACK, Denial, Fallback, Hold, Phase, State
from updated.core.update import begin_check
from updated.core.version import same_version


def check_requested(state: State, event: CheckRequested, policy: Policy) -> Decision:
    """Looks for a release now; refuses without a repository."""
    return begin_check(state) if policy.repository else nowhere_to_look(state)


def install_requested(state: State, event: InstallRequested, policy: Policy) -> Decision:
    """Looks for a release now, and installs it whatever wave or hold there is; refuses without a repository."""
    return begin_check(state.with_changes(insist=True)) if policy.repository else nowhere_to_look(state)


def install_while_checking(state: State, event: InstallRequested, policy: Policy) -> Decision:
    """Begins the check again, without waves; an import goes on."""
    if state.importing:
        return busy(state, event, policy)
    decision = begin_check(state.with_changes(insist=True))
    return Decision(decision.state, (Stop(), *decision.effects))


def import_requested(state: State, event: ImportRequested, policy: Policy) -> Decision:
    """Looks into what was handed over, and installs what is newest in it, whatever wave or hold there is."""
    record = Record("import", state.facts.version, f"by {event.by}")
    decision = begin_check(state.with_changes(insist=True, importing=True))
    return Decision(decision.state, (record, *decision.effects))


def import_while_checking(state: State, event: ImportRequested, policy: Policy) -> Decision:
    """Gives up the check that runs, and does as it does otherwise."""
    decision = import_requested(state, event, policy)
    return Decision(decision.state, (Stop(), *decision.effects))


def nowhere_to_look(state: State) -> Decision:
    """Refuses: the node has no repository."""
    return refusal(
        state, "the request", no_repository().text, "Set one of the two, and reload the daemon; or import a release."
    )


def at_it_already(state: State, event: CheckRequested, policy: Policy) -> Decision:
    """The check that runs answers it."""
    return Decision(state)


def busy(state: State, event: Any, policy: Policy) -> Decision:
    """Refuses: the node is at work already."""
    target = state.target.version if state.target is not None else "a release"
    follow = "'updatectl watch' follows it; ask again when it is done."
    match state.phase:
        case Phase.TRIAL:
            cause = f"{state.facts.version} is on trial, and has to be confirmed first"
            follow = "'updatectl health' shows its checks; 'updatectl watch' follows it."
        case Phase.FETCHING:
            cause = f"{target} is being written into slot {state.passive}"
        case Phase.SEALING:
            cause = f"{target} is being read back from slot {state.passive} and verified"
        case _:
            cause = "the node looks for a release, on a person's word"
    return refusal(state, "the request", cause, follow)


def reboot_staged(state: State, event: RebootRequested, policy: Policy) -> Decision:
    """Reboots now, if no inhibitor and no hook stands in the way."""
    if state.target is None or not state.target.armed or state.target.withdrawn:
        return refusal(state, "the reboot", "the boot reference does not name the new slot yet", "Try it again soon.")
    reason = f"asked for by {event.by}"
    keeping = inhibited(state.around)
    if keeping and not event.force:
        return refusal(state, "the reboot", keeping[0].text, "Wait for it, or use 'updatectl reboot --force'.")
    if not event.force:
        # That an installation was insisted on before says less than this word.
        at_once = state.with_changes(insist=False)
        return begin_reboot(at_once, AskHooks(reason, insist=True), state.target.version)
    decision = reboot_now(state, reason, event.now)
    return Decision(decision.state, (Baseline(state.target.version), *decision.effects))


def reboot_while_checking(state: State, event: RebootRequested, policy: Policy) -> Decision:
    """Gives the check up, and does as it does when the release is staged; an import goes on."""
    if state.target is None:
        return nothing_staged(state, event, policy)
    if state.importing:
        return busy(state, event, policy)
    decision = reboot_staged(state, event, policy)
    if decision.refusal is not None:
        return decision
    return Decision(decision.state, (Stop(), *decision.effects))


def nothing_staged(state: State, event: RebootRequested, policy: Policy) -> Decision:
    """Refuses: nothing is staged."""
    return refusal(
        state, "the reboot", "no release is staged",
        "See 'updatectl status'; to reboot all the same, use 'systemctl reboot'.",
    )


def roll_back(state: State, event: RollbackRequested, policy: Policy) -> Decision:
    """Boots the other slot, which must be able to, and denies the release that runs; a slot on trial is rejected.

    A slot whose own release was denied or recalled is left alone without `force`.
    """
    if not can_leave_slot(state):
        return refusal(
            state, "the roll back", f"slot {state.passive} holds no confirmed system",
            "Install the wanted release instead, from its channel.",
        )
    unwanted = _unwanted(state)
    if unwanted and not event.force:
        return refusal(
            state, "the roll back", f"slot {state.passive} would boot, and {unwanted}",
            "Wait for a newer release; 'updatectl rollback --force' boots it all the same.",
        )
    slot, version = state.facts.slot, state.facts.version
    reason = f"{ROLLED_BACK}{event.by}"
    manifest = state.manifests.get(slot, "")
    busy = state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING)
    left = state.with_changes(
        target=None, offer=None, reasons=(), error=None, leaving=slot,
        denied=denied_with(state, Denial(version, manifest, reason, event.now)),
        fallback=Fallback(version, reason, event.now, by=event.by),
    )
    decision = leave_slot(left)
    first: tuple[Effect, ...] = (Stop(),) if busy else ()
    return Decision(decision.state, (*first, Record("rolled-back", version, reason), *decision.effects))


def _unwanted(state: State) -> str | None:
    """What speaks against the release in the other slot; None when nothing does."""
    version = state.versions.get(state.passive, "")
    recall = next((why for each, why in state.recalled.items() if same_version(each, version)), None)
    if recall is not None:
        return f"{version} was recalled: {recall}"
    return why_denied(version, state.manifests.get(state.passive, ""), state.denials)


def channel(state: State, event: ChannelRequested, policy: Policy) -> Decision:
    """Takes the channel over and looks into it at once; a download from the former channel is given up."""
    before = policy.followed(state)
    if event.channel == before:
        return Decision(state.with_changes(channel=event.channel))
    changed = _not_looked(state.with_changes(channel=event.channel, next_check=event.now))
    record = Record("channel", state.facts.version, f"from {before} to {event.channel}, by {event.by}")
    if state.phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING):
        return Decision(_given_up(changed), (Stop(), record))
    return Decision(changed, (record,))


def reconfigured(state: State, event: Reconfigured, policy: Policy) -> Decision:
    """Looks again at once; a download from another channel is given up."""
    changed = state.with_changes(next_check=event.now)
    if state.phase is Phase.CHECKING and not state.importing and policy.repository:
        decision = begin_check(changed)
        return Decision(decision.state, (Stop(), *decision.effects))
    if event.followed == policy.followed(state):
        return Decision(changed)
    if state.phase in (Phase.FETCHING, Phase.SEALING):
        return Decision(_given_up(_not_looked(changed)), (Stop(),))
    return Decision(_not_looked(changed))


def _not_looked(state: State) -> State:
    """Without what the last look found: it says nothing of another channel. What keeps a staged release stays."""
    if state.target is not None:
        return state.with_changes(offer=None)
    phase = resting_phase(state) if state.phase is Phase.WAITING else state.phase
    return state.with_changes(phase=phase, offer=None, reasons=())


def _given_up(state: State) -> State:
    # In a check the target is what is staged: it is armed all the same, if it is not yet.
    if state.target is not None and (state.target.armed or state.phase is Phase.CHECKING):
        return state.with_changes(phase=Phase.STAGED, insist=False)
    return state.with_changes(phase=resting_phase(state), target=None, insist=False)


def hold(state: State, event: HoldRequested, policy: Policy) -> Decision:
    """Pauses; a download is given up and resumes later."""
    held = state.with_changes(hold=Hold(event.by, event.until))
    end = "until somebody lifts it" if event.until is None else f"until {format_time(event.until)}"
    record = Record("hold", "", f"by {event.by}, {end}")
    if state.phase in (Phase.FETCHING, Phase.SEALING):
        return Decision(_given_up(held.with_changes(next_check=event.now)), (Stop(), record))
    return Decision(held, (record,))


def unhold(state: State, event: UnholdRequested, policy: Policy) -> Decision:
    """Ends the pause."""
    if state.hold is None:
        return Decision(state)
    return Decision(state.with_changes(hold=None), (Record("unhold", "", f"by {event.by}"),))


def allow(state: State, event: AllowRequested, policy: Policy) -> Decision:
    """Takes a release off the denylist."""
    kept = tuple(denial for denial in state.denied if not same_version(denial.version, event.version))
    if kept == state.denied:
        return refusal(
            state, f"release {event.version}", "is not on the denylist", "'updatectl status' shows what is denied."
        )
    allowed = state.with_changes(denied=kept, next_check=event.now)
    return Decision(allowed, (Record("allow", event.version, f"by {event.by}"),))


def late(state: State, event: Event, policy: Policy) -> Decision:
    """Ignored: the machine is going down, and does the rest at its next start."""
    return refusal(state, "the request", "the node is rebooting", "Ask again when it is up.")
