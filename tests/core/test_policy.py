"""When the node may act, and when it looks again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from tests.core.strategies import states
from updated.core import effects, events
from updated.core.decision import Decision
from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.machine import decide, first_state
from updated.core.policy import (
    FIRST_RETRY_SECONDS,
    LONGEST_RETRY_SECONDS,
    Policy,
    install_obstacles,
    is_due,
    next_check,
    pauses,
    reboot_obstacles,
    retry_at,
    with_reboot,
)
from updated.core.selection import Pin
from updated.core.state import BootFacts, Denial, Hold, Offer, Phase, State, Target
from updated.core.surroundings import Care, Inhibitor, Login, Surroundings
from updated.core.windows import Window, Windows

NOW = 1_800_000_000
GOOD, UNUSED = SlotState(2, 0, True), SlotState()
ORDINARY = Policy()
OFFER = Offer("1.1", "ab" * 32, 7)
intervals = st.integers(1, 30 * 86400)
chances = st.floats(0, 1, exclude_max=True)


def node(slot_a: SlotState = GOOD, **changes: Any) -> State:
    facts = BootFacts("a", "1.0", "boot", BootView((("a", slot_a), ("b", UNUSED))))
    return replace(first_state(facts, 0.5), **changes)


def codes(state: State, policy: Policy = ORDINARY, offer: Offer = OFFER, now: int = NOW) -> list[str]:
    return [reason.code for reason in install_obstacles(state, policy, offer, now)]


def test_nothing_stands_in_the_way_of_a_confirmed_node() -> None:
    assert codes(node()) == []


def test_a_slot_on_trial_installs_nothing() -> None:
    assert codes(node(SlotState(2, 1, False))) == ["trial"]
    assert codes(node(SlotState(2, 1, False), insist=True)) == ["trial"]


@pytest.mark.parametrize("version", ["0.9", "1.0", "1.1", "odd"])
def test_what_is_older_needs_permission_also_on_a_persons_word(version: str) -> None:
    offer = Offer(version, "ab" * 32, 7)
    refused = ["downgrade"] if version == "0.9" else []
    assert codes(node(), offer=offer) == codes(node(insist=True), offer=offer) == refused
    assert codes(node(), Policy(allow_downgrade=True), offer) == []


@pytest.mark.parametrize("denial", [Denial("1.1", "", "sick", 1), Denial("other", OFFER.manifest, "sick", 1)])
def test_a_denied_release_is_not_installed_even_on_a_persons_word(denial: Denial) -> None:
    assert codes(node(denied=(denial,), insist=True)) == ["denied"]


def test_a_hold_and_the_configuration_pause_until_a_person_insists() -> None:
    off = Policy(enabled=False, disabled_by="/etc/x:1")
    held = node(hold=Hold("root", NOW + 1))
    assert codes(held, off) == ["disabled", "held"]
    assert codes(replace(held, insist=True), off) == []


def test_a_hold_ends_at_its_time() -> None:
    held = node(hold=Hold("root", NOW))
    assert codes(held, now=NOW - 1) == ["held"]
    assert codes(held, now=NOW) == []
    assert [reason.until for reason in pauses(node(hold=Hold("root", None)), Policy(), NOW)] == [None]


def test_reboots_are_left_to_a_person_when_they_are_manual() -> None:
    manual = Policy(reboot_automatically=False)
    assert [reason.code for reason in reboot_obstacles(node(), manual, NOW)] == ["manual-reboot"]
    assert reboot_obstacles(node(), Policy(), NOW) == ()


@given(intervals, chances)
def test_a_fleet_spreads_its_checks_by_a_tenth(interval: int, chance: float) -> None:
    wait = next_check(Policy(interval=interval), NOW, chance) - NOW
    assert interval * 0.9 - 1 <= wait <= interval * 1.1


@given(intervals, st.integers(1, 10**6), chances)
def test_retries_double_within_bounds(interval: int, failures: int, chance: float) -> None:
    policy = Policy(interval=interval)
    wait = retry_at(policy, NOW, failures, chance) - NOW
    assert 1 <= wait <= 1.25 * min(LONGEST_RETRY_SECONDS, interval)
    undisturbed = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16), LONGEST_RETRY_SECONDS, interval)
    assert wait >= 0.75 * undisturbed - 1


@given(intervals, st.integers(1, 10**6), chances)
def test_no_wait_that_the_policy_sets_is_cut_short(interval: int, failures: int, chance: float) -> None:
    policy = Policy(interval=interval)
    for at in (next_check(policy, NOW, chance), retry_at(policy, NOW, failures, chance)):
        assert is_due(policy, at, NOW) == (at <= NOW)
        assert is_due(policy, at, at)


@given(intervals, st.integers(0, NOW))
def test_a_clock_that_was_set_back_does_not_put_off_the_next_check(interval: int, by: int) -> None:
    policy = Policy(interval=interval)
    at = next_check(policy, NOW, 0.5)
    assert is_due(policy, at, NOW - by) == (at - (NOW - by) > 2 * interval)


def test_a_node_whose_clock_was_years_ahead_looks_as_soon_as_it_is_right() -> None:
    ahead = NOW + 14 * 365 * 86400
    failed = node(phase=Phase.CHECKING)
    error = UpdatedError("metadata-expired", "the metadata", "expired", "Check the clock.")
    failed = decide(failed, events.Failed(ahead, 0.5, error), Policy()).state
    assert failed.next_check > ahead
    assert decide(failed, events.Tick(NOW, 0.5), Policy()).state.phase is Phase.CHECKING


@pytest.mark.parametrize("automatic", [True, False])
def test_what_is_staged_and_not_armed_is_armed_before_any_reboot(automatic: bool) -> None:
    policy = Policy(reboot_automatically=automatic)
    staged = node(phase=Phase.CHECKING, target=Target(OFFER.version, OFFER.manifest, "b"))
    decision = decide(staged, events.CheckDone(NOW, 0.5, OFFER, ()), policy)
    assert decision.state.phase is Phase.STAGED
    assert decision.effects == (effects.Baseline(OFFER.version), effects.Arm("b", policy.tries))


def test_a_state_of_another_boot_loader_is_no_reason_to_fail() -> None:
    stranger = node(phase=Phase.STAGED, target=Target("1.1", OFFER.manifest, "b", 3))
    facts = BootFacts("x", "1.0", "boot 2", BootView((("x", GOOD), ("y", UNUSED))))
    state = decide(stranger, events.Started(NOW, 0.5, facts), Policy()).state
    assert (state.phase, state.target, state.passive) == (Phase.IDLE, None, "y")


@given(states, st.integers(0, 2 * NOW), chances)
def test_the_clock_alone_never_makes_the_machine_raise(state: State, now: int, chance: float) -> None:
    after = decide(state, events.Tick(now, chance), Policy()).state
    decide(after, events.Started(now, chance, state.facts), Policy())


# ------------------------------------------------------------------------------------------------ windows, pins


def open_for(minutes: int, *, late: int = 0) -> Windows:
    """Windows that opened `late` minutes before `NOW` and last for `minutes`, each day."""
    minute = NOW // 60 % 1440 - late
    return Windows((Window(start=minute % 1440, minutes=minutes),))


BEGIN = NOW - NOW % 60


def test_nothing_is_fetched_outside_of_its_window_but_on_a_persons_word() -> None:
    closed = Policy(downloads=open_for(60, late=60))
    (reason,) = install_obstacles(node(), closed, OFFER, NOW)
    assert (reason.code, reason.until) == ("download-window", BEGIN + 23 * 3600)
    assert reason.text == f"the download window is closed until {format_time(BEGIN + 23 * 3600)}"
    assert codes(node(insist=True), closed) == []
    assert codes(node(), Policy(downloads=open_for(60, late=59))) == []
    assert codes(node(), Policy(reboots=open_for(60, late=60))) == []


def test_the_machine_reboots_only_where_the_rest_of_the_window_holds_all_of_it() -> None:
    for late, until in ((0, None), (21, None), (22, BEGIN + 86400 - 22 * 60), (60, BEGIN + 86400 - 3600)):
        policy = Policy(reboots=open_for(31, late=late), reboot_takes=10 * 60)
        found = reboot_obstacles(node(), policy, BEGIN)
        assert [(reason.code, reason.until) for reason in found] == ([("reboot-window", until)] if until else [])


URGENT = replace(OFFER, urgent=True)
CLOSED = Policy(downloads=open_for(60, late=60), reboots=open_for(60, late=60))
RESERVED = replace(CLOSED, heed_urgent=False)


def test_an_urgent_release_is_fetched_outside_of_the_window_unless_the_operator_refuses() -> None:
    assert codes(node(), CLOSED, URGENT) == []
    assert codes(node(), CLOSED) == codes(node(), RESERVED, URGENT) == ["download-window"]


@pytest.mark.parametrize("insist", [True, False])
def test_an_urgent_release_is_booted_outside_of_the_window_unless_the_operator_refuses(insist: bool) -> None:
    def kinds(policy: Policy, *, urgent: bool) -> list[str]:
        target = Target("1.1", OFFER.manifest, "b", tries=3, urgent=urgent)
        ready = node(phase=Phase.STAGED, target=target, insist=insist, next_check=NOW + 60)
        after = decide(ready, events.Tick(NOW, 0.5), policy)
        return [reason.code for reason in after.state.reasons] or [after.state.phase]

    assert kinds(CLOSED, urgent=True) == ["rebooting"]
    assert kinds(CLOSED, urgent=False) == kinds(RESERVED, urgent=True) == ["reboot-window"]


def test_urgency_takes_away_the_windows_and_nothing_else() -> None:
    off = replace(CLOSED, enabled=False, reboot_automatically=False, care=Care(metered=True, grace=600))
    around = Surroundings((Inhibitor("backup", "runs"),), (Login("eva", "tty1"),), metered=True, on_battery=True)
    busy = node(hold=Hold("eva"), around=around, denied=(Denial("1.1", "", "sick", 1),))
    assert codes(busy, off, URGENT) == ["denied", "disabled", "held", "metered", "battery"]
    ready = replace(busy, target=Target("1.1", OFFER.manifest, "b", tries=3, urgent=True))
    assert [reason.code for reason in reboot_obstacles(ready, off, NOW)] == [
        "disabled", "held", "manual-reboot", "inhibited", "battery"
    ]
    people = node(around=Surroundings(users=around.users), target=ready.target)
    careful = replace(CLOSED, care=off.care)
    assert [reason.code for reason in reboot_obstacles(people, careful, NOW)] == ["users"]


def test_how_long_reboots_took_counts_more_than_what_was_expected() -> None:
    policy = Policy(reboots=open_for(30), reboot_takes=10 * 60)
    late = BEGIN + 30 * 60
    for took, seconds in (((), 10 * 60), ((60,), 60), ((60, 1740), 1740), ((1740, 60, 61), 1740)):
        assert reboot_obstacles(node(reboots_took=took), policy, late - seconds) == ()
        (reason,) = reboot_obstacles(node(reboots_took=took), policy, late - seconds + 1)
        assert reason.code == "reboot-window"


@pytest.mark.parametrize(
    ("took", "counts"),
    [((1741,), 600), ((1741, 60), 60), ((1741, 2000), 600), ((60, 1741, 90), 90), ((1741, 2000, 60), 60)],
)
def test_a_reboot_that_was_too_slow_once_closes_no_window(took: tuple[int, ...], counts: int) -> None:
    policy = Policy(reboots=open_for(30), reboot_takes=10 * 60)
    late = BEGIN + 30 * 60 - counts
    assert reboot_obstacles(node(reboots_took=took), policy, late) == ()
    assert reboot_obstacles(node(reboots_took=took), policy, late + 1) != ()


EVA = Surroundings(users=(Login("eva", "tty1"),))


def day_of(state: State, policy: Policy, seconds: int) -> list[Decision]:
    """What a staged node decides at each tick from an hour before the window of a day to the next one's end."""
    decided = []
    for now in range(BEGIN - 3600, BEGIN + 86400 + 3600, seconds):
        decided.append(decide(state, events.Tick(now, 0.5), policy))
        state = decided[-1].state
        if state.phase is not Phase.STAGED:
            break
    return decided


