"""Runs what the machine decides: keeps the state, does the effects one after the other, and tells who listens.

The new state is durable before its effects run. A failed effect becomes an event; nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any

from bootctl import model
from bootctl.backend import Backend
from bootctl.errors import BootError, in_words
from bootctl.model import BootView
from updated import record
from updated.audience import Audience
from updated.config import Settings
from updated.core import effects, events
from updated.core.decision import Decision
from updated.core.effects import Effect
from updated.core.errors import UpdatedError
from updated.core.events import Event
from updated.core.expiry import notices
from updated.core.machine import decide, first_state
from updated.core.saved import format_state, parse_state
from updated.core.state import BootFacts, Phase, State
from updated.core.status import Progress, Report, status_document, summary
from updated.disk import Disk, boot_error
from updated.healthfiles import read_health
from updated.history import History
from updated.node import open_boot, read_facts
from updated.reboot import KEXEC_UNIT, ask_for_kexec, ask_for_reboot, ask_hooks, warn_users
from updated.steps import Steps
from updated.surroundings import Lookout

log = logging.getLogger("updated")

TICK_SECONDS = 5.0
OUTCOMES = (
    events.Started, events.CheckDone, events.FetchDone, events.SealDone, events.ArmDone, events.HooksPassed,
    events.Failed,
)


# What a person's Stop gives up; everything else that was decided is done all the same.
WORK = (effects.Check, effects.Fetch, effects.Seal)
# While one of these runs, logind knows of it.
WRITES = (effects.Invalidate, effects.Fetch, effects.Seal, effects.Arm, effects.Reject, effects.RollBack)
# What goes on around the node matters before it installs and before it reboots.
ATTENTIVE = (Phase.CHECKING, Phase.WAITING, Phase.FETCHING, Phase.STAGED, Phase.REBOOTING)


class Engine:
    """The node. `clock` gives seconds since the epoch; `chance` draws from [0, 1)."""

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random, lookout: Lookout | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self._lookout = lookout or Lookout(settings.root)
        self.audience = Audience(settings.run())
        self._clock = clock
        self._chance = chance
        self._disk = Disk(settings.boot)
        self._boot: Backend = open_boot(settings.boot)
        self._steps = Steps(self._disk, clock, self._progressed)
        self._history = History(settings.state("history.jsonl"))
        self._effects: asyncio.Queue[tuple[int, tuple[Effect, ...]]] = asyncio.Queue()
        self._generation = 0
        self._storage: UpdatedError | None = None
        self._unsaved: Event | None = None
        self._imported: int | None = None
        self._refused = ""
        self.state = self._first_state()

    # ------------------------------------------------------------------------------------------------------ events

    def start(self) -> None:
        """Compares what is saved with the slot that runs. Call it once."""
        record.write(self.settings.state("state"), format_state(self.state))
        self.submit(events.Started(self.now(), self._chance(), self._facts()))

    def request(self, kind: type[Event], *, descriptor: int | None = None, **fields: Any) -> UpdatedError | None:
        """A person's word; the refusal, if there is one.

        `descriptor`: what is to be imported. It stays the caller's; a copy is kept until the import is over.
        """
        refusal = self.submit(kind(self.now(), self._chance(), **fields)).refusal
        if refusal is None and descriptor is not None:
            self._let_go()
            self._imported = os.dup(descriptor)
        return refusal

    def _let_go(self) -> None:
        if self._imported is not None:
            os.close(self._imported)
        self._imported = None

    async def look(self) -> None:
        """Sees what goes on around the node, where that matters."""
        if self.state.phase in ATTENTIVE:
            around = await self._lookout.look(self.settings.policy.care)
            if around != self.state.around:
                self.submit(events.Surrounded(self.now(), self._chance(), around))

    def tick(self) -> None:
        """Time passed: reads the boot reference again, and lets the machine act."""
        try:
            facts = self._facts()
        except UpdatedError as error:
            self._fail(error)
            return
        if facts != self.state.facts:
            self.submit(events.Observed(self.now(), self._chance(), facts))
        if self._unsaved is not None:
            self.submit(dataclasses.replace(self._unsaved, now=self.now()))
        self.submit(events.Tick(self.now(), self._chance()))

    def submit(self, event: Event) -> Decision:
        """Lets the machine decide, saves the new state, and queues the effects."""
        before = self.state
        decision = decide(before, event, self.settings.policy)
        if decision.state != before or decision.state.error is not before.error:
            try:
                record.write(self.settings.state("state"), format_state(decision.state))
            except UpdatedError as error:
                # What is not durable does not happen: the old state stays. A person hears of it, the clock ticks
                # again, and the outcome of an effect, which nothing would bring again, waits for the next tick.
                if self._storage is None or self._storage.to_json() != error.to_json():
                    log.error("%s", error)
                self._storage = error
                if isinstance(event, OUTCOMES):
                    self._unsaved = event
                self._publish(before)
                return Decision(before, refusal=error)
            self.state, self._storage = decision.state, None
            if not self.state.importing:
                self._let_go()
            self.audience.log_summary(self.state.phase, self.summary())
            if decision.state.phase not in (Phase.FETCHING, Phase.SEALING):
                self._steps.forget_progress()
        else:
            self.state = decision.state  # what is seen around the node is not saved
        if isinstance(event, OUTCOMES):
            self._unsaved = None
        if any(isinstance(effect, effects.Stop) for effect in decision.effects):
            self._unsaved = None
            self._generation += 1
            self._steps.children.kill()
        if decision.effects:
            self._effects.put_nowait((self._generation, decision.effects))
        self.audience.log_expiries(notices(self.state.expiries, self.now(), self.settings.policy.warn_early))
        self._publish(before)
        return decision

    def summary(self) -> str:
        """One line that says where the node stands, without the progress of a step."""
        on_trial = self.state.phase is Phase.TRIAL
        health = read_health(self.settings.root) if on_trial else None
        return summary(self.state, self.settings.policy, Report(health=health, fault=self._storage))

    def reload(self, settings: Settings) -> None:
        """Takes new settings over, at any state. Raises `UpdatedError` ("bad-config") for what needs a restart."""
        if dataclasses.replace(settings.boot, tries=self.settings.boot.tries) != self.settings.boot:
            raise UpdatedError(
                "bad-config", "the tables [disk] and [boot]", "can not change under a daemon that runs",
                "Restart it: systemctl restart updated.",
            )
        before, self.settings, self._refused = self.settings, settings, ""
        followed = before.policy.followed(self.state)
        if followed != settings.policy.followed(self.state) or before.sought() != settings.sought():
            self.submit(events.Reconfigured(self.now(), self._chance(), followed))
        self.tick()

    def refused(self, error: str) -> None:
        """The configuration on disk can't be taken over, and the status says so until one can."""
        self._refused = f"the configuration on disk is refused, the former one is in force: {error}"
        self._publish(self.state)

    async def rest(self) -> None:
        """Returns when nothing is being done and nothing is queued."""
        await self._effects.join()

    def now(self) -> int:
        """The system clock, in seconds since the epoch."""
        return int(self._clock())

    # ------------------------------------------------------------------------------------------------------ effects

    async def run(self) -> None:
        """Does the effects, until it is cancelled; ends the child then."""
        try:
            while True:
                generation, wanted = await self._effects.get()
                for effect in wanted:
                    given_up = generation != self._generation and isinstance(effect, WORK)
                    if given_up or not await self._do(effect, generation):
                        break
                self._effects.task_done()
        finally:
            self._steps.children.kill()
            self._let_go()

    async def _do(self, effect: Effect, generation: int) -> bool:
        """Whether the effects that follow may run."""
        try:
            writes = isinstance(effect, WRITES)
            async with self._lookout.lock("an update is being written") if writes else contextlib.nullcontext():
                if generation != self._generation and isinstance(effect, WORK):
                    return False  # it was given up while logind was asked
                outcome = await self._effect(effect)
            given_up = generation != self._generation and isinstance(effect, WORK)
            if outcome is not None and not given_up:
                self.submit(outcome)
        except UpdatedError as error:
            fault = error
        except BootError as error:
            fault = boot_error(error)
        except Exception as error:
            log.exception("effect %s", type(effect).__name__)
            text = f"{type(error).__name__}: {in_words(error)}"
            fault = UpdatedError("internal", "the daemon", text, "Report it, with the log.")
        else:
            return True
        if generation == self._generation or not isinstance(effect, WORK):
            self._fail(fault)
        return False

    def _fail(self, error: UpdatedError) -> None:
        known = self.state.error
        if known is None or known.to_json() != error.to_json():
            log.error("%s", error)
        self.submit(events.Failed(self.now(), self._chance(), error))

    async def _effect(self, effect: Effect) -> Event | None:
        match effect:
            case effects.Check(any_wave):
                found = await self._steps.check(self.settings, self.state, self._imported, any_wave=any_wave)
                outcome = events.CheckDone(
                    self.now(), self._chance(), found.offer, found.reasons, found.withdrawn, found.expiries,
                    found.recalled,
                )
                await self.look()
                return outcome
            case effects.Invalidate(slot):
                self._disk.check_slot(slot)  # a slot that can't be written now keeps its place in the boot reference
                self._commit(lambda view: model.invalidate(view, slot, active=self.state.facts.slot))
            case effects.Fetch(target):
                installed = await self._steps.fetch(self.settings, self.state, self._imported, target)
                return events.FetchDone(self.now(), self._chance(), installed)
            case effects.Seal(target):
                expired, urgent, peak = await self._steps.seal(self.settings, self.state, target)
                return events.SealDone(self.now(), self._chance(), expired, urgent, peak)
            case effects.Baseline(version):
                await self._steps.baseline(self.settings, version)
            case effects.Arm(slot, tries):
                tries = min(tries, self._boot.most_tries)
                self._commit(lambda view: model.arm_trial(view, slot, active=self.state.facts.slot, tries=tries))
                await self.look()
                return events.ArmDone(self.now(), self._chance(), tries)
            case effects.Reject(slot):
                self._commit(lambda view: model.reject(view, slot))
            case effects.RollBack():
                self._commit(lambda view: model.roll_back(view, active=self.state.facts.slot))
            case effects.AskHooks(reason, insist):
                await ask_hooks(self.settings.start_command, self.settings.state("health", "hooks.json"))
                await self.look()
                return events.HooksPassed(self.now(), self._chance(), reason, insist)
            case effects.Warn(version, until, seconds):
                path = self.settings.run("warning")
                fault = await warn_users(self.settings.start_command, path, version, until, seconds)
                if fault is not None:
                    log.warning("nobody was warned of the reboot: %s", fault)
            case effects.Reboot(reason, onward):
                await self._reboot(reason, by_kexec=onward and self.settings.kexec)
            case effects.Record(kind, version, text):
                if kind != "failed":  # that was told when it happened
                    log.info("%s: %s", f"{kind} {version}".rstrip(), text)
                self.audience.happened(effect)
                try:
                    self._history.append(self.now(), kind, version, text)
                except UpdatedError as error:
                    log.warning("%s", error)  # history is worth less than the update
            case effects.Stop():
                pass  # done when it was decided
        return None

    async def _reboot(self, reason: str, *, by_kexec: bool) -> None:
        log.warning("rebooting %s%s", reason, " by kexec" if by_kexec else "")
        if by_kexec:
            fault = await ask_for_kexec(self.settings.start_command)
            if fault is None:
                return
            text = f"{KEXEC_UNIT} {fault}: it reboots through the boot loader"
            log.warning("%s", text)
            target = self.state.target
            await self._effect(effects.Record("failed", target.version if target else "", text))
        await ask_for_reboot(self.settings.reboot_command, self._boot.begin_reboot())

    def _commit(self, change: Callable[[BootView], BootView]) -> None:
        """Changes the boot reference, and takes over what it is now."""
        self._boot.commit(change(self._boot.read()))
        self.submit(events.Observed(self.now(), self._chance(), self._facts()))

    def _progressed(self, progress: Progress) -> None:
        self.audience.progressed(progress)
        self._publish(self.state, often=True)

    # ------------------------------------------------------------------------------------------------- state, status

    def _first_state(self) -> State:
        path = self.settings.state("state")
        try:
            saved = record.read(path)
            if saved is not None:
                return parse_state(saved)
        except UpdatedError as error:
            if error.code != "state-corrupt":
                raise
            log.error("%s", error)
            self._steps.notes = (str(error),)
            with contextlib.suppress(OSError):
                record.set_aside(path)
        return first_state(self._facts(), self._chance())

    def _facts(self) -> BootFacts:
        return read_facts(self.settings.root, self._disk, self._boot)

    def document(self) -> dict[str, Any]:
        """The status document."""
        report = dataclasses.replace(self._steps.report(self.settings.root), fault=self._storage)
        if self._refused:
            report = dataclasses.replace(report, notes=(self._refused, *report.notes))
        return status_document(self.state, self.settings.policy, report, self.now())

    @property
    def storage_fault(self) -> UpdatedError | None:
        """Why the state can't be saved, so that nothing goes on; None while it can."""
        return self._storage

    def _publish(self, before: State, *, often: bool = False) -> None:
        sentinel = self.settings.policy.sentinel
        self.audience.publish(before, self.state, self.document, sentinel=sentinel, often=often)
