"""The answers of the downloader: whatever it says, the daemon takes only what it can keep."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.answer import CheckAnswer, check_answer, install_answer
from updated.core.errors import UpdatedError
from updated.core.selection import Reason
from updated.core.state import Offer

GOOD: dict[str, Any] = {
    "type": "result", "peak_memory_bytes": 1, "offer": {"version": "1.1", "manifest": "ab" * 32, "size": 7},
    "reasons": [{"code": "wave", "text": "later", "until": 5}], "expiries": {"root": 9}, "notes": ["lost"],
}
COST = {"image": 4, "copied": 0, "in_place": 3, "downloaded": 2, "written": 1}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)


def test_an_honest_answer_is_taken() -> None:
    assert check_answer(GOOD, running="0.1") == CheckAnswer(
        Offer("1.1", "ab" * 32, 7), (Reason("wave", "later", 5),), {"root": 9}, ("lost",)
    )
    assert check_answer({**GOOD, "offer": None}, running="0.1").offer is None
    assert install_answer({"installed": {"rootfs": COST}}) == {"rootfs": COST}


@given(st.sampled_from(("offer", "reasons", "expiries", "notes")), anything)
def test_any_other_answer_is_one_typed_error_or_fits(key: str, value: object) -> None:
    try:
        check_answer({**GOOD, key: value}, running="0.1")
    except UpdatedError as error:
        if error.code != "child-failed":
            raise


@given(anything)
def test_any_other_cost_is_one_typed_error_or_fits(value: object) -> None:
    try:
        install_answer({"installed": value})
    except UpdatedError as error:
        if error.code != "child-failed":
            raise


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offer": {**GOOD["offer"], "version": "x" * 65}}, "offer.version is longer than 64"),
        ({"offer": {**GOOD["offer"], "manifest": "x"}}, "offer.manifest is not a SHA-256 digest"),
        ({"reasons": [{"code": "x", "text": "y" * 5000, "until": None}]}, "reasons[0].text is longer than 4096"),
        ({"reasons": [{"code": "x", "text": "\x1b[2J"}]}, "reasons[0].text holds control characters"),
        ({"reasons": [{"code": "x", "text": "y"}] * 1001}, "reasons has more than 1000 entries"),
        ({"expiries": {"root": "soon"}}, "expiries.root is not a whole number"),
        ({"notes": ["a"] * 101}, "notes has more than 100 entries"),
    ],
)
def test_what_the_state_could_not_hold_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        check_answer({**GOOD, **changes}, running="0.1")
    assert words in caught.value.cause
