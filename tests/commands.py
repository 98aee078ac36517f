"""The command lines of the programs, as their parsers declare them: what manual pages and completions are made from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from bootctl.__main__ import parser as bootctl_parser
from health.usage import parser as health_parser
from updated.__main__ import parser as updated_parser
from updated.cli.arguments import parser as updatectl_parser
from updated.publish.__main__ import parser as releasectl_parser


@dataclass(frozen=True)
class Command:
    """A program, or one of its verbs; `words` are those that lead to it, the name of the program first."""

    words: tuple[str, ...]
    summary: str
    parser: argparse.ArgumentParser

    @property
    def verbs(self) -> tuple[Command, ...]:
        """The verbs that may follow."""
        return tuple(
            Command((*self.words, name), self.told(told), child)
            for each in self.parser._actions
            if isinstance(each, argparse._SubParsersAction)
            for (name, child), told in zip(each.choices.items(), each._choices_actions, strict=True)
        )

    @property
    def options(self) -> tuple[argparse.Action, ...]:
        """The options, without that for help."""
        return tuple(
            each for each in self.parser._actions if each.option_strings and "--help" not in each.option_strings
        )

    @property
    def positionals(self) -> tuple[argparse.Action, ...]:
        """The arguments that are no options, and no verb."""
        return tuple(
            each
            for each in self.parser._actions
            if not each.option_strings and not isinstance(each, argparse._SubParsersAction)
        )

    @property
    def leaves(self) -> Iterator[Command]:
        """All verbs below that have none themselves; a program without verbs is its own."""
        if not self.verbs:
            yield self
        for verb in self.verbs:
            yield from verb.leaves

    def groups(self) -> Iterator[tuple[argparse.Action, ...]]:
        """The options, with those together that exclude each other."""
        exclusive = [tuple(group._group_actions) for group in self.parser._mutually_exclusive_groups]
        for option in self.options:
            group = next((each for each in exclusive if option in each), (option,))
            if option is group[0]:
                yield group

    def needs_one_of(self, group: tuple[argparse.Action, ...]) -> bool:
        """Whether one of a group of options has to be given."""
        if len(group) == 1:
            return group[0].required
        return any(
            each.required for each in self.parser._mutually_exclusive_groups if tuple(each._group_actions) == group
        )

    def told(self, action: argparse.Action) -> str:
        """The help of an argument or a verb, as it is printed."""
        assert action.help, f"{self.words} {action} has no help"
        return self.parser._get_formatter()._expand_help(action)


def takes_value(option: argparse.Action) -> bool:
    """Whether something follows an option, also where that may be left out."""
    return option.nargs != 0


def value_name(action: argparse.Action) -> str:
    """What stands for the value in the help."""
    return str(action.metavar or action.dest.upper())


PROGRAMS = {
    name: Command((name,), name, parser)
    for name, parser in {
        "updatectl": updatectl_parser(), "releasectl": releasectl_parser(), "updated": updated_parser(),
        "updated-health": health_parser(), "bootctl": bootctl_parser(),
    }.items()
}  # fmt: skip
