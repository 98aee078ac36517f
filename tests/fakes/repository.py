"""A publisher in memory: signs a repository of the real layout, and can be as wrong as a test needs it.

    repository = RepositorySimulator(directory, now=NOW)
    repository.set_target("channels/stable.json", b"...")
    repository.publish()
    Trust(DirectorySource(directory), store, repository.root_of_trust, Clock(NOW, NOW))

Nothing is written before `publish`. To be wrong, set `versions` or `expiries` before `publish`, put an older state back
with `saved` and `restore`, or change files below `directory` by hand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

DAY = 86400
CHANNELS = ("stable", "beta", "alpha")
TOP_ROLES = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True)
class Branch:
    """A delegation to `role`; `keys` are those that the delegator trusts, or None for the keys that the role has."""

    role: str
    paths: Sequence[str]
    terminating: bool = True
    keys: Sequence[CryptoSigner] | None = None


class RepositorySimulator:
    """Signs with Ed25519 keys that it makes itself: root 2 of 3, and one key for each other role.

    Attributes, all of which a test may change before `publish`: `versions` and `expiries` (seconds since the epoch) by
    role; `keys` by role, of any kind; `thresholds` where they are not one; `contents`, the targets by role and path;
    `delegated`, the roles that targets delegates to, in order, with their path patterns; `consistent`, whether file
    names have versions and digests in them. `root_of_trust`: the first root metadata, to be pinned.
    """

    def __init__(self, directory: str | os.PathLike[str], *, now: float, channels: Iterable[str] = CHANNELS) -> None:
        self.directory = os.fspath(directory)
        self.delegated = {"releases": ["releases/*"]} | {name: [f"channels/{name}.json"] for name in channels}
        roles = (*TOP_ROLES, *self.delegated)
        self.versions = dict.fromkeys(roles, 0)
        self.expiries = {role: int(now) + (365 if role == "root" else 30) * DAY for role in roles}
        self.keys = {role: [CryptoSigner.generate_ed25519()] for role in roles}
        self.keys["root"] += [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()]
        self.contents: dict[str, dict[str, bytes]] = {role: {} for role in ("targets", *self.delegated)}
        self.thresholds = {"root": 2}
        self.consistent = True
        self.root_of_trust = b""
        self._branches: dict[str, list[Branch]] = {}
        self._published: dict[str, bytes] = {}
        self._dirty = set(roles)
        self._former_root_keys: list[CryptoSigner] = []

    def set_target(self, path: str, data: bytes) -> None:
        """Adds or replaces a target, in the role that the layout says."""
        role = self.role_of(path)
        self.contents[role][path] = data
        self._dirty.add(role)

    def remove_target(self, path: str) -> None:
        """Takes a target out of the metadata."""
        role = self.role_of(path)
        del self.contents[role][path]
        self._dirty.add(role)

    def sign_target(self, role: str, path: str, data: bytes) -> None:
        """Adds or replaces a target in `role`, whether or not anybody delegates it to that role."""
        self.contents[role][path] = data
        self._dirty.add(role)

    def delegate(
        self,
        delegator: str,
        role: str,
        paths: Sequence[str],
        *,
        terminating: bool = False,
        keys: Sequence[CryptoSigner] | None = None,
    ) -> None:
        """Makes `delegator` delegate `paths` to `role`, after all that it delegates already; see `Branch`."""
        if role not in self.contents:
            self.contents[role] = {}
            self.versions[role] = 0
            self.expiries[role] = self.expiries[delegator]
            self.keys[role] = [CryptoSigner.generate_ed25519()]
        self._branches.setdefault(delegator, []).append(Branch(role, paths, terminating, keys))
        self._dirty |= {delegator, role}

    def add_blob(self, data: bytes) -> str:
        """Stores `data` under `blobs/`, at once, and returns its SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        self._write(f"blobs/{digest}", data)
        return digest

    def set_expiry(self, role: str, seconds: int) -> None:
        """The next metadata of `role` expires at `seconds` since the epoch."""
        self.expiries[role] = seconds
        self._dirty.add(role)

    def rotate_key(self, role: str) -> None:
        """Gives `role` a new key; for root, replaces the first of the three."""
        if role == "root":
            self._former_root_keys = [*self.keys["root"]]
            self.keys["root"] = [*self.keys["root"][1:], CryptoSigner.generate_ed25519()]
        else:
            self.keys[role] = [CryptoSigner.generate_ed25519()]
        self._dirty |= {role, "targets" if role in self.delegated else "root"}

    def undelegate(self, role: str) -> None:
        """Takes a delegated role out of targets and snapshot."""
        del self.delegated[role], self.contents[role], self._published[role]
        self._dirty = (self._dirty | {"targets"}) - {role}

    def publish(self) -> None:
        """Signs and writes a new version of what changed, and always a new snapshot and timestamp."""
        for role in ("root", *self.contents):
            if role in self._dirty:
                self.versions[role] += 1
                self._sign(role, self._root() if role == "root" else self._targets(role))
        self.versions["snapshot"] += 1
        self._sign("snapshot", self._snapshot())
        self.versions["timestamp"] += 1
        self._sign("timestamp", self._timestamp())
        for role, targets in self.contents.items():
            for path, data in targets.items():
                self._write(self.target_name(role, path), data)
        self._dirty.clear()
        self._former_root_keys = []

    def saved(self) -> dict[str, bytes]:
        """All metadata files as they are on the disk now, by name."""
        folder = os.path.join(self.directory, "metadata")
        found = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = file.read()
        return found

    def restore(self, saved: dict[str, bytes]) -> None:
        """Makes the metadata folder what it was; the simulator itself forgets nothing."""
        shutil.rmtree(os.path.join(self.directory, "metadata"))
        for name, data in saved.items():
            self._write(f"metadata/{name}", data)

    def role_of(self, path: str) -> str:
        """The role that signs the target `path`."""
        folder, _, name = path.partition("/")
        role = {"releases": "releases", "channels": name.removesuffix(".json")}.get(folder, "targets")
        return role if role in self.contents else "targets"

    def target_name(self, role: str, path: str) -> str:
        """The name of the target's file in the repository."""
        if not self.consistent:
            return f"targets/{path}"
        folder, slash, name = path.rpartition("/")
        return f"targets/{folder}{slash}{hashlib.sha256(self.contents[role][path]).hexdigest()}.{name}"

    def metadata_name(self, role: str) -> str:
        """The name of the newest metadata file of `role` in the repository, in which that of the role is quoted."""
        versioned = role == "root" or (self.consistent and role != "timestamp")
        return f"metadata/{f'{self.versions[role]}.' if versioned else ''}{quote(role, '')}.json"

    def sign(self, role: str, signed: Signed) -> bytes:
        """`signed` as metadata with the signatures of the keys of `role`."""
        metadata: Metadata[Any] = Metadata(signed)
        keys = self.keys[role] if role != "root" else {id(key): key for key in self._root_signers()}.values()
        for key in keys:
            metadata.sign(key, append=True)
        return metadata.to_bytes()

    def _root_signers(self) -> list[CryptoSigner]:
        return [*self.keys["root"], *self._former_root_keys]

    def _sign(self, role: str, signed: Signed) -> None:
        data = self.sign(role, signed)
        if role == "root" and not self.root_of_trust:
            self.root_of_trust = data
        self._published[role] = data
        self._write(self.metadata_name(role), data)

    def _common(self, role: str) -> dict[str, Any]:
        return {"version": self.versions[role], "expires": datetime.fromtimestamp(self.expiries[role], UTC)}

    def _root(self) -> Root:
        root = Root(**self._common("root"), consistent_snapshot=self.consistent)
        for role in TOP_ROLES:
            for key in self.keys[role]:
                root.add_key(key.public_key, role)
            root.roles[role].threshold = self.thresholds.get(role, 1)
        return root

    def _targets(self, role: str) -> Targets:
        files = {}
        for path, data in self.contents[role].items():
            files[path] = TargetFile(len(data), {"sha256": hashlib.sha256(data).hexdigest()}, path)
        branches = [*self._branches.get(role, ())]
        if role == "targets":
            branches = [*(Branch(name, paths) for name, paths in self.delegated.items()), *branches]
        roles = {
            branch.role: DelegatedRole(
                branch.role, [], self.thresholds.get(branch.role, 1), branch.terminating, [*branch.paths]
            )
            for branch in branches
        }
        delegations = Delegations({}, roles) if roles else None
        targets = Targets(**self._common(role), targets=files, delegations=delegations)
        for branch in branches:
            for key in self.keys[branch.role] if branch.keys is None else branch.keys:
                targets.add_key(key.public_key, branch.role)
        return targets

    def _snapshot(self) -> Snapshot:
        return Snapshot(**self._common("snapshot"), meta={f"{role}.json": self._meta(role) for role in self.contents})

    def _timestamp(self) -> Timestamp:
        return Timestamp(**self._common("timestamp"), snapshot_meta=self._meta("snapshot"))

    def _meta(self, role: str) -> MetaFile:
        data = self._published[role]
        return MetaFile(self.versions[role], len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
