"""A published repository, read through any source as nodes read it: from a root of trust on, by the very same code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from updated.core.errors import UpdatedError
from updated.core.index import IndexRoot
from updated.core.release import (
    MAX_MANIFEST_LENGTH,
    Blob,
    Channel,
    ChannelEntry,
    Component,
    Release,
    channel_target,
    release_target,
)
from updated.directory import DirectorySource
from updated.ports import Source
from updated.publish.repository import RELEASES, TOP_ROLES
from updated.trust import Clock, Trust
from updated.tufclient import CONFIG

FIRST_ROOT: Final = "metadata/1.root.json"
TIMESTAMP: Final = "metadata/timestamp.json"
_MEND: Final = "The publisher must mend the repository."


@dataclass(frozen=True, slots=True)
class Files:
    """The verified metadata and manifests of one state of a repository, by their names in it.

    `roots`: all of them, by version. `signed`: the other metadata but for the timestamp, each behind what it lists.
    """

    roots: Mapping[int, bytes]
    signed: Mapping[str, bytes]
    timestamp: bytes
    targets: Mapping[str, bytes]


class Reading:
    """One state of a repository. What was asked for is in `files`. Each method raises what `Trust.target` does.

    Attribute `notes`: sentences for people about protection that was lost.
    """

    def __init__(self, trust: Trust, source: Source, root_of_trust: bytes, folder: str, notes: list[str]) -> None:
        self._trust = trust
        self._source = source
        self._root_of_trust = root_of_trust
        self._folder = folder
        self.notes = notes

    @property
    def channels(self) -> list[str]:
        """The names of all channels."""
        return sorted(set(self._trust.versions()) - {*TOP_ROLES, RELEASES})

    @property
    def expires(self) -> int:
        """When the first of the roles that were read expires, in seconds since the epoch."""
        return min(self._trust.expiries().values())

    def channel(self, name: str) -> Channel:
        """The manifest of a channel. Raises `UpdatedError` ("unknown-channel", "manifest-invalid")."""
        if name not in self.channels:
            raise UpdatedError(
                "unknown-channel", f"the channel {name!r}", f"the repository has only {', '.join(self.channels)}",
                "Name one of these.",
            )
        channel = Channel.parse(self._trust.target(channel_target(name), MAX_MANIFEST_LENGTH))
        if channel.name != name:
            raise UpdatedError("manifest-invalid", f"channel {name}", f"says that it is {channel.name}", _MEND)
        return channel

    def versions(self) -> list[str]:
        """The versions of all releases, as they were written."""
        try:
            self._trust.target(release_target(""), 0)
        except UpdatedError as error:
            # The role was loaded for the answer.
            if error.code != "no-such-target":
                raise
        name = f"metadata/{self._trust.versions()[RELEASES]}.{RELEASES}.json"
        targets = Metadata[Targets].from_bytes(self._exported()[name]).signed.targets
        return [path.removeprefix("releases/").removesuffix(".json") for path in targets]

    def release(self, version: str) -> Release:
        """The manifest of a release."""
        return Release.parse(self._manifest(version))

    def shipped(self, channel: str, entry: ChannelEntry) -> Release:
        """The manifest of a release that a channel lists. Raises `UpdatedError` ("wrong-digest")."""
        data = self._manifest(entry.version.text)
        if hashlib.sha256(data).hexdigest() != entry.manifest:
            raise UpdatedError(
                "wrong-digest", f"release {entry.version} in channel {channel}", "is not the one that was published",
                "The publisher must promote the published release again.",
            )
        return Release.parse(data)

    def _manifest(self, version: str) -> bytes:
        return self._trust.target(release_target(version), MAX_MANIFEST_LENGTH)

    def files(self) -> Files:
        """What was read of metadata and manifests, and all roots before."""
        exported = self._exported()
        roots = {
            int(name.removeprefix("metadata/").partition(".")[0]): data
            for name, data in exported.items()
            if name.endswith(".root.json")
        }
        versions = self._trust.versions()
        read = [*sorted(set(versions) - {*TOP_ROLES}), "targets", "snapshot"]
        names = [f"metadata/{versions[role]}.{role}.json" for role in read]
        return Files(
            roots=self._older_roots(min(roots)) | dict(sorted(roots.items())),
            signed={name: exported[name] for name in names if name in exported},
            timestamp=exported[TIMESTAMP],
            targets={name: exported[name] for name in sorted(exported) if name.startswith("targets/")},
        )

    def _older_roots(self, first: int) -> dict[int, bytes]:
        """The roots before the one that was trusted first: nodes that pin one of them begin there."""
        roots = {
            version: self._source.read(f"metadata/{version}.root.json", CONFIG.root_max_length)
            for version in range(1, first)
        }
        chain = [*roots.values(), self._root_of_trust]
        for older, newer in zip(chain[:1] + chain, chain, strict=False):
            _verify_root(older, newer)
        return roots

    def _exported(self) -> dict[str, bytes]:
        self._trust.export(self._folder)
        found = {}
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, self._folder)] = file.read()
        return found


@contextlib.contextmanager
def reading(
    source: Source, root_of_trust: bytes, *, now: float, copy: DirectorySource | None = None
) -> Iterator[Reading]:
    """The newest state of the repository at `source`; not older than what `copy` has of it. `now`: since the epoch.

    Raises `UpdatedError` as `Trust` does.
    """
    with tempfile.TemporaryDirectory(prefix="releasectl-") as folder:
        store, notes = os.path.join(folder, "store"), []
        if copy is not None:
            source = _CopyFirst(copy, source)
            try:
                # At time 0 nothing has expired: a copy that was left alone for long still says which versions it had.
                with Trust(copy, store, root_of_trust, Clock(0, 0)) as trust:
                    trust.refresh()
            except UpdatedError as error:
                if error.code not in ("not-found", "metadata-invalid"):
                    raise
                if error.code == "metadata-invalid":
                    notes.append(f"the copy is damaged, and not protected from older versions. {error}")
        with Trust(source, store, root_of_trust, Clock(now, 0)) as trust:
            trust.refresh()
            yield Reading(trust, source, root_of_trust, os.path.join(folder, "export"), notes)


class _CopyFirst:
    """Implements `updated.ports.Source`: manifests come from a copy, as far as it has them."""

    def __init__(self, copy: DirectorySource, source: Source) -> None:
        self._copy = copy
        self._source = source

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        if name.startswith("targets/"):
            with contextlib.suppress(UpdatedError):
                data = self._copy.read(name, most)
                if os.path.basename(name).startswith(hashlib.sha256(data).hexdigest()):
                    return data
        return self._source.read(name, most)

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`."""
        return self._source.stream(name, start, length)

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`."""
        return self._source.blame(name, position)


def pages(component: Component, root: bytes) -> Blob:
    """The file of the pages of an index, whose `root` was verified. Raises `UpdatedError` ("index-invalid")."""
    parsed = IndexRoot.parse(root)
    if (parsed.image_size, parsed.blob_length) != (component.size, component.blob.length):
        raise UpdatedError("index-invalid", "the chunk index", "does not belong to the image of its manifest", _MEND)
    return Blob(parsed.pages_sha256, parsed.pages_length)


def _verify_root(older: bytes, newer: bytes) -> None:
    try:
        roots = [Metadata[Root].from_bytes(data) for data in (older, newer)]
        following: Metadata[Any] = roots[1]
        for root in roots:
            root.signed.verify_delegate("root", following.signed_bytes, following.signatures)
    except (RepositoryError, ValueError, AttributeError) as error:
        raise UpdatedError("metadata-invalid", "the metadata of root", f"is no whole chain: {error}", _MEND) from None
