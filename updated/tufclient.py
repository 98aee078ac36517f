"""The TUF client workflow (specification 1.0.33, section 5) by python-tuf. Nothing else knows its private parts.

Changed in the library here: bytes come from a `Source`; the time is given; cached files are durable when they are
written; a role that several others delegate to is verified anew under each of them; no length that metadata announces
passes the limits; and every fault is an `UpdatedError`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
)
from tuf.api.metadata import Metadata, Root, Signed, TargetFile, Targets  # type: ignore[attr-defined]
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from bootctl import durable
from updated import record
from updated.core.errors import UpdatedError
from updated.core.floors import TOP_ROLES, Floors, rolled_back
from updated.metadata_store import holds
from updated.ports import Source

CONFIG: Final = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=32,
    root_max_length=512_000,
    timestamp_max_length=16_384,
    snapshot_max_length=2_000_000,
    targets_max_length=5_000_000,
)
TIMESTAMP_NAME: Final = "metadata/timestamp.json"
# Signed with the metadata by updated.publish: for how many days a signature of the role is made.
LIFETIME_FIELD: Final = "x-updated-lifetime-days"
_DAY: Final = 24 * 3600
_MOST_DAYS: Final = 36_500
_ROOT_NAME: Final = re.compile(r"metadata/\d+\.root\.json")
_METADATA_NAME: Final = re.compile(r"metadata/(?:\d+\.)?(.+)\.json")
_DIGESTS: Final = {"sha256": re.compile("[0-9a-f]{64}"), "sha512": re.compile("[0-9a-f]{128}")}
_LONGEST_FILE_NAME: Final = 200  # with what is added to it below the 255 of Linux file systems
_MEND_PUBLISHER: Final = "Check that this is the right repository; the publisher must mend it."

Keys = Mapping[str, Set[str]]
"""The ids of the keys of each top-level role."""

RootLoaded = Callable[[int, Keys], None]
"""Is told the version and the keys of the newest root, before the cached timestamp is read."""

Expired = Callable[[str, int | None], UpdatedError]
"""The error for the role whose metadata expired, when that was, in seconds since the epoch, if it is known."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a repository must keep to beyond the TUF specification; these are the rules of nodes.

    `consistent_snapshots`: whether file names must have versions and digests in them (specification, 6.2).
    `digests`: a target must be listed with one of these, "sha256" or "sha512"; the first that there is names its file.
    """

    consistent_snapshots: bool = True
    digests: tuple[str, ...] = ("sha256",)


NODE_RULES: Final = Rules()


@dataclass(frozen=True, slots=True)
class Listed:
    """A target as the metadata has it: `name` is that of its file in the repository, `length` is in bytes."""

    path: str
    name: str
    length: int
    digest: str
    _info: TargetFile = field(repr=False)

    def check(self, data: bytes) -> None:
        """Raises `UpdatedError` ("wrong-digest") when `data` is not what was signed."""
        try:
            self._info.verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            raise UpdatedError(
                "wrong-digest", f"the target {self.path}", f"differs from what was signed: {error}", _MEND_PUBLISHER
            ) from None


class Client:
    """One cycle. A new object for each, since the library's can't be used again.

    `reference_time`: in seconds since the epoch; what expires then or before is refused. `pinned`: what an error calls
    `root_of_trust`.

    Raises `UpdatedError` ("no-root-of-trust"), and `OSError` of the store; each method, what it says.
    """

    def __init__(
        self, store: str, source: Source, root_of_trust: bytes, reference_time: int, rules: Rules, expired: Expired,
        pinned: str,
    ) -> None:
        self._store = store
        self._rules = rules
        self._expired = expired
        self._fetcher = _Fetcher(source)
        try:
            self._library = _Library(store, self._fetcher, root_of_trust, reference_time)
        except OSError:
            raise
        except Exception as error:
            raise UpdatedError(
                "no-root-of-trust", pinned, f"does not verify: {error}",
                "Install the root.json of this repository again.",
            ) from None
        self._trusted = self._library.trusted
        self._first_root: int = self._trusted.root.version

    @property
    def has_newest_root(self) -> bool:
        """Whether the source has said that it has no newer root than the one that is trusted."""
        return self._fetcher.has_newest_root

    def refresh(self, root_loaded: RootLoaded, timestamp: bytes | None = None) -> None:
        """Brings the top-level metadata up to date, once.

        `timestamp`: when it is given, the source is asked for nothing: no root is newer, this is the timestamp, and
        all else must be cached. Raises `UpdatedError`: what `expired` gives, "metadata-rolled-back",
        "metadata-invalid", "disk-full", "disk-error", and what `Source.read` and `root_loaded` raise.
        """

        def checked(root: Root) -> None:
            if self._rules.consistent_snapshots and not root.consistent_snapshot:
                raise invalid("the root metadata", "does not ask for consistent snapshots")
            root_loaded(root.version, _keys(root))

        self._library.root_loaded = checked
        try:
            with self._explained(), self._fetcher.repeating(timestamp):
                self._library.refresh()
        finally:
            # It may hold who holds this client: together they would not end when the last other reference does.
            del self._library.root_loaded

    def find(self, path: str) -> Listed | None:
        """The target `path`; None when nobody who may sign it does. After `refresh`; raises what that raises."""
        with self._explained():
            info = self._library.get_targetinfo(path)
        if info is None:
            return None
        algorithm = next((each for each in self._rules.digests if each in info.hashes), self._rules.digests[0])
        digest = info.hashes.get(algorithm, "")
        if _DIGESTS[algorithm].fullmatch(digest) is None:
            raise invalid(f"the target {path}", f"is listed without a {algorithm.replace('sha', 'SHA-')} digest")
        folder, slash, name = path.rpartition("/")
        prefix = f"{digest}." if self._trusted.root.consistent_snapshot else ""
        return Listed(path, f"targets/{folder}{slash}{prefix}{name}", info.length, digest, info)

    def versions(self) -> dict[str, int]:
        """The version of each role's metadata, as the trusted snapshot lists them."""
        listed: dict[str, int] = {}
        if "snapshot" in self._trusted:
            listed = _listed_versions(self._trusted.snapshot.meta)
        return listed | {role: self._signed(role).version for role in TOP_ROLES if role in self._trusted}

    def expiries(self) -> dict[str, int]:
        """When the metadata of each role that was read expires, in seconds since the epoch."""
        return {role: int(self._signed(role).expires.timestamp()) for role in self._loaded()}

    def lifetimes(self) -> dict[str, int]:
        """For how many seconds a signature is made, of each role that was read and says so."""
        days = {role: self._signed(role).unrecognized_fields.get(LIFETIME_FIELD) for role in self._loaded()}
        return {role: count * _DAY for role, count in days.items() if type(count) is int and 0 < count <= _MOST_DAYS}

    def keys(self) -> Keys:
        """The keys of the trusted root."""
        return _keys(self._trusted.root)

    def delegated(self) -> set[str]:
        """The roles that the top-level targets delegate to. After `refresh`."""
        delegations = self._trusted.targets.delegations
        return set(delegations.roles or ()) if delegations else set()

    def files(self) -> dict[str, str]:
        """The metadata of this cycle: the name of each file in the repository, and the place of its cached copy."""
        files = {
            f"metadata/{version}.root.json": os.path.join(self._store, "root_history", f"{version}.root.json")
            for version in range(self._first_root, self._trusted.root.version + 1)
        }
        for role in self._loaded() - {"root"}:
            versioned = self._trusted.root.consistent_snapshot and role != "timestamp"
            prefix = f"{self._signed(role).version}." if versioned else ""
            cached = f"{quote(role, '')}.json"
            files[f"metadata/{prefix}{cached}"] = os.path.join(self._store, cached)
        return files

    def _signed(self, role: str) -> Signed:
        signed: Signed = self._trusted[role]
        return signed

    def _loaded(self) -> set[str]:
        return {role for role in {*TOP_ROLES, *self.versions()} if role in self._trusted}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UpdatedError:
            raise
        except OSError as error:
            raise record.storage_error(f"the metadata store {self._store}", error) from None
        except ExpiredMetadataError:
            raise self._expired(*self._expired_role()) from None
        except BadVersionNumberError as error:
            raise rolled_back(self._fetcher.name, f"has the wrong version: {error}") from None
        except Exception as error:
            # Whatever hostile metadata makes the library raise, it means that it does not verify.
            raise invalid(self._fetcher.name, f"does not verify: {error or type(error).__name__}") from None

    def _expired_role(self) -> tuple[str, int | None]:
        for role in ("root", "timestamp", "snapshot"):
            if role in self._trusted and self._signed(role).is_expired(self._trusted.reference_time):
                return role, int(self._signed(role).expires.timestamp())
        # An expired targets role is not kept by the library; it is what was fetched last.
        match = _METADATA_NAME.fullmatch(self._fetcher.name)
        role = unquote(match[1]) if match else self._fetcher.name
        with contextlib.suppress(Exception):
            return role, int(Metadata[Any].from_bytes(self._fetcher.data).signed.expires.timestamp())
        return role, None


