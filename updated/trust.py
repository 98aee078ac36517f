"""What this node trusts: one cycle of the TUF client workflow over a store.

Added to the workflow here: time never runs backwards; floors outlive a damaged cache; targets are cached as well; a
caller may let a newer root wait for a day while nothing is new; and what was verified can be exported for another
process.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from bootctl import durable
from updated import record
from updated.core.document import Misfit, format_time
from updated.core.errors import UpdatedError
from updated.core.floors import Floors
from updated.core.version import Version
from updated.directory import DirectorySource
from updated.floor_record import FloorRecord
from updated.metadata_store import holds, locked, tidy, write
from updated.ports import Source
from updated.tufclient import CONFIG, NODE_RULES, TIMESTAMP_NAME, Client, Keys, Listed, Rules, cached_floors, invalid

ROOT_PROBE_SECONDS: Final = 24 * 3600
_LATEST: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_PROBE_SCHEMA: Final = 1
_SYSTEM_CLOCK: Final = "the system clock"


@dataclass(frozen=True, slots=True)
class Clock:
    """What may tell the time, in seconds since the epoch: the system clock, and when this system was built."""

    system: float
    built: int


@dataclass(frozen=True, slots=True)
class _Reference:
    """The time of a cycle and what told it, and the system clock, in seconds since the epoch."""

    time: int
    teller: str
    system: int

    def expired(self, role: str, expiry: int | None) -> UpdatedError:
        when = f"expired on {format_time(expiry)}" if expiry is not None else "expired"
        if self.teller == _SYSTEM_CLOCK:
            mend = "Check the clock of this machine; if it is right, the publisher must refresh the repository."
        else:
            mend = (
                f"The publisher must refresh the repository. (The system clock, at {format_time(self.system)}, "
                f"is behind, and was not used.)"
            )
        return UpdatedError(
            "metadata-expired", f"the metadata of the role {role!r}",
            f"{when}, and it is {format_time(self.time)} by {self.teller}", mend,
        )


class Trust:
    """One TUF update cycle; a new object for each. Holds the lock of its store until `close` or its end of life.

    `store` is a directory for the metadata cache and the floors. `root_of_trust` is the pinned root metadata. `grace`:
    for how many seconds metadata is still accepted after its expiry. `rules` are those of nodes, unless a repository
    of others is read. `root_path` is the file that `root_of_trust` is from, for people.

    Raises `UpdatedError`: "already-running", "no-root-of-trust", "disk-full", "disk-error".

    Attributes: `reference_time`, the one time in seconds since the epoch against which all expiries of this cycle are
    checked; `notes`, sentences for people about protection that was lost and rebuilt.
    """

    def __init__(
        self, source: Source, store: str, root_of_trust: bytes, clock: Clock, *,
        grace: int = 0, rules: Rules = NODE_RULES, root_path: str = "",
    ) -> None:
        self._source = source
        self._store = store
        self._root_of_trust = root_of_trust
        self._pinned = f"the pinned root metadata {root_path}".rstrip()
        self._grace = grace
        self._rules = rules
        self._cached_targets = DirectorySource(os.path.join(store, "targets"))
        self._obtained: dict[str, bytes] = {}
        self._used: set[str] = set()
        self._ready = False
        with self._storage(), contextlib.ExitStack() as undo:
            self._close = weakref.finalize(self, os.close, locked(store))
            undo.callback(self.close)
            tidy(store)
            self._record = FloorRecord(store, functools.partial(cached_floors, store, root_of_trust))
            self.notes = self._record.notes
            self._reference = _reference(clock, self._floors)
            self.reference_time = self._reference.time
            self._client = self._new_client()
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
            self._record.write(replace(self._floors, release=version))

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
            self._client.refresh(self._forget_rotated)
            floors = self._raised_floors()
        self._record.write(floors)
        if root_once_a_day and self._client.has_newest_root:
            record.write(self._probe_path(), {"schema": _PROBE_SCHEMA, "probed": format_time(self.reference_time)})
        self._ready = True

    def target(self, path: str, most: int) -> bytes:
        """The verified content, of at most `most` bytes, of the target `path`.

        Raises `UpdatedError`: "no-such-target", "wrong-digest", and what `refresh` raises.
        """
        if not self._ready:
            raise UpdatedError("internal", f"the target {path}", "was asked for before a refresh", "Report it.")
        listed = self._client.find(path)
        what = f"the target {path}"
        if listed is None:
            raise UpdatedError(
                "no-such-target", what, "is not in the signed metadata",
                "Check that this is the right repository; the publisher must mend it.",
            )
        if listed.length > most:
            raise invalid(what, f"is listed with {listed.length} bytes, and at most {most} are accepted")
        self._used.add(listed.digest)
        if listed.name not in self._obtained:
            data = self._cached_target(listed)
            self._obtained[listed.name] = self._fetched_target(listed) if data is None else data
        return self._obtained[listed.name]

    def forget_other_targets(self) -> None:
        """Removes the cached targets that this cycle did not ask for."""
        folder = os.path.join(self._store, "targets")
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name not in self._used:
                    durable.remove(os.path.join(folder, name))

    def versions(self) -> dict[str, int]:
        """The version of each role's metadata, as the trusted snapshot lists them. After `refresh`."""
        return self._client.versions()

    def expiries(self) -> dict[str, int]:
        """When the metadata of each role that was read expires, in seconds since the epoch. After `refresh`."""
        return self._client.expiries()

    def expired(self) -> dict[str, int]:
        """Of `expiries`, what is over already, and was accepted by grace. After `refresh`."""
        return {role: at for role, at in self.expiries().items() if at <= self.reference_time}

    def lifetimes(self) -> dict[str, int]:
        """For how many seconds the publisher signs each role that was read; without those that don't say it."""
        return self._client.lifetimes()

    def export(self, directory: str) -> None:
        """Writes a repository of this cycle: its metadata from the root chain on, and each target obtained.

        Another process can run the same cycle from it, through a `DirectorySource`, and trusts nothing of this one.
        Raises `UpdatedError` ("disk-full", "disk-error").
        """
        with self._storage(f"the folder {directory}"):
            for name, cached in self._client.files().items():
                with open(cached, "rb") as file:
                    write(directory, name, file.read())
            for name, data in self._obtained.items():
                write(directory, name, data)

    @property
    def _floors(self) -> Floors:
        return self._record.floors

    def _new_client(self) -> Client:
        time, expired = self.reference_time - self._grace, self._reference.expired
        return Client(self._store, self._source, self._root_of_trust, time, self._rules, expired, self._pinned)

    def _raised_floors(self) -> Floors:
        """The floors after the metadata that the client trusts now. Raises `UpdatedError` when it is below them."""
        client, keys = self._client, self._client.keys()
        return self._floors.recovered(keys).raised(
            client.versions(), delegated=client.delegated(), keys=keys, time=self.reference_time
        )

    def _forget_rotated(self, version: int, keys: Keys) -> None:
        """Removes the cached timestamp and snapshot when their keys were rotated (specification, 5.3.11)."""
        if self._floors.rotated(keys) & {"timestamp", "snapshot"}:
            for role in ("timestamp", "snapshot"):
                durable.remove(os.path.join(self._store, f"{role}.json"))

    def _repeated(self) -> Floors | None:
        """The floors of a cycle over the cache alone; None when not all of it is as it was: then nothing of it counts.

        Raises what `Source.read` raises for the timestamp, without which no cycle succeeds.
        """
        if not self._root_is_recent():
            return None
        latest = self._source.read(TIMESTAMP_NAME, CONFIG.timestamp_max_length)
        with self._storage():
            if not holds(os.path.join(self._store, "timestamp.json"), latest):
                return None
            try:
                self._client.refresh(self._require_known_root, latest)
                return self._raised_floors()
            except Exception:
                # Whatever is wrong, the ordinary cycle that follows mends it or says it.
                self._client = self._new_client()
                return None

    def _root_is_recent(self) -> bool:
        """Whether a newer root was asked for within a day, as far as clock and records can be relied upon."""
        if self.notes or self._reference.system < self.reference_time:
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

    def _require_known_root(self, version: int, keys: Keys) -> None:
        if version != self._floors.versions.get("root"):
            raise invalid("the cached root metadata", "is not the newest that was trusted")

    def _cached_target(self, listed: Listed) -> bytes | None:
        try:
            data = self._cached_targets.read(listed.digest, listed.length)
            listed.check(data)
        except UpdatedError:
            return None
        return data

    def _fetched_target(self, listed: Listed) -> bytes:
        data = self._source.read(listed.name, listed.length)
        listed.check(data)
        folder = os.path.join(self._store, "targets")
        with contextlib.suppress(OSError):  # it is only kept to spare a download
            os.makedirs(folder, mode=0o700, exist_ok=True)
            durable.write_file(os.path.join(folder, listed.digest), data, mode=0o600)
        return data

    def _probe_path(self) -> str:
        # Apart from the floors: a program that doesn't know this record must still be able to read those.
        return os.path.join(self._store, "root-probe")

    @contextmanager
    def _storage(self, what: str | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise record.storage_error(what or f"the metadata store {self._store}", error) from None


def _reference(clock: Clock, floors: Floors) -> _Reference:
    system = _seconds(clock.system)
    time, teller = max(
        (system, _SYSTEM_CLOCK),
        (_seconds(clock.built), "the build time of this system"),
        (floors.time, "the last trusted time"),
        key=lambda candidate: candidate[0],
    )
    return _Reference(time, teller, system)


def _seconds(time: float) -> int:
    """`time` within the calendar. What is no number is no time, and makes nothing valid that another time forbids."""
    return 0 if math.isnan(time) else int(min(max(time, 0), _LATEST))
