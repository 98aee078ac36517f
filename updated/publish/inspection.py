"""Looking at a repository: what it ships and how long its signatures last; and whether all of it is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.index import IndexRoot
from updated.core.release import Blob, ChannelEntry, Component, PatchInfo
from updated.publish import blob
from updated.publish.known import MEND
from updated.publish.repository import Repository
from updated.publish.waves import described
from updated.stored import StoredIndex, parse_table

SCHEMA = 1
_DAY = 86400


@dataclass(frozen=True, slots=True)
class RoleState:
    """The signature of one role. `expires` is in seconds since the epoch."""

    name: str
    version: int
    expires: int

    def days_left(self, now: float) -> float:
        """Days until the expiry, less than 0 when it is over."""
        return (self.expires - now) / _DAY


@dataclass(frozen=True, slots=True)
class Overview:
    """What a repository holds: its releases, what each channel ships (oldest first), and its roles."""

    releases: tuple[str, ...]
    channels: dict[str, tuple[ChannelEntry, ...]]
    roles: tuple[RoleState, ...]

    @classmethod
    def of(cls, repository: Repository) -> Overview:
        """The overview of a repository. Raises `UpdatedError`."""
        return cls(
            releases=tuple(sorted(repository.versions, key=lambda text: repository.release(text)[0].version)),
            channels={name: repository.channel(name).entries for name in repository.channels},
            roles=tuple(
                RoleState(name, metadata.signed.version, int(metadata.signed.expires.timestamp()))
                for name, metadata in repository.roles.all().items()
            ),
        )

    def to_json(self, now: float) -> dict[str, Any]:
        """The form that `releasectl status --json` prints."""
        return {
            "schema": SCHEMA,
            "releases": list(self.releases),
            "channels": {
                name: [_entry_document(entry, now) for entry in entries] for name, entries in self.channels.items()
            },
            "roles": [
                {
                    "name": role.name, "version": role.version, "expires": format_time(role.expires),
                    "days_left": round(role.days_left(now), 1),
                }
                for role in self.roles
            ],
        }  # fmt: skip

    def lines(self, now: float) -> list[str]:
        """The form for people."""
        lines = []
        for name, entries in self.channels.items():
            lines.append(f"channel {name}" if entries else f"channel {name}: no release")
            lines += [f"  {entry.version.text:<16} {_shipping(entry, now)}" for entry in reversed(entries)]
        shipped = {entry.version.text for entries in self.channels.values() for entry in entries}
        waiting = [version for version in self.releases if version not in shipped]
        if waiting:
            lines.append(f"in no channel: {', '.join(waiting)}")
        lines.append("signatures")
        lines += [f"  {role.name:<16} version {role.version:<4} {_validity(role, now)}" for role in self.roles]
        return lines


def _shipping(entry: ChannelEntry, now: float) -> str:
    if entry.recalled is not None:
        replaced = f"; {entry.recalled.replacement} replaces it" if entry.recalled.replacement is not None else ""
        return f"recalled: {entry.recalled.reason}{replaced}"
    parts = [described(entry.rollout, int(now)), *(["urgent"] if entry.urgent else [])]
    if entry.minimum is not None:
        parts.append(f"from version {entry.minimum} on")
    if entry.barrier:
        parts.append("a barrier")
    if entry.deadend is not None:
        parts.append(f"a dead end: {entry.deadend}")
    return ", ".join(parts)


def _entry_document(entry: ChannelEntry, now: float) -> dict[str, Any]:
    recall, rollout = entry.recalled, entry.rollout
    share = 1.0 if rollout is None else float(rollout.share(int(now)))
    ahead = rollout.next_point(int(now)) if rollout is not None and recall is None else None
    return {
        "version": entry.version.text,
        "share": 0.0 if recall is not None else round(share, 4),
        "next": {"share": ahead[1], "at": format_time(ahead[0])} if ahead is not None else None,
        "paused": rollout is not None and rollout.paused is not None,
        "recalled": recall.reason if recall is not None else None,
        "replacement": recall.replacement.text if recall is not None and recall.replacement is not None else None,
        "barrier": entry.barrier,
        "deadend": entry.deadend,
        "minimum": entry.minimum.text if entry.minimum is not None else None,
        "urgent": entry.urgent,
    }


def _validity(role: RoleState, now: float) -> str:
    left = role.days_left(now)
    if left <= 0:
        return f"EXPIRED on {format_time(role.expires)}"
    return f"expires {format_time(role.expires)}, in {left:.0f} days"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` has read and found right."""

    roles: int
    releases: int
    blobs: int
    stored_bytes: int


