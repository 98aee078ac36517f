"""The long steps of an update, done by children: check, fetch, seal; and what is told of them. Nothing here decides."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from updated.assignment import downloader, make_task, running_slot
from updated.children import Children, Message
from updated.config import Settings
from updated.core.answer import (
    CheckAnswer,
    check_answer,
    install_answer,
    peak_memory,
    plan_answer,
    progress_answer,
    seal_answer,
)
from updated.core.expiry import accepted, grace_text
from updated.core.installed import LastInstall
from updated.core.state import State, Target
from updated.core.status import Progress, Report
from updated.disk import Disk
from updated.healthfiles import read_health, verdict_fault
from updated.processes import process_start
from updated.reboot import baseline_unit, take_baseline

log = logging.getLogger("updated")

RATE_WINDOW_SECONDS = 5.0


class Steps:
    """One step at a time. `clock` gives seconds since the epoch; `progressed` hears how far a step is."""

    def __init__(self, disk: Disk, clock: Callable[[], float], progressed: Callable[[Progress], None]) -> None:
        self.children = Children()
        self.notes: tuple[str, ...] = ()
        self._disk = disk
        self._clock = clock
        self._progressed = progressed
        self._progress: Progress | None = None
        self._rate_from: tuple[float, int] = (0.0, 0)
        self._plan = ""
        self._baseline = ""

    def forget_progress(self) -> None:
        """No step is on its way any more."""
        self._progress, self._plan = None, ""

    def report(self, root: str) -> Report:
        """What the status says of the steps, of health below `root`, and of this process."""
        health = read_health(root)
        damage = verdict_fault(root) if health is None else None
        return Report(
            progress=self._progress, plan=self._plan,
            notes=(*self.notes, *([self._baseline] if self._baseline else []), *([str(damage)] if damage else [])),
            health=health, pid=os.getpid(), pid_start=process_start(os.getpid()),
        )

    async def check(self, settings: Settings, state: State, imported: int | None, *, any_wave: bool) -> CheckAnswer:
        """Asks what the channel has; `imported` is the descriptor of what was handed over. Raises `UpdatedError`."""
        task = make_task(
            settings, state, self._disk, self._clock(), settings.state("fetch"), any_wave=any_wave,
            target=state.target, imported=imported,
        )  # fmt: skip
        result = await self.children.run(["fetch", "check"], task, self._on_progress, downloader(settings))
        allow_downgrade = settings.policy.allow_downgrade
        answer = check_answer(result, running=state.facts.version, allow_downgrade=allow_downgrade)
        self.notes = answer.notes
        if late := accepted(answer.expiries):
            log.warning("%s", grace_text(late))
        return answer

    async def fetch(self, settings: Settings, state: State, imported: int | None, target: Target) -> LastInstall:
        """Writes `target` to its slot; what that cost. Raises `UpdatedError`."""
        begun = time.monotonic()
        with self._disk.open_slot(target.slot, write=True) as regions, running_slot(self._disk) as running:
            task = make_task(
                settings, state, self._disk, self._clock(), settings.state("fetch"), target=target, regions=regions,
                seeds=running, imported=imported,
            )  # fmt: skip
            result = await self.children.run(["fetch", "install"], task, self._on_progress, downloader(settings))
        return LastInstall(
            target.version, round(time.monotonic() - begun, 2), peak_memory(result), install_answer(result)
        )

    async def seal(self, settings: Settings, state: State, target: Target) -> tuple[tuple[str, ...], bool, int]:
        """Reads the slot of `target` back; the roles whose expired metadata was accepted, and whether it is urgent.

        The last is the peak memory of the process that did it, in bytes. Raises `UpdatedError`.
        """
        with self._disk.open_slot(target.slot, write=False) as regions:
            task = make_task(
                settings, state, self._disk, self._clock(), settings.state("trust"), target=target, regions=regions,
                connected=False,
            )  # fmt: skip
            result = await self.children.run(["seal"], task, self._on_progress)
        expired, notes, urgent = seal_answer(result)
        for note in notes:
            log.warning("%s", note)
        self.notes = tuple(dict.fromkeys((*self.notes, *notes)))
        return expired, urgent, peak_memory(result)

    async def baseline(self, settings: Settings, version: str) -> None:
        """Takes the baseline of health. Without one, the new slot is judged by its checks as they are."""
        fault = await take_baseline(settings.start_command, version)
        self._baseline = ""
        if fault is not None:
            text = f"{version} will be judged without a baseline of this slot: {baseline_unit(version)} {fault}"
            self._baseline = text
            log.warning("%s", text)

    def _on_progress(self, message: Message) -> None:
        if message["type"] == "plan":
            component, self._plan = plan_answer(message)
            log.info("%s: %s", component, self._plan)
            return
        step, component, done, total = progress_answer(message)
        now = time.monotonic()
        last = self._progress
        if last is None or (last.step, last.component) != (step, component) or done < last.done:
            self._rate_from = (now, done)
        since, base = self._rate_from
        rate = (done - base) / (now - since) if now - since > 0.5 else 0.0
        if now - since > 2 * RATE_WINDOW_SECONDS:
            self._rate_from = (now - RATE_WINDOW_SECONDS, int(done - rate * RATE_WINDOW_SECONDS))
        self._progress = progress = Progress(step, component, done, total, rate)
        self._progressed(progress)
