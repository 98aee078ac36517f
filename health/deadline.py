"""The deadline of a boot: on trial and without a verdict for too long, the machine reboots.

The loader's tries lead back to the old slot. A confirmed slot is not left: nothing better was promised.
"""

import time
from collections.abc import Callable

from bootctl.errors import mend_of
from health import failed_boot, history
from health.aftermath import ask_for_reboot
from health.commands import Commands
from health.exits import EXIT_REBOOT, EXIT_STAYS
from health.machine import Machine, now
from health.output import complain, tell
from health.system import this_boots_verdict

UNJUDGED = "unjudged"
"""In the history, in place of a verdict."""


def uptime() -> float:
    """Seconds since the kernel started, with those in which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def await_deadline(
    machine: Machine, *, clock: Callable[[], float] = uptime, sleep: Callable[[float], None] = time.sleep
) -> int:
    """The verb: waits for the deadline, and asks for a reboot when there is no verdict by then."""
    limit = machine.settings.deadline_seconds
    if limit == 0:
        tell("the deadline is switched off\n")
        return 0
    while (left := limit - clock()) > 0:
        sleep(left)
    verdict = this_boots_verdict(machine.root)
    if verdict == "probation" and machine.systemd:
        # It runs since the verdict; if it never began, or ended without one, this begins it.
        Commands().run(("systemctl", "--no-block", "start", "updated-probation.service"), timeout_seconds=30)
    if verdict is not None:
        tell(f"slot {machine.slot} was judged: {verdict}\n")
        return 0
    return leave_unjudged(machine, f"no verdict {limit} seconds after the start")


def leave_unjudged(machine: Machine, reason: str) -> int:
    """Asks for a reboot if the slot is still on trial, whatever was said of it in this boot."""
    view = machine.backend.read()
    if view.state(machine.slot).confirmed:
        tell(f"slot {machine.slot} is confirmed, and not left\n")
        return 0
    at = now()
    try:
        history.append(
            machine.root, at=at, boot_id=machine.boot_id, slot=machine.slot, version=machine.version, verdict=UNJUDGED,
            reason=reason,
        )  # fmt: skip
    except OSError as error:
        complain(f"{history.HISTORY}: it can't be written ({error.strerror}). {mend_of(error)}")
    # The loader takes a try away at each boot, and has a good slot behind this one.
    behind = any(state.condition == "good" for name, state in view.slots if name != machine.slot)
    rejected = view.state(machine.slot).priority == 0
    why = ask_for_reboot(machine, reason, rejected=rejected, bounded=behind and not rejected)
    failed_boot.keep(machine.root, "this", slot=machine.slot, version=machine.version, reason=reason, at=at)
    follows = "a reboot is wanted" if why is None else f"the machine stays up, since {why}"
    tell(f"slot {machine.slot} ({machine.release}) is left without a verdict ({reason}); {follows}\n")
    return EXIT_REBOOT if why is None else EXIT_STAYS
