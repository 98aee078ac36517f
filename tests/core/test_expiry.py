"""When people hear of metadata that expires: in time, never while all is well, and as long as it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.expiry import DAY, Expiry, accepted, grace_text, is_close, notices

NOW = 1_800_000_000
WEEK = 7 * DAY
moments = st.integers(0, 2**40)
lengths = st.integers(1, 2**40)


@pytest.mark.parametrize(
    ("left", "lifetime", "early", "close"),
    [
        (7 * DAY, None, WEEK, False),
        (7 * DAY - 1, None, WEEK, True),
        (7 * DAY - 1, 365 * DAY, WEEK, True),
        (2 * DAY, 3 * DAY, WEEK, False),  # a timestamp of three days, two of them left
        (DAY, 3 * DAY, WEEK, False),
        (DAY - 1, 3 * DAY, WEEK, True),
        (5 * DAY, 14 * DAY, WEEK, False),
        (4 * DAY, 14 * DAY, WEEK, True),
        (4 * DAY, 14 * DAY, 2 * DAY, False),
        (1, None, 0, False),
        (0, None, 0, True),
        (-DAY, 3 * DAY, 0, True),
    ],
)
def test_less_than_a_week_is_close_but_never_more_than_a_third(
    left: int, lifetime: int | None, early: int, close: bool
) -> None:
    assert is_close(Expiry(NOW + left, lifetime), NOW, early) == close


@given(moments, lengths, st.integers(0, 365 * DAY))
def test_what_was_just_signed_is_never_close(now: int, lifetime: int, early: int) -> None:
    assert not is_close(Expiry(now + lifetime, lifetime), now, early)


@given(st.builds(Expiry, moments, st.none() | lengths), moments, st.integers(0, 365 * DAY), lengths)
def test_once_close_it_stays_so_and_expired_is_always_close(expiry: Expiry, now: int, early: int, later: int) -> None:
    if is_close(expiry, now, early):
        assert is_close(expiry, now + later, early)
    assert is_close(expiry, max(now, expiry.at), early)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (2 * DAY, "the metadata of stable expires in 2 days (2027-01-17T08:00:00Z); the publisher must refresh it"),
        (2 * DAY - 1, "the metadata of stable expires in 47 hours ("),
        (7199, "the metadata of stable expires in less than 2 hours ("),
        (0, "the metadata of stable expired less than 2 hours ago (2027-01-15T08:00:00Z); the publisher must"),
        (-3 * DAY, "the metadata of stable expired 3 days ago ("),
    ],
)
def test_the_words_say_when_and_who_can_mend_it(left: int, words: str) -> None:
    (notice,) = notices({"root": Expiry(NOW + 300 * DAY), "stable": Expiry(NOW + left)}, NOW, WEEK)
    assert notice.text.startswith(words)
    assert (notice.role, notice.expired) == ("stable", left <= 0)


def test_what_grace_let_pass_is_named() -> None:
    expiries = {"timestamp": Expiry(5, accepted=True), "stable": Expiry(5, accepted=True), "root": Expiry(9)}
    assert accepted(expiries) == ("stable", "timestamp")
    assert grace_text(accepted(expiries)).endswith("expired_grace_days allows it: stable, timestamp")
