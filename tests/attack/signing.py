"""What a publisher signs, and what whoever stole some of his keys can sign."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from tests.fakes.repository import RepositorySimulator
from updated.core.release import Channel, ChannelEntry, channel_target
from updated.core.version import Version
from updated.publish.founding import DAYS

NOW = 1_800_000_000
DAY = 86400
ONLINE = ("snapshot", "timestamp")
"""The keys without which no change of a repository is seen; they lie together on a server that signs daily."""


def entry(version: str, manifest: bytes, **more: Any) -> ChannelEntry:
    """The line of a channel that ships `manifest` as `version`."""
    return ChannelEntry(Version(version), hashlib.sha256(manifest).hexdigest(), **more)


def ship(repository: RepositorySimulator, channel: str, *entries: ChannelEntry) -> None:
    """Makes these the releases of the channel; nothing is published yet."""
    repository.set_target(channel_target(channel), Channel(channel, entries).format())


def publish(repository: RepositorySimulator, *, at: float = NOW) -> None:
    """Publishes as of another day: snapshot and timestamp last as long as those of `releasectl`."""
    for role in ONLINE:
        repository.expiries[role] = int(at) + DAYS[role] * DAY
    repository.publish()


def touch(repository: RepositorySimulator, *roles: str) -> None:
    """Has these roles signed anew at the next publication."""
    for role in roles:
        repository.set_expiry(role, repository.expiries[role])


def stamp(repository: RepositorySimulator, *, at: float = NOW) -> None:
    """Signs a new timestamp, and nothing else."""
    repository.versions["timestamp"] += 1
    repository.expiries["timestamp"] = int(at) + DAYS["timestamp"] * DAY
    repository._sign("timestamp", repository._timestamp())


def copied(
    repository: RepositorySimulator, folder: Path, key: Callable[[str, int, CryptoSigner], CryptoSigner]
) -> RepositorySimulator:
    """The repository once more in another folder, with the key that `key` gives for each: role, number and key."""
    made = copy.copy(repository)
    for name, value in vars(repository).items():
        if isinstance(value, dict | list | set):
            setattr(made, name, copy.copy(value))
    made.contents = {role: dict(targets) for role, targets in repository.contents.items()}
    shutil.copytree(repository.directory, folder)
    made.directory = str(folder)
    made.keys = {
        role: [key(role, number, each) for number, each in enumerate(keys)] for role, keys in repository.keys.items()
    }
    return made


class Pretender(CryptoSigner):
    """Signs with a key of its own, in the name of another."""

    def __init__(self, other: CryptoSigner) -> None:
        super().__init__(Ed25519PrivateKey.generate())
        self._other = other.public_key

    @property
    def public_key(self) -> SSlibKey:
        """The key that it does not have."""
        return self._other
