"""A place for states that are laid out by the thousand, and the table of what survived."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "packaging/doc/crash-model.md"
OPERATIONS = ("invalidate", "arm", "begin", "confirm", "reject", "roll back", "recount")
_OTHER_WORDS = {"withdraw": "reject", "count": "recount"}
Row = tuple[str, str, str, int]
_ROWS = pytest.StashKey[list[Row]]()

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
    rows: list[Row] = request.config.stash.setdefault(_ROWS, [])

    def add(loader: str, judge: str, operation: str, cuts: int) -> None:
        assert cuts > 1, "nothing was cut"
        rows.append((loader, judge, operation, cuts))

    return add


def table(rows: list[Row]) -> str:
    """A line for each loader; operations of one kind, on whatever was there before, are added up."""
    head = "".join(f" {name} |" for name in OPERATIONS)
    lines = [f"| loader | read by |{head}", "|---|---|" + "---|" * len(OPERATIONS)]
    for loader, judge in sorted({row[:2] for row in rows}):
        sums = dict.fromkeys(OPERATIONS, 0)
        for _, _, operation, cuts in (row for row in rows if row[:2] == (loader, judge)):
            word = operation.split()[0]
            kind = next(name for name in OPERATIONS if name.startswith(_OTHER_WORDS.get(word, word)))
            sums[kind] += cuts
        cells = "".join(f" {f'{cuts} of {cuts}' if cuts else ''} |" for cuts in sums.values())
        lines.append(f"| {loader} | {judge} |{cells}")
    return "".join(f"{line}\n" for line in lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table, and with --write-table writes it into the document."""
    if not config.getoption("--write-table"):
        return
    text = table(config.stash.get(_ROWS, []))
    terminalreporter.write(text)
    measured = re.compile(r"(?<=<!-- measured: powercut -->\n).*?(?=<!-- end -->)", re.DOTALL)
    DOCUMENT.write_text(measured.sub(lambda _: text, DOCUMENT.read_text()))
