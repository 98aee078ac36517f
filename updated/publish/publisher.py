"""What a publisher does with releases that are added: ship them in channels, recall them, keep signatures fresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from updated.core.errors import UpdatedError
from updated.core.release import Channel, ChannelEntry, Recall, channel_target
from updated.core.rollout import Curve, Rollout
from updated.core.version import Version
from updated.publish.adding import check
from updated.publish.keys import KeyFolder
from updated.publish.misuse import Misuse
from updated.publish.publication import Publication
from updated.publish.repository import LIFETIME, Repository
from updated.publish.waves import continued
from updated.publish.whole import require_whole

RENEWAL_SHARE: Final = 1 / 3
"""`refresh` renews a role when less than this share of its lifetime is left."""


@dataclass(frozen=True, slots=True)
class Shipping:
    """How a channel ships a release. `curve` is its rollout from now on; without one, every node may take it now."""

    curve: Curve | None = None
    barrier: bool = False
    minimum: Version | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion has come to: the rollout from now on, and whether it ended one that was on its way.

    `newer`: what the channel ships that nodes take instead, since they take the newest.
    """

    rollout: Rollout | None
    opened: bool
    newer: tuple[Version, ...] = ()


def promote(
    repository: Repository, keys: KeyFolder, channel: str, version: str, shipping: Shipping, *, now: float
) -> Promotion:
    """Ships a release in a channel from now on; the rollout of one that is there already goes on by the new curve.

    From now on nodes see it, so its files are read and checked, unless others have to sign first. Raises `UpdatedError`
    ("unknown-channel", "bad-request", "bad-key", "bad-repository", "wrong-digest", ...) and OSError.
    """
    manifest = repository.channel(channel)
    found = _published_version(repository, version)
    old = manifest.entry(found)
    if old is not None:
        _refuse_recalled(old, channel)
    if shipping.minimum is not None:
        _check_minimum(repository, found, shipping.minimum)
    rollout = None if shipping.curve is None else Rollout(int(now), shipping.curve)
    if shipping.curve is not None and old is not None:
        rollout = continued(_spread(old, channel), shipping.curve, int(now))
    release, digest = repository.release(found.text)
    if repository.request is None:
        require_whole(repository, release)
    entry = ChannelEntry(
        version=found, manifest=digest, rollout=rollout, barrier=shipping.barrier,
        minimum=shipping.minimum, urgent=shipping.urgent,
    )  # fmt: skip
    _ship(repository, keys, manifest.with_entry(entry), now)
    return Promotion(
        rollout, old is not None and old.rollout is not None and rollout is None, _instead_of(entry, manifest)
    )


def _instead_of(entry: ChannelEntry, manifest: Channel) -> tuple[Version, ...]:
    """The newer versions that keep nodes from `entry`.

    A barrier comes before what is newer, and what has a minimum leaves the nodes below that to older ones.
    """
    newer = (each for each in manifest.entries if each.version > entry.version and not entry.barrier)
    return tuple(each.version for each in newer if each.recalled is None and each.minimum is None)


def _check_minimum(repository: Repository, version: Version, minimum: Version) -> None:
    if not any(minimum <= Version(text) < version for text in repository.versions):
        below = minimum < version
        raise UpdatedError(
            "bad-request", f"the minimum {minimum} of release {version}",
            "is one that no release of the repository satisfies" if below else f"is not below {version}",
            "No node could take the release: name a version that nodes run, or pass through.",
        )  # fmt: skip


Change: TypeAlias = Callable[[Rollout, int], Rollout | None]
"""From a rollout and the time to the rollout from then on; None: the release is for all nodes."""


def roll_out(
    repository: Repository, keys: KeyFolder, channel: str, version: str, change: Change, *, now: float
) -> Rollout | None:
    """Changes the rollout of a release, and returns what it is from now on. Raises as `promote`."""
    manifest = repository.channel(channel)
    entry = _shipped(manifest, version)
    _refuse_recalled(entry, channel)
    changed = replace(entry, rollout=change(_spread(entry, channel), int(now)))
    _ship(repository, keys, manifest.with_entry(changed), now)
    return changed.rollout


def mark(
    repository: Repository, keys: KeyFolder, channel: str, version: str, *, urgent: bool, now: float
) -> Rollout | None:
    """Calls a release urgent, or no longer so, and returns its rollout, which stays. Raises as `promote`."""
    manifest = repository.channel(channel)
    entry = _shipped(manifest, version)
    _refuse_recalled(entry, channel)
    if entry.urgent == urgent:
        raise UpdatedError(
            "bad-request", f"release {version} in channel {channel}", f"is {'' if urgent else 'not '}urgent already",
            "Look at `releasectl status`.",
        )  # fmt: skip
    _ship(repository, keys, manifest.with_entry(replace(entry, urgent=urgent)), now)
    return entry.rollout


