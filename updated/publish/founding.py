"""A new repository: its roles, their keys and how long their signatures last."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.release import Channel, channel_target, is_name
from updated.publish import rules
from updated.publish.begun import Begun
from updated.publish.keyrecord import KeyRecord
from updated.publish.keys import KeyFolder
from updated.publish.misuse import Misuse
from updated.publish.publication import Publication
from updated.publish.repository import LIFETIME, RELEASES, TOP_ROLES, Repository, Roles, expiry, locked

ROOT_KEYS: Final = 3
ROOT_THRESHOLD: Final = 2
DAYS: Final[Mapping[str, int]] = {"root": 730, "targets": 365, "snapshot": 14, "timestamp": 3, RELEASES: 365}
"""How long a signature of each role lasts, in days."""
CHANNEL_DAYS: Final = 90
_FOLDERS: Final = ("blobs", "targets/channels", "targets/releases", "targets", "metadata", "")


def initialize(
    path: str, keys: KeyFolder, channels: Sequence[str], *, days: Mapping[str, int], now: float,
    members: Mapping[str, Sequence[str]] = MappingProxyType({}), thresholds: Mapping[str, int] = MappingProxyType({}),
) -> Repository:
    """Makes a repository with empty channels in the folder `path`.

    By role: `days` overrides how long signatures last; `members` are the names of its keys in the folder, and a role
    without any gets new ones; `thresholds` overrides how many have to sign. `now` is in seconds since the epoch.
    Goes on with what was interrupted. Raises `UpdatedError` ("bad-repository", "bad-key", "bad-request") and OSError.
    """
    _check_channels(channels)
    lifetimes = dict(DAYS) | dict.fromkeys(channels, CHANNEL_DAYS)
    for role, number in days.items():
        if role not in lifetimes:
            raise _no_role(role, list(lifetimes))
        if not 1 <= number <= rules.LONGEST_LIFETIME:
            raise Misuse(
                "bad-request", f"the lifetime {role}={number}", f"is not from 1 to {rules.LONGEST_LIFETIME} days",
                f"Name the days, such as {role}={lifetimes[role]}.",
            )
    lifetimes |= days
    begun = Begun.found(path)
    needed = dict.fromkeys(lifetimes, 1) | {"root": ROOT_THRESHOLD} | dict(thresholds)
    given, new = _chosen(keys, list(lifetimes), members, needed, begun)
    os.makedirs(path, exist_ok=True)
    with locked(path):
        if Begun.found(path) != begun:
            raise UpdatedError(
                "already-running", f"the folder {path}", "another releasectl has changed it", "Run this again."
            )
        _build(path, keys, channels, lifetimes, given, new, needed, begun or Begun.of(keys, ()), now)
        Begun.end(path)
    return Repository(path)


def _build(
    path: str, keys: KeyFolder, channels: Sequence[str], lifetimes: Mapping[str, int],
    given: Mapping[str, list[KeyRecord]], new: Mapping[str, list[str]], needed: Mapping[str, int], begun: Begun,
    now: float,
) -> None:
    begun.including(new).write(path)
    made = {role: [_made(keys, name) for name in names] for role, names in new.items()}
    publics = {role: {record.keyid: record.key for record in {**given, **made}[role]} for role in lifetimes}
    for folder in _FOLDERS:
        os.makedirs(os.path.join(path, folder), exist_ok=True)
    roles = _first_roles(lifetimes, publics, needed, now)
    rules.check(roles.root.signed, roles.targets.signed)
    publication = Publication(path, roles, keys, now, tuple(lifetimes))
    for channel in channels:
        publication.put(channel, channel_target(channel), Channel(channel).format())
    for role in (*channels, RELEASES, "targets", "root"):
        publication.sign(role, first=True)
    publication.commit(first=True)
    for folder in _FOLDERS:
        durable.sync_directory(os.path.join(path, folder))



def _new_names(role: str) -> list[str]:
    """What the keys are called that are made for `role`."""
    return [role] if role != "root" else [f"root-{number}" for number in range(1, ROOT_KEYS + 1)]


def _chosen(
    keys: KeyFolder, roles: Sequence[str], members: Mapping[str, Sequence[str]], needed: Mapping[str, int],
    begun: Begun | None,
) -> tuple[dict[str, list[KeyRecord]], dict[str, list[str]]]:
    """By role, the keys that were named, and for roles without any the names of those to be made."""
    for role in (*members, *needed):
        if role not in roles:
            raise _no_role(role, roles)
    given = {role: [keys.record(name) for name in names] for role, names in members.items()}
    new = {role: _new_names(role) for role in roles if role not in given}
    for role in roles:
        count = len({record.keyid for record in given[role]} if role in given else new[role])
        absent = keys.signers(record.keyid for record in given.get(role, ())).absent
        if not 1 <= needed[role] <= count - len(absent):
            raise UpdatedError(
                "bad-key", f"the role {role}",
                f"needs {needed[role]} of its {count} keys, and {count - len(absent)} can sign here"
                f"{''.join(f'; not {each}' for each in absent)}",
                "Name more keys, or another threshold, at least 1; others can be added later.",
            )  # fmt: skip
    rules.check_separation((role, record.key) for role, records in given.items() for record in records)
    known = begun.names_in(keys) if begun is not None else ()
    keys.refuse_existing(name for names in new.values() for name in names if name not in known)
    return given, new


def _no_role(role: str, roles: Sequence[str]) -> Misuse:
    return Misuse("bad-request", f"the role {role!r}", "is not there", f"Name one of {', '.join(roles)}.")


def _made(keys: KeyFolder, name: str) -> KeyRecord:
    """A new key; the one of an interrupted run, where it got as far as that."""
    return keys.resumed(name) or keys.generate(name)


def _check_channels(channels: Sequence[str]) -> None:
    reserved = {*TOP_ROLES, RELEASES, *_new_names("root")}
    for name in channels:
        if channels.count(name) > 1:
            raise Misuse("bad-request", f"the channel {name!r}", "is there twice", "Name each channel once.")
        if not is_name(name) or name in reserved:
            raise Misuse(
                "bad-request", f"the channel {name!r}", "can't be the name of a channel",
                "Begin with a lower-case letter, go on with letters, digits, hyphens and underscores, at most 32, "
                "and don't use the name of another role.",
            )  # fmt: skip
    if not channels:
        raise Misuse("bad-request", "the channels", "are none", "Name at least one.")


def _first_roles(
    lifetimes: Mapping[str, int], publics: Mapping[str, Mapping[str, Key]], thresholds: Mapping[str, int], now: float
) -> Roles:
    def lasting(role: str) -> dict[str, int]:
        return {LIFETIME: lifetimes[role]}

    delegated = [role for role in lifetimes if role not in TOP_ROLES]
    root = Root(
        version=1, expires=expiry(now, lifetimes["root"]), unrecognized_fields=lasting("root"),
        keys={keyid: key for role in TOP_ROLES for keyid, key in publics[role].items()},
        roles={role: Role(list(publics[role]), thresholds[role]) for role in TOP_ROLES},
        consistent_snapshot=True,
    )  # fmt: skip
    delegations = Delegations(
        keys={keyid: key for role in delegated for keyid, key in publics[role].items()},
        roles={
            role: DelegatedRole(
                role, list(publics[role]), thresholds[role], terminating=True,
                paths=rules.paths_of(role),
            )
            for role in delegated
        },
    )  # fmt: skip
    return Roles(
        root=Metadata(root),
        timestamp=Metadata(
            Timestamp(expires=expiry(now, lifetimes["timestamp"]), snapshot_meta=MetaFile(1),
                      unrecognized_fields=lasting("timestamp"))
        ),
        snapshot=Metadata(
            Snapshot(expires=expiry(now, lifetimes["snapshot"]), meta={}, unrecognized_fields=lasting("snapshot"))
        ),
        targets=Metadata(
            Targets(expires=expiry(now, lifetimes["targets"]), delegations=delegations,
                    unrecognized_fields=lasting("targets"))
        ),
        delegated={
            role: Metadata(Targets(expires=expiry(now, lifetimes[role]), unrecognized_fields=lasting(role)))
            for role in delegated
        },
    )  # fmt: skip
