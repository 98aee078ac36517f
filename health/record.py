"""The verdict as others read it: the JSON document, the list for a person, the message of the day."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from health.baseline import Baseline, NoBaseline
from health.check import CheckResult
from health.judgement import Judgement

SCHEMA = 1

NOTHING_COMPARED = NoBaseline("nothing was compared")

_MARKS = {"pass": "✓", "skip": "–", "fail": "✗", "timeout": "✗"}


@dataclass(frozen=True, slots=True)
class Record:
    """One judged boot. `started` and `finished` are RFC 3339 in UTC; `version` and `boot_id` may be unknown.

    `checks` are weighed, against `baseline`. `probation_until`: when a probation that began ends, as `started`.
    """

    slot: str
    version: str | None
    boot_id: str | None
    judgement: Judgement
    started: str
    finished: str
    checks: tuple[CheckResult, ...]
    baseline: Baseline | NoBaseline = NOTHING_COMPARED
    probation_until: str | None = None

    @property
    def document(self) -> dict[str, Any]:
        """What the verdict file holds and --json prints, of schema `SCHEMA`."""
        return {
            "schema": SCHEMA,
            "slot": self.slot,
            "version": self.version,
            "boot_id": self.boot_id,
            "verdict": self.judgement.verdict,
            "reason": self.judgement.reason,
            "started": self.started,
            "finished": self.finished,
            "probation_until": self.probation_until,
            "baseline": _baseline(self.baseline),
            "checks": [_check(result) for result in self.checks],
        }

    @property
    def subject(self) -> str:
        return f"slot {self.slot}" + (f" ({self.version})" if self.version else "")


def _baseline(baseline: Baseline | NoBaseline) -> dict[str, Any]:
    if isinstance(baseline, NoBaseline):
        return {"version": None, "time": None, "reason": baseline.reason}
    return {"version": baseline.version, "time": baseline.time, "reason": None}


def _check(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "kind": result.kind,
        "type": result.type,
        "result": result.result,
        "attempts": result.attempts,
        "duration_seconds": result.duration_seconds,
        "output": result.output,
        "counts": result.counts,
        "before": result.before,
        "note": result.note,
    }


def printed(record: Record) -> str:
    """The document, as --json prints it."""
    return json.dumps(record.document) + "\n"


def listing(record: Record, *, acted: bool, stays: bool = False) -> str:
    """One line for each check, and the summary as the last one.

    `acted`: whether the verdict was carried out; `stays`: the reboot that it asks for is refused.
    """
    return "\n".join([*lines(record.checks), _summary(record, acted, stays)]) + "\n"


def lines(checks: Sequence[CheckResult]) -> list[str]:
    """One line for each check."""
    width = max((len(result.name) for result in checks), default=0)
    return [_line(result, width) for result in checks]


def _line(result: CheckResult, width: int) -> str:
    told = result.reason if result.result != "pass" else f"{result.type}, {result.duration_seconds:.1f} s"
    if result.attempts > 1:
        told = f"{told} ({result.attempts} attempts)"
    if result.note is not None:
        told = f"{told}; does not count: it {result.note}"
    return f"{_MARKS[result.result]} {result.kind:8} {result.name:{width}}  {told}"


def _summary(record: Record, acted: bool, stays: bool) -> str:
    passed = sum(result.result == "pass" for result in record.checks)
    skipped = sum(result.result == "skip" for result in record.checks)
    failed = len(record.checks) - passed - skipped
    counts = f"{passed} passed, {failed} failed, {skipped} skipped"
    if not record.checks:
        counts = "but nothing was judged: there are no checks; put some into health.d"
    rejected = "is rejected, a reboot leads to the other slot" if acted else "would be rejected"
    meaning = {
        "confirmed": "is confirmed" if acted else "would be confirmed",
        "probation": "is good so far, and on probation",
        "rejected": "is rejected, and the machine stays up: it reboots by itself no more" if stays else rejected,
        "no-fallback": "is on trial and sick, but kept, since no other slot can boot",
        "healthy": "is healthy",
        "sick": "is sick, but kept, since it was confirmed before",
    }[record.judgement.verdict]
    return f"{record.subject} {meaning}; {counts}"


def motd(record: Record) -> str | None:
    """What a person who logs in shall know; None when all is well."""
    told = {
        "rejected": "failed its health checks and was rejected. A reboot leads to the other slot.",
        "no-fallback": "failed its health checks, and no other slot can boot. Install a release that works.",
        "sick": "fails its health checks. It was confirmed before, so nothing was changed.",
    }.get(record.judgement.verdict)
    if told is None:
        return None
    return f"updated: {record.subject} {told}\nReason: {record.judgement.reason}\nSee: updatectl status\n"
