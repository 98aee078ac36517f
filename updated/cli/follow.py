"""Follows the status file: `updatectl watch`, and the wait for what was asked for."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from updated.cli import exits
from updated.cli.paper import Paper, paper_of
from updated.cli.show import bar, progress_bar, status_text
from updated.cli.statusfile import read_status
from updated.cli.when import with_local_times
from updated.core.errors import UpdatedError

POLL_SECONDS = 0.2
BUSY = ("checking", "fetching", "sealing")
# How long the daemon may take to begin what it accepted.
BEGIN_SECONDS = 3.0
WIDEST_BAR = 80
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class _Line:
    """One line of a terminal that is written over, or plain lines in a pipe."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._last = ""
        self._open = False

    @property
    def begun(self) -> bool:
        """Whether there was anything to show."""
        return bool(self._last)

    def show(self, text: str, *, passing: bool, said: str | None = None) -> None:
        """Shows `text`, unless it says the same as the one before: `said`, without what time alone changes."""
        said = text if said is None else said
        if said == self._last or (passing and not self._terminal):
            return
        self._last = said
        if self._open:
            sys.stdout.write("\r" + _REST_OF_LINE)
        sys.stdout.write(text)
        if not passing or not self._terminal:
            sys.stdout.write("\n")
        self._open = passing and self._terminal
        sys.stdout.flush()

    def close(self) -> None:
        if self._open:
            sys.stdout.write("\n")
            self._open = False


def _follow(
    root: str, ended: Callable[[dict[str, Any]], bool], *, as_json: bool, paper: Paper,
    shown: Callable[[dict[str, Any]], bool] = lambda document: True,
) -> dict[str, Any]:
    """Shows what is `shown` until it has `ended`, and what it is then."""
    line = _Line(terminal=paper.width is not None)
    try:
        while True:
            document = read_status(root)
            gone = None
            if not document["alive"]:
                gone = UpdatedError("daemon-not-running", "the daemon", "ended", "'updatectl log' says why.")
                if not line.begun:
                    raise gone
            over = gone is None and ended(document)
            if not over and not shown(document):
                pass
            elif as_json:
                line.show(json.dumps(document, ensure_ascii=False), passing=False)
            elif over and document["error"]:
                pass  # whoever waited for it tells it
            elif document["progress"]:
                line.show(_fitting_bar(document["progress"], paper), passing=True)
            else:
                text = with_local_times(document["summary"], time.time())
                line.show(text, passing=False, said=document["summary"])
            if gone is not None:
                raise gone
            if over:
                return document
            time.sleep(POLL_SECONDS)
    finally:
        line.close()


def _fitting_bar(progress: dict[str, Any], paper: Paper) -> str:
    if paper.width is None:
        return progress_bar(progress)
    room = paper.width - len(progress_bar(progress, 0))
    return progress_bar(progress, max(0, min(30, room - 1)))[: paper.width]


def _about_to_be_armed(document: dict[str, Any]) -> bool:
    """Whether the baseline is being taken: nobody can reboot into the release yet."""
    target = document["target"]
    return document["phase"] == "staged" and bool(target) and not target["armed"] and not document["error"]


def watch(root: str, *, as_json: bool, color: str) -> int:
    """Shows the status until interrupted. In a pipe a line for each change, until the daemon ends."""
    paper = paper_of(color)
    if as_json or paper.width is None:
        _follow(root, lambda document: False, as_json=as_json, paper=paper)
        return exits.DONE
    drawn: list[str] = []
    while True:
        paper = paper_of(color)  # a person may have changed the size of the window
        lines = _screen(read_status(root), paper)
        if lines != drawn:
            text = "\n".join(f"{line}{_REST_OF_LINE}" for line in lines)
            sys.stdout.write((_HOME if drawn else _HOME + _REST_OF_SCREEN) + text + _REST_OF_SCREEN)
            sys.stdout.flush()
            drawn = lines
        time.sleep(POLL_SECONDS)


def _screen(document: dict[str, Any], paper: Paper) -> list[str]:
    """The lines of the status that fit on the terminal; what is below them can't be scrolled to."""
    lines = status_text(document, now=time.time(), paper=paper).splitlines()
    if document["progress"]:
        lines += ["", bar(document["progress"], min(paper.width or WIDEST_BAR, WIDEST_BAR) - 2)]
    return lines[: os.get_terminal_size(sys.stdout.fileno()).lines]


def wait(root: str, before: dict[str, Any], *, as_json: bool, paper: Paper) -> dict[str, Any]:
    """Waits until the daemon has done what was asked for after `before`; the status then. Raises its error."""
    begun = time.monotonic()
    seen = {"new": False, "busy": False}

    def new(document: dict[str, Any]) -> bool:
        """Whether it is no more what was true before: the daemon writes its status after it has answered."""
        seen["new"] = seen["new"] or document["summary"] != before["summary"]
        return seen["new"]

    def ended(document: dict[str, Any]) -> bool:
        if document["phase"] in BUSY or _about_to_be_armed(document):
            seen["busy"] = new(document)
            return False
        changed = document["last_check"] != before["last_check"] or document["failures"] != before["failures"]
        return seen["busy"] or changed or time.monotonic() - begun > BEGIN_SECONDS

    document = _follow(root, ended, as_json=as_json, paper=paper, shown=new)
    if document["error"]:
        raise UpdatedError.from_json(document["error"])
    return document
