"""Adding a release to a repository: its images are stored, and its manifest is signed; no channel ships it yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from updated.core.errors import UpdatedError
from updated.core.release import Blob, Component, Release, release_target
from updated.publish import blob
from updated.publish.keys import KeyFolder
from updated.publish.names import unheard_of
from updated.publish.publication import Publication
from updated.publish.repository import RELEASES, Repository
from updated.publish.store import Earlier, Progress, Store, Stored
from updated.publish.whole import Fault

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
    restored: Callable[[str, Fault], None] = lambda name, fault: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Mapping[str, Stored]:
    """Publishes `draft`, a release without components, with the image files `images` by component.

    Returns what was stored by component; nothing when the release was published already. Then what is missing or
    damaged of its files is made anew, and `restored` is told of each, with its component. `warn` is told of names that
    no other release has. Raises `UpdatedError` ("bad-image", "bad-request", "bad-key", "bad-repository", ...) and
    OSError.
    """
    publication = Publication.of(repository, keys, now, (RELEASES,))
    known = [repository.release(version)[0] for version in repository.versions]
    found = {name: _identify(image) for name, image in images.items()}
    # What nodes would refuse is found before hours are spent on compressing.
    unpacked = replace(draft, components={name: _unpacked(size, digest) for name, (size, digest) in found.items()})
    check(Release.parse, unpacked.format(), f"release {draft.version}")
    published = _same_release(known, unpacked)
    repository.sweep()
    store = Store(repository.file("blobs"))
    if published is not None:
        for name, image in images.items():
            component = published.components[name]
            for fault in store.restore(
                name, image, component, _history(known, component), _all(known), level=level, progress=progress
            ):
                restored(name, fault)
        return {}
    for text in unheard_of(known, unpacked):
        warn(text)
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


def _identify(image: str) -> tuple[int, str]:
    """Size in bytes and SHA-256 of an image file."""
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


def check(parse: Callable[[bytes], object], data: bytes, what: str) -> None:
    """Raises `UpdatedError` ("bad-request") for what nodes would refuse."""
    try:
        parse(data)
    except UpdatedError as error:
        raise UpdatedError("bad-request", what, error.cause, "Change what was asked for.") from None


def _same_release(known: Sequence[Release], release: Release) -> Release | None:
    """The very release, if it is there already. Raises `UpdatedError` when another one has its version."""
    for other in known:
        if other.version == release.version:
            if _essence(other) == _essence(release):
                return other
            cause = "is published already, with other content"
            if other.version.text != release.version.text:
                cause = f"is the same version as {other.version}, which is published already"
            raise UpdatedError(
                "bad-request", f"release {release.version}", cause,
                "A published release never changes; give the new one a new version.",
            )  # fmt: skip
    return None


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


def _all(known: Sequence[Release]) -> list[Earlier]:
    return [Earlier(release.version.text, each) for release in known for each in release.components.values()]


def _history(known: Sequence[Release], component: Component) -> list[Earlier]:
    """What was there when `component` was made first, as far as the releases say it."""
    first, name = min(
        (
            (release, name)
            for release in known
            for name, each in release.components.items()
            if each.index == component.index
        ),
        key=lambda holder: (holder[0].built, holder[0].version),
    )
    return _earlier([release for release in known if release.built <= first.built], first, name)
