"""A TUF repository as files: read and checked from the root down, changed so that every reader sees old or new.

Layout: `metadata/` and `targets/` as in the TUF specification with consistent snapshots, `blobs/<SHA-256>` for chunk
indexes, blobs and patches. The top `targets` role delegates `releases/*` to the role `releases`, and
`channels/<name>.json` to a role of the channel's name. How many days a role's signature lasts stands in its signed
metadata, as `x-updated-lifetime-days`.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.release import Channel, Release, channel_target, release_target
from updated.publish.keys import KeyFolder

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
TOP_ROLES: Final = ("root", "targets", "snapshot", "timestamp")
RELEASES: Final = "releases"
UNFINISHED: Final = ".unfinished-"
"""How the names of files begin that are not whole yet."""
LIFETIME: Final = "x-updated-lifetime-days"
_RESTORE: Final = "Restore the repository from a copy."


def key_names(role: str, count: int) -> list[str]:
    """The names of the key files of `role`, which has `count` keys."""
    return [role] if role != "root" else [f"root-{number}" for number in range(1, count + 1)]


def expiry(now: float, days: int) -> datetime:
    """`days` after `now`, as metadata states it."""
    return datetime.fromtimestamp(int(now), UTC) + timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Roles:
    """The signed metadata of one state of the repository; `delegated` holds `releases` and the channels."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    delegated: dict[str, Metadata[Targets]]

    def all(self) -> dict[str, Metadata[Any]]:
        """Every role by name."""
        top: dict[str, Metadata[Any]] = {
            "root": self.root, "targets": self.targets, "snapshot": self.snapshot, "timestamp": self.timestamp,
        }  # fmt: skip
        return top | self.delegated

    def delegator(self, role: str) -> Root | Targets:
        """The role that says which keys sign `role`."""
        return self.root.signed if role in TOP_ROLES else self.targets.signed

    def keyids(self, role: str) -> list[str]:
        """The identifiers of the keys that may sign `role`."""
        return list(self.delegator(role).get_delegated_role(role).keyids)

    def threshold(self, role: str) -> int:
        """How many keys have to sign `role`."""
        return self.delegator(role).get_delegated_role(role).threshold


class Repository:
    """The repository in the folder `path`, as its timestamp says; reading checks every signature and digest.

    Expiry is not checked here: a publisher must be able to renew what has expired. Raises `UpdatedError`
    ("bad-repository", "metadata-invalid", "wrong-digest").
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.roles = self._load()

    def file(self, *parts: str) -> str:
        """The path of a file in the repository."""
        return os.path.join(self.path, *parts)

    @property
    def channels(self) -> list[str]:
        """The names of the channels, in the order of the delegations."""
        return [name for name in self.roles.delegated if name != RELEASES]

    @property
    def versions(self) -> list[str]:
        """The versions of all releases, as they were written."""
        return [path[len("releases/") : -len(".json")] for path in self.roles.delegated[RELEASES].signed.targets]

    def release(self, version: str) -> tuple[Release, str]:
        """The manifest of a release, and its SHA-256."""
        data, digest = self._target(RELEASES, release_target(version))
        return Release.parse(data), digest

    def channel(self, name: str) -> Channel:
        """The manifest of a channel. Raises `UpdatedError` ("unknown-channel", ...)."""
        if name not in self.channels:
            raise UpdatedError(
                "unknown-channel", f"the channel {name!r}", f"the repository has only {', '.join(self.channels)}",
                "Name one of these.",
            )  # fmt: skip
        return Channel.parse(self._target(name, channel_target(name))[0])

    def sweep(self) -> None:
        """Removes what publishers that were killed left half written. Raises OSError."""
        for folder in ("blobs", "metadata", "targets/*"):
            for name in (f"{UNFINISHED}*", ".*.tmp"):
                for path in glob.glob(os.path.join(glob.escape(self.path), folder, name)):
                    os.unlink(path)

    def read(self, *parts: str) -> bytes:
        """The bytes of a file in the repository."""
        try:
            with open(self.file(*parts), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise UpdatedError("bad-repository", self.file(*parts), "is missing", _RESTORE) from None

    def _target(self, role: str, path: str) -> tuple[bytes, str]:
        info = self.roles.delegated[role].signed.targets.get(path)
        if info is None or "sha256" not in info.hashes:
            raise UpdatedError("bad-repository", f"the target {path}", f"is not listed by {role}", _RESTORE)
        digest = info.hashes["sha256"]
        data = self.read("targets", *target_file(path, digest).split("/"))
        if len(data) != info.length or hashlib.sha256(data).hexdigest() != digest:
            raise UpdatedError("wrong-digest", f"the target {path}", "is not as its role signed it", _RESTORE)
        return data, digest

    def _load(self) -> Roles:
        if not os.path.isfile(self.file("metadata", "1.root.json")):
            raise UpdatedError(
                "bad-repository", f"the folder {self.path}", "is not a repository",
                "Name another one, or make it with `releasectl init`.",
            )  # fmt: skip
        root = self._root()
        timestamp = self._metadata("timestamp.json", Timestamp)
        _verify(root.signed, "timestamp", timestamp)
        meta = timestamp.signed.snapshot_meta
        snapshot = self._metadata(f"{meta.version}.snapshot.json", Snapshot, meta)
        _verify(root.signed, "snapshot", snapshot)
        targets = self._listed(snapshot.signed, "targets")
        _verify(root.signed, "targets", targets)
        delegations = targets.signed.delegations
        delegated = {}
        for name in (delegations.roles or {}) if delegations else {}:
            delegated[name] = self._listed(snapshot.signed, name)
            _verify(targets.signed, name, delegated[name])
        if RELEASES not in delegated:
            raise UpdatedError("bad-repository", f"the repository {self.path}", f"has no role {RELEASES}", _RESTORE)
        return Roles(root, timestamp, snapshot, targets, delegated)

    def _root(self) -> Metadata[Root]:
        root = self._metadata("1.root.json", Root)
        _verify(root.signed, "root", root)
        while os.path.exists(self.file("metadata", f"{root.signed.version + 1}.root.json")):
            following = self._metadata(f"{root.signed.version + 1}.root.json", Root)
            _verify(root.signed, "root", following)
            _verify(following.signed, "root", following)
            if following.signed.version != root.signed.version + 1:
                raise _invalid("root", f"version {following.signed.version} follows version {root.signed.version}")
            root = following
        return root

    def _listed(self, snapshot: Snapshot, role: str) -> Metadata[Targets]:
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise _invalid(role, "the snapshot does not list it")
        return self._metadata(f"{meta.version}.{role}.json", Targets, meta)

    def _metadata(self, name: str, kind: type[S], meta: MetaFile | None = None) -> Metadata[S]:
        data = self.read("metadata", name)
        try:
            if meta is not None:
                meta.verify_length_and_hashes(data)
            metadata = Metadata[S].from_bytes(data)
        except (DeserializationError, RepositoryError) as error:
            raise _invalid(name, str(error)) from None
        if not isinstance(metadata.signed, kind):
            raise _invalid(name, "is of another type")
        if meta is not None and metadata.signed.version != meta.version:
            raise _invalid(name, f"says that it is version {metadata.signed.version}")
        return metadata


def target_file(path: str, digest: str) -> str:
    """Where a target lies below `targets/` with consistent snapshots: its name has the digest in front."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{digest}.{name}"


