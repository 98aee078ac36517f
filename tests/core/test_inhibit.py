"""What goes on around the node: what waits for it, what does not, and how people are warned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from tests.core.strategies import surroundings
from updated.core import effects, events
from updated.core.decision import Decision
from updated.core.events import Event
from updated.core.machine import decide, first_state
from updated.core.policy import Policy, install_obstacles, reboot_obstacles
from updated.core.state import BootFacts, Hold, Offer, Phase, State, Target
from updated.core.surroundings import Care, Grace, Inhibitor, Login, Surroundings

NOW = 1_800_000_000
GRACE = 600
POLICY = Policy(care=Care(metered=True, battery=True, grace=GRACE))
CARELESS = Policy(care=Care(metered=False, battery=False, grace=0))
OFFER = Offer("1.1", "ab" * 32, 7)
BACKUP = Surroundings(inhibitors=(Inhibitor("backup", "writes a tape"),))
ALICE = Surroundings(users=(Login("alice", "tty1"),))
METERED, BATTERY = Surroundings(metered=True), Surroundings(on_battery=True)
VIEW = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 3, False))))


def staged(around: Surroundings | None = None, **changes: Any) -> State:
    state = first_state(BootFacts("a", "1.0", "boot", VIEW), 0.5)
    target = Target("1.1", "ab" * 32, "b", tries=3)
    around = around or Surroundings()
    return replace(state, phase=Phase.STAGED, target=target, next_check=NOW + 3000, around=around, **changes)


def tick(state: State, now: int = NOW, policy: Policy = POLICY) -> Decision:
    return decide(state, events.Tick(now, 0.5), policy)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.state.reasons]


def kinds(decision: Decision) -> list[type[effects.Effect]]:
    return [type(effect) for effect in decision.effects]


# ------------------------------------------------------------------------------------------------- what is waited for


@pytest.mark.parametrize(("around", "code"), [(METERED, "metered"), (BATTERY, "battery")])
def test_an_installation_waits_for_network_and_power_but_not_where_a_person_insists(
    around: Surroundings, code: str
) -> None:
    state = staged(around)
    assert [reason.code for reason in install_obstacles(state, POLICY, OFFER, NOW)] == [code]
    assert install_obstacles(replace(state, insist=True), POLICY, OFFER, NOW) == ()
    assert install_obstacles(state, CARELESS, OFFER, NOW) == ()


@pytest.mark.parametrize(("around", "code"), [(BACKUP, "inhibited"), (ALICE, "users"), (BATTERY, "battery")])
def test_a_reboot_waits_for_programs_people_and_power(around: Surroundings, code: str) -> None:
    decision = tick(staged(around))
    assert (decision.state.phase, codes(decision)) == (Phase.STAGED, [code])
    assert tick(staged(METERED)).state.phase is Phase.REBOOTING


def test_people_and_power_can_be_left_out_of_account_but_no_inhibitor() -> None:
    assert tick(staged(ALICE), policy=CARELESS).state.phase is Phase.REBOOTING
    assert tick(staged(BATTERY), policy=CARELESS).state.phase is Phase.REBOOTING
    assert codes(tick(staged(BACKUP), policy=CARELESS)) == ["inhibited"]


def test_the_reason_names_who_and_why_and_never_too_many() -> None:
    names = tuple(Inhibitor(f"program {number}", "works") for number in range(5))
    (reason,) = reboot_obstacles(staged(Surroundings(inhibitors=names)), POLICY, NOW)
    assert reason.text.startswith("program 0 (works), program 1 (works), program 2 (works) and 2 more")


def test_one_keeps_the_machine_up_and_several_keep_it_up() -> None:
    backup, apt = Inhibitor("backup", "writes a tape"), Inhibitor("apt", "installs")
    (one,) = reboot_obstacles(staged(Surroundings(inhibitors=(backup,))), POLICY, NOW)
    (two,) = reboot_obstacles(staged(Surroundings(inhibitors=(backup, apt))), POLICY, NOW)
    assert one.text == "backup (writes a tape) keeps the machine up"
    assert two.text == "backup (writes a tape) and apt (installs) keep the machine up"
    (people,) = reboot_obstacles(staged(Surroundings(users=(Login("a", "tty1"), Login("b", "tty2")))), POLICY, NOW)
    assert people.text.startswith("a (tty1) and b (tty2) are logged in; ")


@given(surroundings, st.booleans())
def test_the_last_look_before_the_reboot_decides(around: Surroundings, insist: bool) -> None:
    passed = events.HooksPassed(NOW, 0.5, "to boot 1.1 on trial", insist)
    decision = decide(replace(staged(around), phase=Phase.REBOOTING), passed, POLICY)
    free = not around.inhibitors and (insist or not (around.users or around.on_battery))
    assert (effects.Reboot in kinds(decision)) == free
    assert (decision.state.phase is Phase.STAGED) == (not free)


def test_a_person_is_told_of_an_inhibitor_and_may_force_the_reboot() -> None:
    refused = decide(staged(BACKUP), events.RebootRequested(NOW, 0.5, "root"), POLICY)
    assert refused.refusal is not None
    assert "backup (writes a tape)" in str(refused.refusal)
    assert refused.state.phase is Phase.STAGED
    forced = decide(staged(BACKUP), events.RebootRequested(NOW, 0.5, "root", force=True), POLICY)
    assert effects.Reboot in kinds(forced)
    assert decide(staged(ALICE), events.RebootRequested(NOW, 0.5, "root"), POLICY).refusal is None


def test_a_download_pauses_where_the_network_becomes_metered_and_goes_on_after_it() -> None:
    fetching = replace(staged(METERED), phase=Phase.FETCHING, target=Target("1.1", "ab" * 32, "b"), offer=OFFER)
    paused = tick(fetching)
    assert (paused.state.phase, codes(paused), kinds(paused)) == (Phase.WAITING, ["metered"], [effects.Stop])
    free = decide(paused.state, events.Surrounded(NOW, 0.5, Surroundings()), POLICY).state
    assert effects.Fetch in kinds(tick(free))
    for going_on, policy in ((replace(fetching, insist=True), POLICY), (fetching, CARELESS)):
        assert decide(going_on, events.Tick(NOW, 0.5), policy).state.phase is Phase.FETCHING


def test_a_download_that_runs_is_ended_on_battery() -> None:
    fetching = replace(staged(BATTERY), phase=Phase.FETCHING, target=Target("1.1", "ab" * 32, "b"), offer=OFFER)
    assert tick(fetching).state.phase is Phase.FETCHING


# ------------------------------------------------------------------------------------------------------------ people


def warnings(decision: Decision) -> list[int]:
    """How many seconds before the reboot people are told of it now."""
    return [effect.seconds for effect in decision.effects if isinstance(effect, effects.Warn)]


def test_people_are_warned_at_the_beginning_and_a_minute_before_the_end_and_then_it_reboots() -> None:
    state, told = staged(ALICE), []
    for now in range(NOW, NOW + GRACE, 20):
        decision = tick(state, now)
        assert decision.state.reasons[0].until == NOW + GRACE
        told += warnings(decision)
        state = decision.state
    assert told == [GRACE, 60]
    going = tick(state, NOW + GRACE)
    assert going.state.phase is Phase.REBOOTING
    at_last = decide(going.state, events.HooksPassed(NOW + GRACE + 60, 0.5, "to boot 1.1 on trial", False), POLICY)
    assert effects.Reboot in kinds(at_last)


def test_when_they_have_logged_out_it_reboots_at_once() -> None:
    state = tick(staged(ALICE)).state
    gone = decide(state, events.Surrounded(NOW + 5, 0.5, Surroundings()), POLICY).state
    assert tick(gone, NOW + 6).state.phase is Phase.REBOOTING


def test_a_hold_stops_it_and_the_time_begins_anew_after_it() -> None:
    state = tick(staged(ALICE)).state
    held = tick(replace(state, hold=Hold("alice")), NOW + GRACE)
    assert (codes(held), held.state.grace) == (["held"], None)
    again = tick(replace(held.state, hold=None), NOW + 2 * GRACE)
    assert (again.state.reasons[0].until, warnings(again)) == (NOW + 3 * GRACE, [GRACE])


def test_the_time_begins_when_nothing_else_stands_in_the_way() -> None:
    both = replace(ALICE, inhibitors=BACKUP.inhibitors)
    waiting = tick(staged(both))
    assert (codes(waiting), warnings(waiting)) == (["inhibited"], [])


def test_the_time_outlives_a_restart_and_a_check() -> None:
    state = tick(staged(ALICE)).state
    restarted = decide(state, events.Started(NOW + 10, 0.5, state.facts), POLICY).state
    assert tick(replace(restarted, around=ALICE), NOW + 20).state.reasons[0].until == NOW + GRACE
    checked = decide(state, events.CheckRequested(NOW + 30, 0.5, "root"), POLICY).state
    done = decide(checked, events.CheckDone(NOW + 40, 0.5, OFFER, ()), POLICY)
    assert done.state.reasons[0].until == NOW + GRACE
    assert warnings(done) == []


def test_the_time_for_one_release_does_not_count_for_another() -> None:
    state = tick(staged(ALICE)).state
    other = replace(state, target=Target("1.2", "cd" * 32, "b", tries=3))
    assert tick(other, NOW + GRACE).state.reasons[0].until == NOW + 2 * GRACE


def test_a_time_of_a_clock_that_was_wrong_begins_anew() -> None:
    state = staged(ALICE, grace=Grace("1.1", NOW + 10**6))
    assert tick(state).state.reasons[0].until == NOW + GRACE


def test_a_short_time_is_told_of_once() -> None:
    policy = Policy(care=Care(grace=60))
    state, told = staged(ALICE), []
    for now in range(NOW, NOW + 60, 5):
        decision = tick(state, now, policy)
        told += warnings(decision)
        state = decision.state
    assert told == [60]


moments = st.lists(st.tuples(st.integers(0, 200), surroundings, st.booleans()), max_size=30)


@given(moments)
def test_no_reboot_by_itself_comes_upon_people_who_were_not_warned_for_as_long_as_promised(
    steps: list[tuple[int, Surroundings, bool]],
) -> None:
    state, now, warned_at, there = staged(), NOW, None, False
    for seconds, around, held in steps:
        now += seconds
        before: list[Event] = [events.Surrounded(now, 0.5, around), events.Tick(now, 0.5)]
        state = replace(state, hold=Hold("root") if held else None)
        for event in before:
            decision = decide(state, event, POLICY)
            state = decision.state
            if any(isinstance(each, effects.Warn) for each in decision.effects):
                warned_at = now if warned_at is None or state.grace is None else warned_at
        there = bool(around.users)
        if state.phase is Phase.REBOOTING:
            assert not around.inhibitors
            assert not held
            assert not around.on_battery
            assert not there or (warned_at is not None and now - warned_at >= GRACE)
            return
