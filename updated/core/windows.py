"""Maintenance windows: spans of the week by the clock of a place, as instants that can be compared.

A window begins at a time of the clock and lasts as many minutes as really pass, so that a change of the clock within
it makes it neither longer nor shorter. A beginning that the clock passes over, on the day on which it is put forward,
is as much later as the clock jumps; one that comes twice counts the first time. A day that a place leaves out has none.
Windows that cover the whole week by the clock are always open, over changes of the clock as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WEEK_MINUTES = 7 * 1440
# A window of last week may last until now; one of next week may have been left out.
_DAYS_BEFORE, _DAYS_AHEAD = 8, 15
# How far ahead the changes of a rate are told.
_RATE_SECONDS = 8 * 86400
_LATEST = int(datetime(9990, 1, 1, tzinfo=UTC).timestamp())
_NEVER = 2**53

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Begins on each of `days` (0 is Monday) at `start`, in minutes after midnight, and lasts `minutes`."""

    days: frozenset[int] = frozenset(range(7))
    start: int = 0
    minutes: int = 1440


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether windows are open, and when that ends (seconds since the epoch; None when it does not)."""

    open: bool
    until: int | None


@dataclass(frozen=True, slots=True)
class Windows:
    """Several windows that count together, by the clock of `zone`. Without any it is always open."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo = UTC

    @property
    def longest(self) -> int | None:
        """The longest time that they are open, in seconds; None when that is always."""
        if not self.windows:
            return None
        firsts = [(day * 1440 + each.start, each.minutes) for each in self.windows for day in each.days]
        # Two weeks side by side, so that what goes over the end of the week is whole once.
        spans = _merged((at + week, at + week + minutes) for at, minutes in firsts for week in (0, WEEK_MINUTES))
        most = max(end - begin for begin, end in spans)
        return None if most >= WEEK_MINUTES else most * 60

    def opening(self, now: int) -> Opening:
        """Whether it is open at `now` (seconds since the epoch), and until when it stays so."""
        for begin, end in self.spans(now):
            if now < begin:
                return Opening(False, begin)
            if now < end:
                return Opening(True, None if end == _NEVER else end)
        return Opening(False, None)

    def earliest(self, now: int, seconds: int = 1) -> int | None:
        """The first instant from `now` on after which it stays open for `seconds`; None when none is near."""
        firsts = (max(begin, now) for begin, end in self.spans(now) if end - max(begin, now) >= seconds)
        return next(firsts, None)

    def spans(self, now: int) -> list[Span]:
        """When it is open, from before `now` to two weeks after it; none overlaps or touches another."""
        if self.longest is None:
            return [(-_NEVER, _NEVER)]
        now = min(max(now, 0), _LATEST)
        today = datetime.fromtimestamp(now, self.zone).date()
        found = []
        for offset in range(-_DAYS_BEFORE, _DAYS_AHEAD + 1):
            day = today + timedelta(days=offset)
            for window in self.windows:
                at = _begins(day, window.start, self.zone) if day.weekday() in window.days else None
                if at is not None:
                    found.append((at, at + window.minutes * 60))
        return _merged(found)


def _begins(day: date, minute: int, zone: tzinfo) -> int | None:
    wanted = datetime.combine(day, time(minute // 60, minute % 60), zone)
    at = int(wanted.timestamp())
    # A time that does not exist is taken by the offset before the change (PEP 495), which is as much later.
    later = datetime.fromtimestamp(at, zone).replace(tzinfo=None) - wanted.replace(tzinfo=None)
    return at if later < timedelta(days=1) else None


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` bytes per second (0: no limit) while `windows` are open."""

    windows: Windows
    limit: int


def rate_changes(usual: int, rates: Sequence[Rate], now: int) -> tuple[tuple[int, int], ...]:
    """From when on (seconds since the epoch) which limit counts, from `now` on, for about a week.

    The first of `rates` that is open counts, and `usual` when none is. Empty when there are no rates.
    """
    if not rates:
        return ()
    spans = [(each.windows.spans(now), each.limit) for each in rates]
    edges = {edge for opened, _ in spans for span in opened for edge in span}
    found: list[tuple[int, int]] = []
    for at in [now, *sorted(edge for edge in edges if now < edge <= now + _RATE_SECONDS)]:
        open_now = (limit for opened, limit in spans if any(begin <= at < end for begin, end in opened))
        limit = next(open_now, usual)
        if not found or found[-1][1] != limit:
            found.append((at, limit))
    return tuple(found)
