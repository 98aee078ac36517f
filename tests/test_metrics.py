"""What the metrics say of the last verdict of health."""

from __future__ import annotations

from typing import Any

from bootctl.model import BootView, SlotState
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.state import BootFacts
from updated.core.status import Report, status_document
from updated.metrics import Metrics

STATE = first_state(BootFacts("b", "1.2.0", "boot", BootView((("a", SlotState(1, 0, True)), ("b", SlotState())))), 0.5)


def check(name: str, kind: str, result: str, *, counts: bool) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "result": result, "duration_seconds": 0.5, "output": "", "counts": counts,
        "before": None, "note": None,
    }  # fmt: skip


def health(verdict: str, *checks: dict[str, Any], until: str | None = None, this_boot: bool = True) -> dict[str, Any]:
    return {
        "slot": "b", "version": "1.2.0", "verdict": verdict, "reason": None, "finished": "2026-11-21T10:00:00Z",
        "this_boot": this_boot, "baseline": None, "probation_until": until, "checks": list(checks),
    }  # fmt: skip


def shown(metrics: Metrics, last: dict[str, Any] | None) -> list[str]:
    metrics.state_changed(STATE, STATE, status_document(STATE, Policy(), Report(health=last), 1_800_000_000))
    return [line for line in metrics.text().decode().splitlines() if line.startswith("updated_health")]


def test_each_check_says_whether_it_passed_and_whether_it_counts() -> None:
    lines = shown(Metrics(), health(
        "confirmed", check("web", "required", "pass", counts=True), check("disk", "required", "fail", counts=False),
        check("ntp", "wanted", "timeout", counts=False),
    ))  # fmt: skip
    assert 'updated_health_check_result{check="web",kind="required"} 1.0' in lines
    assert 'updated_health_check_counts{check="web",kind="required"} 1.0' in lines
    assert 'updated_health_check_result{check="disk",kind="required"} 0.0' in lines
    assert 'updated_health_check_counts{check="disk",kind="required"} 0.0' in lines
    assert 'updated_health_check_result{check="ntp",kind="wanted"} 0.0' in lines


def test_the_end_of_the_probation_is_there_while_it_lasts_and_gone_with_the_next_verdict() -> None:
    metrics = Metrics()
    end = "updated_health_probation_until_timestamp_seconds"
    lines = shown(metrics, health("probation", until="2027-01-15T08:00:00Z"))
    assert f"{end} 1.8e+09" in lines
    assert 'updated_health_verdict_info{verdict="probation"} 1.0' in lines
    lines = shown(metrics, health("confirmed"))
    assert f"{end} 0.0" in lines
    assert 'updated_health_verdict_info{verdict="confirmed"} 1.0' in lines
    assert not any('"probation"' in line for line in lines)


def test_a_probation_that_another_boot_ended_has_no_end_to_come() -> None:
    lines = shown(Metrics(), health("probation", until="2027-01-15T08:00:00Z", this_boot=False))
    assert "updated_health_probation_until_timestamp_seconds 0.0" in lines


def test_without_a_verdict_there_are_no_checks() -> None:
    assert shown(Metrics(), None) == ["updated_health_probation_until_timestamp_seconds 0.0"]
