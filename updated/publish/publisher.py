"""What a publisher does to a repository: add releases, ship them in channels, recall them, keep signatures fresh."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from updated.core.errors import UpdatedError
from updated.core.release import (
    Blob,
    Channel,
    ChannelEntry,
    Component,
    Recall,
    Release,
    channel_target,
    is_name,
    release_target,
)
from updated.core.rollout import Curve, Rollout
from updated.core.version import Version
from updated.publish import blob
from updated.publish.keys import KeyFolder
from updated.publish.publication import Publication
from updated.publish.repository import LIFETIME, RELEASES, Repository
from updated.publish.store import Earlier, Progress, Store, Stored
from updated.publish.waves import continued

RENEWAL_SHARE: Final = 1 / 3
"""`refresh` renews a role when less than this share of its lifetime is left."""
PATCHES: Final = 2
"""From how many of the newest releases patches are made when nothing else is asked for."""
_READ_LENGTH: Final = 1024 * 1024


def add(
    repository: Repository,
    keys: KeyFolder,
    draft: Release,
    images: Mapping[str, str],
    *,
    now: float,
    level: int = blob.LEVEL,
    patches: int = PATCHES,
    progress: Progress = lambda what, done, size: None,
) -> Mapping[str, Stored]:
    """Publishes `draft`, a release without components, with the image files `images` by component.

    Returns what was stored by component; nothing when the release was published already. Raises `UpdatedError`
    ("bad-image", "bad-request", "bad-key", ...) and OSError.
    """
    publication = Publication.of(repository, keys, now, (RELEASES,))
    known = [repository.release(version)[0] for version in repository.versions]
    found = {name: _identify(name, image) for name, image in images.items()}
    # What nodes would refuse is found before hours are spent on compressing.
    unpacked = replace(draft, components={name: _unpacked(size, digest) for name, (size, digest) in found.items()})
    _check(Release.parse, unpacked.format(), f"release {draft.version}")
    if _is_published(known, unpacked):
        return {}
    repository.sweep()
    store = Store(repository.file("blobs"))
    stored = {}
    for name, (size, digest) in found.items():
        stored[name] = store.add(
            name, images[name], size, _earlier(known, draft, name), _published(known, size, digest),
            patches=patches, level=level, progress=progress,
        )  # fmt: skip
        if (stored[name].component.size, stored[name].component.sha256) != (size, digest):
            raise UpdatedError(
                "bad-image", f"the image {images[name]}", "changed while it was read",
                "Publish it when it is finished.",
            )  # fmt: skip
    release = replace(draft, components={name: each.component for name, each in stored.items()})
    publication.put(RELEASES, release_target(release.version.text), release.format())
    publication.sign(RELEASES)
    publication.commit()
    return stored


def _identify(component: str, image: str) -> tuple[int, str]:
    """Size in bytes and SHA-256 of an image file."""
    if not is_name(component):
        raise UpdatedError(
            "bad-request", f"the component {component!r}", "is not a name",
            "Use a lower-case letter, then letters, digits, hyphens and underscores; at most 32 in all.",
        )  # fmt: skip
    digest = hashlib.sha256()
    size = 0
    try:
        with open(image, "rb") as file:
            while piece := file.read(_READ_LENGTH):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise UpdatedError(
            "bad-image", f"the image {image}", error.strerror or str(error), "Name an image file that can be read."
        ) from None
    if not size:
        raise UpdatedError("bad-image", f"the image {image}", "is empty", "Name a finished image.")
    return size, digest.hexdigest()


def _unpacked(size: int, digest: str) -> Component:
    unknown = Blob("0" * 64, 0)
    return Component(size, digest, unknown, unknown)


def _check(parse: Callable[[bytes], object], data: bytes, what: str) -> None:
    """Refuses what nodes would refuse."""
    try:
        parse(data)
    except UpdatedError as error:
        raise UpdatedError("bad-request", what, error.cause, "Change what was asked for.") from None


def _is_published(known: Sequence[Release], release: Release) -> bool:
    """Whether the very release is there already. Raises `UpdatedError` when another one has its version."""
    for other in known:
        if other.version == release.version:
            if _essence(other) == _essence(release):
                return True
            raise UpdatedError(
                "bad-request", f"release {release.version}", "is published already, with other content",
                "A published release never changes; give the new one a new version.",
            )  # fmt: skip
    return False


def _essence(release: Release) -> object:
    images = {name: (component.size, component.sha256) for name, component in release.components.items()}
    return release.version.text, release.compatible, release.notes, images


def _earlier(known: Sequence[Release], draft: Release, name: str) -> list[Earlier]:
    """The components `name` of the releases below `draft` for the same machines, in ascending order of version."""
    return [
        Earlier(release.version.text, release.components[name])
        for release in sorted(known, key=lambda release: release.version)
        if release.version < draft.version and release.compatible == draft.compatible and name in release.components
    ]


def _published(known: Sequence[Release], size: int, digest: str) -> list[Component]:
    """The components that releases have for this very image, those of the newest first."""
    return [
        component
        for release in sorted(known, key=lambda release: release.version, reverse=True)
        for component in release.components.values()
        if (component.size, component.sha256) == (size, digest)
    ]


@dataclass(frozen=True, slots=True)
class Shipping:
    """How a channel ships a release. `curve` is its rollout from now on; without one, every node may take it now."""

    curve: Curve | None = None
    barrier: bool = False
    minimum: Version | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion has come to: the rollout from now on, and whether it ended one that was on its way."""

    rollout: Rollout | None
    opened: bool


def promote(
    repository: Repository, keys: KeyFolder, channel: str, version: str, shipping: Shipping, *, now: float
) -> Promotion:
    """Ships a release in a channel from now on; the rollout of one that is there already goes on by the new curve.

    Raises `UpdatedError` ("unknown-channel", "bad-request", "bad-key", ...) and OSError.
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
    entry = ChannelEntry(
        version=found, manifest=repository.release(found.text)[1], rollout=rollout, barrier=shipping.barrier,
        minimum=shipping.minimum, urgent=shipping.urgent,
    )  # fmt: skip
    _ship(repository, keys, manifest.with_entry(entry), now)
    return Promotion(rollout, old is not None and old.rollout is not None and rollout is None)


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
        raise UpdatedError("bad-request", "the reason", "is empty", "Say why, for the people who read it on the nodes.")
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
    _check(Channel.parse, data, f"channel {manifest.name}")
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
