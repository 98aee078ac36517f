"""Which release of a channel this node should take: a pure function of the signed channel manifest and the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.release import Channel, ChannelEntry
from updated.core.rollout import Place, Rollout, percent
from updated.core.version import Version, is_within, same_version

# Why nothing is to be installed, where nothing stands against it.
NOTHING_TO_INSTALL = ("up-to-date", "ahead", "empty-channel", "no-repository")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the node does not update right now: a stable code, words for people, and when it ends (epoch) if known."""

    code: str
    text: str
    until: int | None = None


# The codes of the reasons that follow from a channel; all others are of what the node itself knows.
OF_A_CHANNEL = frozenset({
    "ahead", "barrier", "below-floor", "deadend", "denied", "downgrade", "empty-channel", "minimum", "pinned",
    "recalled", "up-to-date", "wave",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pin:
    """What the configuration admits: the version `only` alone, or nothing newer than `newest`; all when both are empty.

    `newest` stands for all that begins as it does: see `is_within`.
    """

    only: str = ""
    newest: str = ""

    def obstacle(self, version: str) -> Reason | None:
        """Why `version` may not be installed; None when it may."""
        if self.only and not same_version(version, self.only):
            return Reason("pinned", f"{version} is not taken: [updates] pin admits {self.only} alone")
        if self.newest and not _is_within(version, self.newest):
            return Reason("pinned", f"{version} is not taken: [updates] newest admits nothing after {self.newest}")
        return None


def _is_within(version: str, newest: str) -> bool:
    try:
        return is_within(Version(version), Version(newest))
    except UpdatedError:
        return False


@dataclass(frozen=True, slots=True)
class Choice:
    """What to install (None: nothing), and why nothing newer."""

    entry: ChannelEntry | None
    reasons: tuple[Reason, ...]


def choose(
    channel: Channel,
    running: Version,
    *,
    denied: Mapping[str, str],
    floor: Version | None,
    place: Place,
    now: int,
    any_wave: bool = False,
    allow_downgrade: bool = False,
    pin: Pin = Pin(),
) -> Choice:
    """The newest release of `channel` that a node on `running` may take at `now` (seconds since the epoch).

    `denied` says of versions and manifest digests why they are not taken again; `floor` is the lowest version that is
    accepted again; `place` is where the node stands in rollouts; `any_wave` takes a release before its wave;
    `allow_downgrade` takes, for want of a newer one, the older release that replaces a recalled one that runs; `pin` is
    what the configuration admits.
    """
    own = channel.entry(running)
    newer = [entry for entry in channel.entries if entry.version > running]
    floor = effective_floor(channel, floor, allow_downgrade=allow_downgrade)
    reasons: list[Reason] = _out_of_reach(channel, running, pin)
    if own is not None and own.deadend is not None:
        reasons.append(Reason("deadend", f"{running} is the end of its line: {own.deadend}"))
    else:
        barrier = next((entry.version for entry in newer if entry.barrier and entry.recalled is None), None)
        for entry in reversed(newer):
            reason = _obstacle(entry, running, barrier, denied, floor, place, now, pin, any_wave=any_wave)
            if reason is None:
                return Choice(entry, tuple(reasons))
            reasons.append(reason)
    if own is not None and own.recalled is not None:
        recalled = Reason("recalled", f"{running} was recalled: {own.recalled.reason}")
        replacement = channel.entry(channel.standing(running))
        if replacement is None or replacement is own:
            return Choice(None, (recalled, *reasons))
        if not allow_downgrade:
            text = f"{recalled.text}; {replacement.version} replaces it, and [updates] allow_downgrade is off"
            return Choice(None, (Reason("downgrade", text), *reasons))
        reason = _obstacle(replacement, running, None, denied, floor, place, now, pin, any_wave=any_wave)
        if reason is None:
            return Choice(replacement, (recalled, *reasons))
        return Choice(None, (recalled, reason, *reasons))
    return Choice(None, tuple(reasons) or (_nothing_newer(channel, running),))


def _out_of_reach(channel: Channel, running: Version, pin: Pin) -> list[Reason]:
    """What is wrong with a pin that leads nowhere."""
    if not pin.only or Version(pin.only) == running:
        return []
    if channel.entry(Version(pin.only)) is None:
        return [Reason("pinned", f"[updates] pin admits {pin.only} alone, and channel {channel.name} does not have it")]
    if Version(pin.only) < running:
        return [Reason("pinned", f"[updates] pin admits {pin.only} alone, which is older than {running}")]
    return []


def _nothing_newer(channel: Channel, running: Version) -> Reason:
    if not channel.entries:
        return Reason("empty-channel", f"channel {channel.name} has no release yet")
    newest = channel.entries[-1].version
    if newest < running:
        return Reason("ahead", f"{running} is newer than all of channel {channel.name} (its newest is {newest})")
    return Reason("up-to-date", f"{running} is the newest release of channel {channel.name}")


def effective_floor(channel: Channel, floor: Version | None, *, allow_downgrade: bool) -> Version | None:
    """The lowest version that is accepted, where `floor` is the highest that was confirmed here.

    With permission it is the replacement while the floor itself was recalled: otherwise neither that nor what follows
    it could be taken until the channel has overtaken the floor.
    """
    return channel.standing(floor) if floor is not None and allow_downgrade else floor


def why_denied(version: str, manifest: str, denied: Mapping[str, str]) -> str | None:
    """What `denied`, by versions and manifest digests, says of the release; None when it does not name it."""
    return next((why for each, why in denied.items() if each == manifest or same_version(each, version)), None)


def recalled(channel: Channel, versions: Iterable[str]) -> dict[str, str]:
    """Why the publisher recalled each of `versions` that was recalled."""
    found = {}
    for version in versions:
        entry = next((each for each in channel.entries if same_version(each.version.text, version)), None)
        if entry is not None and entry.recalled is not None:
            found[version] = entry.recalled.reason
    return found


def unreachable(channel: Channel, running: Version, entry: ChannelEntry, *, allow_downgrade: bool) -> str | None:
    """Why `entry` can't be reached from `running` whatever the node wants; None when it can."""
    if entry.version <= running:
        if entry.version == running or channel.standing(running) != entry.version:
            return f"it is not newer than {running}, and does not replace it"
        if not allow_downgrade:
            return f"it is older than {running}, and [updates] allow_downgrade is off"
    else:
        own = channel.entry(running)
        if own is not None and own.deadend is not None:
            return f"{running} is the end of its line: {own.deadend}"
        newer = (each for each in channel.entries if each.version > running)
        barrier = next((each.version for each in newer if each.barrier and each.recalled is None), None)
        if barrier is not None and entry.version > barrier:
            return f"it can only be reached through {barrier}"
    if entry.minimum is not None and running < entry.minimum:
        return f"it can only be reached from {entry.minimum} on"
    return None


def _obstacle(
    entry: ChannelEntry,
    running: Version,
    barrier: Version | None,
    denied: Mapping[str, str],
    floor: Version | None,
    place: Place,
    now: int,
    pin: Pin,
    *,
    any_wave: bool,
) -> Reason | None:
    version = entry.version
    if entry.recalled is not None:
        return Reason("recalled", f"{version} was recalled: {entry.recalled.reason}")
    if floor is not None and version < floor:
        return Reason("below-floor", f"{version} is below {floor}, the lowest version that this node accepts")
    pinned = pin.obstacle(version.text)
    if pinned is not None:
        return pinned
    if barrier is not None and version > barrier:
        return Reason("barrier", f"{version} can only be reached through {barrier}")
    if entry.minimum is not None and running < entry.minimum:
        return Reason("minimum", f"{version} can only be reached from {entry.minimum} on")
    why = why_denied(version.text, entry.manifest, denied)
    if why is not None:
        return Reason("denied", why)
    if entry.rollout is not None and not any_wave:
        return _wave(entry, entry.rollout, place, now)
    return None


def _wave(entry: ChannelEntry, rollout: Rollout, place: Place, now: int) -> Reason | None:
    at = rollout.eligible_at(place.of(entry.manifest))
    whom = place.described(entry.manifest)
    if at is None:
        share = f"{percent(rollout.most)} of the nodes"
        how = f"is paused at {share}" if rollout.paused is not None else f"ends at {share} until the publisher goes on"
        return Reason("wave", f"{entry.version} is not for this node yet: the rollout {how}, and it comes {whom}")
    if now < at:
        return Reason("wave", f"{entry.version} comes to this node at {format_time(at)}, {whom}", at)
    return None


def is_urgent(channel: Channel, running: Version, entry: ChannelEntry) -> bool:
    """Whether the publisher calls `entry` urgent for a node on `running`: it, or what it overtakes on the way."""
    return entry.urgent or any(
        each.urgent and each.recalled is None for each in channel.entries if running < each.version < entry.version
    )
