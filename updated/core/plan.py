"""Where the bytes of a new image come from: a pure function of what is missing and of what can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

MAX_REQUEST_LENGTH = 4 * 1024 * 1024
"""The longest stretch that is asked for at once, in bytes: several connections share the work in such pieces."""


class Stored(Protocol):
    """A frame of a blob or of a patch: `stored` bytes at `position`."""

    @property
    def position(self) -> int: ...
    @property
    def stored(self) -> int: ...


Piece = TypeVar("Piece", bound=Stored)


@dataclass(frozen=True, slots=True)
class Request(Generic[Piece]):
    """The bytes [start, start + length) of a file, and the frames in them that are wanted."""

    start: int
    length: int
    frames: tuple[Piece, ...]


def requests(
    frames: Iterable[Piece], wanted: Callable[[Piece], bool], gap: int, most: int = MAX_REQUEST_LENGTH
) -> Iterator[Request[Piece]]:
    """The requests for the frames that are `wanted`, in order; a gap of at most `gap` bytes is read through."""
    group: list[Piece] = []
    start = end = 0
    for frame in frames:
        if not wanted(frame):
            continue
        if group and (frame.position - end > gap or frame.position + frame.stored - start > most):
            yield Request(start, end - start, tuple(group))
            group = []
        if not group:
            start = frame.position
        group.append(frame)
        end = frame.position + frame.stored
    if group:
        yield Request(start, end - start, tuple(group))


@dataclass(frozen=True, slots=True)
class Cost:
    """What requests cost: bytes of their answers, and how many they are."""

    length: int = 0
    count: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.length + other.length, self.count + other.count)


def cost(asked: Iterable[Request[Piece]]) -> Cost:
    """The cost of these requests."""
    total = Cost()
    for request in asked:
        total += Cost(request.length, 1)
    return total


@dataclass(frozen=True, slots=True)
class Way:
    """A way to get what is missing: `kind` is "patch", "ranges" or "full"."""

    kind: str
    cost: Cost


def cheapest(ways: Sequence[Way], latency: float, rate: float) -> Way:
    """The way with the fewest bytes; among those within a hundredth of it, the one that takes the least time.

    `latency` is what a request takes before its first byte, in seconds; `rate` is in bytes per second.
    """
    least = min(way.cost.length for way in ways)
    close = [way for way in ways if way.cost.length <= least * 1.01]
    return min(close, key=lambda way: (way.cost.length / rate + way.cost.count * latency, way.cost.length))


def gap_length(latency: float, rate: float, connections: int) -> int:
    """How many bytes are cheaper to read through than to skip with another request.

    An answer has a header of some hundred bytes; beyond that, bytes count more than time, up to a bound.
    """
    return min(MAX_GAP_LENGTH, max(MIN_GAP_LENGTH, int(latency * rate / connections / 4)))


MIN_GAP_LENGTH = 512
MAX_GAP_LENGTH = 16 * 1024


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an installation is going to cost, in bytes. Of the image: `image` in all, `local` from this machine.

    `download` of the `full` compressed image. `base` is the version that runs.
    """

    kind: str
    base: str
    image: int
    local: int
    download: int
    full: int

    def __str__(self) -> str:
        """For people: "delta from 1.1.0: 5.1 MB of 406 MB, 97 % from this machine"."""
        share = 100 * self.local // self.image if self.image else 100
        size = f"{_amount(self.download)} of {_amount(self.full)}"
        if self.local == self.image:
            return f"all of it is on this machine, {_amount(self.download)} downloaded"
        if self.kind == "full":
            return f"full: {_amount(self.download)}"
        words = {"patch": f"delta from {self.base}", "ranges": "ranges"}[self.kind]
        return f"{words}: {size}, {share} % from this machine"


def _amount(length: int) -> str:
    if length < 1000:
        return f"{length} bytes"
    if length < 100_000:
        return f"{length / 1e3:.1f} kB"
    megabytes = length / 1e6
    return f"{megabytes:.1f} MB" if megabytes < 100 else f"{megabytes:.0f} MB"
