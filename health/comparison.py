"""What the results of all checks mean for this boot, beside those from before the update."""

from dataclasses import dataclass

from bootctl.model import BootView
from health import baseline
from health.baseline import Baseline, NoBaseline
from health.check import CheckResult
from health.judgement import Judgement, judge, weigh
from health.machine import Machine, now
from health.record import NOTHING_COMPARED, Record
from health.staged import mismatch


@dataclass(frozen=True, slots=True)
class Look:
    """What one run of all checks showed, compared with `baseline`, and the boot reference as it was after them."""

    view: BootView
    judgement: Judgement
    results: tuple[CheckResult, ...]
    baseline: Baseline | NoBaseline = NOTHING_COMPARED


def compared(machine: Machine, results: tuple[CheckResult, ...]) -> Look:
    """Judges by the results; probation comes first where it is configured. Raises BootError, OSError."""
    # Read now and not before the checks, which take their time: a person may have decided meanwhile.
    view = machine.backend.read()
    found = baseline.read(machine.root)
    wrong = mismatch(machine.root, view, machine.slot, found)
    before = _baseline_for(machine, view, found)
    seen = results if wrong is None else (wrong, *results)
    weighed = weigh(view, machine.slot, seen, None if isinstance(before, NoBaseline) else before.results)
    judgement = judge(view, machine.slot, weighed, probation=machine.settings.probation_seconds > 0)
    return Look(view, judgement, weighed, before)


def _baseline_for(machine: Machine, view: BootView, found: Baseline | NoBaseline) -> Baseline | NoBaseline:
    if view.state(machine.slot).confirmed:
        return NoBaseline(f"slot {machine.slot} was confirmed before")
    return baseline.for_slot(found, machine.slot, machine.version)


def record_of(machine: Machine, seen: Look, started: str) -> Record:
    """What is told of it; `started` is RFC 3339 in UTC."""
    until = now(machine.settings.probation_seconds) if seen.judgement.verdict == "probation" else None
    return Record(
        machine.slot, machine.version, machine.boot_id, seen.judgement, started, now(), seen.results, seen.baseline,
        until,
    )  # fmt: skip
