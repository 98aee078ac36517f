"""The rules that decide over a slot, for every boot reference and every outcome of the checks."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState, next_boot
from health.check import CheckResult, Kind, Result
from health.judgement import Judgement, Verdict, changed, judge

STATES = st.builds(SlotState, priority=st.integers(0, 15), tries_left=st.integers(0, 15), confirmed=st.booleans())
VIEWS = st.builds(lambda a, b: BootView((("a", a), ("b", b))), STATES, STATES)
RESULTS = st.lists(
    st.builds(
        CheckResult,
        name=st.sampled_from(["web", "db", "disk"]),
        kind=st.sampled_from(get_args(Kind)),
        type=st.just("exec"),
        result=st.sampled_from(get_args(Result)),
    ),
    max_size=5,
)


def result(outcome: Result, kind: Kind = "required", output: str = "") -> CheckResult:
    return CheckResult("web", kind, "exec", outcome, output=output)


GOOD, TRIAL, LAST_TRY, BAD = (
    SlotState(1, 0, True),
    SlotState(2, 2, False),
    SlotState(2, 0, False),
    SlotState(0, 0, False),
)


def verdict(a: SlotState, b: SlotState, *results: CheckResult) -> Verdict:
    """That on slot b, which runs."""
    return judge(BootView((("a", a), ("b", b))), "b", results).verdict


@pytest.mark.parametrize("trial", [TRIAL, LAST_TRY])
def test_a_slot_on_trial_is_confirmed_when_nothing_required_fails(trial: SlotState) -> None:
    assert verdict(GOOD, trial) == "confirmed"
    assert verdict(GOOD, trial, result("pass"), result("skip")) == "confirmed"


@pytest.mark.parametrize("trial", [TRIAL, LAST_TRY])
@pytest.mark.parametrize("outcome", ["fail", "timeout"])
def test_a_slot_on_trial_is_rejected_when_a_required_check_does_not_pass(trial: SlotState, outcome: Result) -> None:
    assert verdict(GOOD, trial, result("pass"), result(outcome)) == "rejected"


def test_a_sick_slot_is_kept_when_no_other_can_boot() -> None:
    assert verdict(BAD, TRIAL, result("fail")) == "no-fallback"


def test_another_slot_on_trial_is_a_way_back_too() -> None:
    assert verdict(TRIAL, TRIAL, result("fail")) == "rejected"


def test_a_confirmed_slot_is_healthy_or_sick() -> None:
    assert verdict(GOOD, GOOD, result("pass")) == "healthy"
    assert verdict(GOOD, GOOD, result("fail")) == "sick"


def test_a_slot_that_was_given_up_is_not_confirmed_while_another_can_boot() -> None:
    assert verdict(GOOD, BAD, result("pass")) == "rejected"


def test_a_slot_that_was_given_up_is_confirmed_when_it_is_all_that_can_boot() -> None:
    assert verdict(BAD, BAD, result("pass")) == "confirmed"


def test_the_reason_names_each_required_check_that_failed_and_no_wanted_one() -> None:
    view = BootView((("a", GOOD), ("b", TRIAL)))
    results = [
        result("fail", output="exit status 1\nno route\n"),
        CheckResult("db", "required", "tcp", "timeout"),
        CheckResult("ntp", "wanted", "tcp", "fail"),
    ]
    assert judge(view, "b", results).reason == (
        "required check web failed: exit status 1; no route; required check db timed out"
    )


def test_the_reason_can_not_steer_a_terminal() -> None:
    failed = result("fail", output="first\n\x1b[2Jcleared\x07\n")
    reason = judge(BootView((("a", GOOD), ("b", TRIAL))), "b", [failed]).reason
    assert reason is not None
    assert reason.isprintable()
    assert "cleared" in reason


def required_failure(results: list[CheckResult]) -> bool:
    return any(result.kind == "required" and result.result in ("fail", "timeout") for result in results)


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_nothing_is_confirmed_or_healthy_with_a_failed_required_check(
    view: BootView, active: str, results: list[CheckResult]
) -> None:
    if required_failure(results):
        assert judge(view, active, results).verdict not in ("confirmed", "healthy")


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_wanted_checks_never_change_the_judgement(view: BootView, active: str, results: list[CheckResult]) -> None:
    required = [result for result in results if result.kind == "required"]
    assert judge(view, active, results) == judge(view, active, required)


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_a_confirmed_slot_is_never_rejected_and_its_boot_reference_never_touched(
    view: BootView, active: str, results: list[CheckResult]
) -> None:
    if view.state(active).confirmed:
        judgement = judge(view, active, results)
        assert judgement.verdict in ("healthy", "sick")
        assert changed(view, active, judgement) == view


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_a_slot_is_rejected_only_if_another_one_boots_then(
    view: BootView, active: str, results: list[CheckResult]
) -> None:
    judgement = judge(view, active, results)
    if judgement.verdict == "rejected":
        slot, _ = next_boot(changed(view, active, judgement))
        assert slot not in (None, active)


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_a_confirmed_verdict_makes_the_running_slot_the_next_one(
    view: BootView, active: str, results: list[CheckResult]
) -> None:
    judgement = judge(view, active, results)
    if judgement.verdict == "confirmed":
        after = changed(view, active, judgement)
        assert next_boot(after) == (active, after)


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_judging_again_gives_the_same_boot_reference(view: BootView, active: str, results: list[CheckResult]) -> None:
    once = changed(view, active, judge(view, active, results))
    again = judge(once, active, results)
    assert changed(once, active, again) == once


@given(VIEWS, st.sampled_from("ab"), RESULTS, RESULTS)
def test_a_rejection_stands_whatever_the_checks_say_afterwards(
    view: BootView, active: str, first: list[CheckResult], later: list[CheckResult]
) -> None:
    judgement = judge(view, active, first)
    if judgement.verdict == "rejected":
        assert judge(changed(view, active, judgement), active, later).verdict == "rejected"


@given(VIEWS, st.sampled_from("ab"), RESULTS)
def test_bad_news_has_a_reason_and_good_news_has_none(view: BootView, active: str, results: list[CheckResult]) -> None:
    judgement = judge(view, active, results)
    assert isinstance(judgement, Judgement)
    assert (judgement.reason is None) == (judgement.verdict in ("confirmed", "healthy"))
