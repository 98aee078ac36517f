"""What follows from a verdict: it becomes the boot reference, and is told, and then the rest of it is done."""

import contextlib
import time
from collections.abc import Callable

from bootctl import durable
from bootctl.errors import in_words, mend_of
from bootctl.model import BootView, next_boot
from health import baseline, epoch, failed_boot, fallback, history, hooks, journal, reboots, system
from health.exits import EXIT_OF, EXIT_STAYS
from health.judgement import Verdict, changed
from health.machine import Machine, now
from health.output import complain
from health.record import Record
from health.rootdir import below

MARK = "/run/updated/probation"
"""Is there while a slot is in probation: updated-probation.service starts on no other boot."""

_PRIORITIES: dict[Verdict, int] = {
    "confirmed": journal.NOTICE, "probation": journal.NOTICE, "healthy": journal.INFO, "sick": journal.ERROR,
    "rejected": journal.CRITICAL, "no-fallback": journal.CRITICAL,
}  # fmt: skip


def carry_out(machine: Machine, view: BootView, record: Record) -> int:
    """Tells the verdict and makes it the boot reference, then does what else follows; the exit status.

    The reason of a rejection is on disk before the slot is given up; no confirmation is told before it is one. What
    follows can't change the verdict any more, and raises nothing but `Interrupted`.
    """
    after = changed(view, machine.slot, record.judgement, counted=machine.counted)

    def commit() -> None:
        if after != view:
            machine.backend.commit(after)

    def write() -> None:
        _write(machine.root, record)

    steps: tuple[Callable[[], None], ...] = (write, commit)
    for each in reversed(steps) if record.judgement.verdict == "confirmed" else steps:
        each()
    verdict = record.judgement.verdict
    if verdict in ("confirmed", "rejected"):
        _forget_baseline(machine.root)
    _mark(machine.root, verdict == "probation")
    if verdict == "rejected":
        return _leave(machine, view, after, record)
    if verdict in ("confirmed", "healthy"):
        with contextlib.suppress(OSError):
            reboots.settle(machine.root, machine.release)
    if verdict == "confirmed":
        hooks.start(machine, "post-confirm")
    if verdict in ("healthy", "sick"):
        _after_fallback(machine, view)
    if verdict != "probation":
        hooks.start(machine, "green" if verdict in ("confirmed", "healthy") else "red")
    return EXIT_OF[verdict]


def _leave(machine: Machine, before: BootView, after: BootView, record: Record) -> int:
    """What a rejected slot does last; whether the machine reboots."""
    fault = epoch.go_back(machine.root)
    if fault is not None:
        complain(f"the state: {fault.reason}")
    reason = record.judgement.reason or ""
    failed_boot.keep(
        machine.root, "this", slot=machine.slot, version=machine.version, reason=reason, at=record.finished
    )
    _run_red(machine)
    to, _ = next_boot(after)
    on_trial = before.state(machine.slot).priority > 0
    way_out = on_trial and to is not None and to != machine.slot and after.state(to).confirmed
    why = ask_for_reboot(machine, f"rejected: {reason}", rejected=True, way_out=way_out)
    return EXIT_OF["rejected"] if why is None else EXIT_STAYS


def ask_for_reboot(
    machine: Machine, cause: str, *, rejected: bool = False, way_out: bool = False, bounded: bool = False
) -> str | None:
    """Counts the reboot that follows and tells of it; the reason, if there must be none, which everybody is told.

    `rejected` is as in `reboots.announce`, `way_out` and `bounded` as in `reboots.ask`.
    """
    settings = machine.settings
    why = reboots.ask(
        machine.root, machine.release, machine.boot_id, int(time.time()), per_release=settings.reboots_per_release,
        per_day=settings.reboots_per_day, way_out=way_out,
        bounded=bounded,
    )  # fmt: skip
    subject = f"slot {machine.slot} ({machine.release})"
    if why is not None:
        wanted = f"asks for a reboot ({cause})"
        complain(f"<2>{reboots.announce(machine.root, subject, wanted, why, rejected=rejected)}")
        return why
    fields = {"UPDATED_SLOT": machine.slot, "UPDATED_VERSION": machine.version, "UPDATED_REASON": cause}
    journal.send(journal.REBOOT, journal.CRITICAL, f"{subject}: rebooting, {cause}", fields, machine.root)
    return None


def _run_red(machine: Machine) -> None:
    """Here and not by a unit of its own: the machine goes down now."""
    try:
        if hooks.commands_of(machine, "red"):
            hooks.run(machine, "red")
    except Exception as error:  # whatever is wrong with them, the slot is left
        complain(f"the hooks red can't be run: {in_words(error)}")


def _after_fallback(machine: Machine, view: BootView) -> None:
    try:
        found = fallback.find(machine.root, view, machine.slot, machine.boot_id)
    except OSError as error:
        complain(f"{fallback.NOTE}: it can't be written ({error.strerror}). {mend_of(error)}")
        return
    if found is None:
        return
    subject = f"slot {found.slot}" + (f" ({found.version})" if found.version else "")
    fields = {"UPDATED_SLOT": found.slot, "UPDATED_VERSION": found.version, "UPDATED_REASON": found.reason}
    journal.send(journal.FALLBACK, journal.ERROR, f"fell back from {subject}: {found.reason}", fields, machine.root)
    reason = found.cause or found.reason
    failed_boot.keep(machine.root, "previous", slot=found.slot, version=found.version, reason=reason, at=now())
    hooks.start(machine, "post-fallback")


def _write(root: str, record: Record) -> None:
    for problem in system.write_verdict(root, record):
        complain(problem)
    judgement = record.judgement
    with contextlib.suppress(OSError):  # the folder can't be written, which was told just now
        history.append(
            root, at=record.finished, boot_id=record.boot_id, slot=record.slot, version=record.version,
            verdict=judgement.verdict, reason=judgement.reason,
        )  # fmt: skip
    fields = {
        "UPDATED_SLOT": record.slot, "UPDATED_VERSION": record.version, "UPDATED_VERDICT": judgement.verdict,
        "UPDATED_REASON": judgement.reason,
    }  # fmt: skip
    message = f"{record.subject}: {judgement.verdict}" + (f"; {judgement.reason}" if judgement.reason else "")
    journal.send(journal.VERDICT, _PRIORITIES[judgement.verdict], message, fields, root)


def _forget_baseline(root: str) -> None:
    """It was taken for this slot alone, which has its verdict now."""
    if problem := baseline.discard(root):
        complain(problem)


def _mark(root: str, present: bool) -> None:
    try:
        if present:
            system.store(root, MARK, b"")
        else:
            durable.remove(below(root, MARK))
    except OSError as error:
        complain(f"{MARK}: it can't be {'written' if present else 'removed'} ({error.strerror}). {mend_of(error)}")
