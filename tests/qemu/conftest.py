"""No test leaves a machine behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.qemu.machine import children


@pytest.fixture(autouse=True)
def no_machine_is_left() -> Iterator[None]:
    """Fails when QEMU outlives a test."""
    yield
    assert children(os.getpid()) == set()
