"""Release and channel manifests: what is signed about a release, and about a channel.

A release manifest (target `releases/<version>.json`, signed by the role `releases`) says what a release *is*; a
channel manifest (target `channels/<name>.json`, signed by the channel's own role) says which releases a channel
*ships*. A channel pins each release by the SHA-256 of its manifest, so neither key can act for the other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from updated.core.document import Misfit, Object, dump, format_time, load_object, parsed
from updated.core.errors import UpdatedError
from updated.core.rollout import Rollout
from updated.core.version import Version

SCHEMA = 1
MAX_MANIFEST_LENGTH = 1_000_000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_COMPATIBLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,127}")
_MEND = "The publisher must publish it again."


def is_name(text: str) -> bool:
    """Whether `text` can name a channel or a component: `[a-z][a-z0-9_-]*`, at most 32 characters."""
    return _NAME.fullmatch(text) is not None


def is_compatible(text: str) -> bool:
    """Whether `text` can name a kind of machine: `[A-Za-z0-9][A-Za-z0-9 ._+-]*`, at most 128 characters."""
    return _COMPATIBLE.fullmatch(text) is not None


def release_target(version: str) -> str:
    """The TUF target path of a release manifest."""
    return f"releases/{version}.json"


def channel_target(channel: str) -> str:
    """The TUF target path of a channel manifest."""
    return f"channels/{channel}.json"


@dataclass(frozen=True, slots=True)
class Blob:
    """A content-addressed file `blobs/<sha256>` of `length` bytes."""

    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class PatchInfo:
    """A patch from the image whose SHA-256 is `base`: its table, its frames, and how the index differs, if it says."""

    base: str
    table: Blob
    blob: Blob
    index: Blob | None = None

    @property
    def parts(self) -> tuple[Blob, ...]:
        """All of its files."""
        return (self.table, self.blob) if self.index is None else (self.table, self.blob, self.index)


@dataclass(frozen=True, slots=True)
class Component:
    """One kind of content of a slot: its image's size in bytes and SHA-256, its chunk index, its blob, and patches."""

    size: int
    sha256: str
    index: Blob
    blob: Blob
    patches: tuple[PatchInfo, ...] = ()

    def patch_from(self, base: Component) -> PatchInfo | None:
        """The patch from the image of `base`, if there is one."""
        return next((patch for patch in self.patches if patch.base == base.sha256), None)


