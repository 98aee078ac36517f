"""The rules that decide over a slot, for every boot reference and every outcome of the checks."""

from collections.abc import Mapping
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState, next_boot
from health.check import CheckResult, Count, Kind, Result
from health.judgement import Judgement, Verdict, changed, judge, weigh

STATES = st.builds(SlotState, priority=st.integers(0, 15), tries_left=st.integers(0, 15), confirmed=st.booleans())
VIEWS = st.builds(lambda a, b: BootView((("a", a), ("b", b))), STATES, STATES)
RESULTS = st.lists(
    st.builds(
        CheckResult,
        name=st.sampled_from(["web", "db", "disk"]),
        kind=st.sampled_from(get_args(Kind)),
        type=st.just("exec"),
        result=st.sampled_from(get_args(Result)),
        count=st.sampled_from(get_args(Count)),
    ),
    max_size=5,
)
Before = Mapping[tuple[str, str, str], Result]
BASELINES = st.none() | st.dictionaries(
    st.tuples(st.sampled_from(get_args(Kind)), st.sampled_from(["web", "db", "disk"]), st.just("exec")),
    st.sampled_from(get_args(Result)),
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


def compared(now: Result, before: Result | None, *, count: Count = "regression") -> CheckResult:
    """A required check of slot b, which is on trial, beside what it came to before the update."""
    view = BootView((("a", GOOD), ("b", TRIAL)))
    made = CheckResult("web", "required", "exec", now, count=count)
    (weighed,) = weigh(view, "b", [made], {} if before is None else {("required", "web", "exec"): before})
    return weighed


@pytest.mark.parametrize("now", ["fail", "timeout"])
@pytest.mark.parametrize(
    ("before", "note"),
    [
        ("fail", "failed before the update as well"), ("timeout", "timed out before the update as well"),
        ("skip", "was skipped before the update"),
    ],
)  # fmt: skip
def test_what_did_not_pass_before_the_update_is_told_and_does_not_reject(
    now: Result, before: Result, note: str
) -> None:
    weighed = compared(now, before)
    assert (weighed.counts, weighed.before, weighed.note) == (False, before, note)
    assert verdict(GOOD, TRIAL, weighed) == "confirmed"


@pytest.mark.parametrize("before", ["pass", None])
def test_what_passed_before_the_update_or_is_new_with_it_rejects(before: Result | None) -> None:
    weighed = compared("fail", before)
    assert (weighed.counts, weighed.before, weighed.note) == (True, before, None)
    assert verdict(GOOD, TRIAL, weighed) == "rejected"


@pytest.mark.parametrize("before", ["fail", "timeout", "skip"])
def test_a_check_that_always_counts_rejects_whatever_was_before(before: Result) -> None:
    assert verdict(GOOD, TRIAL, compared("fail", before, count="always")) == "rejected"


@pytest.mark.parametrize("key", [("wanted", "web", "exec"), ("required", "db", "exec"), ("required", "web", "tcp")])
def test_a_check_is_compared_with_that_of_its_kind_name_and_type_alone(key: tuple[str, str, str]) -> None:
    (weighed,) = weigh(BootView((("a", GOOD), ("b", TRIAL))), "b", [result("fail")], {key: "fail"})
    assert weighed.counts


def test_on_a_confirmed_slot_nothing_is_compared() -> None:
    view = BootView((("a", GOOD), ("b", GOOD)))
    (weighed,) = weigh(view, "b", [result("fail")], {("required", "web", "exec"): "fail"})
    assert (weighed.counts, weighed.before) == (True, None)


def test_a_check_that_passes_counts_whatever_was_before() -> None:
    weighed = compared("pass", "fail")
    assert (weighed.counts, weighed.before, weighed.note) == (True, "fail", None)


def test_a_slot_is_put_on_probation_before_it_is_confirmed_where_that_is_wanted() -> None:
    view = BootView((("a", GOOD), ("b", TRIAL)))
    judgement = judge(view, "b", [result("pass")], probation=True)
    assert judgement == Judgement("probation")
    assert changed(view, "b", judgement) == view


def test_a_failure_in_a_probation_rejects() -> None:
    assert judge(BootView((("a", GOOD), ("b", TRIAL))), "b", [result("fail")], probation=True).verdict == "rejected"


@pytest.mark.parametrize("trial", [TRIAL, LAST_TRY, BAD])
def test_there_is_no_probation_without_a_way_back(trial: SlotState) -> None:
    """A power cut on the last try would leave nothing that boots."""
    assert judge(BootView((("a", BAD), ("b", trial))), "b", [result("pass")], probation=True).verdict == "confirmed"


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
    assert not any(result.counts for result in weigh(view, active, results, None) if result.kind == "wanted")


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


def regressions(results: list[CheckResult], before: Before) -> list[CheckResult]:
    """What passed there and fails now, or is new; said in other words than the rules under test say it."""
    return [
        each
        for each in results
        if each.kind == "required"
        and each.result in ("fail", "timeout")
        and (each.count == "always" or before.get((each.kind, each.name, each.type), "pass") == "pass")
    ]


@given(VIEWS, st.sampled_from("ab"), RESULTS, BASELINES, st.booleans())
def test_no_sequence_of_results_confirms_a_slot_with_a_required_regression(
    view: BootView, active: str, results: list[CheckResult], before: Before | None, probation: bool
) -> None:
    judgement = judge(view, active, weigh(view, active, results, before), probation=probation)
    if regressions(results, before or {}):
        assert judgement.verdict in ("rejected", "no-fallback", "sick")
        assert judgement.reason


@given(VIEWS, st.sampled_from("ab"), RESULTS, BASELINES, st.booleans())
def test_nothing_rejects_a_slot_on_trial_for_what_did_not_pass_before_alone(
    view: BootView, active: str, results: list[CheckResult], before: Before | None, probation: bool
) -> None:
    state = view.state(active)
    if not regressions(results, before or {}) and not state.confirmed and state.priority > 0:
        judgement = judge(view, active, weigh(view, active, results, before), probation=probation)
        assert judgement.verdict in ("confirmed", "probation")


@given(VIEWS, st.sampled_from("ab"), RESULTS, st.booleans())
def test_without_a_baseline_all_required_checks_count(
    view: BootView, active: str, results: list[CheckResult], probation: bool
) -> None:
    weighed = weigh(view, active, results, None)
    assert [each.counts for each in weighed] == [each.kind == "required" for each in results]
    if required_failure(results):
        assert judge(view, active, weighed, probation=probation).verdict not in ("confirmed", "probation", "healthy")


@given(VIEWS, st.sampled_from("ab"), RESULTS, BASELINES)
def test_a_probation_never_touches_the_boot_reference_and_has_a_way_back(
    view: BootView, active: str, results: list[CheckResult], before: Before | None
) -> None:
    judgement = judge(view, active, weigh(view, active, results, before), probation=True)
    if judgement.verdict == "probation":
        assert changed(view, active, judgement) == view
        assert any(state.bootable for name, state in view.slots if name != active)


@given(VIEWS, st.sampled_from("ab"), RESULTS, BASELINES)
def test_weighing_leaves_what_the_checks_said_as_it_is(
    view: BootView, active: str, results: list[CheckResult], before: Before | None
) -> None:
    weighed = weigh(view, active, results, before)
    assert [(each.name, each.kind, each.result) for each in weighed] == [
        (each.name, each.kind, each.result) for each in results
    ]
