"""`updatectl history` and `updatectl health`: what happened on this node, from its files."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bootctl.errors import mend_of
from bootctl.settings import below
from updated.cli import exits
from updated.cli.judged import health_text, well_formed
from updated.cli.paper import Paper, paper_of, plain
from updated.cli.spans import since
from updated.cli.when import epoch, recorded, times, with_local_times
from updated.core.errors import UpdatedError
from updated.healthfiles import WHOLE_OUTPUT, read_health, read_verdicts, verdict_fault
from updated.history import read_history

HISTORY_FILE = "/var/lib/updated/history.jsonl"
DEFAULT_LINES = 20
# Below this width the texts have lines of their own: beside the time there is room for a word or two.
LEAST_COLUMNS = 70


def health(options: argparse.Namespace) -> int:
    """Shows the last verdict, and those before."""
    found = read_health(options.root, most_output=WHOLE_OUTPUT)
    fault = verdict_fault(options.root) if found is None else None
    verdicts = _newest(well_formed(_readable(lambda: read_verdicts(options.root), "the verdicts")), options.lines)
    if options.json:
        print(json.dumps({"verdict": found, "history": verdicts}, indent=2, ensure_ascii=False))
    else:
        text = health_text(found, verdicts, damaged=fault is not None)
        print(with_local_times(text), end="\n" if text else "")
    if fault is None:
        return exits.DONE
    print(f"updatectl: {fault}", file=sys.stderr)
    return exits.BY_CODE.get(fault.code, exits.FAILED)


def history(options: argparse.Namespace) -> int:
    """Shows what happened, the newest last."""
    now = time.time()
    entries = _readable(lambda: read_history(below(options.root, HISTORY_FILE)), "the history")
    if options.since is not None:
        begin = since(options.since, now)
        entries = [entry for entry in entries if _at(entry) >= begin]
    most = options.lines if options.lines is not None else len(entries) if options.since else DEFAULT_LINES
    shown = _newest(entries, most)
    if options.json:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    elif shown:
        print(history_text(shown, now, paper_of(options.color)))
    elif not entries:
        print("Nothing happened" + (" since then." if options.since else " yet."))
    return exits.DONE


def history_text(entries: Sequence[dict[str, Any]], now: float, paper: Paper) -> str:
    """The entries as lines: when, what, which release, and why."""
    rows = [[plain(str(entry.get(key, ""))) for key in ("at", "kind", "version", "text")] for entry in entries]
    for row in rows:
        try:
            row[0] = recorded(row[0])
        except (ValueError, OverflowError, OSError):
            continue
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    narrow = paper.width is not None and paper.width < LEAST_COLUMNS
    pausing = _pausing(entries, now)
    lines: list[str] = []
    for number, (*words, text) in enumerate(rows):
        # Where no entry names a release there is no column for it.
        head = "".join(f"{word:<{width}}  " for word, width in zip(words, widths, strict=True) if width)
        past = words[1] == "hold" and number != pausing
        told = with_local_times(text) if past else with_local_times(text, now)
        if narrow and told:
            lines.append(head.rstrip())
            head = "  "
        lines += [line.rstrip() for line in paper.wrapped(head, told)]
    return "\n".join(lines)


def _pausing(entries: Sequence[dict[str, Any]], now: float) -> int | None:
    """Which of `entries` is the hold that has not ended at `now`; of any other one it says nothing how far its end is.

    They are whole towards the newest one, as `history` has them.
    """
    for number, entry in reversed(list(enumerate(entries))):
        if entry.get("kind") == "unhold":
            return None
        if entry.get("kind") == "hold":
            end = times(str(entry.get("text", "")))
            return number if not end or end[-1] > now else None
    return None


def _at(entry: dict[str, Any]) -> float:
    try:
        return epoch(str(entry.get("at", "")))
    except ValueError:
        return 0.0


def _readable(read: Callable[[], list[dict[str, Any]]], what: str) -> list[dict[str, Any]]:
    try:
        return read()
    except OSError as error:
        code = "not-authorized" if isinstance(error, PermissionError) else "disk-error"
        raise UpdatedError(code, f"{what} {error.filename}", error.strerror or str(error), mend_of(error)) from None


def _newest(entries: list[dict[str, Any]], lines: int) -> list[dict[str, Any]]:
    return entries[len(entries) - max(0, min(lines, len(entries))) :]
