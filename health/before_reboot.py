"""The baseline: what the checks say of the slot that runs, kept just before the reboot into another one."""

import json
from dataclasses import replace

from bootctl.errors import mend_of
from health import baseline
from health.check import Check
from health.exits import EXIT_FAILED
from health.judging import check_all, configured_checks
from health.machine import Machine, now
from health.output import complain, tell
from health.record import lines


def take_baseline(machine: Machine, *, target: str | None, most_seconds: float, as_json: bool) -> int:
    """The verb: runs the checks, and keeps what came out in time, for the judgement of the next boot.

    `target` is the version that is about to boot. What this changes is that file alone. An interruption
    leaves no baseline of another release or for another one. Raises `Interrupted`.
    """
    checks = [_settled(check) for check in configured_checks(machine)]
    # First, so that no other is taken for this one if this is interrupted. An older one that says the same of itself
    # stays until there is a new one: it tells of the same release before the same update.
    same = baseline.is_for(baseline.read(machine.root), machine.slot, machine.version, target)
    if not same and (problem := baseline.discard(machine.root)):
        complain(problem)
        return EXIT_FAILED
    results = check_all(machine, checks, most_seconds)
    taken = baseline.document(machine.slot, machine.version, machine.boot_id, target, now(), results)
    try:
        baseline.write(machine.root, taken)
    except OSError as error:
        complain(f"{baseline.BASELINE}: it can't be written ({error.strerror}). {mend_of(error)}")
        return EXIT_FAILED
    told = f"baseline of slot {machine.slot} is kept; {len(results)} of {len(checks)} checks came to a result"
    tell(json.dumps(taken) + "\n" if as_json else "\n".join([*lines(results), told]) + "\n")
    return 0


def _settled(check: Check) -> Check:
    """A machine that is about to reboot came up long ago."""
    return replace(check, pace=replace(check.pace, settle_seconds=0))
