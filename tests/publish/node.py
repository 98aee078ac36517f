"""A node that reads a repository: what it trusts is decided by `updated.trust`, from a store that lives on."""

from __future__ import annotations

from pathlib import Path

from updated.core.release import Channel, channel_target
from updated.directory import DirectorySource
from updated.trust import Clock, Trust


class Node:
    """A node with its store in `store`, whose image pins `root`."""

    def __init__(self, repository: Path, store: Path, root: bytes, now: float) -> None:
        self.repository = repository
        self._store = store
        self._root = root
        self._now = now

    def read(self, repository: Path | None = None) -> dict[str, int]:
        """Runs a whole cycle; the versions of all roles that it trusts then. Raises `UpdatedError`."""
        source = DirectorySource(str(repository or self.repository))
        with Trust(source, str(self._store), self._root, Clock(self._now, int(self._now) - 86400)) as trust:
            trust.refresh()
            for channel in ("stable", "beta", "alpha"):
                Channel.parse(trust.target(channel_target(channel), 1_000_000))
            return trust.versions()
