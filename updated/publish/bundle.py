"""A bundle: one file with all that nodes need to get to one release of a channel, for where no network goes.

The format is in packaging/doc/formats.md. The same repository gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.index import MAX_ROOT_LENGTH
from updated.core.release import Blob, Channel, ChannelEntry, Release
from updated.core.selection import unreachable
from updated.core.version import Version
from updated.indexes import read_signed
from updated.ports import Source
from updated.publish.reading import FIRST_ROOT, TIMESTAMP, Reading, pages, reading
from updated.publish.repository import UNFINISHED
from updated.tufclient import CONFIG


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle holds: the releases that it installs, in the order in which nodes pass through them.

    `bases`: versions that nodes may run whose content spares bytes. `expires` is in seconds since the epoch, `length`
    in bytes.
    """

    releases: tuple[str, ...]
    bases: tuple[str, ...]
    patches: int
    length: int
    sha256: str
    expires: int


def bundle(
    source: Source, file: str, channel: str, *, version: str | None = None, bases: Sequence[str] = (), now: float
) -> Bundled:
    """Writes the bundle `file` for `channel`: its newest release, or `version`, for nodes that run one of `bases`.

    Barriers on the way from these versions are in it as well, those below the release when there are no `bases`. Raises
    `UpdatedError` as `Trust` and `Source` do, "bad-request", "unknown-channel", "wrong-digest"; and OSError.
    """
    with reading(source, source.read(FIRST_ROOT, CONFIG.root_max_length), now=now) as read:
        manifest = read.channel(channel)
        target = _target(manifest, version)
        running = [_published(read, text) for text in bases]
        stops = _stops(manifest, target, running)
        installed = [read.shipped(channel, entry) for entry in stops]
        kept = [read.release(each.text) for each in running]
        patches, parts = _parts(source, installed, kept)
        files = read.files()
        metadata = {f"metadata/{number}.root.json": data for number, data in files.roots.items()}
        small = {**metadata, TIMESTAMP: files.timestamp, **files.signed, **files.targets}
        length, sha256 = _write(file, small, source, sorted(parts, key=lambda part: part.sha256))
        return Bundled(
            tuple(release.version.text for release in installed), tuple(each.text for each in running), patches, length,
            sha256, read.expires,
        )


def _target(channel: Channel, version: str | None) -> ChannelEntry:
    entries = [entry for entry in channel.entries if entry.recalled is None]
    if version is not None:
        entries = [entry for entry in entries if entry.version == Version(version)]
    if not entries:
        raise UpdatedError(
            "bad-request", f"channel {channel.name}",
            "ships no release" if version is None else f"does not ship release {version}",
            "Look at `releasectl status` for what each channel ships.",
        )
    return entries[-1]


def _published(read: Reading, text: str) -> Version:
    wanted = Version(text)
    for version in map(Version, read.versions()):
        if version == wanted:
            return version
    raise UpdatedError(
        "bad-request", f"release {text}", "is not in the repository", "Name releases that nodes run, or none."
    )


def _stops(channel: Channel, target: ChannelEntry, running: Sequence[Version]) -> list[ChannelEntry]:
    """The releases through which nodes get to `target`, which is the last one."""
    barriers = [entry for entry in channel.entries if entry.barrier and entry.recalled is None]
    below = [entry for entry in barriers if entry.version < target.version]
    if not running:
        return [*below, target]
    stops = {target.version: target}
    for version in running:
        at = version
        if at >= target.version and unreachable(channel, at, target, allow_downgrade=True) is not None:
            raise UpdatedError(
                "bad-request", f"release {target.version}", f"is no update for nodes that run {at}",
                "Name only versions below it, or a recalled one that it replaces.",
            )
        while at != target.version:
            stop = target if at > target.version else next((entry for entry in below if entry.version > at), target)
            why = unreachable(channel, at, stop, allow_downgrade=True)
            if why is not None:
                raise UpdatedError(
                    "bad-request", f"release {stop.version} from {at}", why,
                    "Make a bundle of a release between them first, with --version.",
                )
            stops[stop.version] = stop
            at = stop.version
    return [stops[version] for version in sorted(stops)]


def _parts(source: Source, installed: Sequence[Release], kept: Sequence[Release]) -> tuple[int, set[Blob]]:
    """How many patches there are, and all files of `blobs/`."""
    indexed = [component for release in (*installed, *kept) for component in release.components.values()]
    images = {component.sha256 for component in indexed}
    parts: set[Blob] = set()
    for component in indexed:
        root = read_signed(source, component.index, "the chunk index", MAX_ROOT_LENGTH)
        parts |= {component.index, pages(component, root)}
    patches = set()
    for release in installed:
        for component in release.components.values():
            parts.add(component.blob)
            patches |= {patch for patch in component.patches if patch.base in images}
    for patch in patches:
        parts.update(patch.parts)
    return len(patches), parts


def _write(file: str, small: Mapping[str, bytes], source: Source, parts: Sequence[Blob]) -> tuple[int, str]:
    """Writes the file as a whole; its length in bytes, and its SHA-256."""
    folder, name = os.path.split(file)
    unfinished = os.path.join(folder, f"{UNFINISHED}{name}")
    try:
        with open(unfinished, "wb") as opened:
            hashed = _Hashed(opened)
            # As a stream: the library then needs nothing but write().
            with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                for path, data in small.items():
                    tar.addfile(_entry(path, len(data)), io.BytesIO(data))
                for part in parts:
                    _add(tar, source, part)
            opened.flush()
            os.fchmod(opened.fileno(), 0o644)
            durable.sync_fd(opened.fileno())
            length = opened.tell()
        durable.rename(unfinished, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    return length, hashed.sha256.hexdigest()


def _entry(name: str, length: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = length, 0o644
    return entry


def _add(tar: tarfile.TarFile, source: Source, part: Blob) -> None:
    name = f"blobs/{part.sha256}"
    content = _Streamed(source.stream(name, 0, part.length))
    tar.addfile(_entry(name, part.length), content)  # type: ignore[arg-type]
    if content.sha256.hexdigest() != part.sha256:
        raise UpdatedError(
            "wrong-digest", f"the file {name}", "differs from its signed digest",
            "Put the file back from a copy of the repository, or publish its image under a new version.",
        )


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)


class _Streamed:
    """A file that gives the pieces of a stream, and hashes them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self.sha256.update(piece)
            self._left += piece
        data, self._left = self._left[:size], self._left[size:]
        return data
