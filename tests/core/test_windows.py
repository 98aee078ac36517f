"""Maintenance windows against a model that goes minute by minute, and on the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updated.core.windows import DAYS, WEEK_MINUTES, Opening, Rate, Window, Windows, rate_changes

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, *map(ZoneInfo, (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia",
))]  # fmt: skip
# A minute on the day of a change in each of these zones: half an hour, an hour, and the day that Apia left out.
CHANGES = [
    datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 3, 8, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC),
    datetime(2011, 12, 30, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC),
]


def at(text: str, zone: tzinfo, *, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp())


def window(days: str, start: str, minutes: int) -> Window:
    hour, minute = map(int, start.split(":"))
    return Window(frozenset(map(DAYS.index, days.split())), hour * 60 + minute, minutes)


def every_day(start: str, minutes: int) -> Window:
    return window(" ".join(DAYS), start, minutes)


def model(windows: Windows, begin: int, end: int) -> set[int]:
    """The minutes in which it is open, found by going through all of them with a clock in hand.

    A day's window opens in the first minute in which its clock shows the start, or has passed it by: then as much
    later as the start was after the last minute that was shown.
    """
    opened: set[int] = set()
    earliest = begin - 9 * 86400
    day_of: dict[object, list[tuple[int, int]]] = {}
    for now in range(earliest, end, 60):
        shown = datetime.fromtimestamp(now, windows.zone)
        day_of.setdefault(shown.date(), []).append((now, shown.hour * 60 + shown.minute))
    for minutes in day_of.values():
        weekday = datetime.fromtimestamp(minutes[0][0], windows.zone).weekday()
        for each in windows.windows:
            if weekday not in each.days:
                continue
            first = next((now for now, shown in minutes if shown == each.start), None)
            if first is None:
                before = [pair for pair in minutes if pair[1] < each.start]
                if not before or before[-1][0] + 60 >= end:
                    continue  # the day is not whole at the ends of what was gone through
                first = before[-1][0] + (each.start - before[-1][1]) * 60
            opened.update(range(first, first + each.minutes * 60, 60))
    return {minute for minute in opened if begin <= minute < end}


windows_of_a_week = st.lists(
    st.builds(
        Window, st.frozensets(st.integers(0, 6), min_size=1),
        st.integers(0, 1439) | st.sampled_from((0, 90, 120, 150, 180, 1439)),
        st.integers(1, 600) | st.sampled_from((1440, 3000, WEEK_MINUTES - 1)),
    ),
    min_size=1, max_size=3,
).map(tuple)


@settings(max_examples=25)
@given(windows_of_a_week, st.sampled_from(ZONES), st.sampled_from(CHANGES))
def test_each_minute_is_open_or_closed_as_a_clock_on_the_wall_has_it(
    entries: tuple[Window, ...], zone: tzinfo, day: datetime
) -> None:
    windows = Windows(entries, zone)
    if windows.longest is None:
        return
    begin, end = (int((day + timedelta(days=days)).timestamp()) for days in (-1, 3))
    expected = model(windows, begin, end)
    sampled = range(begin, end - 86400, 7 * 60)
    assert [now for now in sampled if windows.opening(now).open] == [now for now in sampled if now in expected]


@settings(max_examples=25)
@given(windows_of_a_week, st.sampled_from(ZONES), st.sampled_from(CHANGES), st.integers(0, 5 * 86400))
def test_until_is_when_it_changes_and_room_is_within_one_opening(
    entries: tuple[Window, ...], zone: tzinfo, day: datetime, later: int
) -> None:
    windows = Windows(entries, zone)
    now = int(day.timestamp()) + later
    found = windows.opening(now)
    if found.until is not None:
        assert windows.opening(found.until - 1).open == found.open
        assert windows.opening(found.until).open != found.open
    for seconds in (1, 600, 7200):
        first = windows.earliest(now, seconds)
        if first is not None:
            assert all(windows.opening(first + more).open for more in range(0, seconds, 60))
            assert windows.opening(first + seconds - 1).open
            assert first == now or windows.earliest(now, seconds) == windows.earliest(first, seconds)


def test_without_a_window_it_is_always_open() -> None:
    for now in (-1, 0, 10**10, 10**15):
        assert Windows().opening(now) == Opening(True, None)
        assert Windows().earliest(now, 10**6) == now


def test_an_ordinary_night() -> None:
    windows = Windows((window("Mon Tue", "22:00", 240),), BERLIN)
    monday = at("2026-07-06T22:00", BERLIN)
    assert windows.opening(monday - 1) == Opening(False, monday)
    assert windows.opening(monday) == Opening(True, monday + 4 * 3600)
    assert windows.opening(monday + 4 * 3600) == Opening(False, monday + 86400)
    assert windows.opening(monday + 86400 + 4 * 3600) == Opening(False, monday + 7 * 86400)


def test_a_window_goes_over_midnight_and_over_the_end_of_the_week() -> None:
    windows = Windows((window("Sun", "23:00", 120),), UTC)
    monday = at("2026-07-06T00:30", UTC)
    assert windows.opening(monday) == Opening(True, at("2026-07-06T01:00", UTC))


def test_windows_that_touch_are_one() -> None:
    windows = Windows((window("Mon", "20:00", 60), window("Mon", "21:00", 60)), UTC)
    assert windows.opening(at("2026-07-06T20:10", UTC)) == Opening(True, at("2026-07-06T22:00", UTC))
    assert windows.longest == 2 * 3600


def test_windows_that_cover_the_week_are_always_open_also_when_the_clock_changes() -> None:
    for entries in (
        (every_day("00:00", 1440),), (every_day("05:00", 1440),), (every_day("00:00", 720), every_day("12:00", 720)),
        (window("Wed", "12:00", WEEK_MINUTES),),
        (window("Mon Tue Wed Thu Fri", "00:00", 1440), window("Sat", "00:00", 2880)),
    ):  # fmt: skip
        windows = Windows(entries, BERLIN)
        assert windows.longest is None
        assert windows.opening(at("2026-10-25T23:30", BERLIN)) == Opening(True, None)
    assert Windows((every_day("00:00", 1439),), BERLIN).longest == 1439 * 60


def test_a_start_that_the_clock_passes_over_is_as_much_later() -> None:
    windows = Windows((every_day("02:30", 30),), BERLIN)
    opening = at("2026-03-29T03:30", BERLIN)
    assert windows.spans(opening - 3600)[8:10] == [
        (opening, opening + 1800), (at("2026-03-30T02:30", BERLIN), at("2026-03-30T03:00", BERLIN)),
    ]  # fmt: skip


def test_a_start_that_comes_twice_counts_once() -> None:
    windows = Windows((every_day("02:30", 30),), BERLIN)
    first, second = at("2026-10-25T02:30", BERLIN), at("2026-10-25T02:30", BERLIN, fold=1)
    assert second - first == 3600
    assert windows.opening(first) == Opening(True, first + 1800)
    assert not windows.opening(second).open


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        (BERLIN, "2026-03-29T00:00"), (BERLIN, "2026-10-25T00:00"), (ZoneInfo("America/New_York"), "2026-03-08T00:00"),
        (ZoneInfo("America/New_York"), "2026-11-01T00:00"), (ZoneInfo("Australia/Lord_Howe"), "2026-04-05T00:00"),
        (ZoneInfo("Australia/Lord_Howe"), "2026-10-04T00:00"), (ZoneInfo("Asia/Kathmandu"), "2026-03-29T00:00"),
    ],
)
def test_a_window_over_a_change_of_the_clock_lasts_as_many_minutes_as_it_says(zone: tzinfo, start: str) -> None:
    begin = at(start, zone)
    assert Windows((every_day("00:00", 240),), zone).opening(begin) == Opening(True, begin + 240 * 60)


def test_lord_howe_moves_its_clock_by_half_an_hour() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    windows = Windows((every_day("02:15", 60),), zone)
    opening = at("2026-10-04T02:45", zone)
    assert windows.opening(opening - 1).open is False
    assert windows.opening(opening) == Opening(True, opening + 3600)


def test_kathmandu_is_a_quarter_of_an_hour_off() -> None:
    windows = Windows((every_day("00:00", 15),), ZoneInfo("Asia/Kathmandu"))
    assert windows.opening(at("2026-07-06T18:15", UTC)) == Opening(True, at("2026-07-06T18:30", UTC))


def test_a_day_that_a_place_left_out_has_no_window() -> None:
    zone = ZoneInfo("Pacific/Apia")
    friday = Windows((window("Fri", "22:00", 60),), zone)
    thursday = at("2011-12-29T22:00", zone)
    assert friday.opening(thursday).until == at("2012-01-06T22:00", zone)
    daily = Windows((every_day("22:00", 60),), zone)
    assert daily.opening(thursday + 3600).until == at("2011-12-31T22:00", zone) == thursday + 86400


def test_there_is_room_only_where_the_rest_of_one_opening_holds_it() -> None:
    windows = Windows((window("Mon", "22:00", 30), window("Tue", "22:00", 60)), UTC)
    monday, tuesday = at("2026-07-06T22:00", UTC), at("2026-07-07T22:00", UTC)
    assert windows.earliest(monday, 1800) == monday
    assert windows.earliest(monday + 1, 1800) == tuesday
    assert windows.earliest(monday, 3600) == tuesday
    assert windows.earliest(monday, 3601) is None
    assert windows.longest == 3600


@given(windows_of_a_week, st.sampled_from(ZONES), st.integers(-(2**40), 2**40))
def test_a_clock_that_is_far_off_is_no_reason_to_break(entries: tuple[Window, ...], zone: tzinfo, now: int) -> None:
    windows = Windows(entries, zone)
    windows.opening(now)
    windows.earliest(now, 600)
    rate_changes(0, [Rate(windows, 1024)], now)


# ------------------------------------------------------------------------------------------------------------- rates


def test_the_first_limit_whose_window_is_open_counts() -> None:
    day, evening = every_day("08:00", 600), every_day("17:00", 120)
    rates = [Rate(Windows((day,), UTC), 1024), Rate(Windows((evening,), UTC), 0)]
    now = at("2026-07-06T12:00", UTC)
    found = rate_changes(9999, rates, now)
    assert found[:4] == (
        (now, 1024), (at("2026-07-06T18:00", UTC), 0), (at("2026-07-06T19:00", UTC), 9999),
        (at("2026-07-07T08:00", UTC), 1024),
    )  # fmt: skip
    assert found[-1][0] <= now + 8 * 86400


def test_without_windows_of_its_own_a_limit_has_no_changes() -> None:
    assert rate_changes(5000, [], 0) == ()
    assert rate_changes(5000, [Rate(Windows((every_day("00:00", 1440),), BERLIN), 2048)], 7) == ((7, 2048),)


@given(st.lists(st.builds(Rate, st.builds(Windows, windows_of_a_week), st.integers(0, 5)), min_size=1, max_size=4))
def test_each_change_changes_something_and_is_right_at_its_instant(rates: list[Rate]) -> None:
    now = at("2026-07-06T12:00", UTC)
    found = rate_changes(9, rates, now)
    assert found[0][0] == now
    for (one, before), (other, after) in pairwise(found):
        assert one < other
        assert before != after
    for instant, limit in found:
        assert limit == next((each.limit for each in rates if each.windows.opening(instant).open), 9)
