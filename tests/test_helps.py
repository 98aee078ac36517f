"""What the programs say with `--help`: in one style, and as wide as a terminal of 80 columns."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from tests.commands import PROGRAMS, Command, takes_value


def commands(command: Command) -> Iterator[Command]:
    yield command
    for verb in command.verbs:
        yield from commands(verb)


ALL = [each for program in PROGRAMS.values() for each in commands(program)]
EACH = pytest.mark.parametrize("command", ALL, ids=lambda each: " ".join(each.words))


@EACH
def test_a_help_fits_80_columns(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = command.parser.format_help()
    # What excludes each other is not broken by argparse.
    assert not [line for line in text.splitlines() if len(line) > 80 and "|" not in line]


@EACH
def test_each_verb_stands_on_one_line_with_what_it_does(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = command.parser.format_help()
    for verb in command.verbs:
        assert re.search(rf"^    {verb.words[-1]} +{re.escape(verb.summary)}$", text, re.MULTILINE), verb.words


@EACH
def test_descriptions_are_sentences_and_helps_are_not(command: Command) -> None:
    assert command.parser.description is not None
    assert re.fullmatch(r"[A-Z].*\.", command.parser.description)
    for told in [verb.summary for verb in command.verbs] + [command.told(each) for each in command.options]:
        assert not re.match(r"[A-Z][a-z]", told)
        assert not told.endswith(".")


@EACH
def test_each_argument_has_a_help_and_a_name_for_its_value(command: Command) -> None:
    for each in (*command.options, *command.positionals):
        assert command.told(each)
        if takes_value(each):
            assert isinstance(each.metavar, str)
            assert re.fullmatch(r"[A-Z0-9:=|-]+", each.metavar)
    assert command.parser.formatter_class is not argparse.HelpFormatter
