"""Times and lengths as people write them on the command line. Pure."""

from __future__ import annotations

import re

from updated.core.document import parse_time
from updated.core.errors import UpdatedError

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def _time(text: str, what: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise UpdatedError(
            "bad-request", f"the {what} {text!r}", "is neither a time nor a length",
            "Write 2026-12-24T18:00:00Z, or 90m, 12h, 7d, 2w.",
        ) from None


def hold_end(text: str | None, now: float) -> int:
    """The end of a hold in seconds since the epoch, 0 for none. Raises `UpdatedError` ("bad-request")."""
    if text is None:
        return 0
    seconds = _seconds(text)
    if seconds is not None:
        return int(now) + seconds
    end = _time(text, "end")
    if end <= now:
        raise UpdatedError("bad-request", f"the end {text!r}", "is in the past", "Give one in the future.")
    return end


def since(text: str, now: float) -> int:
    """The begin of a time up to `now`, in seconds since the epoch. Raises `UpdatedError` ("bad-request")."""
    seconds = _seconds(text)
    return _time(text, "begin") if seconds is None else int(now) - seconds
