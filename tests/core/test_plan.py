"""What is asked of the server: all that is wanted, each byte once, no more than a short gap, and the cheapest way."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.plan import (
    MAX_GAP_LENGTH,
    MAX_REQUEST_LENGTH,
    MIN_GAP_LENGTH,
    Cost,
    Outlook,
    Way,
    cheapest,
    cost,
    gap_length,
    requests,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame, and whether it is wanted."""

    position: int
    stored: int
    wanted: bool


GAP = 100
MOST = 1000


@st.composite
def pieces(draw: st.DrawFn) -> list[Piece]:
    """Frames one after the other, of which some are as long as a gap, or longer than a request."""
    found, position = [], 0
    for stored in draw(st.lists(st.sampled_from((0, 1, 40, GAP - 1, GAP, GAP + 1, 400, 1500)), max_size=20)):
        found.append(Piece(position, stored, draw(st.booleans())))
        position += stored
    return found


def asked(frames: list[Piece], gap: int = GAP, most: int = MOST) -> list[tuple[int, int, tuple[Piece, ...]]]:
    return [
        (request.start, request.length, request.frames)
        for request in requests(frames, lambda piece: piece.wanted, gap, most)
    ]


@given(pieces())
def test_the_requests_hold_just_the_frames_that_are_wanted_in_order(frames: list[Piece]) -> None:
    assert [piece for _, _, group in asked(frames) for piece in group] == [piece for piece in frames if piece.wanted]


@given(pieces())
def test_a_request_reaches_from_its_first_frame_to_its_last(frames: list[Piece]) -> None:
    for start, length, group in asked(frames):
        assert (start, start + length) == (group[0].position, group[-1].position + group[-1].stored)


@given(pieces())
def test_no_more_than_a_gap_is_read_through(frames: list[Piece]) -> None:
    for _, _, group in asked(frames):
        for before, after in itertools.pairwise(group):
            assert after.position - (before.position + before.stored) <= GAP


@given(pieces())
def test_a_request_is_only_too_long_when_its_one_frame_is(frames: list[Piece]) -> None:
    assert all(length <= MOST or len(group) == 1 for _, length, group in asked(frames))


@given(pieces())
def test_neighbours_are_asked_for_together_when_they_may_be(frames: list[Piece]) -> None:
    for (start, length, _), (_, _, after) in itertools.pairwise(asked(frames)):
        far = after[0].position - (start + length) > GAP
        long = after[0].position + after[0].stored - start > MOST
        assert far or long


def test_a_long_stretch_is_shared_out_in_pieces() -> None:
    frames = [Piece(at * 100_000, 100_000, True) for at in range(100)]
    parts = asked(frames, most=MAX_REQUEST_LENGTH)
    assert [length for _, length, _ in parts] == [4_100_000, 4_100_000, 1_800_000]


@given(pieces())
def test_the_cost_counts_the_bytes_of_the_answers_gaps_included(frames: list[Piece]) -> None:
    parts = asked(frames)
    found = cost(requests(frames, lambda piece: piece.wanted, GAP, MOST))
    assert found == Cost(sum(length for _, length, _ in parts), len(parts))


ways = st.lists(
    st.builds(Way, st.sampled_from(("patch", "ranges")), st.builds(Cost, st.integers(0, 10**9), st.integers(0, 99))),
    min_size=1, max_size=3,
)


@given(ways, st.floats(0, 1), st.floats(1000, 1e9))
def test_no_way_costs_a_hundredth_more_bytes_than_another(given_ways: list[Way], latency: float, rate: float) -> None:
    least = min(way.cost.length for way in given_ways)
    assert cheapest(given_ways, latency, rate).cost.length <= least * 1.01


def test_of_ways_with_about_as_many_bytes_the_quicker_one_is_taken() -> None:
    patch, ranges = Way("patch", Cost(100_500, 1)), Way("ranges", Cost(100_000, 40))
    assert cheapest([ranges, patch], 0.1, 1e6) == patch
    assert cheapest([ranges, patch], 0.0, 1e6) == ranges


def test_requests_never_outweigh_bytes() -> None:
    patch, ranges = Way("patch", Cost(98_900, 1000)), Way("ranges", Cost(100_000, 1))
    assert cheapest([ranges, patch], 1.0, 1e6) == patch


@given(st.floats(0, 100), st.floats(1, 1e12), st.integers(1, 16))
def test_a_gap_is_at_least_a_header_and_at_most_what_a_byte_is_worth(latency: float, rate: float, lines: int) -> None:
    assert MIN_GAP_LENGTH <= gap_length(latency, rate, lines) <= MAX_GAP_LENGTH


def test_the_longer_an_answer_takes_the_more_is_read_through() -> None:
    assert gap_length(0.01, 1e6, 1) == 2500
    assert gap_length(0.02, 1e6, 1) == 5000
    assert gap_length(0.02, 1e6, 2) == 2500


@pytest.mark.parametrize(
    ("outlook", "words"),
    [
        (
            Outlook("patch", "1.1.0", 10**9, 970_000_000, 5_120_000, 406_000_000),
            "delta from 1.1.0: 5.1 MB of 406 MB, 97 % from this machine",
        ),
        (Outlook("ranges", "", 1000, 250, 40_000, 99_949_999), "ranges: 40.0 kB of 99.9 MB, 25 % from this machine"),
        (Outlook("full", "1.1.0", 1000, 0, 406_000_000, 406_000_000), "full: 406 MB"),
        (Outlook("ranges", "1.1.0", 1000, 1000, 0, 10), "all of it is on this machine, 0 bytes downloaded"),
        (Outlook("full", "", 0, 0, 0, 0), "all of it is on this machine, 0 bytes downloaded"),
    ],
)
def test_the_outlook_says_where_the_bytes_come_from(outlook: Outlook, words: str) -> None:
    assert str(outlook) == words
