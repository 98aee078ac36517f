"""The rollout of a release in a channel: which share of the nodes may take it at which time."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from updated.core.document import Misfit, Object, format_time

if TYPE_CHECKING:  # half a megabyte, which the idle daemon has no use for
    from fractions import Fraction

Curve: TypeAlias = tuple[tuple[int, float], ...]
"""Points: seconds after the start, and the share of the nodes, 0 to 1. Neither ever falls from a point to the next."""
MAX_SECONDS = 3660 * 86400
FIRST, LAST = 0.0, 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands in rollouts, from 0 (first) to 1 (last).

    It is drawn from `seed`, a number in [0, 1) that the node drew once, and from the release: each rollout has other
    nodes first. `fixed` is the operator's word, the same for all releases.
    """

    seed: float
    fixed: float | None = None

    def of(self, manifest: str) -> Fraction:
        """The place in the rollout of the release whose manifest has this SHA-256."""
        if self.fixed is not None:
            return decimal(self.fixed)
        drawn = hashlib.sha256(f"{self.seed!r} {manifest}".encode()).digest()
        return _ratio(int.from_bytes(drawn[:8], "big"), 2**64)

    def described(self, manifest: str) -> str:
        """When the node comes in that rollout, for people."""
        place = self.of(manifest)
        words = f"after {percent(place)} of the nodes"
        if place == FIRST:
            words = "among the first"
        elif place == LAST:
            words = "after all others"
        return words if self.fixed is None else f"{words} ([updates] wave)"


@dataclass(frozen=True, slots=True)
class Rollout:
    """When nodes may take a release: none before the first point of `curve`, and no more than the last one says.

    Between two points the share grows evenly; two points of the same time are a step. From `paused` on it stays as it
    is. `start` and `paused` are in seconds since the epoch. A node may take the release while the share is greater than
    its place, and when it is 1. Shares count as the decimals that they are written as, and are compared exactly: a
    node that may take a release is never told otherwise by rounding.
    """

    start: int
    curve: Curve
    paused: int | None = None

    def share(self, now: int) -> Fraction:
        """The share of the nodes that may take the release at `now` (seconds since the epoch)."""
        seconds = (now if self.paused is None else min(now, self.paused)) - self.start
        begun = [point for point in self.curve if point[0] <= seconds]
        if not begun:
            return _ratio(0, 1)
        then, share = begun[-1][0], decimal(begun[-1][1])
        if len(begun) == len(self.curve):
            return share
        later, more = self.curve[len(begun)]
        return share + (decimal(more) - share) * _ratio(seconds - then, later - then)

    @property
    def most(self) -> Fraction:
        """The share that it comes to, unless the publisher changes it."""
        return decimal(self.curve[-1][1]) if self.paused is None else self.share(self.paused)

    def eligible_at(self, place: Fraction | float) -> int | None:
        """The first second since the epoch at which a node at `place` may take it; None: not by this curve."""
        place = _ratio(*place.as_integer_ratio())
        position = next((n for n, (_, share) in enumerate(self.curve) if decimal(share) > place or share == 1), None)
        if position is None:
            return None
        seconds, share = self.curve[position]
        if position and self.curve[position - 1][0] < seconds:
            then, less = self.curve[position - 1]
            way = (place - decimal(less)) / (decimal(share) - decimal(less))
            seconds = min(seconds, then + math.floor(way * (seconds - then)) + 1)
        at = self.start + seconds
        return at if self.paused is None or at <= self.paused else None

    def next_point(self, now: int) -> tuple[int, float] | None:
        """The next point of the curve with a greater share than at `now`, as seconds since the epoch and share."""
        if self.paused is not None and now >= self.paused:
            return None
        present = self.share(now)
        ahead = ((self.start + seconds, share) for seconds, share in self.curve if decimal(share) > present)
        return next((point for point in ahead if self.paused is None or point[0] <= self.paused), None)

    @classmethod
    def read(cls, document: Object) -> Rollout:
        """The rollout in `document`. Raises `Misfit`."""
        rollout = cls(
            document.time("start"), tuple(_point(point) for point in document.objects("curve")),
            document.time("paused") if document.has("paused") else None,
        )
        if not rollout.curve:
            raise Misfit(f"{document.name('curve')} is empty")
        for (then, less), (later, more) in itertools.pairwise(rollout.curve):
            if later < then or more < less:
                raise Misfit(f"{document.name('curve')} goes back in time or share")
        if rollout.paused is not None and rollout.paused < rollout.start:
            raise Misfit(f"{document.name('paused')} is before the start")
        document.done()
        return rollout

    def document(self) -> dict[str, Any]:
        """The rollout as a JSON document; `read` reads it back."""
        document: dict[str, Any] = {
            "start": format_time(self.start),
            "curve": [{"seconds": seconds, "share": share} for seconds, share in self.curve],
        }
        if self.paused is not None:
            document["paused"] = format_time(self.paused)
        return document


def _point(document: Object) -> tuple[int, float]:
    point = document.number("seconds", most=MAX_SECONDS), document.real("share", least=0, most=1)
    document.done()
    return point


def decimal(share: float) -> Fraction:
    """A share as it is written: 0.1 is a tenth, which no float is."""
    from fractions import Fraction

    return Fraction(str(share))


def _ratio(numerator: int, denominator: int) -> Fraction:
    from fractions import Fraction

    return Fraction(numerator, denominator)


def percent(share: Fraction) -> str:
    """A share for people, rounded down: all of the nodes are 100 %, and nothing less is."""
    return f"{math.floor(share * 1000) / 10:g} %"
