"""Times and lengths as people write them on the command line. Pure, but for the zone of the process."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from updated.core.document import parse_time
from updated.core.errors import UpdatedError

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LOCAL = re.compile(r"(?:(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?|(\d\d:\d\d))", re.ASCII)


def _seconds(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def _time(text: str, what: str, now: float, *, ahead: bool) -> int:
    """Seconds since the epoch; a time of day is the next one with `ahead`, else the last one."""
    try:
        match = _LOCAL.fullmatch(text)
        if match is None:
            return parse_time(text)
        if match[1]:
            return int(datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}").timestamp())
        hour, minute = map(int, match[3].split(":"))
        today = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=0, microsecond=0)
        # By the calendar, so that it is the same time of day when the clocks change.
        days = (-1, 0) if not ahead else (0, 1)
        times = [int((today + timedelta(days=day)).timestamp()) for day in days]
        return min(each for each in times if each > now) if ahead else max(each for each in times if each <= now)
    except (ValueError, OverflowError):
        raise UpdatedError(
            "bad-request", f"the {what} {text!r}", "is neither a time nor a length",
            "Write 18:00, 2026-12-24 or '2026-12-24 18:00', by this machine's clock; 2026-12-24T18:00:00Z; or "
            "a length: 90m, 12h, 7d, 2w.",
        ) from None


def hold_end(text: str | None, now: float) -> int:
    """The end of a hold in seconds since the epoch, 0 for none. Raises `UpdatedError` ("bad-request")."""
    if text is None:
        return 0
    seconds = _seconds(text)
    if seconds == 0:
        raise UpdatedError(
            "bad-request", f"the length {text!r}", "is over at once", "Give a longer one; without any, it has no end."
        )
    if seconds is not None:
        return int(now) + seconds
    end = _time(text, "end", now, ahead=True)
    if end <= now:
        raise UpdatedError("bad-request", f"the end {text!r}", "is in the past", "Give one in the future.")
    return end


def since(text: str, now: float) -> int:
    """The begin of a time up to `now`, in seconds since the epoch. Raises `UpdatedError` ("bad-request")."""
    seconds = _seconds(text)
    return _time(text, "begin", now, ahead=False) if seconds is None else int(now) - seconds
