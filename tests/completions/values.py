"""What may stand where on a command line, for all shells."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.commands import Command, takes_value, value_name
from updated.cli.explain import explanations

NAMES: Mapping[str, tuple[str, ...]] = {"updatectl": ("updated-ctl", "updatectl"), "releasectl": ("releasectl",)}
"""How each program is called; the first name is always its own."""

_CHANNELS = ("stable", "beta", "alpha")
_FILES, _FOLDERS = {"FILE", "PATH", "PEM", "DISK"}, {"DIR", "REPOSITORY", "SOURCE", "DESTINATION"}
_WORDS: Mapping[str, tuple[str, ...]] = {"ROLE": ("root", "targets", "snapshot", "timestamp", "releases", *_CHANNELS)}
DENIED = r"""sed -n '/^  "denied": \[$/,/^  \]/s/^ *"version": "\([0-9A-Za-z.+-]*\)".*/\1/p'"""


@dataclass(frozen=True)
class Value:
    """What may stand somewhere; codes have a meaning, and what is denied the node says."""

    kind: str = "nothing"
    words: tuple[tuple[str, str], ...] = ()


def value_of(command: Command, action: argparse.Action) -> Value:
    """What may be given for an option or an argument."""
    name = value_name(action)
    if command.words == ("updatectl", "allow") and name == "VERSION":
        return Value("denied")
    if name == "CODE":
        return Value("codes", tuple(meanings().items()))
    if (command.words == ("updatectl", "channel") and name == "NAME") or action.option_strings == ["--channel"]:
        return Value("words", tuple((each, "") for each in _CHANNELS))
    if action.choices is not None and not isinstance(action.choices, range):
        return Value("words", tuple((str(each), "") for each in action.choices))
    if name in _WORDS:
        return Value("words", tuple((each, "") for each in _WORDS[name]))
    return Value("files" if name in _FILES else "folders" if name in _FOLDERS else "nothing")


def meanings() -> dict[str, str]:
    """What each code means; as a reason, if it is an error as well."""
    return {each["code"]: each["meaning"] for each in reversed(explanations())}


def all_of(command: Command) -> Iterator[Command]:
    """A command and all verbs below it."""
    yield command
    for verb in command.verbs:
        yield from all_of(verb)


def path_of(command: Command) -> str:
    """The verbs that lead to a command, each behind a slash."""
    return "".join(f"/{word}" for word in command.words[1:])


def valued(program: Command) -> list[str]:
    """Each option behind which a word has to follow, with the path of its verb."""
    return [
        f"{path_of(command)} {name}"
        for command in all_of(program)
        for option in command.options
        if takes_value(option) and option.nargs != "?"
        for name in option.option_strings
    ]


def function_of(name: str) -> str:
    """What the functions of a program are called, or begin with."""
    return "_" + NAMES[name][0].replace("-", "_")


HEADER = "Completions of {name} for {shell}. 'python -m tests.documents' writes them, from what the program takes."
