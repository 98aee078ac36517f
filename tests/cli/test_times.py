"""Times as people read them, and lengths as they write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.cli import exits
from updated.cli.spans import hold_end, since
from updated.cli.when import clock, epoch, length, moment, recorded, relative, with_local_times
from updated.core.document import format_time
from updated.core.errors import UpdatedError

NOW = 1_800_000_000


def test_a_time_is_told_in_the_local_zone_of_that_day() -> None:
    assert clock("2027-01-15T08:00:00Z") == "Fri 2027-01-15 09:00 CET"
    assert clock("2027-07-15T08:00:00Z") == "Thu 2027-07-15 10:00 CEST"


@pytest.mark.parametrize(
    ("away", "words"),
    [(0, "now"), (12_000, "in 3 h 20 min"), (-59, "59 s ago"), (60, "in 1 min"), (75, "in 1 min 15 s"),
     (-90_000, "1 d 1 h ago"), (86_400, "in 1 d")],
)  # fmt: skip
def test_how_far_a_time_is(away: int, words: str) -> None:
    assert relative(format_time(NOW + away), NOW) == words


@given(st.integers(0, 10**9))
def test_a_length_never_says_more_than_there_is(seconds: int) -> None:
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    words = length(seconds).split()
    told = sum(int(number) * sizes[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert told <= seconds < told + max(sizes[words[1]] // 20, 1) * 21


def test_times_within_words_are_told_as_well_and_those_in_parentheses_without_the_distance() -> None:
    text = with_local_times("until 2027-01-15T08:00:00Z (2027-01-15T08:00:00Z)", NOW - 60)
    assert text == "until Fri 2027-01-15 09:00 CET (in 1 min) (Fri 2027-01-15 09:00 CET)"


def test_what_happened_is_told_with_its_seconds_as_in_the_log_and_can_be_asked_for_by_them() -> None:
    assert recorded("2027-01-15T08:00:07Z") == "Fri 2027-01-15 09:00:07 CET"
    assert with_local_times("rejected, as of 2027-01-15T08:00:07Z") == "rejected, as of Fri 2027-01-15 09:00:07 CET"
    assert format_time(since("2027-01-15 09:00:07", NOW + 60)) == "2027-01-15T08:00:07Z"


@pytest.mark.parametrize("text", ["0000-13-45T99:99:99Z", "2027-02-30T00:00:00Z", "9999-12-31T23:59:59Z", ""])
def test_what_is_no_time_is_left_as_it_is(text: str) -> None:
    assert with_local_times(text, NOW).startswith(text[:4] if "9999" not in text else "")


@given(st.integers(0, 4_000_000_000))
def test_a_time_that_the_daemon_writes_is_read(seconds: int) -> None:
    assert epoch(format_time(seconds)) == seconds
    assert moment(format_time(seconds), NOW)


# NOW is Fri 2027-01-15 09:00 in the zone of these tests.
@pytest.mark.parametrize(
    ("text", "end", "begin"),
    [("2027-01-16", "2027-01-15T23:00:00Z", None), ("2027-01-16 18:00", "2027-01-16T17:00:00Z", None),
     ("2027-07-16T18:00", "2027-07-16T16:00:00Z", None), ("18:00", "2027-01-15T17:00:00Z", "2027-01-14T17:00:00Z"),
     ("08:00", "2027-01-16T07:00:00Z", "2027-01-15T07:00:00Z"), ("2027-01-14", None, "2027-01-13T23:00:00Z")],
)  # fmt: skip
def test_times_are_taken_by_the_clock_of_the_machine(text: str, end: str | None, begin: str | None) -> None:
    if end is not None:
        assert format_time(hold_end(text, NOW)) == end
    if begin is not None:
        assert format_time(since(text, NOW)) == begin


@pytest.mark.parametrize("text", ["0m", "0h", "0d", "0", "24:00", "2027-13-01", "2027-01-16 9:00"])
def test_a_hold_of_no_length_and_what_is_no_time_are_refused(text: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        hold_end(text, NOW)
    assert caught.value.code == "bad-request"


@pytest.mark.parametrize(
    ("text", "end"),
    [(None, 0), ("90m", NOW + 5400), ("12h", NOW + 43200), ("7d", NOW + 604800), ("2027-02-01T00:00:00Z", 1801440000)],
)
def test_a_hold_ends_at_a_time_or_after_a_length(text: str | None, end: int) -> None:
    assert hold_end(text, NOW) == end


@pytest.mark.parametrize("text", ["soon", "5", "1999-01-01T00:00:00Z", "-3d", "2027-13-01T00:00:00Z"])
def test_any_other_end_of_a_hold_is_a_wrong_argument(text: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        hold_end(text, NOW)
    assert exits.BY_CODE[caught.value.code] == exits.USAGE


def test_since_is_a_time_or_a_length_ago() -> None:
    assert since("2h", NOW) == NOW - 7200
    assert since("2027-01-01T00:00:00Z", NOW) == epoch("2027-01-01T00:00:00Z")
    with pytest.raises(UpdatedError):
        since("yesterday", NOW)
