"""A place for states that are laid out by the thousand, and the table of what survived."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "packaging/doc/crash-model.md"
_HEAD = "| loader | read by | operation | states that a cut leaves | survived |\n|---|---|---|---|---|\n"
_ROWS = pytest.StashKey[list[str]]()

Tally = Callable[[str, str, str, int], None]
"""Is told that all of so many cuts were survived: loader, its reader, operation, number."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder in memory if there is one: the recorder tells what is durable, not the disk of the tests."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """A row of the table, for a test that has seen that nothing was lost."""
    rows: list[str] = request.config.stash.setdefault(_ROWS, [])

    def add(loader: str, judge: str, operation: str, cuts: int) -> None:
        assert cuts > 1, "nothing was cut"
        rows.append(f"| {loader} | {judge} | {operation} | {cuts} | {cuts} |\n")

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table, and with --write-table writes it into the document."""
    if not config.getoption("--write-table"):
        return
    rows: list[str] = config.stash.get(_ROWS, [])
    table = _HEAD + "".join(sorted(rows))
    terminalreporter.write(table)
    measured = re.compile(r"(?<=<!-- measured: powercut -->\n).*?(?=<!-- end -->)", re.DOTALL)
    DOCUMENT.write_text(measured.sub(lambda _: table, DOCUMENT.read_text()))