def _refuse_recalled(entry: ChannelEntry, channel: str) -> None:
    if entry.recalled is not None:
        raise UpdatedError(
            "bad-request", f"release {entry.version} in channel {channel}", f"was recalled ({entry.recalled.reason})",
            "Nodes have left it; publish what follows as a new version.",
        )  # fmt: skip


def _spread(entry: ChannelEntry, channel: str) -> Rollout:
    """The rollout of a release that is not for all nodes yet: from those it can't be taken away again."""
    if entry.rollout is None:
        raise UpdatedError(
            "bad-request", f"release {entry.version} in channel {channel}", "is for all nodes already",
            "`releasectl recall` is what takes a release back.",
        )  # fmt: skip
    return entry.rollout


def recall(
    repository: Repository, keys: KeyFolder, channel: str, version: str, reason: str, *, now: float,
    replacement: str | None = None,
) -> ChannelEntry | None:
    """Orders the nodes of a channel to leave a release, if need be for an older one, which is returned.

    Raises as `promote`.
    """
    manifest = repository.channel(channel)
    entry = _shipped(manifest, version)
    if not reason.strip():
        raise Misuse("bad-request", "the reason", "is empty", "Say why, for the people who read it on the nodes.")
    older = instead = None
    if replacement is not None:
        older = _shipped(manifest, replacement)
        if older.version >= entry.version or older.recalled is not None:
            cause = "was recalled itself" if older.recalled is not None else f"is not older than {entry.version}"
            raise UpdatedError("bad-request", f"the replacement {replacement}", cause, "Name an older, good release.")
        instead = older.version
    _ship(repository, keys, manifest.with_entry(replace(entry, recalled=Recall(reason, instead))), now)
    return older


def _shipped(manifest: Channel, version: str) -> ChannelEntry:
    """The entry of a release that the channel must have."""
    entry = manifest.entry(Version(version))
    if entry is None:
        raise UpdatedError(
            "bad-request", f"release {version}", f"is not in channel {manifest.name}",
            "Look at `releasectl status` for what each channel ships.",
        )  # fmt: skip
    return entry


def _published_version(repository: Repository, version: str) -> Version:
    wanted = Version(version)
    for text in repository.versions:
        if Version(text) == wanted:
            return Version(text)
    raise UpdatedError(
        "bad-request", f"release {version}", "is not in the repository", "Publish it first, with `releasectl add`."
    )


def _ship(repository: Repository, keys: KeyFolder, manifest: Channel, now: float) -> None:
    data = manifest.format()
    check(Channel.parse, data, f"channel {manifest.name}")
    publication = Publication.of(repository, keys, now, (manifest.name,))
    publication.put(manifest.name, channel_target(manifest.name), data)
    publication.sign(manifest.name)
    publication.commit()


@dataclass(frozen=True, slots=True)
class Renewal:
    """What `refresh` signed anew, and which roles are about to expire though their keys are not there."""

    renewed: tuple[str, ...]
    neglected: tuple[str, ...]


def refresh(repository: Repository, keys: KeyFolder, *, now: float) -> Renewal:
    """Signs snapshot and timestamp anew, and each role that is close to its expiry and whose keys are there.

    Asks for the signatures of those roles, whose keys ever are there, when the repository is one for a request. Raises
    `UpdatedError` ("bad-key", "bad-request") and OSError.
    """
    roles = repository.roles
    due = [role for role in roles.all() if role not in ("snapshot", "timestamp") and is_due(repository, role, now)]
    able = [role for role in due if len(keys.signers(roles.keyids(role)).signers) >= roles.threshold(role)]
    if repository.request is not None:
        if not due:
            raise UpdatedError(
                "bad-request", "the request", "has nothing to ask for", "Try again when a role is close to its expiry."
            )
        able = due
    publication = Publication.of(repository, keys, now, tuple(able))
    for role in able:
        publication.sign(role)
    publication.commit()
    online = ("snapshot", "timestamp") if repository.request is None else ()
    return Renewal((*able, *online), tuple(role for role in due if role not in able))


def is_due(repository: Repository, role: str, now: float) -> bool:
    """Whether less than `RENEWAL_SHARE` of the lifetime of `role` is left."""
    signed = repository.roles.all()[role].signed
    lifetime: int = signed.unrecognized_fields[LIFETIME]
    left: float = signed.expires.timestamp() - now
    return left < lifetime * 86400 * RENEWAL_SHARE
