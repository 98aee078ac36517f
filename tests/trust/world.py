"""A publisher and a node for the tests of trust: the real client on a real store, against a signing simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.repository import RepositorySimulator
from updated.directory import DirectorySource
from updated.ports import Source
from updated.trust import Clock, Trust

NOW = 1_800_000_000
DAY = 86400
STABLE = "channels/stable.json"


class World:
    """A published repository, and a node with its store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.repository = RepositorySimulator(folder / "repository", now=NOW)
        self.repository.set_target(STABLE, b"stable, first")
        self.repository.set_target("releases/1.0.0.json", b"release 1.0.0")
        self.repository.publish()

    @contextmanager
    def cycle(
        self,
        *,
        system: float = NOW,
        built: int = NOW - DAY,
        source: Source | None = None,
        store: str = "store",
        root_once_a_day: bool = False,
    ) -> Iterator[Trust]:
        """A refreshed cycle."""
        with self.unrefreshed(system=system, built=built, source=source, store=store) as trust:
            trust.refresh(root_once_a_day=root_once_a_day)
            yield trust

    def unrefreshed(
        self,
        *,
        system: float = NOW,
        built: int = NOW - DAY,
        source: Source | None = None,
        store: str = "store",
    ) -> Trust:
        """A cycle that did not begin."""
        return Trust(
            source or DirectorySource(self.repository.directory),
            str(self.folder / store),
            self.repository.root_of_trust,
            Clock(system, built),
        )

    def change(self, data: bytes = b"stable, changed") -> None:
        """The publisher changes the stable channel."""
        self.repository.set_target(STABLE, data)
        self.repository.publish()

    def published(self, role: str) -> Path:
        """The file of the newest metadata of `role` in the repository."""
        return Path(self.repository.directory) / self.repository.metadata_name(role)
