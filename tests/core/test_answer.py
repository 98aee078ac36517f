"""The answers of the downloader: whatever it says, the daemon takes only what it can keep."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.answer import (
    STEPS,
    CheckAnswer,
    check_answer,
    install_answer,
    plan_answer,
    progress_answer,
    seal_answer,
)
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import COSTS
from updated.core.selection import Reason
from updated.core.state import Offer

GOOD: dict[str, Any] = {
    "type": "result", "peak_memory_bytes": 1,
    "offer": {"version": "1.1", "manifest": "ab" * 32, "size": 7, "urgent": True},
    "reasons": [{"code": "wave", "text": "later", "until": 5}], "expiries": {"root": 9, "stable": 8},
    "lifetimes": {"stable": 90}, "expired": {"stable": 8}, "notes": ["lost"],
}
PLAN = "delta from 1.0: 5.1 MB of 406 MB, 97 % from this machine"
COST: dict[str, Any] = {"plan": PLAN, **{name: number for number, name in enumerate(COSTS)}}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)


def test_an_honest_answer_is_taken() -> None:
    assert check_answer(GOOD, running="0.1") == CheckAnswer(
        Offer("1.1", "ab" * 32, 7, urgent=True), (Reason("wave", "later", 5),),
        {"root": Expiry(9), "stable": Expiry(8, 90, accepted=True)}, ("lost",),
    )
    assert check_answer({**GOOD, "offer": None}, running="0.1").offer is None
    assert install_answer({"installed": {"rootfs": COST}}) == {"rootfs": COST}


@pytest.mark.parametrize(
    ("running", "allow_downgrade", "taken"),
    [("1.0", False, True), ("1.0", True, True), ("1.1.0", True, False), ("1.2", False, False), ("1.2", True, True)],
)
def test_an_older_offer_is_taken_where_the_configuration_allows_it(
    running: str, allow_downgrade: bool, taken: bool
) -> None:
    refused = pytest.raises(UpdatedError, match=r"offer\.version is not newer than what runs")
    with contextlib.nullcontext() if taken else refused:
        check_answer(GOOD, running=running, allow_downgrade=allow_downgrade)


@given(st.sampled_from(("offer", "reasons", "expiries", "lifetimes", "expired", "notes")), anything)
def test_any_other_answer_is_one_typed_error_or_fits(key: str, value: object) -> None:
    try:
        check_answer({**GOOD, key: value}, running="0.1")
    except UpdatedError as error:
        if error.code != "child-failed":
            raise


@given(anything)
def test_a_seal_names_what_had_expired_and_is_urgent_or_is_one_typed_error(value: object) -> None:
    answer = {"expired": {"timestamp": 5, "root": 3}, "notes": ["the floors were lost"], "urgent": True}
    assert seal_answer(answer) == (("root", "timestamp"), ("the floors were lost",), True)
    for key in ("expired", "urgent"):
        try:
            seal_answer({**answer, key: value})
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


@pytest.mark.parametrize("key", ["plan", *COSTS])
@given(value=anything)
def test_each_field_of_a_cost_is_taken_as_it_is_or_refused(key: str, value: object) -> None:
    answer = {"installed": {"rootfs": {**COST, key: value}}}
    try:
        assert install_answer(answer) == answer["installed"]
    except UpdatedError as error:
        if error.code != "child-failed":
            raise


@pytest.mark.parametrize("key", ["plan", *COSTS])
def test_a_cost_names_all_of_its_parts(key: str) -> None:
    part = {name: value for name, value in COST.items() if name != key}
    with pytest.raises(UpdatedError, match=key) as caught:
        install_answer({"installed": {"rootfs": part}})
    assert caught.value.code == "child-failed"


def test_a_plan_and_the_steps_of_progress_are_taken() -> None:
    assert plan_answer({"type": "plan", "component": "rootfs", "text": PLAN}) == ("rootfs", PLAN)
    for step in STEPS:
        line = {"type": "progress", "step": step, "component": "rootfs", "done": 1, "total": 2}
        assert progress_answer(line) == (step, "rootfs", 1, 2)


@pytest.mark.parametrize(
    "changes", [{"component": "../x"}, {"component": 5}, {"text": "a\x1b[2J"}, {"text": "x" * 5000}, {"text": None}]
)
def test_a_plan_is_a_line_about_a_component(changes: dict[str, Any]) -> None:
    with pytest.raises(UpdatedError) as caught:
        plan_answer({"type": "plan", "component": "rootfs", "text": PLAN, **changes})
    assert caught.value.code == "child-failed"


@pytest.mark.parametrize("changes", [{"step": "dance"}, {"component": "A"}, {"done": 3}, {"done": -1}, {"total": 1.5}])
def test_progress_is_of_a_known_step_and_never_beyond_its_end(changes: dict[str, Any]) -> None:
    line = {"type": "progress", "step": "copy", "component": "rootfs", "done": 1, "total": 2}
    with pytest.raises(UpdatedError) as caught:
        progress_answer({**line, **changes})
    assert caught.value.code == "child-failed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offer": {**GOOD["offer"], "version": "x" * 65}}, "offer.version is longer than 64"),
        ({"offer": {**GOOD["offer"], "manifest": "x"}}, "offer.manifest is not a SHA-256 digest"),
        ({"offer": {**GOOD["offer"], "urgent": 1}}, "offer.urgent is not true or false"),
        ({"reasons": [{"code": "wave", "text": "y" * 5000, "until": None}]}, "reasons[0].text is longer than 4096"),
        ({"reasons": [{"code": "wave", "text": "\x1b[2J"}]}, "reasons[0].text holds control characters"),
        ({"reasons": [{"code": "x", "text": "y"}] * 1001}, "reasons has more than 1000 entries"),
        ({"expiries": {"root": "soon"}}, "expiries.root is not a whole number"),
        ({"lifetimes": {"root": -1}}, "lifetimes.root is not between"),
        ({"expired": ["root"]}, "expired is not an object"),
        ({"notes": ["a"] * 101}, "notes has more than 100 entries"),
    ],
)
def test_what_the_state_could_not_hold_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        check_answer({**GOOD, **changes}, running="0.1")
    assert words in caught.value.cause


def test_the_downloader_gives_no_reasons_but_those_of_a_channel() -> None:
    for code in ("users", "inhibited", "no-repository", "reboot-window", "made-up"):
        with pytest.raises(UpdatedError, match="is no reason that a channel gives"):
            check_answer({**GOOD, "reasons": [{"code": code, "text": "leave at once", "until": 5}]}, running="0.1")
