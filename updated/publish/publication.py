"""One change of a repository: signed, and written so that every reader sees the old state or the new one.

Consistent snapshots make that true of everything that the timestamp leads to. A new root is seen as soon as its file is
there, so it and the timestamp have to fit each other at every instant. When keys of the top-level roles change, their
metadata is signed with the old keys as well, if these are here, and so fits both roots: the timestamp is written, then
the root. With lost keys there is no such metadata: the root is written, and the timestamp, which was prepared, follows
at once; until it does, nodes refuse the repository. If that is cut, `Repository` reads the prepared one, and the next
publication mends it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from securesystemslib.signer import Key  # type: ignore[attr-defined]
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, TargetFile, Targets  # type: ignore[attr-defined]

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.publish.keys import Found, KeyFolder
from updated.publish.repository import LIFETIME, STAGED, TOP_ROLES, Repository, Roles, expiry, target_file, verify
from updated.publish.request import Request

MOST_BYTES: Final[Mapping[str, int]] = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000}
"""How long the metadata of a role may be for nodes; that of any other role: `MOST_TARGETS_BYTES`."""
MOST_TARGETS_BYTES: Final = 5_000_000


class Publication:
    """One change: metadata and targets are gathered in memory, and appear at once when they are committed.

    `roles` is changed. The keys of the roles `changes`, of the snapshot and of the timestamp must be there. Raises
    `UpdatedError` ("bad-key").
    """

    def __init__(
        self, path: str, roles: Roles, keys: KeyFolder, now: float, changes: tuple[str, ...] = (), *,
        repository: Repository | None = None,
    ) -> None:
        self._path = path
        self._roles = roles
        self._keys = keys
        self._now = now
        self._repository = repository
        self._old_root = repository.root_in_force if repository is not None else None
        self._request = repository.request if repository is not None else None
        self._targets: dict[str, bytes] = {}
        self._changed: dict[str, bytes] = {}
        if self._request is not None:
            _refuse_existing(self._request)
        else:
            for role in (*changes, "snapshot", "timestamp"):
                required(roles.delegator(role), role, keys)

    @classmethod
    def of(cls, repository: Repository, keys: KeyFolder, now: float, changes: tuple[str, ...] = ()) -> Publication:
        """A change of what is published, or of what is to be signed elsewhere if the repository says so."""
        return cls(repository.path, repository.roles, keys, now, changes, repository=repository)

    def put(self, role: str, path: str, data: bytes) -> None:
        """Gives the target `path` of `role` the content `data`."""
        self._roles.delegated[role].signed.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        self.put_file(path, data)

    def put_file(self, path: str, data: bytes) -> None:
        """Adds the content of a target that is listed already."""
        self._targets[path] = data

    def sign(self, role: str, *, first: bool = False) -> None:
        """Signs a new version of `role`; the first version stays 1.

        Signs with the keys of the old root as well, where they are here. Raises `UpdatedError` ("bad-key",
        "bad-request").
        """
        metadata = self._roles.all()[role]
        signed: Signed = metadata.signed
        if not first:
            signed.version += 1
        signed.expires = expiry(self._now, signed.unrecognized_fields[LIFETIME])
        metadata.signatures.clear()
        delegators = self._delegators(role)
        keyids = [keyid for each in delegators for keyid in each.get_delegated_role(role).keyids]
        for signer in self._keys.signers(keyids).signers:
            sign(metadata, signer)
        if self._request is None:
            for delegator in delegators if role == "root" else delegators[:1]:
                if not is_signed(delegator, role, metadata):
                    required(delegator, role, self._keys)
                    verify(delegator, role, metadata)
        self.take(role)

    def take(self, role: str) -> None:
        """Publishes the metadata of `role` as it is. Raises `UpdatedError` ("bad-request") when it is too long."""
        metadata = self._roles.all()[role]
        data = metadata.to_bytes()
        most = MOST_BYTES.get(role, MOST_TARGETS_BYTES)
        if len(data) > most:
            raise UpdatedError(
                "bad-request", f"the metadata of {role}", f"has {len(data)} bytes, and nodes accept {most}",
                "Use fewer keys, or keys with shorter signatures.",
            )  # fmt: skip
        self._changed[role] = data
        meta = MetaFile.from_data(metadata.signed.version, data, ["sha256"])
        if role == "snapshot":
            self._roles.timestamp.signed.snapshot_meta = meta
        elif role not in ("root", "timestamp"):
            self._roles.snapshot.signed.meta[f"{role}.json"] = meta

    def commit(self, *, first: bool = False) -> None:
        """Signs snapshot and timestamp and writes all files, or the request. Raises `UpdatedError` and OSError."""
        if self._request is not None:
            durable.write_file(self._request, self._asked().format())
            return
        self.sign("snapshot", first=first)
        self.sign("timestamp", first=first)
        if "root" in self._changed or "targets" in self._changed:
            for role, metadata in self._roles.all().items():
                verify(self._roles.delegator(role), role, metadata)
        self._write()

    def _delegators(self, role: str) -> list[Root | Targets]:
        """Who says which keys sign `role`: the new one, and the root in force if that is another one."""
        new = self._roles.delegator(role)
        return [new, self._old_root] if role in TOP_ROLES and self._old_root is not None else [new]

    def _asked(self) -> Request:
        if self._repository is None:
            raise ValueError("a repository that is not there yet can't be asked for")
        new = {role: metadata for role, metadata in self._roles.all().items() if role in self._changed}
        base = {}
        for role in dict.fromkeys(("root", "targets", *new)):
            version = self._roles.all()[role].signed.version - (role in new)
            base[role] = Metadata[Any].from_bytes(self._repository.read("metadata", f"{version}.{role}.json"))
        request = Request(base, copy.deepcopy(new), dict(self._targets), {})
        old_files = {}
        for role in set(new).difference(TOP_ROLES):
            before = base[role].signed.targets
            for path in request.changed_targets(role):
                if path in before:
                    name = target_file(path, before[path].hashes["sha256"])
                    old_files[path] = self._repository.read("targets", *name.split("/"))
        return replace(request, old_files=old_files)

    def _write(self) -> None:
        files = {f"targets/{self._target_file(path)}": data for path, data in self._targets.items()}
        for role, data in self._changed.items():
            if role not in ("root", "timestamp"):
                files[f"metadata/{self._roles.all()[role].signed.version}.{role}.json"] = data
        for name, data in files.items():
            durable.write_file(self._file(name), data)
        timestamp, staged = self._file("metadata/timestamp.json"), self._file(f"metadata/{STAGED}")
        root = self._file(f"metadata/{self._roles.root.signed.version}.root.json")
        if "root" not in self._changed:
            durable.write_file(timestamp, self._changed["timestamp"])
        elif self._fits_old_root():
            durable.write_file(timestamp, self._changed["timestamp"])
            durable.write_file(root, self._changed["root"])
        else:
            durable.write_file(staged, self._changed["timestamp"])
            durable.write_file(root, self._changed["root"])
            durable.rename(staged, timestamp)
        if self._repository is not None and self._repository.interrupted:
            durable.remove(staged)

    def _fits_old_root(self) -> bool:
        """Whether nodes that have the old root can read the new state."""
        old = self._old_root
        return old is not None and all(
            is_signed(old, role, self._roles.all()[role]) for role in ("targets", "snapshot", "timestamp")
        )

    def _target_file(self, path: str) -> str:
        infos = (metadata.signed.targets.get(path) for metadata in self._roles.delegated.values())
        return next(target_file(path, info.hashes["sha256"]) for info in infos if info is not None)

    def _file(self, name: str) -> str:
        return os.path.join(self._path, *name.split("/"))


def sign(metadata: Metadata[Any], signer: Any) -> None:
    """Adds the signature of `signer`. Raises `UpdatedError` ("bad-key")."""
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        cause = error.__cause__
        if isinstance(cause, UpdatedError):
            raise cause from None
        key: Key = signer.public_key
        raise UpdatedError(
            "bad-key", f"the key {key.keyid[:16]}", f"does not sign: {cause or error} ({type(cause).__name__})",
            "Check the place of the key, and its PIN: a token locks itself after a few wrong ones.",
        ) from None


def is_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    """Whether enough of the keys that `delegator` names for `role` signed `metadata`."""
    return bool(delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures))


def required(delegator: Root | Targets, role: str, keys: KeyFolder) -> Found:
    """The signers of `role`, at least as many as it needs. Raises `UpdatedError` ("bad-key")."""
    entry = delegator.get_delegated_role(role)
    found = keys.signers(entry.keyids)
    missing = entry.threshold - len(found.signers)
    if missing > 0:
        raise UpdatedError(
            "bad-key", f"the role {role}", f"{missing} more of its keys {'is' if missing == 1 else 'are'} needed: "
            f"{', '.join(found.absent) or 'it has too few'}",
            "Name the folder with these keys, run this where they are, or write a request to sign with --request.",
        )  # fmt: skip
    return found


def _refuse_existing(request: str) -> None:
    folder = os.path.dirname(os.path.abspath(request))
    if not os.path.isdir(folder):
        raise UpdatedError(
            "bad-request", f"the request {request}", f"there is no folder {folder}", "Make it, or name another file."
        )
    if os.path.lexists(request):
        raise UpdatedError(
            "bad-request", f"the request {request}", "is there already", "Name another file, or remove this one."
        )
