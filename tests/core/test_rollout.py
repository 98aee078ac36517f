"""A curve says for each node when it may take a release, and in what order nodes come."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import curves, digests, places, rollouts
from updated.core.rollout import Curve, Place, Rollout, percent

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


# --------------------------------------------------------------------------------------------------- places of nodes

RELEASE, NEXT = "ab" * 32, "cd" * 32
NODES = 20_000


def fleet(number: int = NODES) -> list[Place]:
    """Nodes that drew their seeds."""
    chance = random.Random(8)
    return [Place(chance.random()) for _ in range(number)]


def taken(rollout: Rollout, nodes: list[Fraction], now: int) -> float:
    """The share of the nodes that may take the release."""
    times = [rollout.eligible_at(place) for place in nodes]
    return sum(at is not None and at <= now for at in times) / len(nodes)


@pytest.mark.parametrize("curve", [RAMP, WAVES, ((0, 0.0), (DAY, 0.25), (3 * DAY, 0.25), (4 * DAY, 0.9))])
def test_the_share_of_a_fleet_that_may_take_a_release_is_that_of_the_curve(curve: Curve) -> None:
    rollout = Rollout(START, curve)
    nodes = [node.of(RELEASE) for node in fleet()]
    for seconds in sorted({at + more for at, _ in curve for more in (-1, 0, 100, 500, DAY // 2)}):
        share = float(rollout.share(START + seconds))
        # Four times the deviation of so many draws; none at all where all or no nodes are meant.
        bound = 4 * (share * (1 - share) / NODES) ** 0.5
        assert abs(taken(rollout, nodes, START + seconds) - share) <= bound, seconds


def test_each_release_has_other_nodes_first() -> None:
    nodes = fleet()
    early = [node for node in nodes if node.of(RELEASE) < Fraction(1, 10)]
    again = sum(node.of(NEXT) < Fraction(1, 10) for node in early) / len(early)
    assert abs(again - 0.1) <= 4 * (0.09 / len(early)) ** 0.5


@given(places, digests)
def test_a_place_stays_the_same_for_a_release_and_lies_in_the_rollout(node: Place, manifest: str) -> None:
    assert 0 <= node.of(manifest) <= 1
    assert node.of(manifest) == Place(node.seed, node.fixed).of(manifest)
    assert node.of(manifest) < 1 or node.fixed == 1


@given(st.floats(0, 1), digests, digests)
def test_a_place_that_the_operator_gave_is_that_for_every_release(fixed: float, one: str, other: str) -> None:
    assert Place(0.1, fixed).of(one) == Place(0.9, fixed).of(other) == Fraction(str(fixed))


def test_the_place_is_drawn_as_the_document_says() -> None:
    # printf '0.25 abab…' | sha256sum
    assert Place(0.25).of(RELEASE) == Fraction(0xc2af1b889d2b6c71, 2**64)


@given(rollouts, places, digests, st.integers(-10, 367 * DAY), st.integers(0, 367 * DAY))
def test_who_may_take_a_release_may_do_so_ever_after(
    rollout: Rollout, node: Place, manifest: str, seconds: int, more: int
) -> None:
    at, now = rollout.eligible_at(node.of(manifest)), rollout.start + seconds
    if at is not None and at <= now:
        assert rollout.share(now + more) > node.of(manifest) or rollout.share(now + more) == 1
        assert rollout.share(at) > node.of(manifest) or rollout.share(at) == 1


@given(rollouts, places, digests)
def test_the_first_come_before_and_the_last_after_everybody(rollout: Rollout, node: Place, manifest: str) -> None:
    first, other, last = (
        rollout.eligible_at(place.of(manifest)) for place in (Place(0.5, 0.0), node, Place(0.5, 1.0))
    )
    if other is not None:
        assert first is not None
        assert first <= other
    if last is not None:
        assert other is not None
        assert other <= last


@given(rollouts)
def test_the_last_come_exactly_when_the_rollout_is_complete(rollout: Rollout) -> None:
    at = rollout.eligible_at(Fraction(1))
    if at is None:
        assert rollout.most < 1
    else:
        assert rollout.share(at) == 1
        assert rollout.share(at - 1) < 1


@given(curves(), st.none() | st.integers(0, 366 * DAY), st.integers(0, 800 * DAY))
def test_what_a_rollout_comes_to_is_never_passed_and_reached(curve: Curve, pause: int | None, seconds: int) -> None:
    rollout = Rollout(START, curve, None if pause is None else START + pause)
    assert rollout.share(START + seconds) <= rollout.most
    assert rollout.share(START + 10**9) == rollout.most


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Place(0.25), "after 76 % of the nodes"), (Place(0.25, 0.0), "among the first ([updates] wave)"),
        (Place(0.25, 1.0), "after all others ([updates] wave)"),
        (Place(0.25, 0.5), "after 50 % of the nodes ([updates] wave)"),
    ],
)
def test_a_place_is_told_in_words(node: Place, words: str) -> None:
    assert node.described(RELEASE) == words
