"""The verdict on this boot: looks at the running slot, and says what that means."""

import time
from collections.abc import Sequence

from health import epoch, system
from health.catalogue import load_checks
from health.check import Check, CheckResult
from health.exits import EXIT_OF, EXIT_STAYS
from health.interruption import interruptible
from health.machine import Machine, now
from health.output import tell
from health.probes import Surroundings, attempt
from health.runner import run_checks

MOST_SECONDS = 1500.0
"""For a migration and all checks, or for one round of a probation: less than the units' own limits, since a verdict
that names the check which hangs is better than none."""
VERDICT_SECONDS = 30.0
"""Before the deadline of a boot: as long as it may take to write the verdict, and to confirm or give up the slot."""


def judge_boot(machine: Machine, *, act: bool, as_json: bool) -> int:
    """The verb: judges once, and acts on it. Raises BootError, OSError, `Interrupted`."""
    # Read first, so that what can't be judged in the end does not begin.
    confirmed = machine.backend.read().state(machine.slot).confirmed
    started = now()
    # A slot that was confirmed is not left at the deadline, and may take its time.
    deadline = 0 if confirmed else machine.settings.deadline_seconds
    seconds = seconds_to_judge(deadline, system.uptime(machine.root))
    if act and seconds == 0:
        from health.deadline import leave_unjudged

        # Nothing was seen of the slot, and so nothing is said against it: a try is spent, no more.
        return leave_unjudged(machine, "the deadline was too near for any check to run")
    end = time.monotonic() + seconds
    fault = epoch.migrate(machine.root, most_seconds=_until(end)) if act else None
    results = results_of(machine, () if fault is None else (fault,), most_seconds=_until(end))
    # Only now: the checks shall not wait for what is loaded here.
    from health.comparison import compared, record_of
    from health.record import listing, printed

    seen = compared(machine, results)
    record = record_of(machine, seen, started)
    status = EXIT_OF[record.judgement.verdict]
    if act:
        from health.aftermath import carry_out

        status = carry_out(machine, seen.view, record)
    tell(printed(record) if as_json else listing(record, acted=act, stays=status == EXIT_STAYS))
    return status


def seconds_to_judge(deadline_seconds: int, uptime: float | None) -> float:
    """How long a slot may be looked at, so that there is a verdict before the deadline of this boot (0: there is none).

    Both count from the start of the kernel; `uptime` None: this system does not run. After the deadline nothing waits
    any more: then somebody judges once more by hand.
    """
    if uptime is None or uptime >= deadline_seconds:
        return MOST_SECONDS
    return min(MOST_SECONDS, max(0.0, deadline_seconds - VERDICT_SECONDS - uptime))


def _until(end: float) -> float:
    return max(0.0, end - time.monotonic())


def results_of(
    machine: Machine, more: tuple[CheckResult, ...] = (), *, most_seconds: float = MOST_SECONDS
) -> tuple[CheckResult, ...]:
    """`more`, and what all checks came to; one without a result within `most_seconds` has timed out.

    Raises `Interrupted`.
    """
    checks = configured_checks(machine)
    found = {(result.kind, result.name): result for result in check_all(machine, checks, most_seconds)}
    return (*more, *(found.get((check.kind, check.name)) or _too_late(check, most_seconds) for check in checks))


def configured_checks(machine: Machine) -> tuple[Check, ...]:
    """All checks of the image and of the site, and those of other checkers as far as they are asked for."""
    settings = machine.settings
    return load_checks(machine.root, greenboot=settings.greenboot, health_checker=settings.health_checker)


def check_all(machine: Machine, checks: Sequence[Check], most_seconds: float) -> tuple[CheckResult, ...]:
    """The results that there are within `most_seconds`; what still runs then is ended. Raises `Interrupted`."""
    around = Surroundings.of(machine.root)
    with interruptible():
        try:
            return run_checks(checks, lambda check: attempt(check, around), most_seconds=most_seconds)
        finally:
            around.commands.kill_all()


def _too_late(check: Check, most_seconds: float) -> CheckResult:
    seconds = round(most_seconds, 3)
    told = f"no result within {seconds:g} s, when this boot had to be judged"
    return CheckResult(
        check.name, check.kind, check.probe.type, "timeout", duration_seconds=seconds, output=told, count=check.count
    )