def _verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise _invalid(role, str(error)) from None


def _invalid(role: str, cause: str) -> UpdatedError:
    return UpdatedError("metadata-invalid", f"the metadata of {role}", cause, _RESTORE)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keeps other processes from changing the repository. Raises `UpdatedError` ("already-running")."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UpdatedError(
            "bad-repository", f"the folder {path}", "does not exist", "Make it with `releasectl init`."
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpdatedError(
                "already-running", f"the repository {path}", "another releasectl is changing it",
                "Run this again when that is done.",
            ) from None  # fmt: skip
        yield
    finally:
        os.close(fd)


class Publication:
    """One change: metadata and targets are gathered in memory, and appear at once when the timestamp is written.

    The keys of `roles`, of the snapshot and of the timestamp must be there. Raises `UpdatedError` ("bad-key").
    """

    def __init__(self, path: str, roles: Roles, keys: KeyFolder, now: float, changes: tuple[str, ...] = ()) -> None:
        self._path = path
        self._roles = roles
        self._now = now
        self._files: list[tuple[str, bytes]] = []
        self._signers = {role: required_signers(roles, role, keys) for role in (*changes, "snapshot", "timestamp")}

    def put(self, role: str, path: str, data: bytes) -> None:
        """Gives the target `path` of `role` the content `data`."""
        info = TargetFile.from_data(path, data, ["sha256"])
        self._roles.delegated[role].signed.targets[path] = info
        self._files.append((f"targets/{target_file(path, info.hashes['sha256'])}", data))

    def sign(self, role: str, *, first: bool = False) -> None:
        """Signs a new version of `role`; the first version stays 1."""
        metadata = self._roles.all()[role]
        signed: Signed = metadata.signed
        if not first:
            signed.version += 1
        signed.expires = expiry(self._now, signed.unrecognized_fields[LIFETIME])
        metadata.signatures.clear()
        for signer in self._signers[role]:
            metadata.sign(signer, append=True)
        _verify(self._roles.delegator(role), role, metadata)
        data = metadata.to_bytes()
        meta = MetaFile.from_data(signed.version, data, ["sha256"])
        if role == "timestamp":
            self._files.append(("metadata/timestamp.json", data))
            return
        self._files.append((f"metadata/{signed.version}.{role}.json", data))
        if role == "snapshot":
            self._roles.timestamp.signed.snapshot_meta = meta
        elif role != "root":
            self._roles.snapshot.signed.meta[f"{role}.json"] = meta

    def commit(self, *, first: bool = False) -> None:
        """Signs snapshot and timestamp and writes all files, the timestamp last. Raises OSError."""
        self.sign("snapshot", first=first)
        self.sign("timestamp", first=first)
        for name, data in self._files:
            path = os.path.join(self._path, *name.split("/"))
            durable.write_file(path, data)


def required_signers(roles: Roles, role: str, keys: KeyFolder) -> list[CryptoSigner]:
    """The signers of `role`, at least as many as it needs. Raises `UpdatedError` ("bad-key")."""
    signers = available_signers(roles, role, keys)
    missing = roles.threshold(role) - len(signers)
    if missing > 0:
        names = key_names(role, len(roles.keyids(role)))
        absent = [keys.file(name) for name in names if not os.path.lexists(keys.file(name))]
        raise UpdatedError(
            "bad-key", f"the role {role}", f"{missing} more of its keys {'is' if missing == 1 else 'are'} needed, and "
            f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there",
            "Name the folder with these keys, or run this where they are.",
        )  # fmt: skip
    return signers


def available_signers(roles: Roles, role: str, keys: KeyFolder) -> list[CryptoSigner]:
    """The signers of `role` whose keys are there. Raises `UpdatedError` ("bad-key") for keys that don't fit."""
    keyids = roles.keyids(role)
    found = (keys.signer(name, keyids) for name in key_names(role, len(keyids)))
    return list({signer.public_key.keyid: signer for signer in found if signer is not None}.values())
