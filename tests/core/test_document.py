"""Strict reading of JSON: what is not exactly as said is one typed error that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.document import MAX_DEPTH, Misfit, Object, dump, format_time, load_object, parse_time
from updated.core.errors import UpdatedError


def load(text: str | bytes) -> Object:
    data = text if isinstance(text, bytes) else text.encode()
    return load_object(data, what="the thing", code="state-corrupt", mend="Mend it.")


def refusal(text: str | bytes) -> str:
    with pytest.raises(UpdatedError) as caught:
        load(text)
    assert (caught.value.code, caught.value.what, caught.value.mend) == ("state-corrupt", "the thing", "Mend it.")
    return caught.value.cause


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), json_values, max_size=6))
def test_what_is_dumped_is_read_back(value: dict[str, Any]) -> None:
    document = load(dump(value))
    assert sorted(document.keys()) == sorted(value)
    assert json.loads(dump(value)) == value


@given(st.binary(max_size=200))
def test_garbage_gives_one_typed_error_or_an_object(data: bytes) -> None:
    try:
        assert isinstance(load(data), Object)
    except UpdatedError as error:
        if error.code != "state-corrupt":
            raise


@given(st.text('[]{}",:\\u0123456789abtrfn.-eE+ ', max_size=60))
def test_almost_json_gives_one_typed_error_or_an_object(text: str) -> None:
    try:
        assert isinstance(load(text), Object)
    except UpdatedError as error:
        if error.code != "state-corrupt":
            raise


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH, 100_000])
def test_nesting_is_bounded_before_the_parser_sees_it(opening: str, depth: int) -> None:
    assert refusal('{"a":' + opening * depth) == f"is nested deeper than {MAX_DEPTH} levels"


def test_the_deepest_nesting_that_is_allowed_is_read() -> None:
    load('{"a":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}")


def test_brackets_in_texts_do_not_count_as_nesting() -> None:
    assert load(json.dumps({"a": '"[{\\' * 50})).text("a") == '"[{\\' * 50


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', '{"a": 1, "\\u0061": 2}'])
def test_a_key_that_is_there_twice_is_refused(text: str) -> None:
    assert refusal(text) == "has a key twice"


def test_what_is_not_text_is_refused() -> None:
    assert refusal(b'{"a": "\x9f"}') == "is not UTF-8"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(number: str) -> None:
    assert refusal(f'{{"a": [{number}]}}') == f"holds {number}, which is not JSON"


def test_a_number_too_large_for_a_float_is_in_no_range() -> None:
    with pytest.raises(Misfit, match="a is not between 0 and 1"):
        load('{"a": 1e999}').real("a", least=0, most=1)


def test_a_number_of_a_million_digits_is_refused_and_not_computed() -> None:
    refusal('{"a": ' + "9" * 1_000_000 + "}")


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"\\udfff": 1}', '{"a": [["\\udc00\\ud800"]]}'])
def test_half_of_a_surrogate_pair_is_refused_since_it_can_not_be_written_again(text: str) -> None:
    assert "surrogate" in refusal(text)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert load('{"a": "\\ud83d\\ude00"}').text("a") == "\U0001f600"


@pytest.mark.parametrize("text", ["", " ", "[]", '"a"', "1", "null", "{", '{"a": 1} x', "\ufeff{}", b"\xff", b"{\x00}"])
def test_what_is_no_object_is_refused(text: str | bytes) -> None:
    assert refusal(text)


def test_a_key_that_nobody_read_is_refused_with_its_full_name() -> None:
    document = load('{"a": {"known": 1, "new": 2}}')
    inner = document.object("a")
    inner.number("known")
    document.done()
    with pytest.raises(Misfit, match=r"a\.new is not a known key"):
        inner.done()


@pytest.mark.parametrize(
    ("read", "fits"),
    [
        ("text", {"s"}), ("line", {"s"}), ("number", {"i"}), ("flag", {"b"}), ("object", {"o"}), ("objects", {"l"}),
        ("lines", {"l"}), ("digest", set()), ("time", set()),
    ],
)
def test_each_type_is_only_itself(read: str, fits: set[str]) -> None:
    document = load('{"s": "x", "i": 1, "f": 1.5, "b": true, "n": null, "l": [], "o": {}}')
    for key in [*document.keys(), "missing"]:
        if key in fits:
            getattr(document, read)(key)
        else:
            with pytest.raises(Misfit, match=f"^{key} is "):
                getattr(document, read)(key)


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x00", "\x7f", "\x85", "\u2028"])
def test_a_line_has_no_control_characters(character: str) -> None:
    document = load(json.dumps({"a": f"x{character}y", "b": [f"x{character}y"]}))
    with pytest.raises(Misfit, match="a holds control characters"):
        document.line("a")
    with pytest.raises(Misfit, match=r"b\[0\] holds control characters"):
        document.lines("b")
    assert document.text("a") == f"x{character}y"


def test_limits_hold() -> None:
    document = load(json.dumps({"text": "x" * 5, "number": 6, "list": [{}] * 4}))
    for read in (
        lambda: document.text("text", most=4), lambda: document.number("number", most=5),
        lambda: document.number("number", least=7), lambda: document.objects("list", most=3),
    ):
        with pytest.raises(Misfit):
            read()


@given(st.integers(-62135596800, 253402300799))
def test_each_time_of_four_digit_years_is_read_back(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_any_time_can_be_written(seconds: float) -> None:
    parse_time(format_time(seconds))


@pytest.mark.parametrize(
    "text",
    ["2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", "2026-01-01",
     "0000-01-01T00:00:00Z", "\u0662026-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n"],
)  # fmt: skip
def test_what_is_no_time_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


def test_times_are_those_of_the_epoch() -> None:
    assert parse_time("1970-01-01T00:00:00Z") == 0
    assert format_time(1_700_000_000) == "2023-11-14T22:13:20Z"
