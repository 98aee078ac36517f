"""Errors: one line of bounded length, whatever a server put into it, and a form that is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.errors import CODES, MAX_TEXT_LENGTH, UpdatedError


@given(st.sampled_from(sorted(CODES)), st.text(), st.text(), st.text())
def test_an_error_is_read_back_from_its_form(code: str, what: str, cause: str, mend: str) -> None:
    error = UpdatedError(code, what, cause, mend)
    assert str(UpdatedError.from_json(error.to_json())) == str(error)


@given(st.text(st.characters(), max_size=50))
def test_an_error_is_one_line_that_can_be_written_anywhere(text: str) -> None:
    line = str(UpdatedError("internal", text, text, text))
    assert len(line.splitlines()) <= 1
    line.encode()
    assert "\x1b" not in line


def test_a_part_is_cut_to_a_bounded_length() -> None:
    assert len(UpdatedError("internal", "x", "y" * 10**6, "z").cause) == MAX_TEXT_LENGTH


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)


@given(anything | st.fixed_dictionaries(dict.fromkeys(("code", "what", "cause", "mend"), anything)))
def test_a_report_of_another_form_is_an_internal_error(report: object) -> None:
    assert UpdatedError.from_json(report).code in CODES


def test_an_unknown_code_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        UpdatedError("no-such-code", "a", "b", "c")
