"""What this node trusts: one cycle of the TUF client workflow (specification 1.0.33, section 5) by python-tuf.

Added to the library here: bytes come from a `Source`; time never runs backwards; floors outlive a damaged cache; the
cache is synced; targets are cached as well; a caller may let a newer root wait for a day while nothing is new; every
fault is an `UpdatedError`; and what was verified can be exported for another process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile  # type: ignore[attr-defined]
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from bootctl import durable
from updated import record
from updated.core.document import Misfit, format_time, parsed
from updated.core.errors import UpdatedError
from updated.core.floors import TOP_ROLES, Floors, rolled_back
from updated.core.version import Version
from updated.directory import DirectorySource
from updated.metadata_store import holds, locked, sync, write
from updated.ports import Source

CONFIG = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=32,
    root_max_length=512_000,
    timestamp_max_length=16_384,
    snapshot_max_length=2_000_000,
    targets_max_length=5_000_000,
)
ROOT_PROBE_SECONDS = 24 * 3600
_ROOT_NAME = re.compile(r"metadata/\d+\.root\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LIBRARY_TEMPORARY = re.compile(r"tmp[a-z0-9_]{8}")
_LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_TIMESTAMP_NAME = "metadata/timestamp.json"
_PROBE_SCHEMA = 1
_LIFETIME = "x-updated-lifetime-days"
_MOST_DAYS = 36500
_MEND_PUBLISHER = "Check that this is the right repository; the publisher must mend it."


@dataclass(frozen=True, slots=True)
class Clock:
    """What may tell the time, in seconds since the epoch: the system clock, and when this system was built."""

    system: float
    built: int


class Trust:
    """One TUF update cycle; a new object for each. Holds the lock of its store until `close` or its end of life.

    `store` is a directory for the metadata cache and the floors. `root_of_trust` is the pinned root metadata. `grace`:
    for how many seconds metadata is still accepted after its expiry.

    Raises `UpdatedError`: "already-running", "no-root-of-trust", "disk-full", "disk-error".

    Attributes: `reference_time`, the one time in seconds since the epoch against which all expiries of this cycle are
    checked; `notes`, sentences for people about protection that was lost and rebuilt.
    """

    def __init__(self, source: Source, store: str, root_of_trust: bytes, clock: Clock, grace: int = 0) -> None:
        self._source = source
        self._store = store
        self._root_of_trust = root_of_trust
        self._clock = clock
        self._grace = grace
        self._cached_targets = DirectorySource(os.path.join(store, "targets"))
        self._obtained: dict[str, bytes] = {}
        self._used: set[str] = set()
        self._ready = False
        self.notes: list[str] = []
        self._fetcher = _Fetcher(source)
        with self._storage(), contextlib.ExitStack() as undo:
            self._close = weakref.finalize(self, os.close, locked(store))
            undo.callback(self.close)
            for name in os.listdir(store):
                if _LIBRARY_TEMPORARY.fullmatch(name):
                    durable.remove(os.path.join(store, name))
            self._floors = self._read_floors()
            self.reference_time, self._time_source = max(
                (min(int(clock.system), _LATEST), "the system clock"),
                (clock.built, "the build time of this system"),
                (self._floors.time, "the last trusted time"),
                key=lambda candidate: candidate[0],
            )
            self._client = self._new_client()
            self._first_root: int = self._client.trusted.root.version
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the store for others."""
        self._close()

    @property
    def release_floor(self) -> str | None:
        """The version below which no release may be installed."""
        return self._floors.release

    def raise_release_floor(self, version: str) -> None:
        """Raises the floor to `version`, durably; a lower one changes nothing."""
        if self._floors.release is None or Version(version) > Version(self._floors.release):
            self._write_floors(replace(self._floors, release=version))

    def refresh(self, *, root_once_a_day: bool = False) -> None:
        """Brings the top-level metadata up to date, once; what was verified is durable when this returns.

        `root_once_a_day`: a newer root is not asked for while the timestamp is the trusted one, byte for byte, and one
        was asked for less than `ROOT_PROBE_SECONDS` before. That cycle reads one file of the source.

        Raises `UpdatedError`: "metadata-expired", "metadata-rolled-back", "metadata-invalid", "disk-full",
        "disk-error", and what `Source.read` raises.
        """
        if self._ready:
            return
        floors = self._repeated() if root_once_a_day else None
        if floors is None:
            with self._explained():
                self._client.refresh()
            floors = self._raised_floors()
        with self._storage():
            sync(self._store)
        self._write_floors(floors)
        if root_once_a_day and self._fetcher.has_newest_root:
            record.write(self._probe_path(), {"schema": _PROBE_SCHEMA, "probed": format_time(self.reference_time)})
        self._ready = True

    def target(self, path: str, most: int) -> bytes:
        """The verified content, of at most `most` bytes, of the target `path`.

        Raises `UpdatedError`: "no-such-target", "wrong-digest", and what `refresh` raises.
        """
        if not self._ready:
            raise UpdatedError("internal", f"the target {path}", "was asked for before a refresh", "Report it.")
        with self._explained():
            info = self._client.get_targetinfo(path)
        what = f"the target {path}"
        if info is None:
            raise UpdatedError("no-such-target", what, "is not in the signed metadata", _MEND_PUBLISHER)
        if info.length > most:
            raise _invalid(what, f"is listed with {info.length} bytes, and at most {most} are accepted")
        name, digest = _target_name(info), info.hashes["sha256"]
        self._used.add(digest)
        if name not in self._obtained:
            data = self._cached_target(info, digest)
            self._obtained[name] = self._fetched_target(info, name, digest) if data is None else data
        return self._obtained[name]

    def forget_other_targets(self) -> None:
        """Removes the cached targets that this cycle did not ask for."""
        folder = os.path.join(self._store, "targets")
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name not in self._used:
                    durable.remove(os.path.join(folder, name))

    def versions(self) -> dict[str, int]:
        """The version of each role's metadata, as the trusted snapshot lists them. After `refresh`."""
        trusted = self._client.trusted
        listed = _listed(trusted.snapshot) if "snapshot" in trusted else {}
        return listed | {role: trusted[role].version for role in TOP_ROLES if role in trusted}

    def expiries(self) -> dict[str, int]:
        """When the metadata of each role that was read expires, in seconds since the epoch. After `refresh`."""
        return {role: int(self._client.trusted[role].expires.timestamp()) for role in self._loaded()}

    def expired(self) -> dict[str, int]:
        """Of `expiries`, what is over already, and was accepted by grace. After `refresh`."""
        return {role: at for role, at in self.expiries().items() if at <= self.reference_time}

    def lifetimes(self) -> dict[str, int]:
        """For how many seconds a signature of each role that was read lasts, if it says so. After `refresh`."""
        days = {role: self._client.trusted[role].unrecognized_fields.get(_LIFETIME) for role in self._loaded()}
        return {role: n * 86400 for role, n in days.items() if type(n) is int and 0 < n <= _MOST_DAYS}

    def export(self, directory: str) -> None:
        """Writes a repository of this cycle: its metadata from the root chain on, and each target obtained.

        Another process can run the same cycle from it, through a `DirectorySource`, and trusts nothing of this one.
        Raises `UpdatedError` ("disk-full", "disk-error").
        """
        trusted = self._client.trusted
        copies = {
            f"{version}.root.json": os.path.join("root_history", f"{version}.root.json")
            for version in range(self._first_root, trusted.root.version + 1)
        }
        for role in self._loaded() - {"root"}:
            prefix = "" if role == "timestamp" else f"{trusted[role].version}."
            copies[f"{prefix}{role}.json"] = f"{quote(role, '')}.json"
        with self._storage(f"the folder {directory}"):
            for name, cached in copies.items():
                with open(os.path.join(self._store, cached), "rb") as file:
                    write(directory, f"metadata/{name}", file.read())
            for name, data in self._obtained.items():
                write(directory, name, data)

    def _loaded(self) -> set[str]:
        return {role for role in {*TOP_ROLES, *self.versions()} if role in self._client.trusted}

    def _new_client(self) -> _Client:
        forget = functools.partial(_forget_rotated, self._store, self._floors)
        return _Client(self._store, self._fetcher, self._root_of_trust, self.reference_time - self._grace, forget)

    def _raised_floors(self) -> Floors:
        """The floors after the metadata that the client trusts now. Raises `UpdatedError` when it is below them."""
        trusted = self._client.trusted
        if not trusted.root.consistent_snapshot:
            raise _invalid("the root metadata", "does not ask for consistent snapshots")
        delegations = trusted.targets.delegations
        return self._floors.recovered(_keys(trusted.root)).raised(
            self.versions(),
            delegated=set(delegations.roles or ()) if delegations else set(),
            keys=_keys(trusted.root),
            time=self.reference_time,
        )

    def _repeated(self) -> Floors | None:
        """The floors of a cycle over the cache alone; None when not all of it is as it was: then nothing of it counts.

        Raises what `Source.read` raises for the timestamp, without which no cycle succeeds.
        """
        if not self._root_is_recent():
            return None
        latest = self._source.read(_TIMESTAMP_NAME, CONFIG.timestamp_max_length)
        with self._storage():
            if not holds(os.path.join(self._store, "timestamp.json"), latest):
                return None
            try:
                with self._fetcher.repeating(latest):
                    self._client.root_loaded = self._require_known_root
                    self._client.refresh()
                    return self._raised_floors()
            except Exception:
                # Whatever is wrong, the ordinary cycle that follows mends it or says it.
                self._client = self._new_client()
                return None

    def _root_is_recent(self) -> bool:
        """Whether a newer root was asked for within a day, as far as clock and records can be relied upon."""
        if self.notes or self._clock.system < self.reference_time:
            return False
        try:
            document = record.read(self._probe_path())
            if document is None or document.number("schema") != _PROBE_SCHEMA:
                return False
            probed = document.time("probed")
            document.done()
        except (UpdatedError, Misfit):
            return False
        return 0 <= self.reference_time - probed < ROOT_PROBE_SECONDS

    def _require_known_root(self, root: Root) -> None:
        if root.version != self._floors.versions.get("root"):
            raise _invalid("the cached root metadata", "is not the newest that was trusted")

    def _cached_target(self, info: TargetFile, digest: str) -> bytes | None:
        try:
            data = self._cached_targets.read(digest, info.length)
            info.verify_length_and_hashes(data)
        except (UpdatedError, LengthOrHashMismatchError):
            return None
        return data

    def _fetched_target(self, info: TargetFile, name: str, digest: str) -> bytes:
        data = self._source.read(name, info.length)
        try:
            info.verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            raise UpdatedError(
                "wrong-digest", f"the target {info.path}", f"differs from what was signed: {error}", _MEND_PUBLISHER
            ) from None
        folder = os.path.join(self._store, "targets")
        with contextlib.suppress(OSError):  # it is only kept to spare a download
            os.makedirs(folder, mode=0o700, exist_ok=True)
            durable.write_file(os.path.join(folder, digest), data, mode=0o600)
        return data

    def _read_floors(self) -> Floors:
        path = self._floors_path()
        what = f"the record of trusted versions {path}"
        try:
            document = record.read(path)
            if document is not None:
                return parsed(lambda: Floors.parse(document), what=what, code="state-corrupt", mend="")
            if not os.path.lexists(os.path.join(self._store, "timestamp.json")):
                return Floors()
            fault = "is missing though there is cached metadata"
        except UpdatedError as error:
            if error.code != "state-corrupt":
                raise
            record.set_aside(path)
            fault = f"is damaged ({error.cause}) and was set aside"
        floors = _cached_floors(self._store, self._root_of_trust)
        rebuilt = (
            "the versions were taken from the cached metadata, which is whole"
            if floors.versions
            else "the cached metadata is not whole either, so protection from old metadata begins anew"
        )
        self.notes.append(
            f"{what} {fault}; {rebuilt}. The last trusted time and the floor of releases are not known any more."
        )
        return floors

    def _write_floors(self, floors: Floors) -> None:
        record.write(self._floors_path(), floors.format())
        self._floors = floors

    def _floors_path(self) -> str:
        return os.path.join(self._store, "floors")

    def _probe_path(self) -> str:
        # Apart from the floors: a program that doesn't know this record must still be able to read those.
        return os.path.join(self._store, "root-probe")

    @contextmanager
    def _storage(self, what: str | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise record.storage_error(what or f"the metadata store {self._store}", error) from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._storage():
                yield
        except UpdatedError:
            raise
        except ExpiredMetadataError as error:
            raise self._expired(str(error)) from None
        except BadVersionNumberError as error:
            raise rolled_back(self._fetcher.name, f"has the wrong version: {error}") from None
        except Exception as error:
            # Whatever hostile metadata makes the library raise, it means that it does not verify.
            raise _invalid(self._fetcher.name, f"does not verify: {error or type(error).__name__}") from None

    def _expired(self, words: str) -> UpdatedError:
        role, expiry = self._expired_role()
        when = f"on {format_time(expiry)}" if expiry is not None else f"({words})"
        if self._time_source == "the system clock":
            mend = "Check the clock of this machine; if it is right, the publisher must refresh the repository."
        else:
            mend = (
                f"The publisher must refresh the repository. (The system clock, at "
                f"{format_time(max(0, self._clock.system))}, is behind, and was not used.)"
            )
        return UpdatedError(
            "metadata-expired", f"the metadata of the role {role!r}",
            f"expired {when}, and it is {format_time(self.reference_time)} by {self._time_source}", mend,
        )

    def _expired_role(self) -> tuple[str, int | None]:
        for role in ("root", "timestamp", "snapshot"):
            signed = self._client.trusted.get(role)
            if signed is not None and signed.expires.timestamp() <= self.reference_time - self._grace:
                return role, int(signed.expires.timestamp())
        # An expired targets role is not kept by the library; it is what was fetched last.
        role = self._fetcher.name.removeprefix("metadata/").removesuffix(".json").partition(".")[2]
        with contextlib.suppress(Exception):
            return role, int(Metadata[Any].from_bytes(self._fetcher.data).signed.expires.timestamp())
        return role, None


class _Fetcher(FetcherInterface):
    """Gives the library the metadata of a `Source`; remembers the last file for messages.

    `has_newest_root`: the source has said that it has no newer root than the one that is trusted.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._timestamp: bytes | None = None
        self.has_newest_root = False
        self.name = "metadata"
        self.data = b""

    @contextmanager
    def repeating(self, timestamp: bytes) -> Iterator[None]:
        """Asks the source for nothing in this block: no root is newer, and the timestamp is the given one.

        Anything else raises `UpdatedError` ("not-found").
        """
        self._timestamp = timestamp
        try:
            yield
        finally:
            self._timestamp = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        self.name, self.data = unquote(url), b""
        try:
            self.data = self._read(max_length)
        except UpdatedError as error:
            if error.code == "not-found" and _ROOT_NAME.fullmatch(self.name):
                self.has_newest_root = self._timestamp is None
                # This is how the library learns that it has the newest root.
                raise DownloadHTTPError(str(error), 404) from None
            raise
        return self.data

    def _read(self, most: int) -> bytes:
        if self._timestamp is None:
            return self._source.read(self.name, most)
        if self.name == _TIMESTAMP_NAME:
            return self._timestamp
        raise UpdatedError("not-found", self.name, "is not in the cache", _MEND_PUBLISHER)

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, CONFIG.targets_max_length),))


class _Client(Updater):
    """The library's client, and the only place that touches what is private in it.

    `root_loaded` is called with the newest root, before the timestamp is loaded.
    """

    def __init__(
        self,
        store: str,
        fetcher: FetcherInterface,
        root_of_trust: bytes,
        reference_time: int,
        root_loaded: Callable[[Root], None],
    ) -> None:
        try:
            super().__init__(store, "metadata/", fetcher=fetcher, config=CONFIG, bootstrap=root_of_trust)
        except OSError:
            raise
        except Exception as error:
            raise UpdatedError(
                "no-root-of-trust", "the pinned root metadata", f"does not verify: {error}",
                "Install the root.json of this repository again.",
            ) from None
        self.trusted = self._trusted_set
        # The library takes the system clock here and has no parameter for another.
        self.trusted.reference_time = datetime.fromtimestamp(reference_time, UTC)
        self.root_loaded = root_loaded

    def _load_root(self) -> None:
        super()._load_root()
        self.root_loaded(self.trusted.root)


def _target_name(info: TargetFile) -> str:
    digest = info.hashes.get("sha256", "")
    if _SHA256.fullmatch(digest) is None:
        raise _invalid(f"the target {info.path}", "is listed without a SHA-256 digest")
    folder, slash, name = info.path.rpartition("/")
    return f"targets/{folder}{slash}{digest}.{name}"


def _listed(snapshot: Snapshot) -> dict[str, int]:
    return {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()}


def _keys(root: Root) -> Mapping[str, frozenset[str]]:
    return {role: frozenset(root.roles[role].keyids) for role in TOP_ROLES}


def _invalid(what: str, cause: str) -> UpdatedError:
    return UpdatedError("metadata-invalid", what, cause, _MEND_PUBLISHER)


def _cached_floors(store: str, root_of_trust: bytes) -> Floors:
    """What the cache vouches for, verified against the pinned root; empty floors when it is not whole."""

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
    except Exception:
        return Floors()
    top = {"root": root.version, "timestamp": timestamp.version, "snapshot": snapshot.version}
    return Floors(versions=_listed(snapshot) | top | {"targets": targets.version}, keys=_keys(root))


def _forget_rotated(store: str, floors: Floors, root: Root) -> None:
    """Removes the cached timestamp and snapshot when `root` rotated their keys (specification, 5.3.11)."""
    if floors.rotated(_keys(root)) & {"timestamp", "snapshot"}:
        for role in ("timestamp", "snapshot"):
            durable.remove(os.path.join(store, f"{role}.json"))
