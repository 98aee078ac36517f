"""What a person sees in each phase, at two widths and in a pipe, as files to look at.

`pytest tests/cli/test_golden.py --write-golden` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.states import NOW, PHASES
from updated.cli.paper import Paper
from updated.cli.show import status_text

FOLDER = Path(__file__).parent / "golden"
PAPERS = {"80": Paper(80, colours=True), "120": Paper(120, colours=True), "pipe": Paper()}
ESCAPE = re.compile(r"\x1b\[\d+m")


def shown(phase: str, paper: Paper) -> str:
    return status_text(PHASES[phase], now=NOW, paper=paper)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("phase", PHASES)
def test_the_status_is_as_it_was_looked_at(phase: str, paper: str, request: pytest.FixtureRequest) -> None:
    text = shown(phase, PAPERS[paper]).replace("\x1b", "␛") + "\n"
    path = FOLDER / f"{phase}-{paper}.txt"
    if request.config.getoption("--write-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"look at it; then --write-golden ({path.name})"


def test_no_file_is_left_of_a_phase_that_is_gone() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{phase}-{paper}.txt" for phase in PHASES for paper in PAPERS}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_unless_a_word_is(phase: str, width: int) -> None:
    for line in shown(phase, Paper(width)).splitlines():
        if not re.match(r"  [●↻×○] slot", line):
            assert len(line) <= width or len(line.split()) <= 3, line


@pytest.mark.parametrize("phase", PHASES)
def test_the_words_are_the_same_whatever_the_paper(phase: str) -> None:
    words = shown(phase, Paper()).split()
    for paper in PAPERS.values():
        assert ESCAPE.sub("", shown(phase, paper)).split() == words


@pytest.mark.parametrize("phase", PHASES)
def test_no_time_is_told_as_programs_read_it(phase: str) -> None:
    assert not re.search(r"\d\dT\d\d:\d\d", shown(phase, Paper()))