def waiting_for_windows(**changes: Any) -> State:
    target = Target("1.1", OFFER.manifest, "b", tries=3, staged=NOW - 7200)
    return node(phase=Phase.STAGED, target=target, next_check=NOW + 9 * 86400, **changes)


@pytest.mark.parametrize(("took", "around"), [(1741, Surroundings()), (1800, Surroundings()), (1141, EVA)])
def test_windows_that_never_hold_a_reboot_are_told_once_with_the_mend_and_warn_nobody(
    took: int, around: Surroundings
) -> None:
    policy = Policy(interval=30 * 86400, reboots=open_for(30), care=Care(grace=600))
    decided = day_of(waiting_for_windows(reboots_took=(took, 9000, took + 60), around=around), policy, 47)
    assert not [effect for decision in decided for effect in decision.effects]
    (text,) = {reason.text for decision in decided for reason in decision.state.reasons}
    people = "10 for people who are logged in, " if around.users else ""
    assert text == (
        f"no reboot window is long enough: the longest has 30 minutes, and a reboot needs 1 to begin, {people}"
        f"{-(-took // 60)} for itself and its checks; make one longer, or reboot by hand"
    )


@pytest.mark.parametrize(("took", "around"), [(1740, Surroundings()), (1140, EVA)])
def test_windows_that_just_hold_a_reboot_are_used(took: int, around: Surroundings) -> None:
    policy = Policy(interval=30 * 86400, reboots=open_for(30), care=Care(grace=600))
    ready = waiting_for_windows(reboots_took=(took,), around=around)
    for seconds in (5, 7, 29):
        decided = day_of(ready, policy, seconds)
        assert decided[-1].state.phase is Phase.REBOOTING
        begun = decided[-1].effects[-1]
        assert isinstance(begun, effects.AskHooks)
        opened = range(BEGIN - 3600, BEGIN + 3600, seconds)[len(decided) - 1]
        assert opened < BEGIN + 60 + (600 if around.users else 0)


