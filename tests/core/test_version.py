"""Versions order as Semantic Versioning 2.0.0 says, section 11."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.errors import UpdatedError
from updated.core.version import MAX_LENGTH, Version, is_within

SEMVER_RELEASES = ["1.0.0", "2.0.0", "2.1.0", "2.1.1"]
SEMVER_PRERELEASES = [
    "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
    "1.0.0",
]


@pytest.mark.parametrize("ordered", [SEMVER_RELEASES, SEMVER_PRERELEASES])
def test_the_examples_of_the_specification_are_in_order(ordered: list[str]) -> None:
    for lower, higher in itertools.combinations(ordered, 2):
        assert Version(lower) < Version(higher)
        assert Version(higher) > Version(lower)
        assert Version(lower) != Version(higher)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.9.0", "1.10.0"), ("9", "10"), ("1.0", "1.0.1"), ("12.4", "12.4.1"), ("1.0.0-1", "1.0.0-a"),
        ("1.0.0-9", "1.0.0-10"), ("1.0.0-A", "1.0.0-a"), ("1.0.0-a", "1.0.0-a-b"), ("20261121.1", "20261122"),
        ("1.0.0-a.b", "1.0.0-a-b.0"),
    ],
)
def test_numbers_count_as_numbers_and_texts_by_their_bytes(lower: str, higher: str) -> None:
    assert Version(lower) < Version(higher)


def test_missing_parts_count_as_zero() -> None:
    assert len({Version("1"), Version("1.0"), Version("1.0.0")}) == 1
    assert str(Version("1.0")) == "1.0"


numbers = st.lists(st.integers(0, 10**9), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
identifiers = st.text("0123456789abcXYZ", min_size=1, max_size=5)
versions = st.builds(
    lambda number, parts: number + ("-" + ".".join(parts) if parts else ""), numbers, st.lists(identifiers, max_size=2)
)


@given(versions, versions, versions)
def test_the_order_is_total(one: str, two: str, three: str) -> None:
    a, b, c = sorted(map(Version, (one, two, three)))
    assert a <= b <= c
    assert a <= c
    assert (a == b) == (hash(a) == hash(b) and not a < b and not b < a)


@given(numbers, identifiers)
def test_a_pre_release_comes_before_its_release(number: str, identifier: str) -> None:
    assert Version(f"{number}-{identifier}") < Version(number)


@given(versions)
def test_a_version_prints_as_it_was_written(text: str) -> None:
    assert str(Version(text)) == text


@given(st.text(max_size=70))
def test_any_text_is_a_version_or_one_typed_error(text: str) -> None:
    try:
        assert Version(text).text == text
    except UpdatedError as error:
        if error.code != "bad-request":
            raise


@pytest.mark.parametrize(
    "text",
    ["", "1.", ".1", "1..2", "v1", "1.0.0+build", "1-", "1-a..b", "1.0.0-ü", "-1", "1/../2", "1.0\n", "\u0661.0", " 1",
     "1" * 19, "1." * 7 + "1", "1-" + "a" * MAX_LENGTH],
)  # fmt: skip
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UpdatedError, match="is not a version"):
        Version(text)


@pytest.mark.parametrize(
    ("newest", "within", "beyond"),
    [
        ("1.9", ["0.1", "1", "1.9", "1.9.0-rc.1", "1.9.7", "1.9.7.2", "1.9.8-rc.1"], ["1.10", "2", "1.10-rc.1"]),
        ("1.9.0", ["1.9", "1.9.0.4"], ["1.9.1", "1.9.1-rc.1", "1.10"]),
        ("1", ["1.999", "0.9"], ["2.0.0-alpha", "2"]),
        ("1.9-rc.2", ["1.9-rc.1", "1.9-rc.2", "1.8.7"], ["1.9-rc.3", "1.9", "1.9.1"]),
    ],
)  # fmt: skip
def test_a_bound_stands_for_all_that_begins_as_it_does(newest: str, within: list[str], beyond: list[str]) -> None:
    assert [text for text in (*within, *beyond) if is_within(Version(text), Version(newest))] == within
