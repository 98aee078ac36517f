"""Tells systemd how the daemon is (sd_notify(3)), and logs so that the journal knows the priority (sd-daemon(3))."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def notify(message: str) -> None:
    """Sends `message` ("READY=1", "STATUS=...") to the service manager; nothing where there is none."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(message.encode(errors="replace"), address)


def watchdog_seconds() -> float | None:
    """How often the manager wants a sign of life: half of its limit, as sd_watchdog_enabled(3) recommends."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        pid = int(os.environ.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 and pid == os.getpid() else None


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


def set_up_log(level: str) -> None:
    """Logs to stderr, with priorities when that is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("updated")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
