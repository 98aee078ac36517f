"""What the configuration says about when the node may act, as pure rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.inhibit import before_install, before_reboot, time_to_leave, users_leave
from updated.core.selection import Pin, Reason, why_denied
from updated.core.state import Offer, Phase, State, Target
from updated.core.surroundings import Care
from updated.core.version import is_older
from updated.core.windows import Windows

FIRST_RETRY_SECONDS = 60
LONGEST_RETRY_SECONDS = 4 * 3600
# So often a boot loader may start the old slot though the new one is first, before only a person reboots again.
MOST_IGNORED_BOOTS = 2
# Of how many reboots it is kept how long they took, and how many times longer than expected one may have taken.
REBOOTS_KEPT = 3
MOST_TIMES_LONGER = 4
# That a window opened is seen a little later, and the baseline is taken before the command to reboot: a window that
# leaves no time for that is met by luck alone. The configuration asks for more than this least.
LEAST_BEGIN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Policy:
    """`interval` in seconds; `tries` is how often an unconfirmed slot may boot.

    `allow_downgrade`: a recalled release may be left for an older one that the channel names.
    `enabled` is False when a person switched updates off in the configuration, and `disabled_by` then names where.
    `repository` is False when the configuration names none, so that releases come by import alone. `warn_early`: how
    many seconds before metadata expires people shall hear of it. `wave` is the node's place in rollouts, unless that is
    left to chance. `heed_urgent`: what the publisher calls urgent does not wait for windows. `pin` says which versions
    are admitted. Images are fetched in `downloads`, and the machine reboots by itself in `reboots`, where at least
    `reboot_takes` seconds must be left, until it was measured how long that takes. `sentinel`: others are to be told of
    a release that is staged.
    """

    enabled: bool = True
    disabled_by: str = ""
    reboot_automatically: bool = True
    interval: int = 3600
    tries: int = 3
    channel: str = "stable"
    allow_downgrade: bool = False
    repository: bool = True
    warn_early: int = 7 * 86400
    wave: float | None = None
    heed_urgent: bool = True
    pin: Pin = field(default_factory=Pin)
    downloads: Windows = field(default_factory=Windows)
    reboots: Windows = field(default_factory=Windows)
    reboot_takes: int = 600
    sentinel: bool = True
    care: Care = field(default_factory=Care)

    def followed(self, state: State) -> str:
        """The channel that the node follows: a person's choice, or else that of the configuration."""
        return state.channel or self.channel


def not_confirmed(state: State) -> Reason:
    """Why nothing is installed while the slot that runs is on trial."""
    return Reason("trial", f"slot {state.facts.slot} is not confirmed yet")


def install_obstacles(state: State, policy: Policy, offer: Offer, now: int) -> tuple[Reason, ...]:
    """Why `offer` may not be installed at `now`; empty when it may."""
    reasons = []
    if not state.confirmed:
        reasons.append(not_confirmed(state))
    denied = why_denied(offer.version, offer.manifest, state.denials)
    if denied is not None:
        reasons.append(Reason("denied", denied))
    if is_older(offer.version, state.facts.version) and not policy.allow_downgrade:
        text = f"{offer.version} is older than {state.facts.version}, and [updates] allow_downgrade is off"
        reasons.append(Reason("downgrade", text))
    pinned = policy.pin.obstacle(offer.version)
    if pinned is not None:
        reasons.append(pinned)
    if not state.insist:
        reasons += pauses(state, policy, now)
        if not at_once(policy, offer):
            reasons += download_window_obstacles(policy, now)
        reasons += before_install(state.around, policy.care)
    return tuple(reasons)


def reboot_obstacles(state: State, policy: Policy, now: int) -> tuple[Reason, ...]:
    """Why the node may not reboot by itself into what is staged; empty when it may."""
    leave = 0
    if state.target is not None:
        leave = time_to_leave(state.around, policy.care, state.grace, state.target.version, now)
    reasons = [*pauses(state, policy, now), *reboot_window_obstacles(state, policy, now, leave)]
    pinned = policy.pin.obstacle(state.target.version) if state.target is not None else None
    if pinned is not None:
        reasons.append(pinned)
    if not policy.reboot_automatically:
        text = "the reboot is left to a person"
        if policy.sentinel:
            text = "the reboot is left to an agent or a person (/run/reboot-required)"
        reasons.append(Reason("manual-reboot", text))
    if state.target is not None and state.target.ignored >= MOST_IGNORED_BOOTS:
        started = f"the boot loader started slot {state.facts.slot} {state.target.ignored} times"
        reasons.append(Reason("not-started", f"{started}, not slot {state.target.slot}"))
    reasons += before_reboot(state.around, policy.care)
    if not reasons and state.target is not None:
        reasons += users_leave(state.around, policy.care, state.grace, state.target.version, now)
    return tuple(reasons)


def at_once(policy: Policy, release: Offer | Target) -> bool:
    """Whether `release` waits for no window: the publisher calls it urgent, and the operator lets that count."""
    return release.urgent and policy.heed_urgent


def pauses(state: State, policy: Policy, now: int) -> tuple[Reason, ...]:
    """What a person paused, by command or by configuration."""
    reasons = []
    if not policy.enabled:
        reasons.append(Reason("disabled", f"updates are switched off by {policy.disabled_by}"))
    if state.hold is not None and state.hold.active(now):
        end = "until somebody lifts it" if state.hold.until is None else f"until {format_time(state.hold.until)}"
        reasons.append(Reason("held", f"held by {state.hold.by} {end}", state.hold.until))
    return tuple(reasons)


