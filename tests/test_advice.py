"""The commands that a message advises: named as every way of installation offers them, and such that they are taken."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.commands_in_documents import problems
from tests.documents import ROOT

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
SOURCES = [path for package in ("bootctl", "health", "updated") for path in sorted((ROOT / package).rglob("*.py"))]
VERBS = re.compile(r"\b(updated-bootctl|updated-health)((?: [a-z]+(?=[ ')`]))?(?: [A-Z]+\b)?)")


def texts(path: Path) -> Iterator[str]:
    """The texts in a module that are no docstrings; a value in one is a word in capitals."""
    tree = ast.parse(path.read_text())
    pieces: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            pieces.add(node.value)
        if isinstance(node, ast.JoinedStr):
            pieces.update(node.values)
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "VALUE" for each in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in pieces:
            yield node.value


def test_a_message_names_programs_as_they_are_installed() -> None:
    # bootctl.kexec is for its unit alone.
    modules = re.compile(r"python3 -m (bootctl|health)(?!\.kexec)")
    assert [(str(path), text) for path in SOURCES for text in texts(path) if modules.search(text)] == []


def test_the_programs_that_messages_name_are_offered_and_take_what_is_advised() -> None:
    advised = {match.groups() for path in SOURCES for text in texts(path) for match in VERBS.finditer(text)}
    assert {("updated-bootctl", " doctor"), ("updated-bootctl", " confirm SLOT")} <= advised
    assert {program for program, _ in advised} <= set(SCRIPTS)
    assert problems("".join(f"`{program}{words}`\n" for program, words in advised)) == []
