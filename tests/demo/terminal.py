"""What the demo prints: chapters, commands with their output, progress, and the table of what was checked."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Mapping
from typing import Any

from updated.cli.show import progress_bar

WIDTH = 100


class Terminal:
    """Colours and moving bars on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._begun = time.monotonic()
        self._open = False
        self._last: tuple[str, int] = ("", 0)

    def chapter(self, number: int, title: str) -> None:
        """A heading."""
        self._close()
        print()
        print(self._paint(f"━━ {number}. {title} ".ljust(WIDTH, "━"), "1;36"), flush=True)

    def say(self, text: str) -> None:
        """A sentence of the story."""
        self._close()
        print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  "), flush=True)

    def command(self, command: str, output: str, *, most: int = 40) -> None:
        """A command as a person types it, and what it answered."""
        self._close()
        print(self._paint(f"  $ {command}", "1;33"))
        lines = output.rstrip().splitlines()
        for line in lines[:most]:
            print(f"    {line}")
        if len(lines) > most:
            print(f"    … {len(lines) - most} more lines")
        sys.stdout.flush()

    def progress(self, progress: Mapping[str, Any] | None) -> None:
        """A bar that moves; in a pipe, a line for each quarter of a step."""
        if progress is None:
            return
        if self._live:
            sys.stdout.write(f"\r\x1b[K  {progress_bar(progress)}")
            self._open = True
        else:
            quarter = progress["done"] * 4 // progress["total"] if progress["total"] else 4
            if (progress["step"], quarter) == self._last:
                return
            self._last = (progress["step"], quarter)
            sys.stdout.write(f"  {progress_bar(progress)}\n")
        sys.stdout.flush()

    def waiting(self, text: str) -> None:
        """Something that takes a while; a clock shows that it goes on, on a terminal."""
        if not self._live and (text, 0) != self._last:
            self._last = (text, 0)
            print(f"  {text} …", flush=True)
        if self._live:
            sys.stdout.write(f"\r\x1b[K  {text} ({time.monotonic() - self._begun:.0f} s)")
            sys.stdout.flush()
            self._open = True

    def checked(self, promise: str, kept: bool, detail: str) -> None:
        """A promise that was looked at."""
        self._close()
        mark = self._paint("✓", "1;32") if kept else self._paint("✗", "1;31")
        print(f"  {mark} {promise}" + (f" — {detail}" if detail else ""), flush=True)

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        """A table of two columns."""
        self._close()
        print()
        print(self._paint(title, "1"))
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"  {name:<{width}}  {value}".rstrip())
        sys.stdout.flush()

    def _close(self) -> None:
        if self._open:
            sys.stdout.write("\n")
            self._open = False

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._live else text
