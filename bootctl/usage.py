"""What the command lines of all programs have in common: their helps, and what is said of a mistyped word."""

from __future__ import annotations

import argparse
import re
from collections.abc import Container, Iterable, Sequence
from typing import Any, NoReturn

_NAMES = 28
"""The columns for the names of options; longer ones have their text on the next line."""


class Help(argparse.HelpFormatter):
    """Gives the names of verbs and options enough room to stand on one line with their texts.

    That of Python 3.11 forgets by how much verbs are indented.
    """

    def __init__(self, prog: str, *, width: int | None = None) -> None:
        super().__init__(prog, max_help_position=_NAMES, width=width)

    def add_argument(self, action: argparse.Action) -> None:
        """Adds an option, or the verbs."""
        super().add_argument(action)
        if action.help is not argparse.SUPPRESS:
            for verb in self._iter_indented_subactions(action):
                length = len(self._format_action_invocation(verb)) + self._current_indent
                self._action_max_length = max(self._action_max_length, length)

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(text, width, break_on_hyphens=False)  # what is typed is not broken


class PlainEnd(Help, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of the text at the end as they are."""


def sentence(text: str) -> str:
    """The help of a verb as the beginning of its own help."""
    return text[0].upper() + text[1:] + "."


class Parser(argparse.ArgumentParser):
    """Says of a verb or an option that there isn't which one it may have been.

    Of a verb, `outer` are the options that stand before it. `verbs` are all of the program: only of the verb that is
    meant where none is named, since a mistyped one is its argument then.
    """

    outer: Container[str] = ()
    verbs: Sequence[str] = ()

    def wrong(self, what: str, cause: str, mend: str) -> NoReturn:
        """Ends the process with the status of a wrong argument."""
        super().error(f"{what}: {cause}. {mend}")

    def error(self, message: str) -> NoReturn:
        """What argparse finds wrong."""
        verb = re.match(r"argument VERB: invalid choice: '(.*)' \(choose ", message)
        if verb is not None:
            verbs = (each for action in self._actions if action.dest == "verb" for each in action.choices or ())
            self._unknown("verb", verb[1], verbs)
        self.wrong("the command line", message, self._help())

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses what isn't known at once: each verb knows best what it may have been."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            word = next((each for each in rest if each.startswith("-")), rest[0]).partition("=")[0]
            if word in self.outer or word in self.verbs:
                kind = "option" if word in self.outer else "verb"
                self.wrong(f"the {kind} {word}", "stands in the wrong place", "Options of the program come first, then "
                           "the verb, then what belongs to it.")
            if word.startswith("-"):
                self._unknown("option", word, (name for action in self._actions for name in action.option_strings))
            if self.verbs:
                self._unknown("verb", word, self.verbs)
            self.wrong(f"the argument {word!r}", "is one too many", self._help())
        return found, rest

    def _unknown(self, kind: str, word: str, known: Iterable[str]) -> NoReturn:
        from difflib import get_close_matches

        names = {name.lstrip("-"): name for name in known}
        near = get_close_matches(word.lstrip("-"), names, 1)
        self.wrong(f"the {kind} {word!r}", "is not known", f"Did you mean {names[near[0]]}?" if near else self._help())

    def _help(self) -> str:
        return f"'{self.prog} --help' says what there is."
