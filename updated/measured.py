"""Measures the way to the repository while it is used: what a request costs in time decides what is worth one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from updated.ports import Source

# Before anything is measured: a distant server, and a slow line.
LATENCY = 0.05
RATE = 1_000_000.0
# Shorter answers say more about the latency than about the rate.
_LEAST_LENGTH = 64 * 1024


class MeasuredSource:
    """A `Source` that passes everything on to `source`, and takes the time.

    Attributes: `latency`, the shortest time in seconds until an answer began; `rate`, the highest of an answer, in
    bytes per second.
    """

    def __init__(self, source: Source, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._latencies: list[float] = []
        self._rates: list[float] = []

    @property
    def latency(self) -> float:
        """The shortest time in seconds until an answer began."""
        with self._lock:
            return min(self._latencies, default=LATENCY)

    @property
    def rate(self) -> float:
        """The highest rate of a long answer, in bytes per second."""
        with self._lock:
            return max(self._rates, default=RATE)

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        begun = self._monotonic()
        data = self._source.read(name, most)
        self._note(begun, None, len(data))
        return data

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`."""
        begun = self._monotonic()
        first = None
        for piece in self._source.stream(name, start, length):
            first = first or self._monotonic()
            yield piece
        self._note(begun, first, length)

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`."""
        return self._source.blame(name, position)

    def _note(self, begun: float, first: float | None, length: int) -> None:
        ended = self._monotonic()
        with self._lock:
            self._latencies = [min([(first or ended) - begun, *self._latencies])]
            if length >= _LEAST_LENGTH and ended > begun:
                self._rates = [max([length / (ended - begun), *self._rates])]
