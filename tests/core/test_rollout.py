"""A curve says for each node when it may take a release, and in what order nodes come."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import rollouts
from updated.core.rollout import Curve, Rollout, percent

START = 1_800_000_000
DAY = 86400
RAMP: Curve = ((0, 0.0), (1000, 1.0))
WAVES: Curve = ((0, 0.01), (DAY, 0.01), (DAY, 0.1), (3 * DAY, 0.1), (3 * DAY, 1.0))
seeds = st.floats(0, 1, exclude_max=True)


def after(curve: Curve, seed: float, paused: int | None = None) -> int | None:
    """Seconds after the start at which a node comes."""
    at = Rollout(START, curve, None if paused is None else START + paused).eligible_at(seed)
    return None if at is None else at - START


@given(st.integers(0, 10**10), st.integers(0, 366 * DAY), seeds)
def test_a_ramp_reaches_each_node_between_its_start_and_its_end(start: int, seconds: int, seed: float) -> None:
    at = Rollout(start, ((0, 0.0), (seconds, 1.0))).eligible_at(seed)
    assert at is not None
    assert start <= at <= start + seconds


@pytest.mark.parametrize(("seed", "seconds"), [(0.0, 1), (0.25, 251), (0.9995, 1000)])
def test_a_ramp_takes_nodes_in_the_order_of_their_seeds(seed: float, seconds: int) -> None:
    assert after(RAMP, seed) == seconds


@pytest.mark.parametrize(
    ("seed", "seconds"), [(0.0, 0), (0.009, 0), (0.01, DAY), (0.09, DAY), (0.11, 3 * DAY), (0.999, 3 * DAY)]
)
def test_a_wave_takes_its_share_of_the_nodes_at_once(seed: float, seconds: int) -> None:
    assert after(WAVES, seed) == seconds


def test_who_is_beyond_the_last_share_is_not_reached() -> None:
    assert after(WAVES[:3], 0.05) == DAY
    assert after(WAVES[:3], 0.5) is None
    assert after(((0, 0.0),), 0.0) is None


def test_nobody_comes_before_the_first_point() -> None:
    assert after(((50, 0.5),), 0.1) == 50
    assert Rollout(START, ((50, 0.5),)).share(START + 49) == 0


def test_a_pause_keeps_who_had_come_and_lets_nobody_follow() -> None:
    assert after(RAMP, 0.25, paused=251) == 251
    assert after(RAMP, 0.25, paused=250) is None
    assert after(WAVES, 0.005, paused=0) == 0
    assert Rollout(START, RAMP, START + 250).share(START + 900) == Fraction(1, 4)


@given(rollouts, seeds, st.integers(-10, 367 * DAY))
def test_a_node_may_take_the_release_exactly_while_the_share_is_above_its_place(
    rollout: Rollout, seed: float, seconds: int
) -> None:
    at, now = rollout.eligible_at(seed), rollout.start + seconds
    assert (at is not None and at <= now) == (rollout.share(now) > Fraction(seed))
    if at is not None:
        assert rollout.share(at) > Fraction(seed) >= rollout.share(at - 1)


@given(rollouts, st.integers(-10, 367 * DAY), st.integers(0, 367 * DAY))
def test_the_share_never_falls(rollout: Rollout, seconds: int, more: int) -> None:
    now = rollout.start + seconds
    assert 0 <= rollout.share(now) <= rollout.share(now + more) <= 1


@given(rollouts, st.integers(-10, 367 * DAY))
def test_what_comes_next_is_more_and_comes_true(rollout: Rollout, seconds: int) -> None:
    now = rollout.start + seconds
    ahead = rollout.next_point(now)
    if ahead is None:
        last = rollout.share(now) == rollout.share(now + 400 * DAY)
        assert last or rollout.paused is not None
    else:
        at, share = ahead
        assert at > now
        assert rollout.share(at) >= Fraction(str(share)) > rollout.share(now)


def test_shares_for_people_are_never_too_high() -> None:
    shares = [Fraction(1), Fraction(9999, 10000), Fraction(1, 10), Fraction(1, 1000), Fraction(0)]
    assert [percent(share) for share in shares] == ["100 %", "99.9 %", "10 %", "0.1 %", "0 %"]
