"""A bus for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.bus import private_bus


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    """The address of a private bus."""
    with private_bus() as address:
        yield address
