"""The promises of the machine, over random orders of events, power cuts and repeated effects.

The world here is a disk with two slots, a boot reference as the real model has it, and firmware that boots by it. What
the engine does with effects is played on it; a power cut may come between any two steps, also between saving the state
and doing its effects, and between doing an effect and hearing of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bootctl import model
from bootctl.model import BootView, SlotState
from tests.core.strategies import surroundings
from updated.core import effects, events
from updated.core.document import dump, load_object
from updated.core.effects import Effect
from updated.core.errors import UpdatedError
from updated.core.events import Event
from updated.core.machine import decide, first_state
from updated.core.policy import Policy, reboot_takes
from updated.core.saved import format_state, parse_state
from updated.core.selection import Pin
from updated.core.state import BootFacts, Offer, Phase, State, Target, Verdict
from updated.core.surroundings import Care, Surroundings
from updated.core.version import is_older
from updated.core.windows import Window, Windows

REFUSED = UpdatedError("hook-refused", "the pre-reboot hook drain", "failed", "Wait.")
NETWORK = UpdatedError("unreachable", "the server", "is away", "Wait.")
TRIES = 2
# As in the engine.
WORK = (effects.Check, effects.Fetch, effects.Seal)
# The world begins at 1970-01-01T00:16:40Z, and a step in it takes some seconds: these last for as long as it does.
HALF_OPEN = Windows(tuple(Window(start=minute, minutes=2) for minute in range(16, 160, 4)))
WINDOWS = (Windows(), HALF_OPEN, Windows((Window(start=720, minutes=60),)))
# A check, a download and a trial take 15; a lost command to reboot is given again after ten minutes, and a hold ends
# after 17.
MOST_STEPS = 70
PINS = (Pin(), Pin(only="1.1"), Pin(newest="1.2"))


def reread(state: State) -> State:
    """What a restart makes of the state: it goes through its form on disk."""
    return parse_state(load_object(dump(format_state(state)), what="state", code="state-corrupt", mend=""))


class Node(RuleBasedStateMachine):
    """Slots hold a version, or None while their content is not whole."""

    @initialize(automatic=st.booleans(), repository=st.booleans(), allow_downgrade=st.booleans())
    def factory(self, automatic: bool, repository: bool, allow_downgrade: bool) -> None:
        known = set(vars(self))
        self.policy = Policy(
            reboot_automatically=automatic, tries=TRIES, interval=10, repository=repository,
            allow_downgrade=allow_downgrade, reboot_takes=60, care=Care(metered=True, grace=30),
        )
        self.handed_over = False
        self.content: dict[str, str | None] = {"a": "1.0", "b": None}
        self.verified = {"a": True, "b": False}
        self.view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
        self.running = "a"
        self.boots = 0
        self.now = 1000
        self.releases = ["1.0"]
        self.sick: set[str] = set()
        self.recalled: set[str] = set()
        self.verdict: Verdict | None = None
        self.up = True
        self.wants_reboot = False
        self.saved = first_state(self.facts(), 0.5)
        self.state = self.saved
        self.queue: list[list[Effect]] = []
        # The version for which the last baseline was taken in this boot, and whether the hooks had their say.
        self.baseline = ""
        self.hooks_passed = self.forced = False
        self.installed_after_failure: set[str] = set()
        self.failed_here: set[str] = set()
        self.allowed: set[str] = set()
        self.world = set(vars(self)) - known

    # ------------------------------------------------------------------------------------------------- the world

    def facts(self) -> BootFacts:
        version = self.content[self.running]
        assert version is not None, "a slot whose content is not whole was booted"
        return BootFacts(self.running, version, f"boot-{self.boots}", self.view, self.verdict)

    def submit(self, event: Event) -> None:
        decision = decide(self.state, event, self.policy)
        if isinstance(event, events.ImportRequested) and decision.refusal is None:
            self.handed_over = True
        self.handed_over = self.handed_over and decision.state.importing
        self.saved = reread(decision.state)
        self.state = decision.state
        self.check_windows(decision.effects)
        if any(isinstance(effect, effects.Stop) for effect in decision.effects):
            # Only the work is given up, and what was decided together with it and comes after.
            self.queue = [list(takewhile(lambda effect: not isinstance(effect, WORK), batch)) for batch in self.queue]
        self.queue = [batch for batch in (*self.queue, list(decision.effects)) if batch]

    def next_effect(self) -> Effect:
        (effect, *rest), *batches = self.queue
        self.queue = [rest, *batches] if rest else batches
        return effect

    def check_windows(self, decided: tuple[Effect, ...]) -> None:
        """What nobody asked for is begun in its window alone, and what a pin forbids not at all."""
        for effect in decided:
            if isinstance(effect, effects.Fetch):
                assert self.policy.pin.obstacle(effect.target.version) is None
                assert self.state.insist or self.policy.downloads.opening(self.now).open
            if isinstance(effect, effects.Reboot) and effect.reason.startswith("to boot"):
                seconds = reboot_takes(self.state, self.policy)
                assert self.policy.reboots.earliest(self.now, seconds) == self.now

    def event(self, kind: type[Event], **fields: object) -> Event:
        return kind(self.now, 0.5, **fields)

    def boot(self) -> None:
        """The firmware starts a slot; the kernel of a sick release may not even come up, or health judges it."""
        self.queue.clear()
        self.wants_reboot = self.hooks_passed = self.forced = False
        self.baseline = ""
        for _ in range(10):
            slot, self.view = model.next_boot(self.view)
            assert slot is not None, "no slot can boot"
            assert self.content[slot] is not None, f"slot {slot} would boot with half of an image"
            assert self.verified[slot], f"slot {slot} would boot unverified"
            self.running = slot
            self.boots += 1
            version = self.content[slot]
            if version in self.sick and not self.view.state(slot).confirmed and self.boots % 2:
                continue  # it panics: the firmware comes again, and counts
            self.judge(slot, str(version))
            if self.wants_reboot:
                self.wants_reboot = False
                continue
            break
        else:
            raise AssertionError("the machine never came up")
        self.state = self.saved
        self.submit(self.event(events.Started, facts=self.facts()))

    def judge(self, slot: str, version: str) -> None:
        if self.view.state(slot).confirmed:
            return
        verdict = "rejected" if version in self.sick else "confirmed"
        reason = "it is sick" if verdict == "rejected" else None
        self.verdict = Verdict(slot, version, f"boot-{self.boots}", verdict, reason)
        if verdict == "rejected":
            self.failed_here.add(version)
            self.view = model.reject(self.view, slot)
            self.wants_reboot = True
        else:
            self.view = model.confirm(self.view, slot)

    def replacement(self) -> Offer | None:
        """What the channel has in place of the recalled release that runs, whether the node allows it or not."""
        if self.content[self.running] not in self.recalled:
            return None
        older = next(version for version in reversed(self.releases) if version not in self.recalled)
        return Offer(older, f"manifest-{older}", 1)

    def play(self, effect: Effect) -> Event | None:
        """Does an effect on the world, as the engine would."""
        match effect:
            case effects.Check():
                assert self.policy.repository or self.handed_over, "there is nowhere to look"
                newest = self.releases[-1]
                denied = {denial.version for denial in self.state.denied}
                newer = newest != self.content[self.running] and newest not in denied
                offer = Offer(newest, f"manifest-{newest}", 1) if newer else None
                staged = self.state.target
                gone = staged is not None and staged.version in self.recalled
                offer = self.replacement() if newest in self.recalled else offer
                return self.event(
                    events.CheckDone, offer=offer, reasons=(), withdrawn="it was recalled" if gone else None
                )
            case effects.Invalidate(slot):
                self.view = model.invalidate(self.view, slot, active=self.running)
            case effects.Fetch(target):
                assert target.slot != self.running, "the running slot would be written"
                assert not self.view.state(target.slot).bootable, "a slot that can boot would be written"
                older = is_older(target.version, str(self.content[self.running]))
                assert self.policy.allow_downgrade or not older, "an older release would be written without permission"
                assert self.policy.repository or self.handed_over, "there is nothing to fetch from"
                if target.version in self.failed_here - self.allowed:
                    self.installed_after_failure.add(target.version)
                self.content[target.slot] = None
                self.verified[target.slot] = False
                self.content[target.slot] = target.version
                return self.event(events.FetchDone)
            case effects.Seal(target):
                self.verified[target.slot] = True
                return self.event(events.SealDone)
            case effects.Arm(slot, tries):
                assert self.verified[slot], "a slot would be armed without a seal"
                assert self.baseline == self.content[slot], "a slot would be armed without a baseline"
                self.view = model.arm_trial(self.view, slot, active=self.running, tries=tries)
                return self.event(events.ArmDone, tries=tries)
            case effects.Reject(slot):
                self.view = model.reject(self.view, slot)
            case effects.RollBack():
                self.view = model.roll_back(self.view, active=self.running)
            case effects.Baseline(version):
                self.baseline = version
                self.hooks_passed = False  # they come after it, since they may stop what the checks look at
            case effects.AskHooks(reason, insist):
                self.hooks_passed = True
                return self.event(events.HooksPassed, reason=reason, insist=insist)
            case effects.Reboot():
                assert self.hooks_passed or self.forced, "the hooks were not asked"
                next_slot, _ = model.next_boot(self.view)
                on_trial = next_slot is not None and not self.view.state(next_slot).confirmed
                if next_slot != self.running and on_trial and not self.state.leaving:
                    assert self.baseline == self.content[str(next_slot)], "a trial would be booted without a baseline"
                self.wants_reboot = True
        return None

    # --------------------------------------------------------------------------------------------------- the rules

    @rule(seconds=st.just(7))
    def time_passes(self, seconds: int = 7) -> None:
        self.now += seconds
        self.submit(self.event(events.Observed, facts=self.facts()))
        self.submit(self.event(events.Tick))

    @rule(steps=st.integers(1, 30))
    def the_node_works(self, steps: int) -> None:
        for _ in range(steps):
            if self.queue:
                self.an_effect_is_done(twice=False, lost=False)
            else:
                self.time_passes()

    @rule(sick=st.booleans(), steps=st.integers(0, 12))
    def a_release_comes_out_and_is_on_its_way(self, sick: bool, steps: int) -> None:
        self.a_release_comes_out(sick)
        self.submit(self.event(events.CheckRequested, by="root"))
        for _ in range(steps):
            if self.queue:
                self.an_effect_is_done(twice=False, lost=False)

    @precondition(lambda self: self.queue)
    @rule(twice=st.booleans(), lost=st.booleans())
    def an_effect_is_done(self, twice: bool, lost: bool) -> None:
        effect = self.next_effect()
        outcome = self.play(effect)
        if twice:
            outcome = self.play(effect)
        if lost:
            self.power_cut()
            return
        if isinstance(effect, effects.Invalidate | effects.Arm | effects.Reject | effects.RollBack):
            self.submit(self.event(events.Observed, facts=self.facts()))
        if outcome is not None:
            self.submit(outcome)
        if self.wants_reboot:
            self.boot()

    @precondition(lambda self: self.queue)
    @rule()
    def an_effect_fails(self) -> None:
        effect, *_ = self.queue.pop(0)
        if isinstance(effect, effects.Fetch):
            self.content[effect.target.slot] = None
        if isinstance(effect, effects.Fetch | effects.Seal):
            self.verified[effect.target.slot] = False
        self.hooks_passed = self.forced = False
        self.submit(self.event(events.Failed, error=NETWORK))

    @precondition(lambda self: self.queue and any(isinstance(each, effects.AskHooks) for each in self.queue[0]))
    @rule()
    def a_hook_refuses(self) -> None:
        while not isinstance(self.queue[0][0], effects.AskHooks):
            self.an_effect_is_done(twice=False, lost=False)
        self.queue.pop(0)
        self.forced = False
        self.submit(self.event(events.Failed, error=REFUSED))
        assert not self.wants_reboot
        assert self.state.leaving or [reason.code for reason in self.state.reasons] == ["hook-refused"]

    @rule()
    def power_cut(self) -> None:
        if self.queue and isinstance(fetch := self.queue[0][0], effects.Fetch):
            self.content[fetch.target.slot] = None
            self.verified[fetch.target.slot] = False
        self.boot()

    @rule()
    def the_daemon_restarts(self) -> None:
        self.queue.clear()
        self.hooks_passed = self.forced = False
        self.state = self.saved
        self.submit(self.event(events.Started, facts=self.facts()))

    @rule()
    def all_state_is_lost(self) -> None:
        self.queue.clear()
        self.saved = self.state = first_state(self.facts(), 0.5)
        self.submit(self.event(events.Started, facts=self.facts()))
        self.failed_here &= {denial.version for denial in self.state.denied}

    @rule(sick=st.booleans())
    def a_release_comes_out(self, sick: bool) -> None:
        version = f"1.{len(self.releases)}"
        self.releases.append(version)
        if sick:
            self.sick.add(version)

    @rule()
    def the_newest_release_is_recalled(self) -> None:
        if len(self.releases) > 1:
            self.recalled.add(self.releases[-1])

    @rule(kind=st.sampled_from([
        events.CheckRequested, events.InstallRequested, events.ImportRequested, events.RebootRequested,
        events.RollbackRequested, events.UnholdRequested,
    ]))
    def a_person_asks(self, kind: type[Event]) -> None:
        self.submit(self.event(kind, by="root"))

    @rule()
    def a_person_reboots_by_force(self) -> None:
        self.submit(self.event(events.RebootRequested, by="root", force=True))
        self.forced = self.forced or any(isinstance(each, effects.Reboot) for batch in self.queue for each in batch)

    @rule(channel=st.sampled_from(["stable", "beta"]))
    def a_person_chooses_a_channel(self, channel: str) -> None:
        self.submit(self.event(events.ChannelRequested, by="root", channel=channel))

    @rule(downloads=st.sampled_from(WINDOWS), reboots=st.sampled_from(WINDOWS), pin=st.sampled_from(PINS))
    def the_configuration_changes(self, downloads: Windows, reboots: Windows, pin: Pin) -> None:
        self.policy = replace(self.policy, downloads=downloads, reboots=reboots, pin=pin)
        self.submit(self.event(events.Reconfigured, followed=self.state.channel or self.policy.channel))

    @rule(until=st.none() | st.integers(1000, 2000))
    def a_person_holds(self, until: int | None) -> None:
        self.submit(self.event(events.HoldRequested, by="root", until=until))

    @rule(around=surroundings)
    def the_surroundings_change(self, around: Surroundings) -> None:
        self.submit(self.event(events.Surrounded, around=around))

    @precondition(lambda self: self.state.denied)
    @rule()
    def a_person_allows(self) -> None:
        version = self.state.denied[0].version
        self.submit(self.event(events.AllowRequested, by="root", version=version))
        self.allowed.add(version)

    # ------------------------------------------------------------------------------------------------ the good end

    @rule()
    def a_healthy_release_gets_through(self) -> None:
        """With nothing in the way, it runs and is confirmed after a bounded number of steps. Then all is as before."""
        with self.as_an_aside():
            self.policy = replace(
                self.policy, reboot_automatically=True, repository=True, downloads=Windows(), reboots=Windows(),
                pin=Pin(),
            )
            self.submit(self.event(events.Reconfigured, followed=self.state.channel or self.policy.channel))
            self.submit(self.event(events.UnholdRequested, by="root"))
            self.submit(self.event(events.Surrounded, around=Surroundings()))
            newest = self.goes_on_with_a_healthy_release()
            assert self.runs(newest), self.state

    @rule()
    def what_does_not_get_through_says_why(self) -> None:
        """As it is configured and held, a healthy release runs after the same steps, or there is a reason to read."""
        with self.as_an_aside():
            newest = self.goes_on_with_a_healthy_release()
            assert self.runs(newest) or self.state.reasons or self.state.error, self.state

    def goes_on_with_a_healthy_release(self) -> str:
        self.a_release_comes_out(sick=False)
        for _ in range(MOST_STEPS):
            if self.queue:
                self.an_effect_is_done(twice=False, lost=False)
            elif self.runs(self.releases[-1]):
                break
            else:
                self.time_passes(seconds=60)
        return self.releases[-1]

    def runs(self, version: str) -> bool:
        settled = self.state.phase in (Phase.IDLE, Phase.FALLEN_BACK, Phase.WAITING)
        return settled and self.content[self.running] == version and self.view.state(self.running).confirmed

    @contextlib.contextmanager
    def as_an_aside(self) -> Iterator[None]:
        """What happens in the block did not happen."""
        before = {name: copy(value) for name, value in vars(self).items() if name in self.world}
        yield
        vars(self).update(before)

    # ----------------------------------------------------------------------------------------------- the promises

    @invariant()
    def the_next_boot_leads_to_a_whole_verified_slot(self) -> None:
        view = self.view
        for _ in range(TRIES + 2):
            slot, view = model.next_boot(view)
            assert slot is not None
            assert self.content[slot] is not None
            assert self.verified[slot]

    @invariant()
    def a_slot_that_failed_is_not_installed_again_by_itself(self) -> None:
        assert not self.installed_after_failure

    @invariant()
    def every_wait_has_a_reason(self) -> None:
        if self.state.phase is Phase.WAITING:
            assert self.state.reasons
        if self.state.phase is Phase.FAILED:
            assert self.state.error is not None

    @invariant()
    def an_import_lasts_as_long_as_what_was_handed_over_is_kept(self) -> None:
        assert self.state.importing == self.handed_over

    @invariant()
    def what_is_fetched_may_be(self) -> None:
        if self.state.phase is Phase.FETCHING:
            decision = decide(self.state, events.Tick(self.now, 0.5), self.policy)
            fits = self.state.insist or self.policy.downloads.opening(self.now).open
            assert fits or decision.state.phase is not Phase.FETCHING

    @invariant()
    def work_has_a_target(self) -> None:
        if self.state.phase in (Phase.FETCHING, Phase.SEALING, Phase.STAGED, Phase.TRIAL):
            assert self.state.target is not None

    @invariant()
    def the_state_on_disk_is_the_state_in_memory(self) -> None:
        assert self.saved == replace(self.state, facts=replace(self.state.facts, verdict=None))


TestNode = Node.TestCase
TestNode.settings = settings(max_examples=200, stateful_step_count=40)


def test_every_event_in_every_phase_gives_a_decision() -> None:
    facts = BootFacts("a", "1.0", "boot", BootView((("a", SlotState(2, 0, True)), ("b", SlotState()))))
    happenings: list[Event] = [
        events.Started(5, 0.5, facts), events.Observed(5, 0.5, facts), events.Tick(5, 0.5),
        events.CheckRequested(5, 0.5, "root"), events.InstallRequested(5, 0.5, "root"),
        events.ImportRequested(5, 0.5, "root"), events.RebootRequested(5, 0.5, "root"),
        events.RollbackRequested(5, 0.5, "root"),
        events.ChannelRequested(5, 0.5, "root", "beta"), events.HoldRequested(5, 0.5, "root", None),
        events.UnholdRequested(5, 0.5, "root"), events.AllowRequested(5, 0.5, "root", "1.1"),
        events.CheckDone(5, 0.5, None, ()), events.CheckDone(5, 0.5, Offer("1.1", "m", 1), ()),
        events.Reconfigured(5, 0.5, "stable"), events.Reconfigured(5, 0.5, "beta"),
        events.FetchDone(5, 0.5), events.SealDone(5, 0.5), events.ArmDone(5, 0.5, 3),
        events.HooksPassed(5, 0.5, "why", False), events.HooksPassed(5, 0.5, "why", True),
        events.Failed(5, 0.5, NETWORK),
    ]
    for phase in Phase:
        for target in (None, Target("1.1", "m", "b"), Target("1.1", "m", "b", tries=3)):
            state = replace(first_state(facts, 0.5), phase=phase, target=target)
            for event in happenings:
                decide(state, event, Policy())