def verify(repository: Repository, *, now: float, told: Callable[[str], None] = lambda what: None) -> Verdict:
    """Reads all of a repository as nodes will: signatures (by loading it), expiry, manifests, indexes, every frame.

    Raises `UpdatedError` for the first fault: "metadata-expired", "wrong-digest", "index-invalid", "patch-invalid",
    "manifest-invalid", "bad-repository".
    """
    overview = Overview.of(repository)
    for role in overview.roles:
        if role.days_left(now) <= 0:
            raise UpdatedError(
                "metadata-expired", f"the metadata of {role.name}", f"expired on {format_time(role.expires)}",
                "Renew it with `releasectl refresh`, where its keys are.",
            )  # fmt: skip
    components: dict[str, Component] = {}
    owners: dict[str, str] = {}
    patches: dict[str, set[PatchInfo]] = {}
    manifests = {}
    for version in overview.releases:
        release, manifests[version] = repository.release(version)
        if release.version.text != version:
            raise UpdatedError(
                "manifest-invalid", f"the manifest of release {version}", f"says that it is {release.version}",
                "Publish that release again under a new version.",
            )  # fmt: skip
        for part, component in release.components.items():
            components[component.index.sha256] = component
            owners.setdefault(component.index.sha256, f"release {version}, {part}")
            patches.setdefault(component.index.sha256, set()).update(component.patches)
    for name, entries in overview.channels.items():
        for entry in entries:
            if manifests.get(entry.version.text) != entry.manifest:
                raise UpdatedError(
                    "wrong-digest", f"release {entry.version} in channel {name}", "is not the one that was published",
                    "Promote the published release again.",
                )  # fmt: skip
    stored: set[Blob] = set()
    for name, component in components.items():
        told(f"image {component.sha256[:12]}")
        try:
            root = _verify_image(repository, component, stored)
            for patch in patches[name]:
                _verify_patch(repository, patch, root, stored)
        except UpdatedError as error:
            raise UpdatedError(error.code, f"{owners[name]}: {error.what}", error.cause, error.mend) from None
    return Verdict(
        len(overview.roles), len(overview.releases), len(components), sum(part.length for part in stored)
    )


def _verify_image(repository: Repository, component: Component, stored: set[Blob]) -> IndexRoot:
    """Reads index and blob of a component, and adds them to `stored`; the root of its index."""
    data = repository.read("blobs", component.index.sha256)
    found = Blob(hashlib.sha256(data).hexdigest(), len(data))
    blob.expect(f"the chunk index {_name(component.index)}", found, component.index)
    root = IndexRoot.parse(data)
    pages = Blob(root.pages_sha256, root.pages_length)
    _verify_file(repository, "the pages of the chunk index", pages)
    index = StoredIndex(root, repository.file("blobs", pages.sha256))
    with open(_present(repository, component.blob.sha256), "rb") as file:
        try:
            blob.check(component, data, index, file)
        except UpdatedError as error:
            what = f"{_name(component.blob)}, {error.what}"
            raise UpdatedError(error.code, what, error.cause, error.mend) from None
    stored |= {component.index, pages, component.blob}
    return root


def _verify_patch(repository: Repository, patch: PatchInfo, root: IndexRoot, stored: set[Blob]) -> None:
    """Reads the files of a patch to the image of `root`, and adds them to `stored`."""
    _verify_file(repository, "the table of a patch", patch.table)
    _verify_file(repository, "a patch", patch.blob)
    table = parse_table(repository.read("blobs", patch.table.sha256), root.chunk_count)
    if table.length != patch.blob.length:
        raise UpdatedError(
            "patch-invalid", "the table of a patch", f"lists {table.length} bytes of {patch.blob.length}",
            "Publish that release again under a new version.",
        )  # fmt: skip
    stored |= {patch.table, patch.blob}
    if patch.index is not None:
        _verify_file(repository, "the index of a patch", patch.index)
        stored.add(patch.index)


def _name(part: Blob) -> str:
    """The name of its file in the repository."""
    return f"blobs/{part.sha256}"


def _verify_file(repository: Repository, what: str, part: Blob) -> None:
    with open(_present(repository, part.sha256), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        blob.expect(f"{what} {_name(part)}", Blob(digest, file.tell()), part)


def _present(repository: Repository, name: str) -> str:
    path = repository.file("blobs", name)
    if not os.path.isfile(path):
        raise UpdatedError("bad-repository", path, "is missing", MEND)
    return path
