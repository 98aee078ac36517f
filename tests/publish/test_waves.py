"""How a rollout is written, changed and told; whatever is changed, a node that may take a release may go on to."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import curves, rollouts
from updated.core.errors import UpdatedError
from updated.core.rollout import Curve, Rollout
from updated.publish.waves import MOST_HOURS, continued, described, hours, paused, ramp, resumed, waves

START = 1_800_000_000
HOUR, DAY = 3600, 86400
THREE = "1%,10%@24h,100%@3d"
THREE_WAVES: Curve = ((0, 0.01), (DAY, 0.01), (DAY, 0.1), (3 * DAY, 0.1), (3 * DAY, 1.0))
seeds = st.floats(0, 1, exclude_max=True)
times = st.integers(-100, 800 * DAY)


@pytest.mark.parametrize(
    ("text", "curve"),
    [
        (THREE, THREE_WAVES),
        ("1%, 10%@1440m, 100%@72h", THREE_WAVES),
        ("100%", ((0, 1.0),)),
        ("0.5%", ((0, 0.005),)),
        ("20%@12h", ((0, 0.0), (12 * HOUR, 0.0), (12 * HOUR, 0.2))),
        ("20%@1h,20%@2h", ((0, 0.0), (HOUR, 0.0), (HOUR, 0.2), (2 * HOUR, 0.2))),
    ],
)
def test_waves_are_steps(text: str, curve: Curve) -> None:
    assert waves(text) == curve


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has '', which is no wave"), ("10", "has '10'"), ("10%@24", "has '10%@24'"), ("10%@1w", "has '10%@1w'"),
        ("-1%", "has '-1%'"), ("٣%", "which is no wave"), ("1%,", "has ''"), ("101%", "beyond all nodes"),
        ("1%@367d", "or a year"), ("10%,1%@1h", "goes back"), ("1%@2h,10%@1h", "goes back"),
    ],
)
def test_what_are_no_waves_is_told(text: str, words: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        waves(text)
    assert caught.value.code == "bad-request"
    assert words in caught.value.cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("-1", "is less than 0"), ("-inf", "is less than 0"), ("8785", "is more than a year"),
        ("inf", "is more than a year"), ("nan", "is no number"), ("2d", "is no number"), ("", "is no number"),
    ],
)
def test_a_ramp_lasts_a_year_at_most(text: str, cause: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        hours(text)
    assert (caught.value.code, caught.value.cause) == ("bad-request", cause)
    assert (hours("1.5"), hours("0"), hours("8784")) == (1.5, 0, MOST_HOURS)


def changes(rollout: Rollout, now: int, curve: Curve) -> list[Rollout]:
    """Every change of a rollout that is possible at that time."""
    made = [continued(rollout, curve, now)]
    for change in (paused, resumed):
        with contextlib.suppress(UpdatedError):
            made.append(change(rollout, now))
    return made


@given(rollouts, times, curves(), seeds)
def test_no_change_takes_a_release_away_from_a_node(
    rollout: Rollout, seconds: int, curve: Curve, seed: float
) -> None:
    now = rollout.start + seconds
    at = rollout.eligible_at(seed)
    for changed in changes(rollout, now, curve):
        if at is not None and at <= now:
            then = changed.eligible_at(seed)
            assert then is not None
            assert then <= at


@given(rollouts, times, curves(), times)
def test_whatever_is_changed_the_past_stays_and_the_curve_is_one(
    rollout: Rollout, seconds: int, curve: Curve, before: int
) -> None:
    now = rollout.start + seconds
    then = min(now - 1, rollout.start + before)
    for changed in changes(rollout, now, curve):
        points = changed.curve
        assert list(points) == sorted(points)
        assert sorted(share for _, share in points) == [share for _, share in points]
        assert rollout.share(then) <= changed.share(then) <= rollout.share(then) + Fraction(1, 10**6)


steps = st.tuples(st.sampled_from(("pause", "resume", "go on")), st.integers(0, 30 * DAY))


@given(st.lists(steps, max_size=8), curves(30 * DAY), seeds)
def test_nor_does_any_row_of_changes(row: list[tuple[str, int]], curve: Curve, seed: float) -> None:
    now, rollout = START, Rollout(START, curve)
    known: int | None = None
    for kind, seconds in row:
        now += seconds
        at = rollout.eligible_at(seed)
        if known is None and at is not None and at <= now:
            known = at
        with contextlib.suppress(UpdatedError):
            match kind:
                case "pause":
                    rollout = paused(rollout, now)
                case "resume":
                    rollout = resumed(rollout, now)
                case _:
                    rollout = continued(rollout, curve, now)
        if known is not None:
            at = rollout.eligible_at(seed)
            assert at is not None
            assert at <= known


def test_a_pause_stops_and_its_end_goes_on_where_it_stopped() -> None:
    rollout = Rollout(START, ramp(10))
    resting = paused(rollout, START + 2 * HOUR)
    assert resting.share(START + 99 * HOUR) == Fraction(1, 5)
    again = resumed(resting, START + 50 * HOUR)
    assert again.share(START + 50 * HOUR) == Fraction(1, 5)
    assert again.share(START + 51 * HOUR) == Fraction(3, 10)
    assert again.share(START + 58 * HOUR) == 1
    assert again.curve == ((0, 0.0), (2 * HOUR, 0.2), (50 * HOUR, 0.2), (58 * HOUR, 1.0))


def test_waves_that_were_paused_come_as_much_later() -> None:
    resting = paused(Rollout(START, waves(THREE)), START + 2 * DAY)
    again = resumed(resting, START + 9 * DAY)
    assert again.share(START + 10 * DAY - 1) == Fraction(1, 10)
    assert again.share(START + 10 * DAY) == 1


def test_a_rollout_goes_on_by_another_curve_from_where_it_stands() -> None:
    rollout = Rollout(START, waves("10%"))
    quick = continued(rollout, ramp(9), START + DAY)
    assert quick.share(START + DAY) == Fraction(1, 10)
    assert quick.share(START + DAY + 3 * HOUR) == Fraction(4, 10)
    assert quick.share(START + DAY + 9 * HOUR) == 1
    steps = continued(rollout, waves("5%,50%@1h"), START + DAY)
    assert [steps.share(START + DAY + at) for at in (0, HOUR - 1, HOUR)] == [
        Fraction(1, 10), Fraction(1, 10), Fraction(1, 2)
    ]


def test_another_curve_ends_a_pause() -> None:
    resting = paused(Rollout(START, ramp(10)), START + HOUR)
    assert continued(resting, ramp(9), START + DAY).share(START + DAY + 9 * HOUR) == 1


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        (Rollout(START, ((0, 1.0),)), "stands at 100 % of the nodes, and nothing is to come"),
        (Rollout(START, ((0, 0.1),)), "stands at 10 % of the nodes, and nothing is to come"),
        (Rollout(START, ramp(100), START), "stands at 0 % of the nodes, and nothing is to come"),
    ],
    ids=["done", "at its end", "paused"],
)
def test_what_rests_already_can_not_be_paused(rollout: Rollout, words: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        paused(rollout, START + HOUR)
    assert words in caught.value.cause


def test_what_is_not_paused_can_not_be_resumed() -> None:
    with pytest.raises(UpdatedError, match="is not paused"):
        resumed(Rollout(START, ramp(10)), START)


def test_where_a_rollout_stands_and_what_comes_next_is_told() -> None:
    rollout = Rollout(START, waves(THREE))
    tomorrow = "2027-01-16T08:00:00Z"
    assert described(None, START) == "all nodes"
    assert described(rollout, START) == f"1 % of the nodes, 10 % by {tomorrow}"
    assert described(rollout, START + 3 * DAY) == "100 % of the nodes"
    assert described(paused(rollout, START), START + DAY) == "1 % of the nodes, paused"
    end = "10 % of the nodes, and no more without `releasectl rollout`"
    assert described(Rollout(START, waves("10%")), START) == end
    assert described(Rollout(START, ramp(24)), START + 6 * HOUR) == f"25 % of the nodes, 100 % by {tomorrow}"


def test_that_a_rollout_ends_before_all_nodes_is_told_from_its_begin_on() -> None:
    rollout = Rollout(START, waves("1%,10%@24h,50%@3d"))
    never = "and no more without `releasectl rollout`"
    tomorrow, last = "2027-01-16T08:00:00Z", "2027-01-18T08:00:00Z"
    assert described(rollout, START) == f"1 % of the nodes, 10 % by {tomorrow}, 50 % in the end, {never}"
    assert described(rollout, START + DAY) == f"10 % of the nodes, 50 % by {last}, {never}"
    assert described(rollout, START + 3 * DAY) == f"50 % of the nodes, {never}"
    assert described(Rollout(START, waves("1%,100%@3d")), START) == f"1 % of the nodes, 100 % by {last}"
