"""A bound on how often something is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """Does `act` when it is wanted, at most once in `seconds`; what is wanted meanwhile is done once, after them."""

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self._seconds = seconds
        self._act = act
        self._next = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def want(self) -> None:
        """Lets it be done, now or soon."""
        loop = asyncio.get_running_loop()
        if self._timer is None and loop.time() >= self._next:
            self._go()
        elif self._timer is None:
            self._timer = loop.call_at(self._next, self._go)

    def stop(self) -> None:
        """What is wanted is not done any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _go(self) -> None:
        self._timer = None
        self._next = asyncio.get_running_loop().time() + self._seconds
        self._act()
