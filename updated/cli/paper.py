"""What the output goes to: its width and its colours; lines that wrap with a hanging indentation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = {"good": "32", "trial": "33", "bad": "31", "empty": "2", "bold": "1", "warning": "33", "dim": "2"}
LEAST_WIDTH, USUAL_WIDTH = 40, 80


@dataclass(frozen=True)
class Paper:
    """`width` in columns, None where lines don't wrap (in a pipe); `colours`: whether there are any."""

    width: int | None = None
    colours: bool = False

    def paint(self, text: str, colour: str) -> str:
        """`text` in one of `COLOURS`, if there are any."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.colours and text else text

    def wrapped(self, head: str, text: str) -> list[str]:
        """`head` and `text` as lines; those that follow begin below `text`. `head` may hold no colours."""
        if self.width is None:
            return [head + text]
        room = max(self.width, LEAST_WIDTH) - len(head)
        lines = [""]
        for word in text.split(" "):
            if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
                lines.append(word)
            else:
                lines[-1] += f" {word}" if lines[-1] else word
        return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]

    def rows(self, rows: Iterable[tuple[str, str]]) -> list[str]:
        """Names and texts in two columns."""
        rows = [(name, text) for name, text in rows if text]
        width = max((len(name) for name, _ in rows), default=0) + 1
        return [line for name, text in rows for line in self.wrapped(f"  {name + ':':<{width}} ", text)]


def paper_of(choice: str) -> Paper:
    """The standard output, with colours as `choice` (auto, always, never) and NO_COLOR (https://no-color.org) say."""
    terminal = sys.stdout.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Paper(columns() if terminal else None, choice == "always" or (choice == "auto" and terminal and not plain))


def columns() -> int:
    """The width of the terminal, as COLUMNS or the terminal itself says."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return USUAL_WIDTH


def plain(text: str) -> str:
    """`text` without what a terminal obeys: parts of it may come from anywhere."""
    return "".join(each if each.isprintable() else " " for each in text)
