"""Floors: what this node has trusted, below which it never goes back.

The metadata cache of the TUF library protects from rollback only while it is whole, and a power cut or a damaged disk
can empty it; so the versions that were trusted are kept once more, in a record of our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from updated.core.document import Misfit, Object, format_time
from updated.core.errors import UpdatedError

SCHEMA = 1
TOP_ROLES = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class Floors:
    """The lowest acceptable values.

    `versions`: of each role's metadata. `keys`: the key ids that the trusted root gave to each top-level role. `time`:
    the last trusted time, in seconds since the epoch. `release`: the version of the lowest release to install.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, Set[str]] = field(default_factory=dict)
    time: int = 0
    release: str | None = None

    @classmethod
    def parse(cls, document: Object) -> Floors:
        """The floors in `document`. Raises `Misfit`."""
        schema = document.number("schema")
        if schema != SCHEMA:
            raise Misfit(f"schema is {schema}, and this program knows only {SCHEMA}")
        versions, keys = document.object("versions"), document.object("keys")
        floors = cls(
            versions={role: versions.number(role) for role in versions.keys()},  # noqa: SIM118
            keys={role: frozenset(keys.object(role).keys()) for role in keys.keys()},  # noqa: SIM118
            time=document.time("time"),
            release=document.text("release", most=64) if document.has("release") else None,
        )
        document.done()
        return floors

    def format(self) -> dict[str, Any]:
        """The floors as a record; `parse` reads it back."""
        return {
            "schema": SCHEMA,
            "versions": dict(self.versions),
            "keys": {role: dict.fromkeys(sorted(ids), True) for role, ids in self.keys.items()},
            "time": format_time(self.time),
            "release": self.release,
        }

    def rotated(self, keys: Mapping[str, Set[str]]) -> set[str]:
        """The top-level roles of which a key that was trusted is no longer so, under the new root's `keys`."""
        return {role for role in TOP_ROLES if self.keys.get(role, frozenset()) - keys[role]}

    def recovered(self, keys: Mapping[str, Set[str]]) -> Floors:
        """The floors that remain under a new root's `keys` (TUF specification, 5.3.11).

        Who stole a key may have signed a huge version with it; after the rotation, honest versions must count again.
        The snapshot is what remembers the versions of all targets roles, so those are forgotten with it.
        """
        rotated = self.rotated(keys)
        if rotated & {"timestamp", "snapshot"}:
            return replace(self, versions={"root": self.versions["root"]} if "root" in self.versions else {})
        if "targets" in rotated:
            return replace(self, versions={role: n for role, n in self.versions.items() if role != "targets"})
        return self

    def raised(
        self, versions: Mapping[str, int], *, delegated: Set[str], keys: Mapping[str, Set[str]], time: int
    ) -> Floors:
        """The floors after verified metadata of these `versions`.

        `delegated` are the roles that the top-level targets delegate to now; no other delegated role keeps a floor.
        Raises `UpdatedError` ("metadata-rolled-back") when a version is below its floor, or a role has vanished.
        """
        raised: dict[str, int] = {}
        for role in sorted({*TOP_ROLES, *delegated}):
            floor, version = self.versions.get(role, 0), versions.get(role, 0)
            if version < floor:
                found = f"has version {version}" if version else "is no longer listed"
                raise rolled_back(f"the metadata of the role {role!r}", f"{found}, and version {floor} was trusted")
            if version:
                raised[role] = version
        return replace(self, versions=raised, keys=dict(keys), time=max(self.time, time))


def rolled_back(what: str, cause: str) -> UpdatedError:
    """The error for signed metadata that is older than what was trusted before."""
    return UpdatedError(
        "metadata-rolled-back", what, cause,
        "A mirror may be stale, or someone replays old metadata: compare it with the publisher's own copy.",
    )