class _Fetcher(FetcherInterface):
    """Gives the library the metadata of a `Source`; remembers the last file for messages.

    The name of a file holds the name of its role as a URL does, so that whatever a role is called, it leads nowhere.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._timestamp: bytes | None = None
        self.has_newest_root = False
        self.name = "metadata"
        self.data = b""

    @contextmanager
    def repeating(self, timestamp: bytes | None) -> Iterator[None]:
        """Unless `timestamp` is None, asks the source for nothing in this block, and has only the timestamp."""
        self._timestamp = timestamp
        try:
            yield
        finally:
            self._timestamp = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        self.name, self.data = url, b""
        try:
            # The library takes a length that the metadata announces for the limit.
            self.data = self._read(min(max_length, _limit(url)))
        except UpdatedError as error:
            if error.code == "not-found" and _ROOT_NAME.fullmatch(url):
                self.has_newest_root = self._timestamp is None
                # This is how the library learns that it has the newest root.
                raise DownloadHTTPError(str(error), 404) from None
            raise
        return self.data

    def _read(self, most: int) -> bytes:
        if self._timestamp is None:
            return self._source.read(self.name, most)
        if self.name == TIMESTAMP_NAME:
            return self._timestamp
        raise UpdatedError("not-found", self.name, "is not in the cache", _MEND_PUBLISHER)

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, CONFIG.targets_max_length),))


class _Library(Updater):
    """The library's client, with what it has no parameters for; `root_loaded` is called with the newest root."""

    root_loaded: Callable[[Root], None]

    def __init__(self, store: str, fetcher: FetcherInterface, root_of_trust: bytes, reference_time: int) -> None:
        super().__init__(store, "metadata/", fetcher=fetcher, config=CONFIG, bootstrap=root_of_trust)
        self.trusted = self._trusted_set
        self.trusted.reference_time = datetime.fromtimestamp(reference_time, UTC)
        self._delegators: dict[str, Signed] = {}

    def _load_root(self) -> None:
        super()._load_root()
        self.root_loaded(self.trusted.root)

    def _load_targets(self, role: str, parent_role: str) -> Targets:
        """The metadata of `role`, always verified under the very metadata of `parent_role` that is trusted now.

        The library keeps one metadata for each name of a role. When another delegator's replaced it, or the delegator
        itself was replaced, what was verified before says nothing any more.
        """
        if len(quote(role, "")) > _LONGEST_FILE_NAME:
            raise invalid(f"the role {role[:_LONGEST_FILE_NAME]!r}", "has too long a name")
        delegator = self.trusted[parent_role]
        if self._delegators.get(role) is not delegator:
            self.trusted._trusted_delegations.discard((parent_role, role))
        targets = super()._load_targets(role, parent_role)
        self._delegators[role] = delegator
        return targets

    def _persist_file(self, filename: str, data: bytes) -> None:
        """The library's own leaves an empty file when the power is cut after it."""
        if not holds(filename, data):
            durable.write_file(filename, data, mode=0o600)


