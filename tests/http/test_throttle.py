"""Together the connections never take more than they may, and never live on less than they must bring."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.throttle import BURST_SECONDS, Bandwidth, Meter, RateFloor, TooSlow

LIMIT = 1000


@dataclass
class Threads:
    """Threads that take turns on a clock: the one that is furthest behind goes on, as on a machine of many cores."""

    count: int
    times: list[float] = field(default_factory=list)
    current: int = 0

    def __post_init__(self) -> None:
        self.times = [0.0] * self.count

    def monotonic(self) -> float:
        return self.times[self.current]

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.times[self.current] += seconds

    def next_turn(self) -> None:
        self.current = self.times.index(min(self.times))


takings = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 300)), max_size=60)


@given(st.integers(1, 16), takings)
def test_no_stretch_of_time_gets_more_than_the_limit_and_a_burst(count: int, takings: list[tuple[float, int]]) -> None:
    threads = Threads(count)
    bandwidth = Bandwidth(LIMIT, sleep=threads.sleep, monotonic=threads.monotonic)
    paid: list[tuple[float, int]] = []
    for rest, size in takings:
        threads.next_turn()
        threads.times[threads.current] += rest
        bandwidth.spend(size)
        paid.append((threads.monotonic(), size))
    paid.sort()
    for index, (begin, _) in enumerate(paid):
        total = 0
        for end, size in paid[index:]:
            total += size
            # Each thread may have had one piece in its hands when the stretch began.
            assert total <= LIMIT * (end - begin + BURST_SECONDS) + 300 * count + 1e-6


@given(st.integers(1, 16), st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_who_always_has_something_to_read_gets_the_whole_limit(count: int, sizes: list[int]) -> None:
    threads = Threads(count)
    bandwidth = Bandwidth(LIMIT, sleep=threads.sleep, monotonic=threads.monotonic)
    for size in sizes:
        threads.next_turn()
        bandwidth.spend(size)
    assert max(threads.times) == pytest.approx(max(0.0, sum(sizes) / LIMIT - BURST_SECONDS))


def test_a_long_rest_saves_up_no_more_than_a_burst() -> None:
    threads = Threads(1)
    bandwidth = Bandwidth(LIMIT, sleep=threads.sleep, monotonic=threads.monotonic)
    bandwidth.spend(1)
    threads.times[0] += 1000
    bandwidth.spend(LIMIT)
    assert threads.times[0] == pytest.approx(1001 - BURST_SECONDS)


def test_without_a_limit_nobody_pauses() -> None:
    bandwidth = Bandwidth(0, sleep=lambda seconds: pytest.fail("it paused"))
    bandwidth.spend(2**50)
    assert bandwidth.piece(65536) == 65536


@pytest.mark.parametrize(("limit", "piece"), [(2**30, 65536), (100_000, 10_000), (1024, 102), (1, 1)])
def test_the_lower_the_limit_the_smaller_the_pieces(limit: int, piece: int) -> None:
    assert Bandwidth(limit).piece(65536) == piece


def test_what_real_threads_spend_at_once_is_all_counted() -> None:
    pauses: list[float] = []
    bandwidth = Bandwidth(LIMIT, sleep=pauses.append, monotonic=lambda: 0.0)

    def spend() -> None:
        for _ in range(200):
            bandwidth.spend(10)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(pauses) == pytest.approx(4 * 200 * 10 / LIMIT - BURST_SECONDS)


class Line:
    """Connections that wait and receive at given times."""

    def __init__(self, lowest_rate: int, window: float) -> None:
        self.now = 0.0
        self.floor = RateFloor(lowest_rate, window, monotonic=lambda: self.now)

    def wait(self, seconds: float, *meters: Meter) -> None:
        """All of `meters` wait at once."""
        waits = [meter.waiting() for meter in meters]
        for each in waits:
            each.__enter__()
        self.now += seconds
        for each in waits:
            each.__exit__(None, None, None)


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_the_lowest_rate_is_shared_by_the_connections_that_wait(count: int) -> None:
    line = Line(1600, 10)
    meters = [line.floor.meter() for _ in range(count)]
    line.wait(10, *meters)
    for meter in meters:
        meter.received(16_000 // count)
    line.wait(10, *meters)
    with pytest.raises(TooSlow, match=f"sent {16_000 // count - 1} bytes in 10 s, less than {1600 // count} bytes/s"):
        meters[0].received(16_000 // count - 1)


def test_a_connection_that_drips_can_not_live_on_what_the_others_bring() -> None:
    line = Line(1000, 10)
    good, bad = line.floor.meter(), line.floor.meter()
    for _ in range(9):
        line.wait(1, good, bad)
        good.received(1_000_000)
        bad.received(1)
    line.wait(1, good, bad)
    good.received(1_000_000)
    with pytest.raises(TooSlow, match="sent 10 bytes in 10 s, less than 500 bytes/s"):
        bad.received(1)


def test_what_is_not_spent_waiting_counts_for_nobody() -> None:
    line = Line(1000, 10)
    busy, other = line.floor.meter(), line.floor.meter()
    for _ in range(30):
        line.wait(1, busy)
        busy.received(1000)
        line.now += 100
        line.wait(1, other)
        other.received(1000)


def test_a_wait_that_fails_ends_as_well() -> None:
    line = Line(1000, 1)
    lost, other = line.floor.meter(), line.floor.meter()
    with pytest.raises(OSError, match="gone"), lost.waiting():
        raise OSError("gone")
    line.wait(1, other)
    with pytest.raises(TooSlow):
        other.received(999)


def test_without_a_lowest_rate_nobody_is_too_slow() -> None:
    line = Line(0, 1)
    meter = line.floor.meter()
    line.wait(1000, meter)
    meter.received(0)


steps = st.tuples(
    st.floats(0.01, 5),  # how long the step takes
    st.sets(st.integers(0, 3)),  # who waits through it; the others work
    st.lists(st.integers(0, 8000), min_size=4, max_size=4),  # what comes at its end
)


@given(st.lists(steps, max_size=80))
def test_as_long_as_nobody_is_too_slow_all_together_bring_the_lowest_rate(
    steps: list[tuple[float, set[int], list[int]]],
) -> None:
    rate, window = 1000, 10.0
    line = Line(rate, window)
    meters = [line.floor.meter() for _ in range(4)]
    waited = received = 0.0
    for seconds, who, counts in steps:
        line.wait(seconds, *(meters[each] for each in who))
        waited += seconds if who else 0
        try:
            for each in who:
                received += counts[each]
                meters[each].received(counts[each])
        except TooSlow:
            return
        # What is still owed is at most the open window of each connection.
        assert received >= rate * (waited - 4 * window) - 1e-6


def test_the_limit_changes_at_its_times() -> None:
    clock = [0.0]
    bandwidth = Bandwidth(1000, changes=((10, 0), (20, 5000)), clock=lambda: clock[0], sleep=lambda _: None)
    limits = []
    for now in (0, 9.9, 10, 19, 20, 10**9):
        clock[0] = now
        limits.append(bandwidth.limit)
    assert limits == [1000, 1000, 0, 0, 5000, 5000]


def test_a_download_that_runs_goes_at_the_limit_that_counts() -> None:
    now, pauses = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    changes = ((10, 100), (30, 0))
    bandwidth = Bandwidth(1000, changes=changes, clock=lambda: now[0], sleep=sleep, monotonic=lambda: now[0])
    received = {1000: 0, 100: 0}
    while now[0] < 30:
        limit, piece = bandwidth.limit, bandwidth.piece(65536)
        bandwidth.spend(piece)
        received[limit] += piece
    assert received[1000] == pytest.approx(10 * 1000, rel=0.02)
    assert received[100] == pytest.approx(20 * 100, rel=0.02)
    pauses.clear()
    bandwidth.spend(10**9)
    assert pauses == []
