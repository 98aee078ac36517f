"""Probation: a slot whose checks passed is watched for a while before it is confirmed, and left when it gets worse.

A reboot or a power cut in it is another boot of the trial: it is judged again from the start, and the loader's tries
bound that. A person who confirms or rejects the slot meanwhile is obeyed.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from bootctl.errors import in_words
from health import watch
from health.aftermath import carry_out
from health.comparison import Look, compared, record_of
from health.exits import EXIT_STAYS
from health.interruption import interruptible
from health.judgement import Judgement
from health.judging import results_of
from health.machine import Machine, now
from health.output import complain, tell
from health.record import listing
from health.system import this_boots_verdict


def weigh_round(judgement: Judgement, troubles: tuple[str, ...], elapsed: float, probation_seconds: float) -> Judgement:
    """What one round of the watch means: `probation` again, or the verdict that ends it.

    `judgement` is that of the checks, in which a slot that passes and can be left is on `probation`, and one that
    passes and can't is `confirmed`; `elapsed` are the seconds since the watch began.
    """
    if judgement.verdict not in ("probation", "confirmed"):
        return judgement
    if troubles:
        reason = "in probation: " + "; ".join(troubles)
        return Judgement("rejected" if judgement.verdict == "probation" else "no-fallback", reason)
    return Judgement("confirmed" if elapsed >= probation_seconds else "probation")


def watch_over(
    machine: Machine,
    *,
    sample: Callable[[], watch.Sample],
    see: Callable[[], Look],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    alive: Callable[[], None],
) -> Look:
    """Watches until a verdict ends the probation; the last look, with that verdict.

    `clock` gives seconds that never go back, `alive` tells the service manager after each round that this goes on.
    """
    settings = machine.settings
    tolerated = watch.kept(machine.root, machine.slot)
    began = clock()
    first = sample()
    while True:
        left = settings.probation_seconds - (clock() - began)
        sleep(max(0.0, min(float(settings.probation_interval_seconds), left)))
        seen = see()
        troubles = watch.troubles(first, sample(), tolerated)
        # The time is that of the whole round, so that a round which begins in time and is good is enough.
        ended = weigh_round(seen.judgement, troubles, clock() - began, settings.probation_seconds)
        alive()
        if ended.verdict != "probation":
            return replace(seen, judgement=ended)


def go_through(
    machine: Machine, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> int:
    """The verb: watches the slot if this boot put it on probation, and acts on the verdict.

    Raises BootError, OSError, `Interrupted`.
    """
    if this_boots_verdict(machine.root) != "probation" or machine.backend.read().state(machine.slot).confirmed:
        tell(f"slot {machine.slot} is not in probation\n")
        return 0
    started = now()
    with interruptible():
        seen = watch_over(
            machine, sample=lambda: watch.look(machine), see=lambda: compared(machine, results_of(machine)),
            clock=clock, sleep=sleep, alive=_alive,
        )  # fmt: skip
    record = record_of(machine, seen, started)
    status = carry_out(machine, seen.view, record)
    tell(listing(record, acted=True, stays=status == EXIT_STAYS))
    return status


def _alive() -> None:
    """WATCHDOG=1, as sd_notify(3) sends it."""
    import os
    import socket

    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    path = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as connection:
            connection.sendto(b"WATCHDOG=1", path)
    except OSError as error:
        complain(f"the service manager can't be told that this goes on: {in_words(error)}")
