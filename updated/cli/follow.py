"""Follows the status file: `updatectl watch`, and the wait for what was asked for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from updated.cli import exits
from updated.cli.show import progress_bar
from updated.cli.statusfile import read_status
from updated.core.errors import UpdatedError

POLL_SECONDS = 0.2
BUSY = ("checking", "fetching", "sealing")
# How long the daemon may take to begin what it accepted.
BEGIN_SECONDS = 3.0


class _Line:
    """One line of a terminal that is written over, or plain lines in a pipe."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = ""
        self._open = False

    def show(self, text: str, *, passing: bool) -> None:
        if text == self._last or (passing and not self._terminal):
            return
        self._last = text
        if self._open:
            sys.stdout.write("\r\x1b[K")
        sys.stdout.write(text)
        if not passing or not self._terminal:
            sys.stdout.write("\n")
        self._open = passing and self._terminal
        sys.stdout.flush()

    def close(self) -> None:
        if self._open:
            sys.stdout.write("\n")
            self._open = False


def _follow(root: str, ended: Callable[[dict[str, Any]], bool], *, as_json: bool) -> dict[str, Any]:
    line = _Line()
    try:
        while True:
            document = read_status(root)
            if not document["alive"]:
                raise UpdatedError(
                    "daemon-not-running", "the daemon", "ended", "Look at its log: journalctl -u updated."
                )
            if as_json:
                line.show(json.dumps(document, ensure_ascii=False), passing=False)
            elif document["progress"]:
                line.show(progress_bar(document["progress"]), passing=True)
            else:
                line.show(document["summary"], passing=False)
            if ended(document):
                return document
            time.sleep(POLL_SECONDS)
    finally:
        line.close()


def _about_to_be_armed(document: dict[str, Any]) -> bool:
    """Whether the baseline is being taken: nobody can reboot into the release yet."""
    target = document["target"]
    return document["phase"] == "staged" and bool(target) and not target["armed"] and not document["error"]


def watch(root: str, *, as_json: bool) -> int:
    """Shows each change until interrupted, or until the daemon ends."""
    _follow(root, lambda document: False, as_json=as_json)
    return exits.DONE


def wait(root: str, before: dict[str, Any], *, as_json: bool) -> int:
    """Waits until the daemon has done what was asked for after `before`; the exit status says how it went."""
    begun = time.monotonic()
    seen = {"busy": False}

    def ended(document: dict[str, Any]) -> bool:
        if document["phase"] in BUSY or _about_to_be_armed(document):
            seen["busy"] = True
            return False
        changed = document["last_check"] != before["last_check"] or document["failures"] != before["failures"]
        return seen["busy"] or changed or time.monotonic() - begun > BEGIN_SECONDS

    document = _follow(root, ended, as_json=as_json)
    if document["error"]:
        raise UpdatedError.from_json(document["error"])
    return exits.DONE
