"""The verdicts over boots: a JSON object a line, the oldest first. It is history, not truth: nothing depends on it."""

import json
import os
from collections.abc import Iterator
from typing import Any

from bootctl import durable
from health import system
from health.rootdir import below

HISTORY = "/var/lib/updated/health/history.jsonl"
SIZE_LIMIT = 64 * 1024
KEPT_LINES = 100
READ_LIMIT = 1024 * 1024
"""Bytes that are read, the last ones: more than the lines that are kept can have."""
REASON_LIMIT = 500


def append(
    root: str, *, at: str, boot_id: str | None, slot: str, version: str | None, verdict: str, reason: str | None
) -> None:
    """Adds a line, durably, and drops the oldest ones when the file has grown beyond its limit. Raises OSError."""
    line = {
        "at": at, "boot_id": boot_id, "slot": slot, "version": version, "verdict": verdict,
        "reason": None if reason is None else reason[:REASON_LIMIT],
    }  # fmt: skip
    path = below(root, HISTORY)
    system.make_directory(os.path.dirname(path))
    durable.append_line(path, json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")
    if os.stat(path).st_size > SIZE_LIMIT:
        kept = list(read(root))[-KEPT_LINES:]
        durable.write_file(path, b"".join(json.dumps(each).encode() + b"\n" for each in kept))


def read(root: str, path: str = HISTORY) -> Iterator[dict[str, Any]]:
    """The lines that can be read; a damaged one is skipped. `path`: another file of the kind, such as the daemon's."""
    try:
        lines = system.tail(below(root, path), READ_LIMIT).split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def version_before(root: str, version: str | None) -> str | None:
    """The version that ran before `version`; None when that is not known."""
    others = [value["version"] for value in read(root) if isinstance(value.get("version"), str)]
    return next((other for other in reversed(others) if other != version), None)
