"""What a value of the configuration looks like in a message: as it is written in the file."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.toml_value import toml

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.dates()
    | st.times() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(VALUES)
def test_what_is_told_is_toml_for_the_same_value(value: Any) -> None:
    assert tomllib.loads(f"key = {toml(value)}\n") == {"key": value}


@given(st.text())
def test_a_text_can_not_steer_the_terminal(text: str) -> None:
    assert toml(text).isprintable()


@pytest.mark.parametrize(
    "written",
    [
        "true", "false", "7", "1.5", "inf", "nan", "1e+16", '"text"', '"it\'s"', r'"a\tb\u0007"', "[]", '["one", [2]]',
        "{}", '{ a = 1, "b c" = { d = "e" } }', "22:00:00", "2026-11-22", "2026-11-22 10:00:00+00:00",
    ],
)  # fmt: skip
def test_what_was_written_is_told_as_it_was_written(written: str) -> None:
    assert toml(tomllib.loads(f"key = {written}\n")["key"]) == written
