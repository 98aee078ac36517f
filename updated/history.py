"""The history of a node: one JSON object a line, the oldest first, bounded.

Keys: `at` (RFC 3339), `kind` (install, staged, reboot, confirmed, fell-back, rolled-back, failed, channel, hold,
unhold, allow, withdrawn, import, expired), `version`, `text`.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bootctl import durable
from updated.core.document import format_time
from updated.record import storage_error

MAX_BYTES = 256 * 1024
KEEP_LINES = 500


class History:
    """The file `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def append(self, now: int, kind: str, version: str, text: str) -> None:
        """Adds a line, durably. Raises `UpdatedError` ("disk-full", "disk-error")."""
        entry = {"at": format_time(now), "kind": kind, "version": version, "text": text}
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            if os.path.exists(self._path) and os.stat(self._path).st_size > MAX_BYTES:
                with open(self._path, "rb") as file:
                    kept = file.readlines()[-KEEP_LINES:]
                durable.write_file(self._path, b"".join(kept))
            durable.append_line(self._path, json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise storage_error("the history", error) from None


def read_history(path: str) -> list[dict[str, Any]]:
    """The entries at `path`, the oldest first; lines that a power cut tore are left out."""
    entries = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(entry, dict):
                    entries.append(entry)
    except FileNotFoundError:
        return []
    return entries
