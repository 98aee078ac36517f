"""Tells what the node does: in the status file, to those who listen, to agents that reboot machines, and in the log."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from bootctl import durable
from updated.core import effects
from updated.core.document import dump
from updated.core.expiry import Notice
from updated.core.state import Phase, State
from updated.core.status import Progress

log = logging.getLogger("updated")

STATUS_SECONDS = 0.5


class Listener(Protocol):
    """Who is told of each change: the bus, the metrics."""

    def state_changed(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        """The state changed; `document` is the status document."""

    def progressed(self, progress: Progress) -> None:
        """A step went on."""

    def happened(self, effect: effects.Record) -> None:
        """A line of history was written."""


class Audience:
    """All who are told. `folder` is the daemon's below /run."""

    def __init__(self, folder: str) -> None:
        self.listeners: list[Listener] = []
        self._folder = folder
        self._written: tuple[float, bytes] = (0.0, b"")
        self._said = ""
        self._told_expiries: set[tuple[str, bool]] = set()

    def publish(
        self, before: State, after: State, document: Callable[[], dict[str, Any]], *,
        sentinel: bool, often: bool = False,
    ) -> None:  # fmt: skip
        """Writes the status document, where it is another one now, and passes the change on.

        `sentinel`: agents are told of a reboot that is wanted. `often`: it can wait when another one was just written.
        """
        if often and time.monotonic() - self._written[0] < STATUS_SECONDS:
            return
        text = document()
        data = dump({**text, "written_at": ""})
        if data == self._written[1]:
            return
        self._written = (time.monotonic(), data)
        try:
            os.makedirs(self._folder, exist_ok=True)
            durable.write_file(os.path.join(self._folder, "status.json"), dump(text), mode=0o644)
            self._mark_reboot(after, sentinel=sentinel)
        except OSError as error:
            log.warning("the status file could not be written: %s", error)
        self._tell(lambda listener: listener.state_changed(before, after, text))

    def progressed(self, progress: Progress) -> None:
        """A step went on."""
        self._tell(lambda listener: listener.progressed(progress))

    def happened(self, effect: effects.Record) -> None:
        """A line of history was written."""
        self._tell(lambda listener: listener.happened(effect))

    def log_summary(self, phase: Phase, summary: str) -> None:
        """Logs where the node stands, once for each change."""
        if summary == self._said or phase in (Phase.CHECKING, Phase.FAILED):
            return
        self._said = summary
        log.info("%s", summary)

    def log_expiries(self, close: Iterable[Notice]) -> None:
        """Warns of metadata that expires, once each."""
        told = set()
        for notice in close:
            told.add((notice.role, notice.expired))
            if (notice.role, notice.expired) not in self._told_expiries:
                log.warning("%s", notice.text)
        self._told_expiries = told

    def _tell(self, tell: Callable[[Listener], None]) -> None:
        """What goes wrong with somebody who only listens must not stop the node."""
        for listener in self.listeners:
            try:
                tell(listener)
            except Exception:
                log.exception("%s", type(listener).__name__)

    def _mark_reboot(self, state: State, *, sentinel: bool) -> None:
        """/run/reboot-required is what kured, Debian's tools and Flatcar's operator look for."""
        path = os.path.join(os.path.dirname(self._folder), "reboot-required")
        mark = os.path.join(self._folder, "reboot-required")
        staged = state.phase in (Phase.STAGED, Phase.CHECKING)  # a look for something newer changes nothing
        wanted = sentinel and staged and state.target is not None and state.target.armed
        ours = os.path.exists(mark)
        if wanted and not ours and not os.path.exists(path):
            durable.write_file(mark, b"")
            durable.write_file(path, b"*** System restart required (updated) ***\n")
        elif ours and not wanted:
            durable.remove(path)
            durable.remove(mark)
