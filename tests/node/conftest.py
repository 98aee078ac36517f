"""The world that most node tests share: one repository, and a fresh machine for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import nginx
from tests.fakes.machine import Machine
from tests.node.world import Publisher, make_machine


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """A repository with 1.0.0 in each channel."""
    made = Publisher(tmp_path / "publisher")
    made.release("1.0.0")
    return made


@pytest.fixture
def server(publisher: Publisher) -> Iterator[str]:
    """The URL of the repository on nginx."""
    with nginx.serve(publisher.repository) as url:
        yield url


@pytest.fixture
def machine(tmp_path: Path, publisher: Publisher, server: str) -> Iterator[Machine]:
    """A machine that runs 1.0.0 and follows stable."""
    made = make_machine(tmp_path / "machine", publisher, server)
    yield made
    made.power_off()
