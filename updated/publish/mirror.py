"""Mirrors a repository, or what some of its channels need, into a directory that nodes read all the while.

The order keeps that directory valid at every instant. Files of `blobs/` and `targets/` come first: nothing asks for
them yet. Then metadata whose names have a version, which no node asks for before the timestamp says so. A newer root
counts as soon as it is there; where it lies to the timestamp is in `_roots_before`. Nothing is ever removed, so a node
in the middle of an update finds all that it began with.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp  # type: ignore[attr-defined]

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.release import Blob, Release
from updated.directory import DirectorySource
from updated.ports import Source
from updated.publish.fetching import Fetching, Progress
from updated.publish.reading import FIRST_ROOT, TIMESTAMP, Files, Reading, pages, reading
from updated.publish.repository import UNFINISHED, locked
from updated.tufclient import CONFIG

_FOLDERS: Final = ("metadata", "targets", "targets/channels", "targets/releases", "blobs")
_State = Sequence[tuple[str, Metadata[Any]]]
"""Metadata by the role that the root names keys for."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirror holds: its channels, its releases, and when its metadata expires (seconds since the epoch).

    `files` and `downloaded`: what of `blobs/` was fetched, the latter in bytes.
    """

    channels: tuple[str, ...]
    releases: int
    expires: int
    files: int
    downloaded: int


def mirror(
    source: Source,
    destination: str,
    *,
    channels: Sequence[str] = (),
    root: bytes | None = None,
    now: float,
    connections: int = 4,
    reread: bool = False,
    progress: Progress = lambda done, total: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Mirrored:
    """Brings the directory `destination` up to date with `source`; with all of it when there are no `channels`.

    Trusted is `root`, else the first root that `destination` has, else that of `source`; `warn` is told, as it is of
    all that the mirror goes without. What is there already is read again with `reread`, and fetched where it is
    damaged. Raises `UpdatedError` as `Trust` and `Source` do, "unknown-channel", "bad-repository"; and OSError.
    """
    for folder in _FOLDERS:
        os.makedirs(os.path.join(destination, folder), exist_ok=True)
    with locked(destination):
        copy = DirectorySource(destination)
        if root is None:
            root = _found(copy, FIRST_ROOT)
        if root is None:
            warn("no root of trust is named, and the mirror is new: the first root of the source is trusted.")
            root = source.read(FIRST_ROOT, CONFIG.root_max_length)
        with reading(source, root, now=now, copy=copy) as read:
            for note in read.notes:
                warn(note)
            newer = _newer_roots(destination, copy, read.files().roots)
            names, releases = _wanted(read, channels, warn)
            fetching = Fetching(
                source, os.path.join(destination, "blobs"), connections=connections, reread=reread, progress=progress
            )
            _fetch(fetching, releases)
            _publish(destination, copy, read.files(), newer)
            _sweep(destination)
            return Mirrored(tuple(names), len(releases), read.expires, fetching.files, fetching.downloaded)


def _wanted(
    read: Reading, channels: Sequence[str], warn: Callable[[str], None]
) -> tuple[list[str], dict[str, tuple[Release, bool]]]:
    """Channels and, by version, releases, each with whether its images go along.

    With named channels these are the ones that they list. Of a recalled one the index alone goes along: a node that
    runs it still finds out what it has.
    """
    names: list[str] = []
    releases: dict[str, tuple[Release, bool]] = {}
    for name in channels or read.channels:
        try:
            channel = read.channel(name)
        except UpdatedError as error:
            if not channels and error.code == "not-found":
                raise UpdatedError(
                    error.code, error.what, error.cause, "If the source mirrors some channels alone, name these."
                ) from None
            if channels or error.code != "metadata-expired":
                raise
            warn(f"channel {name} is left out. {error}")
            continue
        names.append(name)
        for entry in channel.entries:
            version = entry.version.text
            whole = entry.recalled is None or (version in releases and releases[version][1])
            releases[version] = read.shipped(name, entry), whole
    if not channels:
        releases = {version: (read.release(version), True) for version in read.versions()}
    return names, releases


def _fetch(fetching: Fetching, releases: Mapping[str, tuple[Release, bool]]) -> None:
    components = [
        (component, whole) for release, whole in releases.values() for component in release.components.values()
    ]
    fetching.take({component.index for component, _ in components})
    parts: set[Blob] = set()
    for component, whole in components:
        with open(fetching.path(component.index), "rb") as file:
            parts.add(pages(component, file.read()))
        if whole:
            parts.add(component.blob)
            for patch in component.patches:
                parts.update(patch.parts)
    fetching.take(parts)


def _newer_roots(destination: str, copy: DirectorySource, roots: Mapping[int, bytes]) -> dict[int, bytes]:
    """Those of `roots` that the mirror lacks. Raises `UpdatedError` ("bad-repository") when it has others."""
    newer = {}
    for version, data in roots.items():
        there = _found(copy, f"metadata/{version}.root.json")
        if there is None:
            newer[version] = data
        elif there != data:
            raise UpdatedError(
                "bad-repository", f"the directory {destination}", f"has another root {version}: it mirrors another one",
                "Name another directory, or the root of trust of this one.",
            )
    return newer


def _publish(destination: str, copy: DirectorySource, files: Files, newer: Mapping[int, bytes]) -> None:
    before = _roots_before(newer, files, copy)

    def write(name: str, data: bytes) -> None:
        if _found(copy, name) != data:
            durable.write_file(os.path.join(destination, *name.split("/")), data)

    for name, data in {**files.targets, **files.signed}.items():
        write(name, data)
    roots = [(f"metadata/{version}.root.json", data) for version, data in newer.items()]
    for name, data in [*roots[:before], (TIMESTAMP, files.timestamp), *roots[before:]]:
        write(name, data)
    for folder in _FOLDERS:
        durable.sync_directory(os.path.join(destination, folder))
    durable.sync_directory(destination)


def _roots_before(newer: Mapping[int, bytes], files: Files, copy: DirectorySource) -> int:
    """How many of the roots `newer` come before the timestamp, so that every state between is one that nodes accept.

    As many as name the keys of the state that is there; the new state must verify from there on. It does unless one
    root takes all keys of a role away: that change has no valid state between, neither here nor at the publisher. Then
    all roots come first, and nodes refuse the mirror until the timestamp has followed, or the next run brings it.
    """
    there = [version for version in files.roots if version not in newer]
    if not there or not newer:
        return len(newer)
    roots = [Metadata[Root].from_bytes(data).signed for version, data in files.roots.items() if version >= there[-1]]
    old, new = _state_of(copy), _state(files)
    before = len(list(itertools.takewhile(lambda root: _holds(root, old), roots[1:])))
    return before if all(_holds(root, new) for root in roots[before:]) else len(newer)


def _state(files: Files) -> _State:
    snapshot, targets = (
        next(data for name, data in files.signed.items() if name.endswith(f".{role}.json"))
        for role in ("snapshot", "targets")
    )
    state = {"timestamp": files.timestamp, "snapshot": snapshot, "targets": targets}
    return [(role, Metadata[Any].from_bytes(data)) for role, data in state.items()]


def _state_of(copy: DirectorySource) -> _State:
    """The state of a mirror, as far as it is one that can be read: no order has to keep another one valid."""
    try:
        timestamp = Metadata[Timestamp].from_bytes(copy.read(TIMESTAMP, CONFIG.timestamp_max_length))
        version = timestamp.signed.snapshot_meta.version
        snapshot = Metadata[Snapshot].from_bytes(
            copy.read(f"metadata/{version}.snapshot.json", CONFIG.snapshot_max_length)
        )
        version = snapshot.signed.meta["targets.json"].version
        targets = Metadata[Any].from_bytes(copy.read(f"metadata/{version}.targets.json", CONFIG.targets_max_length))
    except (UpdatedError, RepositoryError, KeyError):
        return []
    return [("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets)]


def _holds(root: Root, state: _State) -> bool:
    try:
        for role, metadata in state:
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return False
    return True


def _found(copy: DirectorySource, name: str) -> bytes | None:
    try:
        return copy.read(name, CONFIG.targets_max_length)
    except UpdatedError as error:
        if error.code != "not-found":
            raise
        return None


def _sweep(destination: str) -> None:
    """Removes what runs that were killed have left, and no release needs any more."""
    for folder in _FOLDERS:
        for name in (f"{UNFINISHED}*", ".*.tmp"):
            for path in glob.glob(os.path.join(glob.escape(destination), folder, name)):
                os.unlink(path)
