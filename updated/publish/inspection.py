"""Looking at a repository: what it ships and how long its signatures last; and whether all of it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.release import ChannelEntry, Component
from updated.publish import blob
from updated.publish.repository import Repository

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


def _share(entry: ChannelEntry, now: float) -> float:
    """The share of the nodes, 0 to 1, that may take the release."""
    rollout = entry.rollout
    if rollout is None or now >= rollout.start + rollout.seconds:
        return 1.0
    return max(0.0, (now - rollout.start) / rollout.seconds)


def _shipping(entry: ChannelEntry, now: float) -> str:
    if entry.recalled is not None:
        return f"recalled: {entry.recalled.reason}"
    parts = [f"{_share(entry, now):.0%} of the nodes"]
    if entry.rollout is not None and _share(entry, now) < 1:
        parts.append(f"all of them from {format_time(entry.rollout.start + entry.rollout.seconds)}")
    if entry.minimum is not None:
        parts.append(f"from version {entry.minimum} on")
    if entry.barrier:
        parts.append("a barrier")
    if entry.deadend is not None:
        parts.append(f"a dead end: {entry.deadend}")
    return ", ".join(parts)


def _entry_document(entry: ChannelEntry, now: float) -> dict[str, Any]:
    return {
        "version": entry.version.text,
        "share": 0.0 if entry.recalled is not None else round(_share(entry, now), 4),
        "recalled": entry.recalled.reason if entry.recalled is not None else None,
        "barrier": entry.barrier,
        "deadend": entry.deadend,
        "minimum": entry.minimum.text if entry.minimum is not None else None,
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

    Raises `UpdatedError` for the first fault: "metadata-expired", "wrong-digest", "index-invalid", "manifest-invalid",
    "bad-repository".
    """
    overview = Overview.of(repository)
    for role in overview.roles:
        if role.days_left(now) <= 0:
            raise UpdatedError(
                "metadata-expired", f"the metadata of {role.name}", f"expired on {format_time(role.expires)}",
                "Renew it with `releasectl refresh`, where its keys are.",
            )  # fmt: skip
    components: dict[str, Component] = {}
    manifests = {}
    for version in overview.releases:
        release, manifests[version] = repository.release(version)
        if release.version.text != version:
            raise UpdatedError(
                "manifest-invalid", f"the manifest of release {version}", f"says that it is {release.version}",
                "Publish that release again under a new version.",
            )  # fmt: skip
        components |= {component.index.sha256: component for component in release.components.values()}
    for name, entries in overview.channels.items():
        for entry in entries:
            if manifests.get(entry.version.text) != entry.manifest:
                raise UpdatedError(
                    "wrong-digest", f"release {entry.version} in channel {name}", "is not the one that was published",
                    "Promote the published release again.",
                )  # fmt: skip
    for component in components.values():
        told(f"image {component.sha256[:12]}")
        _verify_component(repository, component)
    stored = sum(component.index.length + component.blob.length for component in components.values())
    return Verdict(len(overview.roles), len(overview.releases), len(components), stored)


def _verify_component(repository: Repository, component: Component) -> None:
    index = repository.read("blobs", component.index.sha256)
    path = repository.file("blobs", component.blob.sha256)
    if not os.path.isfile(path):
        raise UpdatedError("bad-repository", path, "is missing", "Restore the repository from a copy.")
    with open(path, "rb") as file:
        blob.check(component, index, file)
