"""From signed metadata to the release that a node may take: the same steps in fetch and, again, in seal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from updated.core.errors import UpdatedError
from updated.core.floors import TOP_ROLES
from updated.core.release import (
    MAX_MANIFEST_LENGTH,
    Channel,
    ChannelEntry,
    Release,
    channel_target,
    is_name,
    release_target,
)
from updated.core.rollout import Place
from updated.core.selection import Choice, Pin, choose, effective_floor, is_urgent, recalled, unreachable, why_denied
from updated.core.state import Target
from updated.core.version import Version
from updated.task import Task
from updated.trust import Trust

# Every other role that the repository's metadata lists is that of a channel, and has its name.
_NO_CHANNELS = {*TOP_ROLES, "releases"}
_MOST_NAMED = 10


def read_channel(trust: Trust, name: str) -> Channel:
    """The signed manifest of channel `name`. Raises `UpdatedError` ("unknown-channel" when there is none)."""
    if not is_name(name):
        raise _unknown(trust, name)
    try:
        data = trust.target(channel_target(name), MAX_MANIFEST_LENGTH)
    except UpdatedError as error:
        if error.code == "no-such-target":
            raise _unknown(trust, name) from None
        if error.code == "not-found":
            raise UpdatedError(
                "not-found", error.what, f"{error.cause}; this node follows channel {name}",
                f"{error.mend} A mirror or bundle may hold other channels alone: have it made with --channel {name}, "
                "or follow another one with 'updatectl channel NAME'.",
            ) from None
        raise
    channel = Channel.parse(data)
    if channel.name != name:
        raise UpdatedError(
            "manifest-invalid", f"the manifest of channel {name}", f"says that it is of channel {channel.name}",
            "The publisher must publish it again.",
        )
    return channel


def _unknown(trust: Trust, name: str) -> UpdatedError:
    found = sorted(role for role in trust.versions().keys() - _NO_CHANNELS if is_name(role))
    cause = f"is not in the repository, which has {', '.join(found[:_MOST_NAMED]) or 'none'}"
    return UpdatedError("unknown-channel", f"channel {name}", cause, "Follow another with 'updatectl channel NAME'.")


def choose_release(trust: Trust, task: Task) -> Choice:
    """What the channel has for this node now."""
    floor = trust.release_floor
    return choose(
        read_channel(trust, task.channel), Version(task.running), denied=task.denied,
        floor=None if floor is None else Version(floor), place=Place(task.seed, task.wave), now=trust.reference_time,
        any_wave=task.any_wave, allow_downgrade=task.allow_downgrade, pin=Pin(task.pin, task.newest),
    )


def recalled_here(trust: Trust, task: Task) -> dict[str, str]:
    """Why the publisher recalled each version in the slots that was recalled."""
    return recalled(read_channel(trust, task.channel), task.held)


def urgent(trust: Trust, task: Task, manifest: str) -> bool:
    """Whether the publisher calls the release with this manifest urgent for the node."""
    channel = read_channel(trust, task.channel)
    entry = _entry(channel, manifest)
    return entry is not None and is_urgent(channel, Version(task.running), entry)


def withdrawn(trust: Trust, task: Task) -> str | None:
    """Why the channel does not give this node the task's target any more; None while it does, and without one."""
    if task.target is None or not task.target.manifest:
        return None
    channel = read_channel(trust, task.channel)
    entry = _entry(channel, task.target.manifest)
    if entry is None:
        return f"it is not in channel {task.channel} any more"
    if entry.recalled is not None:
        return f"it was recalled: {entry.recalled.reason}"
    return unreachable(channel, Version(task.running), entry, allow_downgrade=task.allow_downgrade)


def _entry(channel: Channel, manifest: str) -> ChannelEntry | None:
    return next((each for each in channel.entries if each.manifest == manifest), None)


def check_target(trust: Trust, task: Task, target: Target) -> Release:
    """The release manifest of `target`, after every rule that a release must pass before it may be written or booted.

    The channel must still ship it, it must not be recalled or below the floor, it must be made for this machine, and
    each of its images must fit. Raises `UpdatedError` otherwise.
    """
    channel = read_channel(trust, task.channel)
    entry = _entry(channel, target.manifest)
    if entry is None or entry.version != Version(target.version) or entry.recalled is not None:
        raise UpdatedError(
            "no-such-target", f"release {target.version}", f"is not shipped by channel {task.channel} any more",
            "The next check finds what is.",
        )
    why = why_denied(entry.version.text, entry.manifest, task.denied)
    if why is not None:
        raise UpdatedError(
            "denied", f"release {target.version}", f"is denied: {why}",
            f"'updatectl allow {target.version}' lets it be tried again.",
        )
    highest = trust.release_floor
    floor = effective_floor(
        channel, None if highest is None else Version(highest), allow_downgrade=task.allow_downgrade
    )
    if floor is not None and entry.version < floor:
        raise UpdatedError(
            "release-too-old", f"release {target.version}", f"is below {floor}, the lowest that this node accepts",
            "The publisher must publish the old content under a new version.",
        )
    why = unreachable(channel, Version(task.running), entry, allow_downgrade=task.allow_downgrade)
    if why is not None:
        raise UpdatedError("no-such-target", f"release {target.version}", why, "The next check finds what can be.")
    return read_release(trust, entry, task)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def read_release(trust: Trust, entry: ChannelEntry, task: Task) -> Release:
    """The release manifest that `entry` pins, if it suits this machine.

    Raises `UpdatedError`: "wrong-digest", "incompatible", "slot-missing", "image-too-large".
    """
    data = trust.target(release_target(entry.version.text), MAX_MANIFEST_LENGTH)
    if hashlib.sha256(data).hexdigest() != entry.manifest:
        raise UpdatedError(
            "wrong-digest", f"the manifest of release {entry.version}", "is not the one that the channel pins",
            "The publisher must promote the release again.",
        )
    release = Release.parse(data)
    if release.version != entry.version:
        raise UpdatedError(
            "manifest-invalid", f"the manifest of release {entry.version}", f"says that it is {release.version}",
            "The publisher must publish it again.",
        )
    if release.compatible != task.compatible:
        raise UpdatedError(
            "incompatible", f"release {release.version}",
            f"is made for {release.compatible!r}, and this machine is {task.compatible!r}",
            "Choose another channel or repository, or correct compatible in the table [identity].",
        )
    if set(release.components) != set(task.sizes):
        # A component of the slot that no release covers would be content that nobody signed.
        raise UpdatedError(
            "incompatible", f"release {release.version}",
            f"has the components {_listed(release.components)}, and the slots have {_listed(task.sizes)}",
            "Name the components in [disk] components, and lay out the disk with them; or in [disk] files.",
        )
    for name, component in release.components.items():
        if component.size > task.sizes[name]:
            raise UpdatedError(
                "image-too-large", f"component {name} of release {release.version}",
                f"has {component.size} bytes, and its slot holds {task.sizes[name]}",
                "The publisher must make a smaller image, or the machine needs larger slots, or more room where it has "
                "files for them.",
            )
    for room in task.rooms:
        together = sum(release.components[name].size for name in room.components)
        if together > room.size:
            raise UpdatedError(
                "image-too-large", f"components {_listed(room.components)} of release {release.version}",
                f"have {together} bytes together, and the file system of their files holds {room.size}",
                "The publisher must make smaller images, or the machine needs more room there.",
            )
    return release
