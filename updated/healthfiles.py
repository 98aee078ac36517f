"""What health left in its files: the last rejection or fallback, the last verdict with its checks, and those before.

They may come from another version of it, in the other slot: what a file doesn't tell is filled in, and one that is
damaged tells of nothing. They are history, not truth. Their formats are in packaging/doc/formats.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from bootctl.errors import mend_of
from bootctl.settings import below
from updated.core.document import parse_time
from updated.core.errors import UpdatedError
from updated.core.state import Ending, Verdict
from updated.history import read_history
from updated.processes import boot_id
from updated.record import storage_error

FOLDER = "/var/lib/updated/health"
VERDICT = "verdict.json"
# What reading a file that health did not write so can raise.
_DAMAGES = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
MAX_VERDICT_LENGTH = 4_000_000
STATUS_OUTPUT, WHOLE_OUTPUT = 400, 2000
MAX_NOTE_LENGTH = 64 * 1024
MAX_CAUSE_LENGTH = 500
VERDICT_KEYS = ("at", "slot", "version", "verdict", "reason")


def read_rejection(root: str) -> Verdict | None:
    """The last slot that health rejected; None without one, or when its file is damaged."""
    try:
        value = _read(root, "rejected.json")
        reason = value["reason"]
        slot, version, boot, said = (value[key] for key in ("slot", "version", "boot_id", "verdict"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(each, str) for each in (slot, version, boot, said)) or not isinstance(reason, str | None):
        return None
    return Verdict(slot[:32], version[:64], boot[:64], said[:32], None if reason is None else reason[:1000])


def read_ending(root: str, boot: str) -> Ending | None:
    """What ended the trial that did not come up, as health found in the boot `boot`; None where it does not know.

    What was found in another boot may be about another trial.
    """
    try:
        value = _read(root, "fallback.json", MAX_NOTE_LENGTH)
        slot, version, cause, found_in = (value[key] for key in ("slot", "version", "cause", "boot_id"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(each, str) for each in (slot, version, cause)) or not boot or found_in != boot:
        return None
    shown = "".join(letter if letter.isprintable() else " " for letter in cause[:MAX_CAUSE_LENGTH])
    line = " ".join(shown.split())
    return Ending(slot[:32], version[:64], line) if line else None


def read_health(root: str, *, most_output: int = STATUS_OUTPUT) -> dict[str, Any] | None:
    """The last verdict; None when there is none or it is damaged. Of the output of each check, the end is kept."""
    try:
        return _verdict(root, most_output)
    except (OSError, *_DAMAGES):
        return None


def verdict_fault(root: str) -> UpdatedError | None:
    """Why the last verdict can't be told although its file is there; None when it can, or there is none.

    What the checks found is not known then, and nothing is concluded from that: the boot reference says what is
    confirmed.
    """
    path = os.path.join(below(root, FOLDER), VERDICT)
    try:
        _verdict(root, STATUS_OUTPUT)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        return UpdatedError("not-authorized", f"the verdict {path}", "may not be read by this user", mend_of(error))
    except OSError as error:
        return storage_error(f"the verdict {path}", error)
    except _DAMAGES:
        return UpdatedError(
            "state-corrupt", f"the verdict {path}", "is damaged; nothing was confirmed or rejected by that",
            "The next boot writes it anew; 'systemctl restart updated-health' judges this one again.",
        )
    return None


def _verdict(root: str, most_output: int) -> dict[str, Any]:
    value = _read(root, VERDICT)
    checks = [_check(check, most_output) for check in value["checks"]]
    kept = {key: value[key] for key in ("slot", "version", "verdict", "reason", "finished")}
    return {
        **kept, "this_boot": value.get("boot_id") == boot_id(root), "baseline": value.get("baseline"),
        "probation_until": _time(value.get("probation_until")), "checks": checks,
    }


def _read(root: str, name: str, most: int = MAX_VERDICT_LENGTH) -> Any:
    with open(os.path.join(below(root, FOLDER), name), encoding="utf-8", errors="replace") as file:
        return json.loads(file.read(most))


def _check(check: Mapping[str, Any], most_output: int) -> dict[str, Any]:
    kind = str(check["kind"])
    return {
        "name": str(check["name"]), "kind": kind, "result": str(check["result"]),
        "duration_seconds": float(check["duration_seconds"]), "output": str(check["output"])[-most_output:],
        "counts": bool(check.get("counts", kind == "required")), "before": _text(check.get("before")),
        "note": _text(check.get("note")),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _time(value: object) -> str | None:
    try:
        parse_time(value if isinstance(value, str) else "")
    except ValueError:
        return None
    return str(value)


def read_verdicts(root: str) -> list[dict[str, Any]]:
    """The verdicts over boots, the oldest first: time, slot, version, verdict, reason. Raises OSError."""
    lines = read_history(os.path.join(below(root, FOLDER), "history.jsonl"))
    return [{key: line.get(key) for key in VERDICT_KEYS} for line in lines]
