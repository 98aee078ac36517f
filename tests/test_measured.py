"""The way to the repository is measured while it is used, and everything passes unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from updated.core.errors import UpdatedError
from updated.measured import LATENCY, RATE, MeasuredSource


class Slow:
    """A source on a clock of its own: `wait` seconds until an answer begins, then `rate` bytes per second."""

    def __init__(self, wait: float, rate: float) -> None:
        self.wait = wait
        self.rate = rate
        self.now = 100.0
        self.blamed: list[tuple[str, int]] = []

    def read(self, name: str, most: int) -> bytes:
        self.now += self.wait + most / self.rate
        return bytes(most)

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        self.now += self.wait
        for at in range(start, start + length, 1000):
            piece = bytes(min(1000, start + length - at))
            if at > start:
                self.now += len(piece) / self.rate
            yield piece
        if name == "gone":
            raise UpdatedError("unreachable", name, "is gone", "Wait.")

    def blame(self, name: str, position: int = 0) -> bool:
        self.blamed.append((name, position))
        return True

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def slow() -> Slow:
    return Slow(0.3, 200_000)


@pytest.fixture
def source(slow: Slow) -> MeasuredSource:
    return MeasuredSource(slow, slow.monotonic)


def test_before_anything_is_measured_a_distant_server_is_assumed(source: MeasuredSource) -> None:
    assert (source.latency, source.rate) == (LATENCY, RATE)


def test_the_latency_is_the_time_until_an_answer_begins(source: MeasuredSource) -> None:
    assert b"".join(source.stream("x", 5, 100_000)) == bytes(100_000)
    assert source.latency == pytest.approx(0.3)


def test_the_rate_is_that_of_a_long_answer_its_beginning_included(source: MeasuredSource) -> None:
    list(source.stream("x", 0, 200_000))
    assert source.rate == pytest.approx(200_000 / 1.3, rel=0.01)


def test_a_short_answer_says_nothing_about_the_rate(source: MeasuredSource) -> None:
    assert len(source.read("x", 1000)) == 1000
    list(source.stream("x", 0, 60_000))
    assert source.rate == RATE


def test_the_best_of_several_answers_counts(source: MeasuredSource, slow: Slow) -> None:
    for wait, rate in ((0.3, 1e5), (0.1, 3e5), (0.2, 2e5)):
        slow.wait, slow.rate = wait, rate
        list(source.stream("x", 0, 3_000_000))
    assert source.latency == pytest.approx(0.1)
    assert source.rate == pytest.approx(3e6 / 10.1, rel=0.01)


def test_an_error_passes_and_is_no_measure_of_the_rate(source: MeasuredSource) -> None:
    with pytest.raises(UpdatedError, match="is gone"):
        list(source.stream("gone", 0, 200_000))
    assert source.rate == RATE


def test_blame_is_passed_on(source: MeasuredSource, slow: Slow) -> None:
    assert source.blame("x", 7)
    assert slow.blamed == [("x", 7)]
