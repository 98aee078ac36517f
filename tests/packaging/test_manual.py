"""The manual pages: what the programs take, and as scdoc and man read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import PROGRAMS, takes_value
from tests.manual import GENERATED, PAGES, regenerated

SOURCES = sorted(PAGES.glob("*.scd"))
PAGE = pytest.mark.parametrize("page", SOURCES, ids=lambda path: path.stem)
TITLES = {path.stem for path in SOURCES}
OF_OTHERS = {"journalctl.1", "systemd-escape.1", "systemd.1", "bootctl.1", "boot-complete.target.7"}


def rendered(page: Path, folder: Path) -> str:
    """The page at 80 columns, without a word of warning."""
    for tool in ("scdoc", "man"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    made = subprocess.run(["scdoc"], input=page.read_bytes(), capture_output=True, check=False, timeout=60)
    assert (made.returncode, made.stderr) == (0, b"")
    (folder / page.stem).write_bytes(made.stdout)
    shown = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", folder / page.stem],
        capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MAN_KEEP_FORMATTING": ""},
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout


@PAGE
def test_what_follows_from_the_code_is_as_the_code_gives_it(page: Path) -> None:
    text = page.read_text()
    assert regenerated(text) == text, f"{page.name} is out of date: run 'make docs'"


def test_each_program_has_a_page_and_each_part_is_on_one() -> None:
    text = "".join(page.read_text() for page in SOURCES)
    parts = set(re.findall(r"^; generated: (\w+) ?(\S*)$", text, re.MULTILINE))
    assert {name for part, name in parts if part == "options"} == set(PROGRAMS)
    assert {name for part, name in parts if part == "verbs"} == {name for name, each in PROGRAMS.items() if each.verbs}
    assert {part for part, _ in parts} == set(GENERATED)


@PAGE
def test_a_page_reads_well_at_80_columns(page: Path, tmp_path: Path) -> None:
    lines = rendered(page, tmp_path).splitlines()
    # Examples stand as they are typed.
    assert not [line for line in lines if len(line) > 80 and not line.startswith(" " * 15)]
    assert not [line for line in lines if re.search(r"`|\]\(|\*\*", line)], "marks of Markdown"
    headings = [line for line in lines if re.match(r"[A-Z]", line) and "(" not in line]
    assert headings[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert headings[-2:] == ["EXAMPLES", "SEE ALSO"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_verb_and_each_option_can_be_read(name: str, tmp_path: Path) -> None:
    [page] = [path for path in SOURCES if path.stem.rpartition(".")[0] in (name, f"updated-{name}")]
    text = " ".join(rendered(page, tmp_path).split())
    for leaf in PROGRAMS[name].leaves:
        assert " ".join(leaf.words[1:]) in text
        for option in leaf.options:
            ends = " " if takes_value(option) else ""
            assert all(f"{each}{ends}" in text for each in option.option_strings), (leaf.words, option.dest)


@PAGE
def test_other_pages_that_a_page_names_exist(page: Path) -> None:
    for name, number in re.findall(r"\*([\w.-]+)\*\((\d)\)", page.read_text()):
        assert f"{name}.{number}" in TITLES | OF_OTHERS


def test_every_page_is_named_by_another() -> None:
    for title in TITLES:
        name, _, number = title.rpartition(".")
        others = [path for path in SOURCES if path.stem != title]
        assert any(f"*{name}*({number})" in path.read_text() for path in others), title
