"""The transitions that are easy to get wrong, each with the mishap that it guards against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootctl.model import BootView, SlotState
from updated.core import effects, events
from updated.core.decision import Decision
from updated.core.errors import UpdatedError
from updated.core.installed import LastInstall
from updated.core.machine import decide, first_state
from updated.core.policy import Policy, at_once
from updated.core.rebooting import REBOOT_SECONDS
from updated.core.selection import Pin, Reason
from updated.core.state import BootFacts, Denial, Ending, Hold, Offer, Phase, State, Target, Verdict
from updated.core.surroundings import Inhibitor, Surroundings
from updated.core.windows import Window, Windows

GOOD, OTHER_GOOD, BAD = SlotState(2, 0, True), SlotState(1, 0, True), SlotState()
TRIAL = SlotState(2, 3, False)
POLICY = Policy()
LEFT_ALONE = Policy(reboot_automatically=False)
AS_USUAL = Policy(reboot_automatically=False, heed_urgent=False)
NOW = 1000
UNWRITTEN = UpdatedError("boot-reference", "the boot reference", "can't be written", "Look.")
NETWORK = UpdatedError("unreachable", "the server", "is away", "Wait.")


def facts(
    slot: str = "a", version: str = "1.0", boot: str = "boot-1", a: SlotState = GOOD, b: SlotState = BAD,
    verdict: Verdict | None = None, ending: Ending | None = None,
) -> BootFacts:
    return BootFacts(slot, version, boot, BootView((("a", a), ("b", b))), verdict, ending)


def node(seen: BootFacts | None = None, **changes: Any) -> State:
    return replace(first_state(seen or facts(), 0.5), next_check=NOW + 3000, **changes)


def staged(**changes: Any) -> State:
    target = Target("1.1", "m11", "b", tries=3, **changes)
    return node(facts(a=OTHER_GOOD, b=TRIAL), phase=Phase.STAGED, target=target, versions={"a": "1.0", "b": "1.1"})


def observed(state: State, seen: BootFacts, policy: Policy = POLICY) -> Decision:
    return decide(state, events.Observed(NOW, 0.5, seen), policy)


def started(state: State, seen: BootFacts, policy: Policy = POLICY) -> Decision:
    return decide(state, events.Started(NOW, 0.5, seen), policy)


def kinds(decision: Decision) -> list[type[effects.Effect]]:
    return [type(effect) for effect in decision.effects]


def rejection(slot: str, version: str = "1.1", boot: str = "boot-0") -> Verdict:
    return Verdict(slot, version, boot, "rejected", "it is sick")


# ---------------------------------------------------------------------------------------------------- boot, verdict


def test_an_old_rejection_of_a_slot_that_was_confirmed_since_is_history() -> None:
    seen = facts(a=GOOD, b=OTHER_GOOD, verdict=rejection("b"))
    decision = started(node(seen), seen)
    assert decision.state.phase is Phase.IDLE
    assert decision.state.judged == "boot-0"
    assert not decision.effects


def test_a_rejection_outlives_the_loss_of_the_state() -> None:
    seen = facts(verdict=rejection("b"))
    decision = started(node(seen), seen)
    assert decision.state.phase is Phase.FALLEN_BACK
    assert [denial.version for denial in decision.state.denied] == ["1.1"]


def test_the_newest_version_that_was_confirmed_is_kept() -> None:
    state = node()
    boots = (("1.0", TRIAL, ""), ("1.0", GOOD, "1.0"), ("1.2", GOOD, "1.2"), ("1.1", GOOD, "1.2"))
    for version, slot_a, kept in boots:
        state = observed(state, facts(version=version, a=slot_a, b=OTHER_GOOD)).state
        assert state.highest == kept
    assert observed(state, facts(version="no version", b=OTHER_GOOD)).state.highest == "1.2"


def test_without_state_the_verdict_says_which_release_failed() -> None:
    """A start that found no state can only guess what the passive slot held."""
    seen = facts(verdict=rejection("b"))
    decision = started(node(seen, versions={"a": "1.0", "b": "0.9"}), seen)
    assert [denial.version for denial in decision.state.denied] == ["1.1"]


def test_a_release_is_denied_as_the_channel_names_it_whatever_its_os_release_says() -> None:
    seen = facts(boot="boot-2", a=GOOD, b=BAD, verdict=rejection("b", version="odd"))
    decision = started(staged(), seen)
    assert [(denial.version, denial.manifest) for denial in decision.state.denied] == [("1.1", "m11")]


NOT_UP = "slot b did not come up on trial"
TRIED = SlotState(2, 0, False)


def test_a_trial_that_did_not_come_up_is_left_with_what_ended_it() -> None:
    ending = Ending("b", "1.1.0", "the kernel panicked")
    decision = started(staged(), facts(boot="boot-2", a=OTHER_GOOD, b=TRIED, ending=ending))
    reason = f"{NOT_UP}: the kernel panicked"
    assert decision.state.fallback is not None
    assert decision.state.fallback.reason == reason
    assert [denial.reason for denial in decision.state.denied] == [reason]
    assert decision.effects == (effects.Reject("b"), effects.Record("fell-back", "1.1", reason))


def test_what_ended_a_trial_outlives_the_loss_of_the_state() -> None:
    seen = facts(a=OTHER_GOOD, b=TRIED, ending=Ending("b", "1.1", "the kernel panicked"))
    decision = started(node(seen, versions={"a": "1.0", "b": "1.1"}), seen)
    assert decision.state.fallback is not None
    assert decision.state.fallback.reason == f"{NOT_UP}: the kernel panicked"


@pytest.mark.parametrize("ending", [None, Ending("a", "1.1", "x"), Ending("b", "1.2", "x"), Ending("b", "", "x")])
def test_what_ended_another_trial_is_not_told_of_this_one(ending: Ending | None) -> None:
    decision = started(staged(), facts(boot="boot-2", a=OTHER_GOOD, b=TRIED, ending=ending))
    assert decision.state.fallback is not None
    assert decision.state.fallback.reason == NOT_UP


def test_a_rejection_is_told_as_it_is() -> None:
    ending = Ending("b", "1.1", "the kernel panicked")
    decision = started(staged(), facts(boot="boot-2", a=OTHER_GOOD, b=BAD, verdict=rejection("b"), ending=ending))
    assert decision.state.fallback is not None
    assert decision.state.fallback.reason == "it is sick"


def test_a_release_that_calls_itself_something_else_is_not_installed_for_ever() -> None:
    seen = facts("b", "1.0", "boot-2", a=OTHER_GOOD, b=GOOD)
    decision = started(staged(), seen)
    assert decision.state.phase is Phase.IDLE
    assert [denial.manifest for denial in decision.state.denied] == ["m11"]


def test_a_loader_that_ignores_the_new_slot_makes_no_endless_reboots() -> None:
    state = staged()
    for boot in ("boot-2", "boot-3"):
        state = decide(state, events.Tick(NOW, 0.5), POLICY).state
        assert state.phase is Phase.REBOOTING
        state = started(state, facts(boot=boot, a=OTHER_GOOD, b=TRIAL)).state
    decision = decide(state, events.Tick(NOW, 0.5), POLICY)
    assert decision.state.phase is Phase.STAGED
    assert [reason.code for reason in decision.state.reasons] == ["not-started"]
    assert decide(state, events.RebootRequested(NOW, 0.5, "root"), POLICY).state.phase is Phase.REBOOTING


def test_reboots_by_others_say_nothing_about_the_loader() -> None:
    """A Raspberry Pi begins a trial only at a reboot that asks for it."""
    state = staged()
    for boot in ("boot-2", "boot-3", "boot-4"):
        state = started(state, facts(boot=boot, a=OTHER_GOOD, b=TRIAL)).state
    assert decide(state, events.Tick(NOW, 0.5), POLICY).state.phase is Phase.REBOOTING


def test_a_staged_release_that_was_not_armed_is_sealed_again_after_a_restart() -> None:
    unarmed = replace(staged(), target=Target("1.1", "m11", "b"), facts=facts())
    decision = started(unarmed, facts())
    assert decision.state.phase is Phase.SEALING
    assert kinds(decision) == [effects.Invalidate, effects.Seal]


def test_what_was_armed_unheard_does_not_boot_when_its_seal_fails() -> None:
    unheard = replace(staged(), target=Target("1.1", "m11", "b"))
    assert started(unheard, unheard.facts).effects[0] == effects.Invalidate("b")


def test_what_was_armed_unheard_and_withdrawn_since_is_taken_out_and_not_sealed_again() -> None:
    unheard = replace(staged(), target=Target("1.1", "m11", "b", withdrawn="it burns"))
    decision = started(unheard, unheard.facts)
    assert (decision.state.phase, decision.effects) == (Phase.STAGED, ())
    assert decide(decision.state, events.Tick(NOW, 0.5), POLICY).effects == (effects.Invalidate("b"),)


def test_what_somebody_took_out_of_the_boot_reference_is_not_rebooted_into() -> None:
    decision = observed(staged(), facts(a=GOOD, b=BAD))
    assert decision.state.phase is Phase.IDLE
    assert decision.state.target is None
    assert not decision.state.denied


def test_a_raised_number_of_tries_does_not_turn_an_untried_release_into_a_failed_one() -> None:
    state = node(phase=Phase.STAGED, target=Target("1.1", "m11", "b"))
    state = decide(state, events.ArmDone(NOW, 0.5, 3), Policy(tries=5, reboot_automatically=False)).state
    decision = started(state, facts(boot="boot-2", a=OTHER_GOOD, b=TRIAL), Policy(tries=5))
    assert decision.state.phase is Phase.STAGED
    assert not decision.state.denied


# ------------------------------------------------------------------------------------------------- check and install


OFFER = Offer("1.2", "m12", 5)


def checking(**changes: Any) -> State:
    return node(phase=Phase.CHECKING, **changes)


def done(state: State, offer: Offer | None = OFFER, **fields: Any) -> Decision:
    return decide(state, events.CheckDone(NOW, 0.5, offer, (), **fields), POLICY)


@pytest.mark.parametrize("denial", [Denial("1.2.0", "", "x", 1), Denial("other", "m12", "x", 1)])
def test_a_denied_release_waits_by_version_or_by_manifest(denial: Denial) -> None:
    decision = done(checking(denied=(denial,)))
    assert decision.state.phase is Phase.WAITING
    assert [reason.code for reason in decision.state.reasons] == ["denied"]


def test_the_wait_grows_while_the_same_release_keeps_failing() -> None:
    state = node(phase=Phase.IDLE)
    waits = []
    for _ in range(4):
        state = done(state.with_changes(phase=Phase.CHECKING)).state
        state = decide(state, events.Failed(NOW, 0.5, NETWORK), POLICY).state
        waits.append(state.next_check - NOW)
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]


def test_another_release_begins_with_a_short_wait() -> None:
    state = done(checking(failures=5, failing="m11")).state
    assert state.failures == 0


def test_a_wave_that_is_due_at_once_does_not_make_the_node_ask_at_every_tick() -> None:
    state = decide(checking(), events.CheckDone(NOW, 0.5, None, (Reason("wave", "soon", 0),)), POLICY).state
    assert state.next_check > NOW


def test_what_is_staged_gives_way_to_a_newer_release_and_never_to_an_older_one() -> None:
    # As when a person installed 1.1 before its wave, and the wave of 1.0.5 has come.
    looked = staged().with_changes(phase=Phase.CHECKING)
    manual = Policy(reboot_automatically=False)
    for version, fetched in (("1.0.5", None), ("1.2", "1.2")):
        decision = decide(looked, events.CheckDone(NOW, 0.5, Offer(version, "other", 1), ()), manual)
        wanted = [effect.target.version for effect in decision.effects if isinstance(effect, effects.Fetch)]
        assert wanted == ([fetched] if fetched else [])
        assert decision.state.phase is (Phase.FETCHING if fetched else Phase.STAGED)


def test_a_look_that_finds_what_is_staged_already_ends_a_row_of_failures() -> None:
    state = staged()
    assert state.target is not None
    state = state.with_changes(target=replace(state.target, tries=0))
    for _ in range(4):
        state = decide(state, events.Failed(NOW, 0.5, NETWORK), POLICY).state  # it could not be armed
    assert (state.failures, state.failing) == (4, "m11")
    armed = decide(state, events.ArmDone(NOW, 0.5, 3), LEFT_ALONE).state
    looked = done(armed.with_changes(phase=Phase.CHECKING), Offer("1.1", "m11", 1)).state
    assert (looked.failures, looked.failing) == (0, "")


def told_of_failure(state: State) -> tuple[str, str]:
    """The release that history names for a failure in `state`, and the one that keeps failing from then on."""
    decision = decide(state, events.Failed(NOW, 0.5, NETWORK), LEFT_ALONE)
    (record,) = (effect for effect in decision.effects if isinstance(effect, effects.Record))
    assert (record.kind, record.text) == ("failed", str(NETWORK))
    return record.version, decision.state.failing


def test_a_failure_names_the_release_that_it_is_about_and_not_one_that_is_staged_beside_it() -> None:
    on_its_way = node(phase=Phase.FETCHING, target=Target("1.1", "m11", "b"))
    for phase in (Phase.FETCHING, Phase.SEALING, Phase.STAGED):
        assert told_of_failure(on_its_way.with_changes(phase=phase)) == ("1.1", "m11")
    assert told_of_failure(staged().with_changes(phase=Phase.REBOOTING)) == ("1.1", "m11")
    assert told_of_failure(staged(withdrawn="it burns")) == ("1.1", "m11")
    assert told_of_failure(staged()) == ("", ""), "such as a boot reference that can't be read"
    assert told_of_failure(staged().with_changes(phase=Phase.CHECKING)) == ("", "")


def test_an_import_that_a_restart_ended_while_it_looked_does_not_name_what_is_staged() -> None:
    looking = staged().with_changes(phase=Phase.CHECKING, importing=True)
    record = started(looking, looking.facts).effects[0]
    assert isinstance(record, effects.Record)
    assert (record.kind, record.version) == ("failed", "")


def test_what_an_installation_cost_is_kept_and_what_its_seal_needed_is_added() -> None:
    figures = LastInstall("1.1", 2.5, 7, {"rootfs": {"plan": "full"}})
    fetching = node(phase=Phase.FETCHING, target=Target("1.1", "m11", "b"))
    fetched = decide(fetching, events.FetchDone(NOW, 0.5, figures), POLICY).state
    assert fetched.last_install == figures
    sealed = decide(fetched, events.SealDone(NOW, 0.5, peak_memory=9), POLICY).state
    assert sealed.last_install == replace(figures, seal_peak_memory=9)
    other = fetched.with_changes(target=Target("1.2", "m12", "b"))
    assert decide(other, events.SealDone(NOW, 0.5, peak_memory=9), POLICY).state.last_install == figures


def test_a_withdrawn_release_is_kept_in_mind_until_it_is_out_of_the_boot_reference() -> None:
    state = done(staged().with_changes(phase=Phase.CHECKING), None, withdrawn="it was recalled").state
    assert state.target is not None
    again = decide(state, events.Tick(NOW, 0.5), POLICY)
    assert kinds(again) == [effects.Invalidate]
    for force in (False, True):
        assert not decide(state, events.RebootRequested(NOW, 0.5, "root", force), POLICY).effects
    out = observed(state, facts(a=GOOD, b=BAD))
    assert out.state.target is None
    assert out.state.phase is Phase.IDLE


def test_what_is_withdrawn_before_it_was_armed_is_forgotten_as_soon_as_that_is_written() -> None:
    """It never was in the boot reference: nothing there would ever change, and the node would wait for ever."""
    never_armed = staged().with_changes(phase=Phase.CHECKING, facts=facts(a=GOOD, b=BAD))
    assert never_armed.target is not None
    never_armed = never_armed.with_changes(target=replace(never_armed.target, tries=0))
    state = done(never_armed, None, withdrawn="it was recalled").state
    out = observed(state, facts(a=GOOD, b=BAD))
    assert (out.state.target, out.state.phase, out.state.next_check) == (None, Phase.IDLE, NOW)


# ------------------------------------------------------------------------------------------------ reboot, roll back


@pytest.mark.parametrize("tries", [0, 3])
def test_a_withdrawn_release_that_is_out_of_the_boot_reference_did_not_fail_even_after_a_power_cut(tries: int) -> None:
    withdrawn = replace(staged(), target=Target("1.1", "m11", "b", tries=tries, withdrawn="it was recalled: sick"))
    decision = started(withdrawn, facts(boot="boot-2"))
    assert (decision.state.phase, decision.state.target, decision.state.denied) == (Phase.IDLE, None, ())
    assert not decision.effects


def test_a_recall_that_was_taken_back_before_it_was_acted_upon_is_forgotten() -> None:
    state = checking(target=Target("1.1", "m11", "b", withdrawn="it was recalled: sick"))
    decision = done(state, Offer("1.1", "m11", 5))
    assert decision.state.target == Target("1.1", "m11", "b")
    assert kinds(decision) == [effects.Baseline, effects.Arm]


def arming_while_checking() -> State:
    unarmed = replace(staged(), target=Target("1.1", "m11", "b"), facts=facts())
    return decide(unarmed, events.CheckRequested(NOW, 0.5, "root"), POLICY).state


def test_what_is_armed_during_a_look_is_known_to_be() -> None:
    armed = decide(arming_while_checking(), events.ArmDone(NOW, 0.5, 3), POLICY)
    assert armed.state.phase is Phase.CHECKING
    assert armed.state.target is not None
    assert armed.state.target.armed
    assert [effect.kind for effect in armed.effects if isinstance(effect, effects.Record)] == ["staged"]


def test_what_is_being_armed_is_not_forgotten_with_the_look_that_is_given_up() -> None:
    checking = arming_while_checking()
    given_up = decide(checking, events.ChannelRequested(NOW, 0.5, "root", "beta"), POLICY).state
    assert (given_up.phase, given_up.target) == (Phase.STAGED, checking.target)
    again = started(checking, facts(b=TRIAL))
    assert (again.state.phase, again.state.target) == (Phase.SEALING, checking.target)


def rolling_back() -> State:
    seen = facts("b", "1.1", a=OTHER_GOOD, b=GOOD)
    decision = decide(node(seen), events.RollbackRequested(NOW, 0.5, "root"), POLICY)
    assert kinds(decision) == [effects.Record, effects.RollBack, effects.AskHooks]
    return decision.state


def recalled_there(**changes: Any) -> State:
    """A node whose other slot holds 1.0, which is fit to boot."""
    return node(facts("b", "1.1", a=OTHER_GOOD, b=GOOD), versions={"a": "1.0", "b": "1.1"}, **changes)


@pytest.mark.parametrize(
    ("unwanted", "why"),
    [({"recalled": {"1.0": "it burns"}}, "1.0 was recalled: it burns"),
     ({"denied": (Denial("1.0.0", "", "rolled back by eva", 1),)}, "1.0.0 was rolled back here by eva"),
     ({"denied": (Denial("1.0", "", "web failed", 1),)}, "1.0 failed here: web failed"),
     ({"denied": (Denial("renamed", "m10", "web failed", 1),), "manifests": {"a": "m10"}}, "failed here: web failed")],
)  # fmt: skip
def test_a_roll_back_does_not_lead_into_a_denied_or_recalled_release_unless_it_is_forced(
    unwanted: dict[str, Any], why: str
) -> None:
    state = recalled_there(**unwanted)
    decision = decide(state, events.RollbackRequested(NOW, 0.5, "root"), POLICY)
    assert (decision.state, decision.effects) == (state, ())
    assert decision.refusal is not None
    assert decision.refusal.code == "not-possible-now"
    assert why in decision.refusal.cause
    assert "rollback --force" in decision.refusal.mend
    forced = decide(state, events.RollbackRequested(NOW, 0.5, "root", force=True), POLICY)
    assert kinds(forced) == [effects.Record, effects.RollBack, effects.AskHooks]


def test_a_recall_of_what_runs_does_not_keep_anybody_from_leaving_it() -> None:
    decision = decide(recalled_there(recalled={"1.1": "it burns"}), events.RollbackRequested(NOW, 0.5, "root"), POLICY)
    assert kinds(decision) == [effects.Record, effects.RollBack, effects.AskHooks]


def test_each_look_says_anew_which_slots_hold_a_recalled_release() -> None:
    checking = node(phase=Phase.CHECKING, recalled={"0.9": "it is slow"})
    looked = decide(checking, events.CheckDone(NOW, 0.5, None, (), recalled={"1.0": "it burns"}), POLICY)
    assert looked.state.recalled == {"1.0": "it burns"}


def test_history_says_of_a_hold_who_and_until_when_and_names_no_release() -> None:
    held = [decide(node(), events.HoldRequested(NOW, 0.5, "eva", until), POLICY).effects for until in (4600, None)]
    assert held == [
        (effects.Record("hold", "", "by eva, until 1970-01-01T01:16:40Z"),),
        (effects.Record("hold", "", "by eva, until somebody lifts it"),),
    ]


NEWEST = (Reason("up-to-date", "1.0 is the newest release of channel stable"),)


def test_what_the_last_look_found_says_nothing_of_another_channel() -> None:
    changed = decide(node(reasons=NEWEST), events.ChannelRequested(NOW, 0.5, "root", "nosuch"), POLICY)
    assert changed.state.reasons == ()


def test_what_an_earlier_look_found_is_not_told_beside_the_error_of_the_last_one() -> None:
    failed = decide(node(phase=Phase.CHECKING, reasons=NEWEST), events.Failed(NOW, 0.5, NETWORK), POLICY)
    assert (failed.state.phase, failed.state.reasons) == (Phase.FAILED, ())


def test_a_roll_back_survives_a_restart_before_it_was_carried_out() -> None:
    decision = started(rolling_back(), facts("b", "1.1", a=OTHER_GOOD, b=GOOD))
    assert decision.state.phase is Phase.REBOOTING
    assert kinds(decision) == [effects.RollBack, effects.AskHooks]


def test_a_roll_back_survives_a_power_cut_before_it_was_carried_out() -> None:
    decision = started(rolling_back(), facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=GOOD))
    assert kinds(decision) == [effects.RollBack, effects.AskHooks]


def test_a_roll_back_is_no_way_onward_and_a_staged_release_is() -> None:
    decision = decide(rolling_back(), events.HooksPassed(NOW, 0.5, "why", True), POLICY)
    assert decision.effects == (effects.Reboot("why", onward=False),)
    for force in (False, True):
        asked = decide(staged(), events.RebootRequested(NOW, 0.5, "root", force), POLICY)
        rebooting = asked if force else decide(asked.state, events.HooksPassed(NOW, 0.5, "why", True), POLICY)
        assert [each.onward for each in rebooting.effects if isinstance(each, effects.Reboot)] == [True]


def test_a_roll_back_is_done_when_the_other_slot_runs() -> None:
    decision = started(rolling_back(), facts("a", "1.0", "boot-2", a=GOOD, b=OTHER_GOOD))
    assert decision.state.phase is Phase.FALLEN_BACK
    assert decision.state.leaving == ""
    assert [denial.version for denial in decision.state.denied] == ["1.1"]


def passed(decision: Decision, policy: Policy = POLICY) -> Decision:
    """What follows when no hook refuses."""
    asked = decision.effects[-1]
    assert isinstance(asked, effects.AskHooks)
    return decide(decision.state, events.HooksPassed(NOW, 0.5, asked.reason, asked.insist), policy)


def refused(state: State) -> State:
    error = UpdatedError("hook-refused", "the pre-reboot hook drain", "failed (pods are left)", "Wait.")
    return decide(state, events.Failed(NOW, 0.5, error), POLICY).state


def test_a_reboot_comes_after_the_baseline_and_the_hooks() -> None:
    decision = decide(staged(), events.Tick(NOW, 0.5), POLICY)
    assert decision.effects[0] == effects.Baseline("1.1")
    assert kinds(decision) == [effects.Baseline, effects.AskHooks]
    assert kinds(passed(decision)) == [effects.Record, effects.Reboot]


def test_a_trial_is_armed_after_the_baseline() -> None:
    sealing = node(phase=Phase.SEALING, target=Target("1.1", "m11", "b"))
    decision = decide(sealing, events.SealDone(NOW, 0.5), POLICY)
    assert decision.effects == (effects.Baseline("1.1"), effects.Arm("b", POLICY.tries))


# ---------------------------------------------------------------------------------------------------------- urgency


def test_urgent_is_what_the_seal_found_so_whatever_the_downloader_said() -> None:
    said = Offer("1.1", "m11", 7, urgent=True)
    sealing = node(phase=Phase.SEALING, target=Target("1.1", "m11", "b"), offer=said)
    for found in (True, False):
        target = decide(sealing, events.SealDone(NOW, 0.5, urgent=found), POLICY).state.target
        assert target is not None
        assert target.urgent == found
        assert at_once(POLICY, target) == found
        assert not at_once(AS_USUAL, target)


def test_history_says_that_a_release_is_urgent() -> None:
    sealing = node(phase=Phase.SEALING, target=Target("1.1", "m11", "b"))
    sealed = decide(sealing, events.SealDone(NOW, 0.5, urgent=True), POLICY).state
    decision = decide(sealed, events.ArmDone(NOW, 0.5, 3), POLICY)
    assert decision.effects[0] == effects.Record("staged", "1.1", "slot b boots next, with 3 tries; it is urgent")


def looked(policy: Policy, *, staged_as_urgent: bool, urgent: bool) -> Decision:
    """A check finds the release that is staged already."""
    state = replace(staged(urgent=staged_as_urgent), phase=Phase.CHECKING)
    return decide(state, events.CheckDone(NOW, 0.5, Offer("1.1", "m11", 7, urgent=urgent), ()), policy)


def test_what_became_urgent_after_it_was_staged_is_sealed_again() -> None:
    decision = looked(LEFT_ALONE, staged_as_urgent=False, urgent=True)
    assert kinds(decision) == [effects.Invalidate, effects.Record, effects.Fetch]
    assert decision.state.target == Target("1.1", "m11", "b")


@pytest.mark.parametrize(
    ("policy", "before", "now"),
    [(LEFT_ALONE, True, True), (LEFT_ALONE, True, False), (LEFT_ALONE, False, False), (AS_USUAL, False, True)],
)
def test_otherwise_what_is_staged_stays_so(policy: Policy, before: bool, now: bool) -> None:
    decision = looked(policy, staged_as_urgent=before, urgent=now)
    assert decision.state.phase is Phase.STAGED
    assert not decision.effects


def test_a_downloader_that_always_says_urgent_has_the_same_release_sealed_once_a_day() -> None:
    said = Offer("1.1", "m11", 7, urgent=True)
    sealing = node(phase=Phase.SEALING, target=Target("1.1", "m11", "b"), offer=said)
    sealed = decide(sealing, events.SealDone(NOW, 0.5, urgent=False), LEFT_ALONE).state
    armed = decide(sealed, events.ArmDone(NOW, 0.5, 3), LEFT_ALONE).state

    def again(now: int, offer: Offer = said) -> bool:
        looking = armed.with_changes(phase=Phase.CHECKING)
        return effects.Fetch in kinds(decide(looking, events.CheckDone(now, 0.5, offer, ()), LEFT_ALONE))

    assert [again(now) for now in (NOW + 1, NOW + 86399, NOW + 86400, 1)] == [False, False, True, False]
    assert again(NOW + 1, Offer("1.2", "m12", 7, urgent=True)), "it was wrong for another release"
    for honest in (replace(sealing, offer=replace(said, urgent=False)), replace(sealing, offer=None)):
        target = decide(honest, events.SealDone(NOW, 0.5, urgent=False), LEFT_ALONE).state.target
        assert target is not None
        assert not target.doubted


def test_while_the_baseline_is_taken_no_tick_asks_for_another_one() -> None:
    unarmed = replace(staged(), target=Target("1.1", "m11", "b"), facts=facts())
    assert not decide(unarmed, events.Tick(NOW, 0.5), POLICY).effects
    failed = decide(unarmed, events.Failed(NOW, 0.5, NETWORK), POLICY).state
    assert not decide(failed, events.Tick(NOW + 1, 0.5), POLICY).effects
    again = decide(failed, events.Tick(failed.next_check, 0.5), POLICY)
    assert kinds(again) == [effects.Baseline, effects.Arm]
    assert not decide(again.state, events.Tick(failed.next_check + 5, 0.5), POLICY).effects


def test_hooks_may_take_longer_than_a_machine_may_take_to_go_down() -> None:
    state = decide(staged(), events.Tick(NOW, 0.5), POLICY).state
    assert decide(state, events.Tick(NOW + REBOOT_SECONDS, 0.5), POLICY) == Decision(state)


def test_a_hold_that_comes_while_the_hooks_run_is_respected() -> None:
    asked = decide(staged(), events.Tick(NOW, 0.5), POLICY)
    held = decide(asked.state, events.HoldRequested(NOW, 0.5, "eva", None), POLICY).state
    decision = passed(Decision(held, asked.effects))
    assert not decision.effects
    assert decision.state.phase is Phase.STAGED
    assert [reason.code for reason in decision.state.reasons] == ["held"]


def test_a_persons_reboot_goes_before_a_hold() -> None:
    held = staged().with_changes(hold=Hold("eva"))
    decision = passed(decide(held, events.RebootRequested(NOW, 0.5, "root"), POLICY))
    assert kinds(decision) == [effects.Record, effects.Reboot]


def test_a_hook_that_refuses_leaves_the_release_staged_says_why_and_is_asked_again() -> None:
    state = refused(decide(staged(), events.Tick(NOW, 0.5), POLICY).state)
    assert state.phase is Phase.STAGED
    assert [(reason.code, reason.text) for reason in state.reasons] == [
        ("hook-refused", "the pre-reboot hook drain: failed (pods are left)")
    ]
    assert not decide(state, events.Tick(NOW + 1, 0.5), POLICY).effects
    again = decide(state, events.Tick(state.next_check, 0.5), POLICY)
    assert kinds(again) == [effects.Baseline, effects.AskHooks]
    assert not again.state.reasons


@pytest.mark.parametrize("tries", [0, 3])
def test_a_release_whose_reboot_fails_for_long_is_looked_up_again_before_the_next_try(tries: int) -> None:
    target = Target("1.1", "m11", "b", tries=tries)
    state = replace(staged(), target=target, last_check=NOW, error=UNWRITTEN, failures=5)
    soon, late = NOW + POLICY.interval - 1, NOW + POLICY.interval
    soon_again = decide(replace(state, next_check=soon), events.Tick(soon, 0.5), POLICY)
    assert effects.Baseline in kinds(soon_again)
    looking = decide(replace(state, next_check=late), events.Tick(late, 0.5), POLICY)
    assert kinds(looking) == [effects.Check]
    recalled = events.CheckDone(late, 0.5, None, (), withdrawn="it was recalled: sick")
    assert kinds(decide(looking.state, recalled, POLICY)) == [effects.Invalidate, effects.Record]
    still_there = decide(looking.state, events.CheckDone(late, 0.5, Offer("1.1", "m11", 5), ()), POLICY)
    assert effects.Baseline in kinds(still_there)
    assert still_there.state.failures == 5
    newer = decide(looking.state, events.CheckDone(late, 0.5, Offer("1.2", "m12", 5), ()), POLICY)
    assert newer.state.failures == 0
    away = decide(looking.state, events.Failed(late, 0.5, NETWORK), POLICY).state
    assert effects.Baseline in kinds(decide(away, events.Tick(away.next_check, 0.5), POLICY))


def test_whose_updates_are_paused_arms_again_without_a_look() -> None:
    held = replace(
        staged(), target=Target("1.1", "m11", "b"), last_check=NOW, error=UNWRITTEN, failures=5, hold=Hold("eva")
    )
    late = NOW + POLICY.interval
    again = decide(replace(held, next_check=late), events.Tick(late, 0.5), POLICY)
    assert kinds(again) == [effects.Baseline, effects.Arm]


def test_a_person_who_insists_reboots_without_the_hooks() -> None:
    state = refused(decide(staged(), events.Tick(NOW, 0.5), POLICY).state)
    asked = decide(state, events.RebootRequested(NOW, 0.5, "root"), POLICY)
    assert kinds(asked) == [effects.Baseline, effects.AskHooks]
    forced = decide(state, events.RebootRequested(NOW, 0.5, "root", force=True), POLICY)
    assert kinds(forced) == [effects.Baseline, effects.Record, effects.Reboot]


@pytest.mark.parametrize(
    ("force", "follow"),
    [(False, [effects.Baseline, effects.AskHooks]), (True, [effects.Baseline, effects.Record, effects.Reboot])],
)
def test_a_persons_reboot_ends_a_look_for_something_newer(force: bool, follow: list[type[effects.Effect]]) -> None:
    checking = decide(staged(), events.CheckRequested(NOW, 0.5, "eva"), POLICY).state
    assert checking.phase is Phase.CHECKING
    decision = decide(checking, events.RebootRequested(NOW, 0.5, "root", force=force), POLICY)
    assert kinds(decision) == [effects.Stop, *follow]
    assert decision.state.phase is Phase.REBOOTING


def test_a_reboot_that_is_refused_leaves_the_look_as_it_is() -> None:
    nothing = decide(node(), events.CheckRequested(NOW, 0.5, "eva"), POLICY).state
    unarmed = replace(staged().with_changes(target=Target("1.1", "m11", "b")), phase=Phase.CHECKING)
    kept = replace(staged(), phase=Phase.CHECKING, around=Surroundings(inhibitors=(Inhibitor("backup", "works"),)))
    imported = decide(staged(), events.ImportRequested(NOW, 0.5, "eva"), POLICY).state
    causes = []
    for state in (nothing, unarmed, kept, imported):
        decision = decide(state, events.RebootRequested(NOW, 0.5, "root"), POLICY)
        assert (decision.state, decision.effects) == (state, ())
        assert decision.refusal is not None
        causes.append(decision.refusal.cause)
    assert causes == [
        "no release is staged", "the boot reference does not name the new slot yet",
        "backup (works) keeps the machine up", "the node looks for a release, on a person's word",
    ]  # fmt: skip


@pytest.mark.parametrize("asked", [events.CheckRequested, events.InstallRequested, events.ImportRequested])
@pytest.mark.parametrize(
    ("phase", "cause", "mend"),
    [(Phase.TRIAL, "1.0 is on trial, and has to be confirmed first", "'updatectl health' shows its checks"),
     (Phase.FETCHING, "1.1 is being written into slot b", "'updatectl watch' follows it"),
     (Phase.SEALING, "1.1 is being read back from slot b and verified", "'updatectl watch' follows it")],
)  # fmt: skip
def test_a_node_at_work_says_what_it_does_and_what_to_do(
    asked: type[events.CheckRequested], phase: Phase, cause: str, mend: str
) -> None:
    decision = decide(replace(staged(), phase=phase), asked(NOW, 0.5, "eva"), POLICY)
    assert decision.refusal is not None
    assert decision.refusal.cause == cause
    assert mend in decision.refusal.mend
    assert "phase" not in str(decision.refusal)


def test_what_is_gone_when_the_hooks_have_passed_is_not_rebooted_into() -> None:
    asked = decide(staged(), events.Tick(NOW, 0.5), POLICY)
    gone = observed(asked.state, facts(a=GOOD, b=BAD)).state
    assert not passed(Decision(gone, asked.effects)).effects


def test_a_roll_back_that_a_hook_refused_is_tried_again_and_says_why_meanwhile() -> None:
    state = refused(rolling_back())
    assert state.phase is Phase.REBOOTING
    again = decide(state, events.Tick(NOW + REBOOT_SECONDS, 0.5), POLICY)
    assert kinds(again) == [effects.RollBack, effects.AskHooks]
    assert again.state.error is not None
    assert again.state.error.code == "hook-refused"
    assert kinds(passed(again)) == [effects.Reboot]


def test_a_roll_back_whose_reboot_failed_is_tried_again() -> None:
    state = decide(rolling_back(), events.Failed(NOW, 0.5, NETWORK), POLICY).state
    assert state.phase is Phase.REBOOTING
    assert state.error is NETWORK
    again = decide(state, events.Tick(NOW + REBOOT_SECONDS, 0.5), POLICY)
    assert again.state.phase is Phase.REBOOTING
    assert kinds(again) == [effects.RollBack, effects.AskHooks]


def test_a_machine_that_does_not_go_down_says_so_and_tries_again() -> None:
    state = passed(decide(staged(), events.RebootRequested(NOW, 0.5, "root"), POLICY)).state
    assert decide(state, events.Tick(NOW + 5, 0.5), POLICY).state is state
    later = decide(state, events.Tick(NOW + REBOOT_SECONDS, 0.5), POLICY).state
    assert later.phase is Phase.STAGED
    assert later.error is not None
    assert later.error.code == "reboot-failed"


def test_a_channel_of_the_configuration_is_followed_until_a_person_chooses() -> None:
    state = node()
    assert Policy(channel="beta").followed(state) == "beta"
    state = decide(state, events.ChannelRequested(NOW, 0.5, "root", "alpha"), POLICY).state
    assert Policy(channel="beta").followed(state) == "alpha"


# ----------------------------------------------------------------------------------------------------------- imports

ALONE = Policy(repository=False)
OFFER = Offer("1.1", "m11", 1)


def importing(policy: Policy = ALONE, **changes: Any) -> State:
    return decide(node(**changes), events.ImportRequested(NOW, 0.5, "eva"), policy).state


def test_an_import_looks_without_waves_and_is_in_the_history() -> None:
    decision = decide(node(), events.ImportRequested(NOW, 0.5, "eva"), ALONE)
    assert decision.state.importing
    assert decision.effects == (effects.Record("import", "1.0", "by eva"), effects.Check(any_wave=True))


def test_an_import_takes_the_place_of_a_check_that_runs() -> None:
    decision = decide(node(phase=Phase.CHECKING), events.ImportRequested(NOW, 0.5, "eva"), POLICY)
    assert decision.state.importing
    assert kinds(decision) == [effects.Stop, effects.Record, effects.Check]


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.SEALING, Phase.REBOOTING, Phase.TRIAL])
def test_an_import_does_not_disturb_work(phase: Phase) -> None:
    state = node(phase=phase, target=Target("1.1", "m11", "b"))
    decision = decide(state, events.ImportRequested(NOW, 0.5, "eva"), POLICY)
    assert decision.refusal is not None
    assert decision.state == state


def test_nobody_turns_an_import_into_a_check_of_the_repository() -> None:
    decision = decide(importing(POLICY), events.InstallRequested(NOW, 0.5, "eva"), POLICY)
    assert decision.refusal is not None
    assert decision.state.importing


def test_an_import_goes_before_holds_and_a_switch() -> None:
    policy = replace(ALONE, enabled=False)
    state = importing(policy, hold=Hold("root"))
    assert decide(state, events.CheckDone(NOW, 0.5, OFFER, ()), policy).state.phase is Phase.FETCHING


def test_what_may_not_be_installed_now_is_not_waited_for_since_it_is_not_kept() -> None:
    denial = Denial("1.1", "m11", "it is sick", 0)
    decision = decide(importing(denied=(denial,)), events.CheckDone(NOW, 0.5, OFFER, ()), ALONE)
    assert (decision.state.phase, decision.state.offer) == (Phase.IDLE, None)
    assert [reason.code for reason in decision.state.reasons] == ["denied"]


def test_a_failed_import_is_to_be_done_again_by_a_person() -> None:
    decision = decide(importing(), events.Failed(NOW, 0.5, NETWORK), ALONE)
    assert decision.state.phase is Phase.FAILED
    assert not decision.state.importing
    assert str(decision.state.error).endswith("Then import it again: what was handed over is not kept.")
    later = decide(decision.state, events.Tick(NOW + 10**6, 0.5), ALONE)
    assert not later.effects
    assert later.state.phase is Phase.FAILED


def test_an_import_that_a_restart_ended_is_told() -> None:
    decision = started(importing(), facts(), ALONE)
    assert not decision.state.importing
    assert "was ended by a restart" in str(decision.state.error)
    assert [effect.kind for effect in decision.effects if isinstance(effect, effects.Record)] == ["failed"]


def test_what_expired_and_was_sealed_is_in_the_history() -> None:
    sealing = replace(importing(), phase=Phase.SEALING, target=Target("1.1", "m11", "b"))
    decision = decide(sealing, events.SealDone(NOW, 0.5, ("snapshot", "timestamp")), ALONE)
    assert kinds(decision) == [effects.Record, effects.Baseline, effects.Arm]
    assert str(decision.effects[0]).count("snapshot, timestamp") == 1


# ------------------------------------------------------------------------------------------------- no repository


def test_a_node_without_a_repository_never_looks_and_says_why_once() -> None:
    state = replace(node(), next_check=0)
    decision = decide(state, events.Tick(NOW, 0.5), ALONE)
    assert not decision.effects
    assert [reason.code for reason in decision.state.reasons] == ["no-repository"]
    assert decide(decision.state, events.Tick(NOW, 0.5), ALONE).state == decision.state


@pytest.mark.parametrize("kind", [events.CheckRequested, events.InstallRequested])
def test_a_person_who_asks_for_a_look_hears_what_is_missing(kind: type[events.Event]) -> None:
    decision = decide(node(), kind(NOW, 0.5, "eva"), ALONE)  # type: ignore[call-arg]
    assert decision.refusal is not None
    assert "neither [repository] url nor path is set" in decision.refusal.cause


def test_a_repository_that_is_new_is_asked_at_once_and_a_failure_of_it_not_at_each_tick() -> None:
    alone = decide(node(), events.Tick(NOW, 0.5), ALONE).state
    asked = decide(alone, events.Tick(NOW, 0.5), POLICY)
    assert kinds(asked) == [effects.Check]
    failed = decide(asked.state, events.Failed(NOW, 0.5, NETWORK), POLICY).state
    assert not decide(failed, events.Tick(NOW + 1, 0.5), POLICY).effects


def test_a_staged_release_of_a_node_without_a_repository_waits_in_peace() -> None:
    state = replace(staged(), next_check=0)
    policy = replace(ALONE, reboot_automatically=False)
    assert not decide(state, events.Tick(NOW, 0.5), policy).effects


# ------------------------------------------------------------------------------------------- windows, configuration


# Both are open on the day of 1970-01-01, from its beginning on.
HOUR = Windows((Window(minutes=60),))
IN_WINDOWS = Policy(interval=30 * 86400, downloads=HOUR, reboots=HOUR, reboot_takes=600)
OFFER = Offer("1.1", "m11", 7)
FETCHING = Target("1.1", "m11", "b")


def fetching(**changes: Any) -> State:
    return node(phase=Phase.FETCHING, target=FETCHING, offer=OFFER, **changes)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.state.reasons]


def test_a_download_stops_when_its_window_closes_and_goes_on_in_the_next() -> None:
    assert decide(fetching(), events.Tick(3599, 0.5), IN_WINDOWS) == Decision(fetching())
    closed = decide(fetching(), events.Tick(3600, 0.5), IN_WINDOWS)
    assert closed.effects == (effects.Stop(),)
    assert (closed.state.phase, closed.state.target, codes(closed)) == (Phase.WAITING, None, ["download-window"])
    assert closed.state.reasons[0].until == 86400
    assert not decide(closed.state.with_changes(next_check=10**6), events.Tick(86399, 0.5), IN_WINDOWS).effects
    again = decide(closed.state.with_changes(next_check=10**6), events.Tick(86400, 0.5), IN_WINDOWS)
    assert kinds(again) == [effects.Invalidate, effects.Record, effects.Fetch]


def test_a_download_that_a_person_insisted_on_goes_on_in_any_window() -> None:
    assert not decide(fetching(insist=True), events.Tick(7200, 0.5), IN_WINDOWS).effects


def test_a_download_stops_when_the_configuration_forbids_it() -> None:
    for policy, code in ((Policy(enabled=False, disabled_by="x"), "disabled"), (Policy(pin=Pin(only="2")), "pinned")):
        stopped = decide(fetching(), events.Tick(NOW, 0.5), policy)
        assert (stopped.effects, codes(stopped)) == ((effects.Stop(),), [code])
        assert not decide(stopped.state, events.Tick(NOW, 0.5), policy).effects


def test_what_was_handed_over_is_not_kept_when_a_pin_forbids_it() -> None:
    stopped = decide(fetching(insist=True, importing=True), events.Tick(NOW, 0.5), Policy(pin=Pin(only="2")))
    assert stopped.effects == (effects.Stop(),)
    assert (stopped.state.phase, stopped.state.offer, stopped.state.importing) == (Phase.IDLE, None, False)


def test_a_hook_that_took_too_long_leads_to_no_reboot_outside_of_the_window() -> None:
    asked = decide(staged(), events.Tick(NOW, 0.5), IN_WINDOWS)
    for late, begins in ((3000, True), (3001, False), (7200, False)):
        decision = decide(asked.state, events.HooksPassed(late, 0.5, "why", False), IN_WINDOWS)
        assert (effects.Reboot("why", onward=True) in decision.effects) == begins
        assert codes(decision) == ([] if begins else ["reboot-window"])
        assert decision.state.phase is (Phase.REBOOTING if begins else Phase.STAGED)


def test_a_look_that_failed_lets_no_reboot_window_pass_by() -> None:
    looking = staged().with_changes(phase=Phase.CHECKING)
    failed = decide(looking, events.Failed(80000, 0.5, NETWORK), IN_WINDOWS).state
    assert failed.next_check > 80000
    assert codes(decide(failed, events.Tick(80001, 0.5), IN_WINDOWS)) == ["reboot-window"]
    far = failed.with_changes(next_check=90000)
    opened = decide(far, events.Tick(86400, 0.5), IN_WINDOWS)
    assert kinds(opened) == [effects.Baseline, effects.AskHooks]


def test_a_reboot_that_failed_is_not_tried_again_at_each_tick() -> None:
    for code in ("reboot-failed", "boot-reference", "internal"):
        error = UpdatedError(code, "the command", "failed", "Look.")
        rebooting = passed(decide(staged(), events.RebootRequested(NOW, 0.5, "root"), POLICY)).state
        failed = decide(rebooting, events.Failed(NOW, 0.5, error), POLICY).state
        assert not decide(failed, events.Tick(failed.next_check - 1, 0.5), POLICY).effects
        assert kinds(decide(failed, events.Tick(failed.next_check, 0.5), POLICY))[-1] is effects.AskHooks


def test_what_a_new_pin_admits_goes_before_what_is_staged_and_not_admitted() -> None:
    looking = staged().with_changes(phase=Phase.CHECKING)
    for pin in (Pin(only="1.0.5"), Pin(newest="1.0.5")):
        found = events.CheckDone(NOW, 0.5, Offer("1.0.5", "m105", 7), ())
        decision = decide(looking, found, Policy(pin=pin))
        assert kinds(decision) == [effects.Invalidate, effects.Record, effects.Fetch]
        assert decision.state.target == Target("1.0.5", "m105", "b")


def test_installing_at_once_waits_for_the_reboot_window_and_a_persons_reboot_does_not() -> None:
    insisted = decide(staged().with_changes(insist=True, hold=Hold("eva")), events.ArmDone(7200, 0.5, 3), IN_WINDOWS)
    assert (insisted.state.phase, codes(insisted)) == (Phase.STAGED, ["reboot-window"])
    begun = decide(staged().with_changes(insist=True, hold=Hold("eva")), events.ArmDone(NOW, 0.5, 3), IN_WINDOWS)
    asked = begun.effects[-1]
    assert asked == effects.AskHooks("to boot 1.1 on trial", insist=True)
    late = decide(begun.state, events.HooksPassed(7200, 0.5, "why", True), IN_WINDOWS)
    assert (late.state.phase, codes(late)) == (Phase.STAGED, ["reboot-window"])
    by_hand = decide(staged().with_changes(insist=True), events.RebootRequested(7200, 0.5, "root"), IN_WINDOWS)
    gone = decide(by_hand.state, events.HooksPassed(9000, 0.5, "why", True), IN_WINDOWS)
    assert kinds(gone) == [effects.Record, effects.Reboot]


def test_on_trial_the_reason_is_the_trial_and_not_what_kept_the_node_from_the_reboot() -> None:
    waiting = staged().with_changes(reasons=(Reason("manual-reboot", "the reboot is left to a person"),))
    trial = started(waiting, facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=TRIAL)).state
    assert [reason.code for reason in trial.reasons] == ["trial"]
    unknown = started(node(), facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=TRIAL)).state
    assert (unknown.phase, [reason.code for reason in unknown.reasons]) == (Phase.TRIAL, ["trial"])
    assert observed(trial, facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=GOOD)).state.reasons == ()


def test_the_time_from_the_command_to_the_confirmation_is_kept() -> None:
    rebooting = staged().with_changes(phase=Phase.REBOOTING, since=NOW - 300)
    trial = started(rebooting, facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=TRIAL)).state
    assert (trial.phase, trial.since) == (Phase.TRIAL, NOW - 300)
    confirmed = observed(trial, facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=GOOD)).state
    assert (confirmed.reboots_took, confirmed.since) == ((300,), 0)


def test_a_reboot_that_was_not_asked_for_here_is_not_measured() -> None:
    cut = staged().with_changes(since=NOW - 300)
    trial = started(cut, facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=TRIAL)).state
    assert trial.since == 0
    assert not observed(trial, facts("b", "1.1", "boot-2", a=OTHER_GOOD, b=GOOD)).state.reboots_took


def reconfigured(state: State, policy: Policy, followed: str = "stable") -> Decision:
    return decide(state, events.Reconfigured(NOW, 0.5, followed), policy)


def test_other_releases_are_looked_for_at_once() -> None:
    for phase in (Phase.IDLE, Phase.WAITING, Phase.FAILED, Phase.FALLEN_BACK):
        decision = reconfigured(node(phase=phase), POLICY)
        assert (decision.state.next_check, decision.effects) == (NOW, ())
        assert kinds(decide(decision.state, events.Tick(NOW, 0.5), POLICY)) == [effects.Check]


def test_a_check_begins_again_and_an_import_goes_on() -> None:
    decision = reconfigured(node(phase=Phase.CHECKING, insist=True), POLICY)
    assert decision.effects == (effects.Stop(), effects.Check(any_wave=True))
    assert not reconfigured(node(phase=Phase.CHECKING, insist=True, importing=True), POLICY).effects


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.SEALING])
def test_a_download_from_another_channel_is_given_up_and_any_other_goes_on(phase: Phase) -> None:
    given_up = reconfigured(fetching().with_changes(phase=phase), Policy(channel="beta"))
    assert (given_up.effects, given_up.state.target, given_up.state.offer) == ((effects.Stop(),), None, None)
    assert (given_up.state.phase, given_up.state.next_check) == (Phase.IDLE, NOW)
    assert not reconfigured(fetching().with_changes(phase=phase), POLICY).effects


@pytest.mark.parametrize("phase", [Phase.STAGED, Phase.REBOOTING, Phase.TRIAL])
def test_what_is_staged_rebooting_or_on_trial_stays_so(phase: Phase) -> None:
    before = staged().with_changes(phase=phase)
    decision = reconfigured(before, Policy(channel="beta"))
    assert (decision.state.phase, decision.state.target, decision.effects) == (phase, before.target, ())
