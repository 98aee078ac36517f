"""The world that most node tests share: one repository, and a fresh machine for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import nginx
from tests.fakes.bus import private_bus
from tests.fakes.machine import Machine
from tests.node.bench import Bench, bench
from tests.node.world import Publisher, make_machine, shipped


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """A repository with 1.0.0 in each channel."""
    return shipped(tmp_path / "publisher")


@pytest.fixture
def server(publisher: Publisher) -> Iterator[str]:
    """The URL of the repository on nginx."""
    with nginx.serve(publisher.repository) as url:
        yield url


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    """The address of a bus that the tests of a module share."""
    with private_bus() as address:
        yield address


@pytest.fixture
def machine(tmp_path: Path, publisher: Publisher, server: str) -> Iterator[Machine]:
    """A machine that runs 1.0.0 and follows stable."""
    with make_machine(tmp_path / "machine", publisher, server) as made:
        yield made


@pytest.fixture
def slow(tmp_path: Path, publisher: Publisher) -> Iterator[Machine]:
    """A machine that takes seconds to fetch 1.1.0."""
    publisher.release("1.1.0", size=6_000_000)
    with (
        nginx.serve(publisher.repository, rate_limit="500k") as url,
        make_machine(tmp_path / "slow", publisher, url, slot_size="12M") as made,
    ):
        yield made


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    """A node that runs 1.0.0, and may take 1.1.0."""
    with bench(tmp_path) as made:
        made.ship()
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One such node for all that is refused before anything is written: what a test spoils, it mends."""
    with bench(tmp_path_factory.mktemp("shared")) as made:
        made.ship()
        yield made
