"""The order of an update, from the check to what is staged; the safety case stands in `_begin_or_wait` to `arm_done`.

Invalidate the passive slot, write it (the installer syncs), seal (read it back and verify), record "staged", take the
baseline of health, arm (the boot reference is read back). Each step is durable before the next one is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from updated.core.decision import Decision, resting_phase
from updated.core.effects import (
    Arm,
    AskHooks,
    Baseline,
    Check,
    Effect,
    Fetch,
    Invalidate,
    Record,
    Seal,
    Stop,
)
from updated.core.events import ArmDone, CheckDone, Event, FetchDone, SealDone, Tick
from updated.core.expiry import grace_text
from updated.core.policy import (
    Policy,
    at_once,
    install_obstacles,
    is_due,
    is_time_to_look,
    next_check,
    no_repository,
    pauses,
    reboot_obstacles,
)
from updated.core.rebooting import begin_reboot, obstacles_despite_insisting
from updated.core.state import Offer, Phase, State, Target
from updated.core.version import is_older

# A reason that ends soon is not looked at more often than this.
SHORTEST_WAIT_SECONDS = 60
# After one of these a reboot waits for its next try; a look for a release that failed lets no window pass by.
OF_THE_REBOOT = ("hook-refused", "reboot-failed", "boot-reference", "slot-missing", "internal")
# The downloader can say at each check that a release is urgent, and the seal reads the slot back to find out.
DOUBT_SECONDS = 86400


def tick_at_rest(state: State, event: Tick, policy: Policy) -> Decision:
    """When the time has come: look for a release. Without a repository, that is the reason."""
    if is_time_to_look(state, policy, event.now):
        return begin_check(state)
    if not policy.repository and no_repository() not in state.reasons:
        return Decision(state.with_changes(reasons=(*state.reasons, no_repository())))
    return Decision(state)


def begin_check(state: State) -> Decision:
    """Asks the repository what there is."""
    reasons = tuple(reason for reason in state.reasons if reason != no_repository())
    return Decision(state.with_changes(phase=Phase.CHECKING, reasons=reasons), (Check(state.insist),))


def check_done(state: State, event: CheckDone, policy: Policy) -> Decision:
    """Nothing new: rest. A release: install it, or wait with the reasons."""
    again = event.offer is not None and event.offer.manifest == state.failing
    row = state.failures if _reboot_failed(state) else 0
    state = state.with_changes(
        last_check=event.now, next_check=next_check(policy, event.now, event.chance), reasons=event.reasons,
        error=None, failures=state.failures if again else 0, offer=event.offer, expiries=event.expiries,
        recalled=event.recalled,
    )
    ends = [reason.until for reason in event.reasons if reason.until is not None]
    if ends:
        state = state.with_changes(next_check=min(state.next_check, max(event.now + SHORTEST_WAIT_SECONDS, min(ends))))
    target = state.target
    if target is not None and event.withdrawn is not None:
        leaving = state.with_changes(phase=Phase.STAGED, target=replace(target, withdrawn=event.withdrawn))
        return Decision(leaving, (Invalidate(target.slot), Record("withdrawn", target.version, event.withdrawn)))
    if target is not None and not _is_better(event.offer, target, policy, event.now):
        # It is there: what went wrong before is over, but for a reboot that was not to be had.
        kept = state.with_changes(target=replace(target, withdrawn=""), failures=row, failing="")
        return _staged_again(kept, event, policy)
    if event.offer is None:
        later = any(reason.code == "wave" for reason in event.reasons)
        return Decision(state.with_changes(phase=Phase.WAITING if later else resting_phase(state), insist=False))
    return _begin_or_wait(state, event, policy, event.offer)


def _is_better(offer: Offer | None, target: Target, policy: Policy, now: int) -> bool:
    """Whether `offer` goes before what is staged. An older one does not: a person may have gone before its wave.

    But it does before what a pin does not admit, which would wait for ever. What is staged and has become urgent since
    is sealed again: the downloader's word for it is not enough. Where that word was wrong for this release, it is
    heeded once a day.
    """
    if offer is None:
        return False
    if is_older(offer.version, target.version):
        return policy.pin.obstacle(target.version) is not None
    if offer.manifest != target.manifest:
        return True
    doubted = target.doubted > 0 and abs(now - target.doubted) < DOUBT_SECONDS
    return at_once(policy, offer) and not target.urgent and not doubted


def tick_waiting(state: State, event: Tick, policy: Policy) -> Decision:
    """Begins as soon as nothing stands in the way, and looks again when the time has come."""
    if is_time_to_look(state, policy, event.now):
        return begin_check(state)
    if not policy.repository:
        return Decision(state.with_changes(phase=resting_phase(state), offer=None))
    if state.offer is None:
        return Decision(state)
    return _begin_or_wait(state, event, policy, state.offer)


def _begin_or_wait(state: State, event: Event, policy: Policy, offer: Offer) -> Decision:
    obstacles = install_obstacles(state, policy, offer, event.now)
    if obstacles:
        if state.target is not None:
            return _staged_again(state, event, policy)
        waiting = state.with_changes(phase=Phase.WAITING, reasons=obstacles, insist=False)
        # What was handed over is not kept for later.
        return Decision(waiting.with_changes(phase=resting_phase(state), offer=None) if state.importing else waiting)
    target = Target(offer.version, offer.manifest, state.passive)
    fetching = state.with_changes(
        phase=Phase.FETCHING, target=target, reasons=(), versions=_without(state.versions, target.slot),
        manifests=_without(state.manifests, target.slot),
    )
    begun = Record("install", offer.version, f"into slot {target.slot}")
    return Decision(fetching, (Invalidate(target.slot), begun, Fetch(target)))


def _without(values: Mapping[str, str], slot: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name != slot}


def tick_fetching(state: State, event: Tick, policy: Policy) -> Decision:
    """Stops a download that may not go on, such as when its window closes; it resumes later."""
    target = state.target
    if target is None:
        return Decision(state)
    offer = state.offer or Offer(target.version, target.manifest, 0)
    # On battery nothing begins, and what has begun is ended: that needs less of it than to begin again.
    plugged_in = state.with_changes(around=replace(state.around, on_battery=False))
    obstacles = install_obstacles(plugged_in, policy, offer, event.now)
    if not obstacles:
        return Decision(state)
    stopped = state.with_changes(phase=Phase.WAITING, target=None, offer=offer, reasons=obstacles, insist=False)
    # What was handed over is not kept for later.
    return Decision(
        stopped.with_changes(phase=resting_phase(stopped), offer=None) if state.importing else stopped, (Stop(),)
    )


def fetch_done(state: State, event: FetchDone, policy: Policy) -> Decision:
    """Has the slot verified."""
    if state.target is None:
        return Decision(state.with_changes(phase=resting_phase(state)))
    sealing = state.with_changes(phase=Phase.SEALING, last_install=event.installed or state.last_install)
    return Decision(sealing, (Seal(state.target),))


def seal_done(state: State, event: SealDone, policy: Policy) -> Decision:
    """Records "staged", then takes the baseline and arms the trial."""
    if state.target is None:
        return Decision(state.with_changes(phase=resting_phase(state)))
    said = state.offer is not None and state.offer.urgent and not event.urgent
    target = replace(state.target, urgent=event.urgent, doubted=event.now if said else 0)
    installed = state.last_install
    if installed is not None and installed.version == target.version:
        installed = replace(installed, seal_peak_memory=event.peak_memory)
    staged = state.with_changes(
        phase=Phase.STAGED, target=target, failures=0, error=None, failing="",
        versions={**state.versions, target.slot: target.version},
        manifests={**state.manifests, target.slot: target.manifest}, last_install=installed,
    )
    arm = _arm(target, policy)
    if not event.accepted:
        return Decision(staged, arm)
    return Decision(staged, (Record("expired", target.version, grace_text(event.accepted)), *arm))


def _arm(target: Target, policy: Policy) -> tuple[Effect, ...]:
    # Any reboot takes what is armed, so that the baseline comes before.
    return (Baseline(target.version), Arm(target.slot, policy.tries))


def arm_done(state: State, event: ArmDone, policy: Policy) -> Decision:
    """Reboots when that is allowed."""
    if state.target is None:
        return Decision(state.with_changes(phase=resting_phase(state)))
    target, record = _armed(state.target, event)
    decision = _staged_again(state.with_changes(target=target, error=None), event, policy)
    return Decision(decision.state, (record, *decision.effects))


def armed_while_checking(state: State, event: ArmDone, policy: Policy) -> Decision:
    """Keeps it in mind; the check says what follows."""
    if state.target is None:
        return Decision(state)
    target, record = _armed(state.target, event)
    return Decision(state.with_changes(target=target), (record,))


def _armed(target: Target, event: ArmDone) -> tuple[Target, Record]:
    text = f"slot {target.slot} boots next, with {event.tries} tries" + ("; it is urgent" if target.urgent else "")
    armed = replace(target, tries=event.tries, staged=target.staged or event.now)
    return armed, Record("staged", target.version, text)


def tick_staged(state: State, event: Tick, policy: Policy) -> Decision:
    """Arms again if that failed, reboots when allowed, and looks for something newer when the time has come."""
    if state.target is None:
        return Decision(state.with_changes(phase=resting_phase(state)))
    if state.target.withdrawn:
        return Decision(state, (Invalidate(state.target.slot),))
    if not state.target.armed:
        if state.error is None or not is_due(policy, state.next_check, event.now):
            return Decision(state)  # without an error it is being done: a baseline takes its time
        if _looks_first(state, policy, event.now):
            return begin_check(state)
        return Decision(state.with_changes(error=None), _arm(state.target, policy))
    if _reboot_failed(state) and not is_due(policy, state.next_check, event.now):
        return Decision(state)
    if _looks_first(state, policy, event.now):
        return begin_check(state)
    if not reboot_obstacles(state, policy, event.now):
        return _staged_again(state, event, policy)
    if is_time_to_look(state, policy, event.now) and not pauses(state, policy, event.now):
        return begin_check(state)
    return Decision(state.with_changes(reasons=reboot_obstacles(state, policy, event.now)))


def _reboot_failed(state: State) -> bool:
    return state.target is not None and state.error is not None and state.error.code in OF_THE_REBOOT


def _looks_first(state: State, policy: Policy, now: int) -> bool:
    """Whether a reboot that fails again and again waits for a look: what is staged may have been recalled since."""
    old = state.last_check is not None and abs(now - state.last_check) >= policy.interval
    due = old and is_time_to_look(state, policy, now)
    return due and _reboot_failed(state) and not pauses(state, policy, now)


def _staged_again(state: State, event: Event, policy: Policy) -> Decision:
    state = state.with_changes(phase=Phase.STAGED)
    if state.target is None:
        return Decision(state.with_changes(phase=resting_phase(state)))
    if not state.target.armed:
        return Decision(state, _arm(state.target, policy))
    insist = state.insist and policy.reboot_automatically
    obstacles = (obstacles_despite_insisting if insist else reboot_obstacles)(state, policy, event.now)
    if obstacles:
        return Decision(state.with_changes(reasons=obstacles, insist=False))
    version = state.target.version
    return begin_reboot(state, AskHooks(f"to boot {version} on trial", insist), version)