def download_window_obstacles(policy: Policy, now: int) -> tuple[Reason, ...]:
    """Why no image may be fetched at `now`, by the download windows."""
    opening = policy.downloads.opening(now)
    if opening.open:
        return ()
    return (Reason("download-window", f"the download window is closed{_until(opening.until)}", opening.until),)


def reboot_window_obstacles(state: State, policy: Policy, now: int, leave: int = 0) -> tuple[Reason, ...]:
    """Why the node may not begin to reboot at `now`, by the reboot windows: the rest of one must hold all of it.

    `leave`: how many seconds people who are logged in still have before it. Windows that hold it at no time are told as
    such, in the same words whether one is open or not: nothing but a longer one, or a person, ends that.
    """
    if state.target is not None and at_once(policy, state.target):
        return ()
    takes, longest = reboot_takes(state, policy, leave), policy.reboots.longest
    if longest is not None and longest < takes + _to_begin(policy, leave):
        return (_no_window(policy, longest, takes, warned=leave > 0),)
    # Who is warned shall not be so in vain: half of the time to begin is left for after that.
    at = policy.reboots.earliest(now, takes + (leave + LEAST_BEGIN_SECONDS // 2 if leave else 0))
    if at == now:
        return ()
    if at is not None and policy.reboots.opening(now).open:
        people = f"the {_minutes(leave)} minutes that people who are logged in have, and " if leave else ""
        text = f"what is left of the reboot window is too short for {people}a reboot of {_minutes(takes)} minutes"
        text = f"{text}; waits{_until(at)}"
    else:
        text = f"the reboot window is closed{_until(at)}"
    return (Reason("reboot-window", text, at),)


def _to_begin(policy: Policy, leave: int) -> int:
    """How many seconds of a window go by before the reboot."""
    return LEAST_BEGIN_SECONDS + (policy.care.grace if leave else 0)


def _no_window(policy: Policy, longest: int, takes: int, *, warned: bool) -> Reason:
    people = f"{_minutes(policy.care.grace)} for people who are logged in, " if warned else ""
    text = (
        f"no reboot window is long enough: the longest has {longest // 60} minutes, and a reboot needs "
        f"{_minutes(LEAST_BEGIN_SECONDS)} to begin, {people}{_minutes(takes)} for itself and its checks; make one "
        "longer, or reboot by hand"
    )
    return Reason("reboot-window", text)


def _minutes(seconds: int) -> int:
    return -(-seconds // 60)


def _until(at: int | None) -> str:
    return "" if at is None else f" until {format_time(at)}"


def reboot_takes(state: State, policy: Policy, leave: int = 0) -> int:
    """From the command to reboot until the new slot is confirmed, in seconds: the longest of the last times.

    One that took longer than any window holds is not believed until all of them did: nobody may be near to reboot a
    machine that was slow once.
    """
    longest, begin = policy.reboots.longest, _to_begin(policy, leave)
    fitting = [took for took in state.reboots_took if longest is None or took + begin <= longest]
    if fitting or len(state.reboots_took) < REBOOTS_KEPT:
        return max(fitting, default=policy.reboot_takes)
    return min(state.reboots_took)


def with_reboot(state: State, policy: Policy, now: int) -> tuple[int, ...]:
    """How long the last reboots took, with the one that the confirmation at `now` ends.

    One that took many times as long as expected says nothing: the machine was off, or its clock was set.
    """
    seconds = now - state.since
    measured = state.since > 0 and state.phase in (Phase.REBOOTING, Phase.TRIAL)
    if not measured or not 0 < seconds <= MOST_TIMES_LONGER * policy.reboot_takes:
        return state.reboots_took
    return (*state.reboots_took, seconds)[-REBOOTS_KEPT:]


def no_repository() -> Reason:
    """Why a node does not look for releases whose configuration names no place for that."""
    return Reason("no-repository", "neither [repository] url nor path is set; releases come by import alone")


def hook_refused(error: UpdatedError, until: int) -> Reason:
    """Why a node does not reboot into what is staged until a hook is asked again."""
    return Reason("hook-refused", f"{error.what}: {error.cause}", until)


def is_time_to_look(state: State, policy: Policy, now: int) -> bool:
    """Whether the repository is to be asked now: there is one, and its time has come, or it is new."""
    return policy.repository and (no_repository() in state.reasons or is_due(policy, state.next_check, now))


def is_due(policy: Policy, at: int, now: int) -> bool:
    """Whether the time `at` of the next check has come.

    Also when it is further ahead than any wait is long: then the clock was wrong when it was set.
    """
    return now >= at or at - now > 2 * policy.interval


def next_check(policy: Policy, now: int, chance: float) -> int:
    """When to look again: the interval, 10 % more or less by `chance` in [0, 1), so that a fleet spreads out."""
    return now + int(policy.interval * (0.9 + 0.2 * chance))


def retry_at(policy: Policy, now: int, failures: int, chance: float) -> int:
    """When to try again after `failures` failures in a row: doubling from a minute to four hours, with jitter."""
    delay = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16), LONGEST_RETRY_SECONDS, max(policy.interval, 1))
    return now + max(1, int(delay * (0.75 + 0.5 * chance)))
