"""A TUF repository as files: read and checked from the root down, changed so that every reader sees old or new.

Layout: `metadata/` and `targets/` as in the TUF specification with consistent snapshots, `blobs/<SHA-256>` for chunk
indexes, blobs and patches. The top `targets` role delegates `releases/*` to the role `releases`, and
`channels/<name>.json` to a role of the channel's name. How many days a role's signature lasts stands in its signed
metadata, as `x-updated-lifetime-days`.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from updated.core.errors import UpdatedError
from updated.core.release import Channel, Release, channel_target, release_target

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
TOP_ROLES: Final = ("root", "targets", "snapshot", "timestamp")
RELEASES: Final = "releases"
UNFINISHED: Final = ".unfinished-"
"""How the names of files begin that are not whole yet."""
LIFETIME: Final = "x-updated-lifetime-days"
STAGED: Final = f"{UNFINISHED}timestamp.json"
"""A timestamp that only the newest root makes valid, while it waits for that root to be there."""
_RESTORE: Final = "Restore the repository from a copy."


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

    Attributes: `request`, the file that changes are written to, to be signed elsewhere, instead of being published;
    `root_in_force`, the root that nodes have, whatever is done to `roles`; `interrupted`, whether nodes can't read the
    repository until the next publication, since a change of keys was cut between root and timestamp.
    """

    def __init__(self, path: str, *, request: str | None = None) -> None:
        self.path = path
        self.request = request
        self.interrupted = False
        self.roles = self._load()
        self.root_in_force = copy.deepcopy(self.roles.root.signed)

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
        try:
            os.stat(self.file("metadata", "1.root.json"))
        except PermissionError as error:
            raise _not_readable(self.path, error.strerror or str(error)) from None
        except OSError:
            raise UpdatedError(
                "bad-repository", f"the folder {self.path}", "is not a repository",
                "Name another one, or make it with `releasectl init`.",
            ) from None  # fmt: skip
        root = self._root()
        try:
            return self._below(root, "timestamp.json")
        except UpdatedError as error:
            if not os.path.exists(self.file("metadata", STAGED)):
                raise
            try:
                roles = self._below(root, STAGED)
            except UpdatedError:
                raise error from None
        self.interrupted = True
        return roles

    def _below(self, root: Metadata[Root], name: str) -> Roles:
        """All roles, as the timestamp in the file `name` says."""
        timestamp = self._metadata(name, Timestamp)
        verify(root.signed, "timestamp", timestamp)
        meta = timestamp.signed.snapshot_meta
        snapshot = self._metadata(f"{meta.version}.snapshot.json", Snapshot, meta)
        verify(root.signed, "snapshot", snapshot)
        targets = self._listed(snapshot.signed, "targets")
        verify(root.signed, "targets", targets)
        delegations = targets.signed.delegations
        delegated = {}
        for name in (delegations.roles or {}) if delegations else {}:
            delegated[name] = self._listed(snapshot.signed, name)
            verify(targets.signed, name, delegated[name])
        if RELEASES not in delegated:
            raise UpdatedError("bad-repository", f"the repository {self.path}", f"has no role {RELEASES}", _RESTORE)
        return Roles(root, timestamp, snapshot, targets, delegated)

    def _root(self) -> Metadata[Root]:
        root = self._metadata("1.root.json", Root)
        verify(root.signed, "root", root)
        while os.path.exists(self.file("metadata", f"{root.signed.version + 1}.root.json")):
            following = self._metadata(f"{root.signed.version + 1}.root.json", Root)
            verify(root.signed, "root", following)
            verify(following.signed, "root", following)
            if following.signed.version != root.signed.version + 1:
                raise invalid("root", f"version {following.signed.version} follows version {root.signed.version}")
            root = following
        return root

    def _listed(self, snapshot: Snapshot, role: str) -> Metadata[Targets]:
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise invalid(role, "the snapshot does not list it")
        return self._metadata(f"{meta.version}.{role}.json", Targets, meta)

    def _metadata(self, name: str, kind: type[S], meta: MetaFile | None = None) -> Metadata[S]:
        data = self.read("metadata", name)
        try:
            if meta is not None:
                meta.verify_length_and_hashes(data)
            metadata = Metadata[S].from_bytes(data)
        except (DeserializationError, RepositoryError) as error:
            raise invalid(name, str(error)) from None
        if not isinstance(metadata.signed, kind):
            raise invalid(name, "is of another type")
        if meta is not None and metadata.signed.version != meta.version:
            raise invalid(name, f"says that it is version {metadata.signed.version}")
        return metadata


def target_file(path: str, digest: str) -> str:
    """Where a target lies below `targets/` with consistent snapshots: its name has the digest in front."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{digest}.{name}"


def verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    """Raises `UpdatedError` ("metadata-invalid") unless enough of the keys that `delegator` names signed `metadata`."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise invalid(role, str(error)) from None


def invalid(role: str, cause: str) -> UpdatedError:
    """The error for metadata that can't be relied upon."""
    return UpdatedError("metadata-invalid", f"the metadata of {role}", cause, _RESTORE)


def _not_readable(path: str, cause: str) -> UpdatedError:
    return UpdatedError(
        "bad-repository", f"the repository {path}", f"can't be read: {cause}",
        "Run this as its owner, or let others read it.",
    )  # fmt: skip


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keeps other processes from changing the repository. Raises `UpdatedError` ("already-running")."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UpdatedError(
            "bad-repository", f"the folder {path}", "is a file" if os.path.isfile(path) else "does not exist",
            "Name the folder of a repository, or make it with `releasectl init`.",
        ) from None  # fmt: skip
    except PermissionError:
        raise _not_readable(path, "Permission denied") from None
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
