"""Times for people: in the local zone, and as the length from now. Pure, but for the zone of the process."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def epoch(text: str) -> int:
    """Seconds since the epoch of an RFC 3339 time in UTC. Raises ValueError."""
    if _TIME.fullmatch(text) is None:
        raise ValueError(text)
    return int(datetime.fromisoformat(text).timestamp())


def clock(text: str) -> str:
    """A time such as `2026-11-22T09:05:07Z` in the local zone: `Sun 2026-11-22 10:05 CET`."""
    return f"{_local(text):%a %Y-%m-%d %H:%M %Z}"


def recorded(text: str) -> str:
    """As `clock`, of what happened, to be found in the log by its seconds: `Sun 2026-11-22 10:05:07 CET`."""
    return f"{_local(text):%a %Y-%m-%d %H:%M:%S %Z}"


def _local(text: str) -> datetime:
    return datetime.fromtimestamp(epoch(text), UTC).astimezone()


def moment(text: str, now: float) -> str:
    """`Sun 2026-11-22 10:05 CET (in 3 h 20 min)`."""
    return f"{clock(text)} ({relative(text, now)})"


def relative(text: str, now: float) -> str:
    """How far a time is from `now` (seconds since the epoch): `in 3 h 20 min`, `2 min ago`, `now`."""
    away = epoch(text) - int(now)
    if abs(away) < 1:
        return "now"
    return f"in {length(away)}" if away > 0 else f"{length(-away)} ago"


def length(seconds: int) -> str:
    """`45 s`, `1 min 15 s`, `3 h 20 min`, `2 d 4 h`: the two largest units."""
    if seconds < 60:
        return f"{seconds} s"
    size, unit, smaller, small = next(each for each in _UNITS if seconds >= each[0])
    whole, rest = divmod(seconds, size)
    return f"{whole} {unit}" + (f" {rest // smaller} {small}" if rest // smaller else "")


def times(text: str) -> list[int]:
    """The times within `text`, in seconds since the epoch."""
    found = []
    for each in _TIME.findall(text):
        with contextlib.suppress(ValueError):
            found.append(epoch(each))
    return found


def with_local_times(text: str, now: float | None = None) -> str:
    """`text` with each time in it as people read it, and how far it is from `now`; without that, as `recorded`.

    One in parentheses follows words that say how far it is.
    """

    def replaced(match: re.Match[str]) -> str:
        try:
            if now is None:
                return recorded(match[0])
            return clock(match[0]) if text[: match.start()].endswith("(") else moment(match[0], now)
        except (ValueError, OverflowError, OSError):
            return match[0]

    return _TIME.sub(replaced, text)
