from dataclasses import replace

import pytest

from health.baseline import Baseline, NoBaseline
from health.check import CheckResult
from health.judgement import Judgement, Verdict
from health.record import Record, listing, motd

RECORD = Record(
    slot="b",
    version="1.2.0",
    boot_id="6f2c",
    judgement=Judgement("rejected", "required check web failed: no route"),
    started="2026-01-01T00:00:00Z",
    finished="2026-01-01T00:00:09Z",
    checks=(
        CheckResult("web", "required", "http", "fail", 3, 4.25, "http://localhost/: no route", before="pass"),
        CheckResult("disk", "required", "disk-space", "pass", 1, 0.001, "/var has room"),
        CheckResult("ntp", "wanted", "unit", "skip", 1, 0.0, "no systemd runs here"),
    ),
    baseline=Baseline("a", "1.1.0", "5e1d", "1.2.0", "2025-12-31T23:58:00Z", {}),
)


def test_the_document_has_the_keys_that_others_rely_on() -> None:
    assert replace(RECORD, checks=RECORD.checks[:1]).document == {
        "schema": 1,
        "slot": "b",
        "version": "1.2.0",
        "boot_id": "6f2c",
        "verdict": "rejected",
        "reason": "required check web failed: no route",
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:09Z",
        "probation_until": None,
        "baseline": {"version": "1.1.0", "time": "2025-12-31T23:58:00Z", "reason": None},
        "checks": [
            {
                "name": "web",
                "kind": "required",
                "type": "http",
                "result": "fail",
                "attempts": 3,
                "duration_seconds": 4.25,
                "output": "http://localhost/: no route",
                "counts": True,
                "before": "pass",
                "note": None,
            }
        ],
    }


def test_the_document_says_why_nothing_was_compared() -> None:
    alone = replace(RECORD, baseline=NoBaseline("there is no baseline"))
    assert alone.document["baseline"] == {"version": None, "time": None, "reason": "there is no baseline"}


def test_the_listing_says_of_a_failure_that_it_does_not_count() -> None:
    known = replace(RECORD.checks[0], attempts=1, note="failed before the update as well")
    first, *_ = listing(replace(RECORD, checks=(known,)), acted=True).splitlines()
    assert first.endswith("no route; does not count: it failed before the update as well")


def test_the_listing_has_a_line_for_each_check_and_the_summary_last() -> None:
    assert listing(RECORD, acted=True).splitlines() == [
        "✗ required web   failed: http://localhost/: no route (3 attempts)",
        "✓ required disk  disk-space, 0.0 s",
        "– wanted   ntp   skipped: no systemd runs here",
        "slot b (1.2.0) is rejected, a reboot leads to the other slot; 1 passed, 1 failed, 1 skipped",
    ]


def test_the_listing_says_when_nothing_was_done() -> None:
    assert "would be rejected" in listing(RECORD, acted=False)


def test_the_listing_says_when_there_are_no_checks() -> None:
    alone = replace(RECORD, judgement=Judgement("confirmed"), checks=(), version=None)
    assert listing(alone, acted=True) == (
        "slot b is confirmed; but nothing was judged: there are no checks; put some into health.d\n"
    )


@pytest.mark.parametrize("verdict", ["rejected", "no-fallback", "sick"])
def test_a_person_who_logs_in_reads_of_a_sick_slot_and_why(verdict: Verdict) -> None:
    message = motd(replace(RECORD, judgement=Judgement(verdict, "required check web failed")))
    assert message is not None
    assert "slot b (1.2.0)" in message
    assert "required check web failed" in message


@pytest.mark.parametrize("verdict", ["confirmed", "probation", "healthy"])
def test_a_person_who_logs_in_to_a_healthy_slot_reads_nothing(verdict: Verdict) -> None:
    assert motd(replace(RECORD, judgement=Judgement(verdict))) is None
