"""Why a slot that never had its verdict did not come up, as far as anything is left of its boots that tells.

Three things are: what the boots said of themselves in the history, a panic in the kernel's records, and a watchdog.
"""

import calendar
import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from health import baseline, failed_boot, history
from health.rootdir import below

LINE_LIMIT = 200
WATCHDOGS = "/sys/class/watchdog"
CARD_RESET = 0x20
"""WDIOF_CARDRESET of linux/watchdog.h: the watchdog ended the boot before this one."""
IN_PROBATION = "a boot of it ended in its probation"

# kernel/panic.c, and the first line of a record of fs/pstore/platform.c.
_MESSAGE = re.compile(rb"Kernel panic - not syncing: ([^\n]*)")
_HEADER = re.compile(rb"^Panic#\d+ ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ending:
    """What was on trial, and a line on what ended it; None: that is not known."""

    version: str | None = None
    cause: str | None = None


def find(root: str, slot: str, boot_id: str | None) -> Ending:
    """What is known of the last trial of `slot`, in the boot right after it, which is `boot_id`. Raises nothing."""
    own = of_history(list(history.read(root)), slot, boot_id)
    before = baseline.for_slot(baseline.read(root), slot, own.version)
    known = None if isinstance(before, baseline.NoBaseline) else before
    # A record that is older than the trial is of another boot.
    panic = None if known is None else _panic(root, known.time)
    causes = [each for each in (own.cause, panic) if each is not None] or _watchdog(root)
    return Ending(own.version or (known.target if known else None), "; ".join(causes) or None)


def of_history(lines: Iterable[Mapping[str, Any]], slot: str, boot_id: str | None) -> Ending:
    """What the boots of the trial said of themselves: the last lines before those of `boot_id`, all of one release."""
    version = None
    told: list[str] = []
    for line in reversed(list(lines)):
        if boot_id is not None and line.get("boot_id") == boot_id:
            continue
        if line.get("slot") != slot or line.get("verdict") not in ("unjudged", "probation"):
            break
        if told and line.get("version") != version:
            break
        version = line.get("version")
        told.insert(0, IN_PROBATION if line["verdict"] == "probation" else _one_line(line.get("reason")))
    causes = "; ".join(each for each in dict.fromkeys(told) if each)
    return Ending(version if isinstance(version, str) else None, causes or None)


def _panic(root: str, since: str) -> str | None:
    try:
        earliest = calendar.timegm(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None
    records = failed_boot.records(root, since=earliest).values()
    for record in records:
        if found := _MESSAGE.search(record):
            message = _one_line(found[1].decode(errors="replace"))
            return f"the kernel panicked ({message})"
    return "the kernel panicked" if any(_HEADER.search(record) for record in records) else None


def _watchdog(root: str) -> list[str]:
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(below(root, WATCHDOGS)))
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            with open(below(root, f"{WATCHDOGS}/{name}/bootstatus"), encoding="ascii") as file:
                status = int(file.read(32))
            if status & CARD_RESET:
                return ["the watchdog says that it reset the machine"]
    return []


def _one_line(value: object) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in value) if isinstance(value, str) else ""
    return " ".join(shown.split())[:LINE_LIMIT]
