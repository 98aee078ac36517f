"""A signing request: a change that is signed elsewhere, by one person after the other, before it is published.

The file holds the new metadata with the signatures that it has so far, the metadata that it follows, and the content of
new targets; nothing else is needed to see what it changes. Its format is in the manual.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tuf.api.metadata import Metadata, Root, TargetFile, Targets  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from updated.core.document import Misfit, Object, dump, load_object, parsed
from updated.core.errors import UpdatedError
from updated.core.release import Channel, Release, channel_target, release_target
from updated.publish import rules
from updated.publish.repository import RELEASES, TOP_ROLES, verify

SCHEMA: Final = 1
MOST_BYTES: Final = 16 * 1024 * 1024
_MEND: Final = "Ask for the request again."


@dataclass(frozen=True, slots=True)
class Need:
    """Signatures that a role needs. `keyids` may sign, `signed` have done so; `old`: they are those of the old root."""

    role: str
    keyids: tuple[str, ...]
    signed: tuple[str, ...]
    threshold: int
    old: bool = False

    @property
    def missing(self) -> int:
        """How many signatures there are still to make."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True)
class Request:
    """A change. `base`: the published metadata of root, targets and each changed role; `new`: that of the changed ones.

    `files`: the content of new targets by path; `old_files`: that of those whose place they take.
    """

    base: Mapping[str, Metadata[Any]]
    new: Mapping[str, Metadata[Any]]
    files: Mapping[str, bytes]
    old_files: Mapping[str, bytes]

    @classmethod
    def parse(cls, data: bytes, what: str) -> Request:
        """The request in `data`, which is called `what` in messages. Its parts fit together, and no signature is wrong.

        Whether there are enough signatures is not checked. Raises `UpdatedError` ("bad-request", "bad-key").
        """
        if len(data) > MOST_BYTES:
            raise UpdatedError("bad-request", what, f"has more than {MOST_BYTES} bytes", _MEND)
        document = load_object(data, what=what, code="bad-request", mend=_MEND)

        def read() -> Request:
            if document.number("schema") != SCHEMA:
                raise Misfit(f"schema is not {SCHEMA}")
            request = cls(
                _metadata(document.object("base")), _metadata(document.object("new")),
                _files(document.object("files")), _files(document.object("old_files")),
            )  # fmt: skip
            document.done()
            return request

        request = parsed(read, what=what, code="bad-request", mend=_MEND)
        try:
            request._check()
        except UpdatedError as error:
            code = error.code if error.code == "bad-key" else "bad-request"
            raise UpdatedError(code, f"{what}: {error.what}", error.cause, _MEND) from None
        return request

    def format(self) -> bytes:
        """The request as bytes; `parse` reads them back."""
        return dump({
            "schema": SCHEMA,
            "base": {role: metadata.to_bytes().decode() for role, metadata in self.base.items()},
            "new": {role: metadata.to_bytes().decode() for role, metadata in self.new.items()},
            "files": {path: data.decode() for path, data in self.files.items()},
            "old_files": {path: data.decode() for path, data in self.old_files.items()},
        })

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of all but the signatures: the same for everybody who was asked for the same."""
        digest = hashlib.sha256()
        for part in (self.base, self.new):
            for role in sorted(part):
                digest.update(hashlib.sha256(role.encode()).digest())
                digest.update(hashlib.sha256(part[role].signed_bytes).digest())
        for path in sorted(self.files):
            digest.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(self.files[path]).digest())
        return digest.hexdigest()

    def delegator(self, role: str, *, old: bool = False) -> Root | Targets:
        """The one who says which keys sign `role`, after the change or before."""
        source = "root" if role in TOP_ROLES else "targets"
        part = self.base if old or source not in self.new else self.new
        signed: Root | Targets = part[source].signed
        return signed

    def needs(self) -> list[Need]:
        """The signatures that each changed role needs: a new root also those of the old one."""
        found = [self._need(role, old=False) for role in self.new]
        return [*found, self._need("root", old=True)] if "root" in self.new else found

    def keyids(self, role: str) -> list[str]:
        """The keys that are asked to sign `role`: when a new root changes keys, the old ones too."""
        olds = [self.delegator(role, old=True)] if role in TOP_ROLES else []
        delegators = [self.delegator(role), *olds]
        return list(dict.fromkeys(keyid for each in delegators for keyid in each.get_delegated_role(role).keyids))

    def changed_targets(self, role: str) -> dict[str, TargetFile]:
        """The targets that `role` lists anew, or with other content."""
        before: dict[str, TargetFile] = self.base[role].signed.targets
        after: dict[str, TargetFile] = self.new[role].signed.targets
        return {path: info for path, info in after.items() if before.get(path) != info}

    def merged(self, other: Request) -> Request:
        """This request with the signatures of `other`, a copy of it. Raises `UpdatedError` ("bad-request")."""
        if other.fingerprint != self.fingerprint:
            raise UpdatedError(
                "bad-request", "the requests", "are not copies of one: they ask for different things",
                "Publish each by itself.",
            )  # fmt: skip
        for role, metadata in other.new.items():
            self.new[role].signatures.update(metadata.signatures)
        return self

    def _need(self, role: str, *, old: bool) -> Need:
        entry = self.delegator(role, old=old).get_delegated_role(role)
        signed = tuple(keyid for keyid in entry.keyids if keyid in self.new[role].signatures)
        return Need(role, tuple(entry.keyids), signed, entry.threshold, old)

    def _check(self) -> None:
        if not self.new or set(self.base) != {"root", "targets", *self.new}:
            raise _unfit("its parts", "are not a change and what it follows")
        root, targets = self.base["root"].signed, self.base["targets"].signed
        if not isinstance(root, Root) or not isinstance(targets, Targets):
            raise _unfit("its base", "is of another type")
        rules.check(root, targets)
        for role, metadata in self.base.items():
            if role not in ("root", "targets", *_delegated(targets)):
                raise _unfit(f"the role {role}", "is not one that is signed on request")
            verify(self.delegator(role, old=True), role, metadata)
        for role, metadata in self.new.items():
            rules.check_role(role, metadata, self.base[role])
        after = self.delegator(RELEASES)
        if not isinstance(after, Targets) or _delegated(after) != _delegated(targets):
            raise _unfit("the role targets", "would delegate to other roles than before")
        new_root = self.delegator("targets")
        if isinstance(new_root, Root):
            rules.check(new_root, after)
        for role in self.new:
            self._check_signatures(role)
        self._check_files()

    def _check_signatures(self, role: str) -> None:
        metadata = self.new[role]
        for keyid, signature in metadata.signatures.items():
            if keyid not in self.keyids(role):
                raise _unfit(f"the metadata of {role}", f"is signed by {keyid[:16]}, which is not asked to sign it")
            delegators = [self.delegator(role), self.delegator(role, old=role in TOP_ROLES)]
            key = next(each.keys[keyid] for each in map(_keys, delegators) if keyid in each.keys)
            try:
                key.verify_signature(signature, metadata.signed_bytes)
            except Exception:
                raise _unfit(
                    f"the signature of {keyid[:16]} for {role}", "is wrong: the request was changed after it was signed"
                ) from None

    def _check_files(self) -> None:
        new: dict[str, TargetFile] = {}
        old: dict[str, TargetFile] = {}
        for role in self.new:
            if role not in TOP_ROLES:
                before = self.base[role].signed.targets
                new |= (changed := self.changed_targets(role))
                old |= {path: before[path] for path in changed if path in before}
        for infos, files in ((new, self.files), (old, self.old_files)):
            if set(infos) != set(files):
                odd = min(set(infos) ^ set(files))
                raise _unfit(f"the target {odd}", "is listed without its content, or there without being listed")
            for path, info in infos.items():
                if info != TargetFile.from_data(path, files[path], ["sha256"]):
                    raise _unfit(f"the target {path}", "is not as its role lists it")
                _check_manifest(path, files[path])


def _keys(delegator: Root | Targets) -> Any:
    return delegator if isinstance(delegator, Root) else delegator.delegations


def _delegated(targets: Targets) -> set[str]:
    return set(targets.delegations.roles or ()) if targets.delegations is not None else set()


def _check_manifest(path: str, data: bytes) -> None:
    if path.startswith("releases/"):
        fits = release_target(Release.parse(data).version.text) == path
    else:
        fits = channel_target(Channel.parse(data).name) == path
    if not fits:
        raise _unfit(f"the target {path}", "holds the manifest of something else")


def _files(texts: Object) -> dict[str, bytes]:
    return {path: texts.text(path, most=MOST_BYTES).encode() for path in texts.keys()}  # noqa: SIM118


def _metadata(texts: Object) -> dict[str, Metadata[Any]]:
    found = {}
    for role in texts.keys():  # noqa: SIM118
        try:
            found[role] = Metadata[Any].from_bytes(texts.text(role, most=MOST_BYTES).encode())
        except DeserializationError as error:
            raise Misfit(f"{texts.name(role)} is no metadata: {error.__cause__ or error}") from None
    return found


def _unfit(what: str, cause: str) -> UpdatedError:
    return UpdatedError("bad-request", what, cause, _MEND)
