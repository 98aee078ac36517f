"""One workshop for all attacks, and a world of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.world import Workshop, World
from tests.attack.world import world as make_world


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def world(workshop: Workshop, tmp_path: Path) -> Iterator[World]:
    """A node that has seen the repository, which ships 1.0.0; the publisher has more to ship."""
    with make_world(workshop, tmp_path) as made:
        yield made