def test_people_are_warned_of_no_reboot_for_which_the_window_leaves_no_time() -> None:
    policy = Policy(interval=30 * 86400, reboots=open_for(60), care=Care(grace=600))
    ready = waiting_for_windows(reboots_took=(1800,), around=EVA)
    for minutes, warned in ((19, True), (20, False), (29, False)):
        decision = decide(ready, events.Tick(BEGIN + minutes * 60, 0.5), policy)
        assert any(isinstance(effect, effects.Warn) for effect in decision.effects) == warned
        assert [reason.code for reason in decision.state.reasons] == ["users" if warned else "reboot-window"]
    assert decision.state.reasons[0].text == (
        "what is left of the reboot window is too short for the 10 minutes that people who are logged in have, and a "
        f"reboot of 30 minutes; waits until {format_time(BEGIN + 86400)}"
    )


def test_of_the_last_reboots_it_is_kept_how_long_they_took() -> None:
    policy = Policy(reboot_takes=100)
    trial = node(phase=Phase.TRIAL, since=NOW)
    assert with_reboot(trial, policy, NOW + 400) == (400,)
    assert with_reboot(replace(trial, reboots_took=(1, 2, 3)), policy, NOW + 4) == (2, 3, 4)
    for off in (401, 0, -5):
        assert with_reboot(trial, policy, NOW + off) == (), "the machine was off, or its clock was set"
    assert with_reboot(replace(trial, since=0), policy, NOW) == (), "nobody knows when it began"


def test_a_pin_holds_also_against_a_persons_word() -> None:
    for pin, refused in ((Pin(only="1.1.0"), []), (Pin(only="1.2"), ["pinned"]), (Pin(newest="1.0"), ["pinned"])):
        assert codes(node(), Policy(pin=pin)) == codes(node(insist=True), Policy(pin=pin)) == refused
        staged = node(target=Target("1.1", "ab" * 32, "b", tries=3))
        assert [reason.code for reason in reboot_obstacles(staged, Policy(pin=pin), NOW)] == refused