def cached_floors(store: str, root_of_trust: bytes) -> Floors:
    """What the cache in `store` vouches for, verified against the pinned root; empty floors when it is not whole."""

    def verified(name: str, role: str, root: Root) -> Any:
        with open(os.path.join(store, name), "rb") as file:
            metadata = Metadata[Any].from_bytes(file.read())
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        return metadata.signed

    try:
        root = Metadata[Root].from_bytes(root_of_trust).signed
        while os.path.exists(os.path.join(store, name := f"root_history/{root.version + 1}.root.json")):
            root = verified(name, "root", root)
        timestamp = verified("timestamp.json", "timestamp", root)
        snapshot = verified("snapshot.json", "snapshot", root)
        targets = verified("targets.json", "targets", root)
        top = {"root": root.version, "timestamp": timestamp.version, "snapshot": snapshot.version}
        listed = _listed_versions(snapshot.meta)
        return Floors(versions=listed | top | {"targets": targets.version}, keys=_keys(root))
    except Exception:
        return Floors()


def invalid(what: str, cause: str) -> UpdatedError:
    """The error for metadata that breaks a rule."""
    return UpdatedError("metadata-invalid", what, cause, _MEND_PUBLISHER)


def _limit(name: str) -> int:
    match = _METADATA_NAME.fullmatch(name)
    return {
        "root": CONFIG.root_max_length,
        "timestamp": CONFIG.timestamp_max_length,
        "snapshot": CONFIG.snapshot_max_length,
    }.get(match[1] if match else "", CONFIG.targets_max_length)


def _listed_versions(meta: Mapping[str, Any]) -> dict[str, int]:
    return {name.removesuffix(".json"): entry.version for name, entry in meta.items()}


def _keys(root: Root) -> Keys:
    return {role: frozenset(root.roles[role].keyids) for role in TOP_ROLES}
