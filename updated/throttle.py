"""What the connections of a process share: the most that they may take together, and the least that they must bring.

No network code: times and pauses are given from outside, so that both can be tested without waiting.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# What may come at once after a rest, in seconds of the limit.
BURST_SECONDS = 0.1


class Throttle:
    """The limits of one process; every source of it is given the same one.

    `bandwidth_limit` and `lowest_rate` are in bytes per second, 0 for none. `window_seconds` is how long a connection
    may stay below its share of the lowest rate. `changes`: see `Bandwidth`.
    """

    def __init__(
        self,
        bandwidth_limit: int,
        lowest_rate: int,
        window_seconds: float,
        *,
        changes: Sequence[tuple[int, int]] = (),
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bandwidth = Bandwidth(bandwidth_limit, changes=changes, sleep=sleep, monotonic=monotonic)
        self.floor = RateFloor(lowest_rate, window_seconds, monotonic=monotonic)


class Bandwidth:
    """At most `limit` bytes per second over all threads that spend from it; 0 for no limit.

    `changes`, in the order of time, are (from when on, the limit then), by `clock`, in seconds since the epoch.

    A token bucket, kept as the instant up to which the bytes so far use up the limit.
    """

    def __init__(
        self,
        limit: int,
        *,
        changes: Sequence[tuple[int, int]] = (),
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_limit = limit
        self._changes = changes
        self._clock = clock
        self._sleep = sleep
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._used_up_to = float("-inf")

    @property
    def limit(self) -> int:
        """The limit that counts now."""
        if not self._changes:
            return self._first_limit
        passed = bisect.bisect_right(self._changes, self._clock(), key=lambda change: change[0])
        return self._changes[passed - 1][1] if passed else self._first_limit

    def piece(self, most: int) -> int:
        """How many bytes to read at once, at most `most`: little enough to flow evenly."""
        limit = self.limit
        return min(most, max(1, int(limit * BURST_SECONDS))) if limit else most

    def spend(self, count: int) -> None:
        """Returns when `count` more bytes are within the limit. Pauses without the lock: others queue up behind."""
        limit = self.limit
        if not limit:
            return
        with self._lock:
            now = self._monotonic()
            self._used_up_to = max(self._used_up_to, now - BURST_SECONDS) + count / limit
            pause = self._used_up_to - now
        if pause > 0:
            self._sleep(pause)


class TooSlow(Exception):
    """A connection brought less than its share; `str()` says how much, as the cause in an error."""


class RateFloor:
    """At least `lowest_rate` bytes per second from all connections together, whenever one of them waits for a server.

    What is due at an instant is shared alike by those that wait at it: none can live on what the others bring, and
    a slow line is not asked for more because it has several connections. Each has to bring its share over
    `window_seconds` of its waiting. Time in which a caller works, or a limit makes it pause, counts for nobody.
    """

    def __init__(
        self, lowest_rate: int, window_seconds: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.window_seconds = window_seconds
        self._lowest_rate = lowest_rate
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting = 0
        self._last = 0.0
        self._due = 0.0

    def meter(self) -> Meter:
        """The account of a new connection."""
        return Meter(self)

    def begin_wait(self) -> tuple[float, float]:
        """Time, and the bytes that a connection that always waited would have had to bring by now."""
        with self._lock:
            now = self._passed()
            self._waiting += 1
            return now

    def end_wait(self) -> tuple[float, float]:
        """As `begin_wait`; to be called once for each of its calls."""
        with self._lock:
            now = self._passed()
            self._waiting -= 1
            return now

    def _passed(self) -> tuple[float, float]:
        now = self._monotonic()
        if self._waiting:
            self._due += (now - self._last) * self._lowest_rate / self._waiting
        self._last = now
        return now, self._due


class Meter:
    """What one connection brought of its share; for one thread."""

    def __init__(self, floor: RateFloor) -> None:
        self._floor = floor
        self._begin_window()

    def _begin_window(self) -> None:
        self._waited = 0.0
        self._due = 0.0
        self._received = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each wait for bytes of the server."""
        begun, due = self._floor.begin_wait()
        try:
            yield
        finally:
            ended, due_now = self._floor.end_wait()
            self._waited += ended - begun
            self._due += due_now - due

    def received(self, count: int) -> None:
        """`count` bytes came by the last wait. Raises `TooSlow` at the end of a window that brought too few."""
        self._received += count
        if self._waited < self._floor.window_seconds:
            return
        if self._received < self._due:
            raise TooSlow(
                f"sent {self._received} bytes in {self._waited:.0f} s, less than {self._due / self._waited:.0f} bytes/s"
            )
        self._begin_window()