@dataclass(frozen=True, slots=True)
class Release:
    """A release manifest. `built` is in seconds since the epoch."""

    version: Version
    compatible: str
    built: int
    components: Mapping[str, Component]
    notes: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Release:
        """The manifest in `data`. Raises `UpdatedError` ("manifest-invalid")."""
        what = "the release manifest"
        document = load_object(data, what=what, code="manifest-invalid", mend=_MEND)

        def read() -> Release:
            _schema(document)
            components = document.object("components")
            release = cls(
                version=_version(document, "version"),
                compatible=document.text("compatible", most=128),
                built=document.time("built"),
                components={name: _component(components, name) for name in components.keys()},  # noqa: SIM118
                notes=document.text("notes", most=65536) if document.has("notes") else "",
            )
            if not release.components:
                raise Misfit("components is empty")
            if not is_compatible(release.compatible):
                raise Misfit("compatible is not a plain name")
            components.done()
            document.done()
            return release

        return parsed(read, what=what, code="manifest-invalid", mend=_MEND)

    def format(self) -> bytes:
        """The manifest as bytes; `parse` reads them back."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "version": self.version.text,
            "compatible": self.compatible,
            "built": format_time(self.built),
            "components": {name: _component_document(component) for name, component in self.components.items()},
        }
        if self.notes:
            document["notes"] = self.notes
        return dump(document)


def _schema(document: Object) -> None:
    schema = document.number("schema")
    if schema != SCHEMA:
        raise Misfit(f"schema is {schema}, and this program knows only {SCHEMA}")


def _version(document: Object, key: str) -> Version:
    text = document.text(key, most=64)
    try:
        return Version(text)
    except UpdatedError:
        raise Misfit(f"{document.name(key)} is not a version") from None


def _blob(document: Object) -> Blob:
    blob = Blob(document.digest("sha256"), document.number("length", most=2**44))
    document.done()
    return blob


def _component_document(component: Component) -> dict[str, Any]:
    document: dict[str, Any] = {
        "size": component.size,
        "sha256": component.sha256,
        "index": _blob_document(component.index),
        "blob": _blob_document(component.blob),
    }
    if component.patches:
        document["patches"] = [_patch_document(patch) for patch in component.patches]
    return document


def _blob_document(blob: Blob) -> dict[str, Any]:
    return {"sha256": blob.sha256, "length": blob.length}


def _patch_document(patch: PatchInfo) -> dict[str, Any]:
    document: dict[str, Any] = {
        "base": patch.base, "table": _blob_document(patch.table), "blob": _blob_document(patch.blob),
    }
    if patch.index is not None:
        document["index"] = _blob_document(patch.index)
    return document


def _patch(document: Object) -> PatchInfo:
    patch = PatchInfo(
        document.digest("base"), _blob(document.object("table")), _blob(document.object("blob")),
        _blob(document.object("index")) if document.has("index") else None,
    )
    document.done()
    return patch


def _component(components: Object, name: str) -> Component:
    if not is_name(name):
        raise Misfit(f"components.{name[:40]!r} is not a name")
    document = components.object(name)
    component = Component(
        size=document.number("size", least=1, most=2**44),
        sha256=document.digest("sha256"),
        index=_blob(document.object("index")),
        blob=_blob(document.object("blob")),
        patches=tuple(map(_patch, document.objects("patches"))) if document.has("patches") else (),
    )
    document.done()
    return component


@dataclass(frozen=True, slots=True)
class Recall:
    """A signed order to leave a release, with the reason for people.

    `replacement`: the older release of the channel that a node may go back to, if its operator allows that.
    """

    reason: str
    replacement: Version | None = None


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """One release in a channel. `manifest` is the SHA-256 of its release manifest.

    `barrier`: nodes below must pass through it. `deadend`: a reason why nothing newer can be reached from it.
    `minimum`: the lowest running version from which it may be reached. `urgent`: it is not to wait for windows.
    """

    version: Version
    manifest: str
    rollout: Rollout | None = None
    barrier: bool = False
    deadend: str | None = None
    recalled: Recall | None = None
    minimum: Version | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel manifest: its releases in ascending order of version."""

    name: str
    entries: tuple[ChannelEntry, ...] = field(default=())

    @classmethod
    def parse(cls, data: bytes) -> Channel:
        """The manifest in `data`. Raises `UpdatedError` ("manifest-invalid")."""
        what = "the channel manifest"
        document = load_object(data, what=what, code="manifest-invalid", mend=_MEND)

        def read() -> Channel:
            _schema(document)
            channel = cls(
                document.text("channel", most=32), tuple(_entry(entry) for entry in document.objects("releases"))
            )
            if not is_name(channel.name):
                raise Misfit("channel is not a name")
            versions = [entry.version for entry in channel.entries]
            if any(after <= before for before, after in itertools.pairwise(versions)):
                raise Misfit("releases is not in ascending order of version")
            for entry in channel.entries:
                replacement = entry.recalled.replacement if entry.recalled is not None else None
                if replacement is not None and (replacement not in versions or replacement >= entry.version):
                    raise Misfit(f"releases has {replacement} for {entry.version}, and no such older release")
            document.done()
            return channel

        return parsed(read, what=what, code="manifest-invalid", mend=_MEND)

    def format(self) -> bytes:
        """The manifest as bytes; `parse` reads them back."""
        return dump({
            "schema": SCHEMA, "channel": self.name, "releases": [_entry_document(entry) for entry in self.entries],
        })

    def with_entry(self, entry: ChannelEntry) -> Channel:
        """The channel with `entry` added, or in place of the one of the same version."""
        others = [other for other in self.entries if other.version != entry.version]
        return Channel(self.name, tuple(sorted([*others, entry], key=lambda each: each.version)))

    def entry(self, version: Version) -> ChannelEntry | None:
        """The entry of `version`."""
        return next((entry for entry in self.entries if entry.version == version), None)

    def standing(self, version: Version) -> Version:
        """The version that stands in for `version`: while that was recalled and has a replacement, its replacement."""
        for entry in reversed(self.entries):  # newest first: a replacement is older, so that this can't go in circles
            if entry.version == version and entry.recalled is not None and entry.recalled.replacement is not None:
                version = entry.recalled.replacement
        return version


def _entry(document: Object) -> ChannelEntry:
    rollout = recalled = None
    if document.has("rollout"):
        rollout = Rollout.read(document.object("rollout"))
    if document.has("recalled"):
        part = document.object("recalled")
        replacement = _version(part, "replacement") if part.has("replacement") else None
        recalled = Recall(part.line("reason", most=1000), replacement)
        part.done()
    entry = ChannelEntry(
        version=_version(document, "version"),
        manifest=document.digest("manifest"),
        rollout=rollout,
        barrier=document.flag("barrier") if document.has("barrier") else False,
        deadend=document.line("deadend", most=1000) if document.has("deadend") else None,
        recalled=recalled,
        minimum=_version(document, "minimum") if document.has("minimum") else None,
        urgent=document.flag("urgent") if document.has("urgent") else False,
    )
    document.done()
    return entry


def _entry_document(entry: ChannelEntry) -> dict[str, Any]:
    document: dict[str, Any] = {"version": entry.version.text, "manifest": entry.manifest}
    if entry.rollout is not None:
        document["rollout"] = entry.rollout.document()
    if entry.barrier:
        document["barrier"] = True
    if entry.deadend is not None:
        document["deadend"] = entry.deadend
    if entry.recalled is not None:
        document["recalled"] = {"reason": entry.recalled.reason}
        if entry.recalled.replacement is not None:
            document["recalled"]["replacement"] = entry.recalled.replacement.text
    if entry.minimum is not None:
        document["minimum"] = entry.minimum.text
    if entry.urgent:  # nodes that do not know the key refuse the channel: it is there for need alone
        document["urgent"] = True
    return document
