"""What the helps of all programs have in common."""

from __future__ import annotations

import argparse

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
