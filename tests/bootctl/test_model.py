"""Which slot boots next: the rules, by example and over random lives of a machine."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootctl import model
from bootctl.errors import BootError
from bootctl.model import BootView, SlotState

GOOD = SlotState(priority=1, tries_left=0, confirmed=True)
BAD = SlotState()
REJECTED = model.REJECTED
USED_UP = SlotState(priority=0, tries_left=0, confirmed=True)


def view(a: SlotState, b: SlotState) -> BootView:
    return BootView((("a", a), ("b", b)))


states = st.builds(SlotState, st.integers(0, 15), st.integers(0, 15), st.booleans())
views = st.builds(view, states, states)


@pytest.mark.parametrize(
    ("state", "condition", "bootable"),
    [
        (SlotState(1, 0, True), "good", True),
        (SlotState(2, 3, False), "trial", True),
        (SlotState(2, 0, False), "bad", False),
        (SlotState(0, 0, True), "bad", False),
        (SlotState(0, 0, False), "empty", False),
        (model.REJECTED, "bad", False),
        (SlotState(1, 3, True), "good", True),
        (SlotState(0, 3, False), "bad", False),
        (SlotState(15, 15, True), "good", True),
    ],
)
def test_condition_of_a_slot(state: SlotState, condition: str, bootable: bool) -> None:
    assert (state.condition, state.bootable) == (condition, bootable)


@pytest.mark.parametrize("values", [(16, 0), (-1, 0), (0, 16), (0, -1)])
def test_a_state_that_the_format_cannot_hold_is_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not within"):
        SlotState(*values)


def test_highest_priority_boots_and_the_first_of_equals() -> None:
    assert model.next_boot(view(SlotState(1, 0, True), SlotState(2, 0, True)))[0] == "b"
    assert model.next_boot(view(SlotState(2, 0, True), SlotState(2, 0, True)))[0] == "a"


def test_a_trial_falls_back_by_itself_after_its_tries() -> None:
    armed = model.arm_trial(view(GOOD, BAD), "b", active="a", tries=3)
    assert model.boot_sequence(armed, 5) == ("b", "b", "b", "a", "a", "a")


def test_a_confirmed_slot_is_never_counted() -> None:
    good = model.confirm(view(GOOD, BAD), "a")
    assert model.next_boot(good) == ("a", good)
    assert set(model.boot_sequence(good, 100)) == {"a"}


def test_a_confirmed_slot_with_tries_is_left_when_they_are_used_up() -> None:
    counted = view(GOOD, SlotState(2, 3, True))
    assert model.boot_sequence(counted, 4) == ("b", "b", "b", "a", "a")


def test_a_slot_that_was_confirmed_is_the_last_resort() -> None:
    counted = view(BAD, SlotState(2, 2, True))
    assert model.boot_sequence(counted, 4) == ("b",) * 5


def test_who_comes_up_gets_all_boots_again() -> None:
    _, tried = model.next_boot(view(GOOD, SlotState(2, 3, True)))
    assert model.recount(tried, "b", counted=3) == view(GOOD, SlotState(2, 3, True))
    assert model.recount(view(GOOD, SlotState(0, 0, True)), "b", counted=3) == view(GOOD, SlotState(1, 3, True))
    assert model.recount(tried, "b", counted=0) == view(GOOD, SlotState(2, 0, True))


def test_a_trial_is_not_counted_anew() -> None:
    trial = view(GOOD, SlotState(2, 2, False))
    assert model.recount(trial, "b", counted=3) == trial


def test_a_way_back_keeps_its_boots() -> None:
    armed = model.arm_trial(view(SlotState(2, 3, True), BAD), "b", active="a", tries=1)
    assert armed.state("a") == SlotState(1, 3, True)
    assert model.confirm(armed, "b", counted=3) == view(SlotState(1, 3, True), SlotState(2, 3, True))
    assert model.roll_back(model.confirm(armed, "b"), active="b").state("a") == SlotState(2, 3, True)


def test_nothing_bootable_boots_nothing() -> None:
    nothing = view(BAD, SlotState(2, 0, False))
    assert model.next_boot(nothing) == (None, nothing)


def test_the_life_of_an_update_step_by_step() -> None:
    start = view(SlotState(2, 0, True), SlotState(1, 0, True))
    invalid = model.invalidate(start, "b", active="a")
    assert invalid == view(SlotState(2, 0, True), BAD)
    armed = model.arm_trial(invalid, "b", active="a")
    assert armed == view(SlotState(1, 0, True), SlotState(2, 3, False))
    _, tried = model.next_boot(armed)
    assert tried == view(SlotState(1, 0, True), SlotState(2, 2, False))
    assert model.confirm(tried, "b") == view(SlotState(1, 0, True), SlotState(2, 0, True))
    assert model.reject(tried, "b") == view(SlotState(1, 0, True), REJECTED)
    assert model.roll_back(model.confirm(tried, "b"), active="b") == start


def test_rolling_back_out_of_a_trial_leaves_the_trial_behind() -> None:
    tried = view(SlotState(1, 0, True), SlotState(2, 2, False))
    assert model.roll_back(tried, active="b") == view(SlotState(2, 0, True), SlotState(1, 2, False))


@pytest.mark.parametrize(
    ("transition", "code", "words"),
    [
        (lambda: model.invalidate(view(GOOD, BAD), "a", active="a"), "slot-is-active", "slot a"),
        (lambda: model.invalidate(view(BAD, GOOD), "b", active="a"), "active-not-confirmed", "slot a"),
        (lambda: model.invalidate(view(SlotState(0, 0, True), GOOD), "b", active="a"), "active-not-bootable", "a"),
        (lambda: model.invalidate(view(GOOD, BAD), "c", active="a"), "unknown-slot", "slots a, b"),
        (lambda: model.invalidate(view(GOOD, BAD), "b", active="c"), "unknown-slot", "slots a, b"),
        (lambda: model.arm_trial(view(GOOD, BAD), "b", active="a", tries=0), "bad-tries", "1 to 15"),
        (lambda: model.arm_trial(view(GOOD, BAD), "b", active="a", tries=16), "bad-tries", "1 to 15"),
        (lambda: model.arm_trial(view(GOOD, BAD), "a", active="a"), "slot-is-active", "slot a"),
        (lambda: model.arm_trial(view(SlotState(2, 1, False), GOOD), "b", active="a"), "active-not-confirmed", "a"),
        (lambda: model.confirm(view(GOOD, BAD), "c"), "unknown-slot", "slots a, b"),
        (lambda: model.reject(view(GOOD, BAD), "a"), "last-bootable-slot", "slot a"),
        (lambda: model.reject(view(GOOD, SlotState(2, 3, False)), "a"), "last-bootable-slot", "is good"),
        (lambda: model.reject(view(USED_UP, SlotState(2, 3, False)), "a"), "last-bootable-slot", "is good"),
        (lambda: model.roll_back(view(GOOD, BAD), active="a"), "no-confirmed-slot", "condition is empty"),
        (lambda: model.roll_back(view(GOOD, REJECTED), active="a"), "no-confirmed-slot", "condition is bad"),
        (lambda: model.roll_back(view(GOOD, SlotState(2, 3, False)), active="a"), "no-confirmed-slot", "trial"),
        (lambda: model.roll_back(BootView((("a", GOOD),)), active="a"), "not-two-slots", "1 slots"),
        (lambda: BootView(()).state("a"), "unknown-slot", "(none)"),
    ],
)  # fmt: skip
def test_what_would_leave_no_way_back_is_refused(transition: object, code: str, words: str) -> None:
    assert callable(transition)
    with pytest.raises(BootError) as caught:
        transition()
    assert caught.value.code == code
    assert words in str(caught.value)


@given(views, st.sampled_from("ab"))
def test_confirm_is_idempotent_and_boots_that_slot(any_view: BootView, slot: str) -> None:
    once = model.confirm(any_view, slot)
    assert model.confirm(once, slot) == once
    assert model.next_boot(once) == (slot, once)


@given(views, st.sampled_from("ab"))
def test_reject_is_idempotent_and_never_takes_the_last_bootable_slot(any_view: BootView, slot: str) -> None:
    other = any_view.state(any_view.other(slot))
    if other.condition != "good" and (any_view.state(slot).confirmed or not other.bootable):
        with pytest.raises(BootError, match=f"slot {slot}: no other slot"):
            model.reject(any_view, slot)
    else:
        once = model.reject(any_view, slot)
        assert model.reject(once, slot) == once
        assert model.next_boot(once)[0] == once.other(slot)


steps = st.lists(
    st.sampled_from(["boot", "invalidate", "arm", "confirm active", "confirm other", "reject active", "reject other",
                     "roll back", "recount"]), max_size=40,
)  # fmt: skip


@given(steps, st.integers(1, 15), st.sampled_from([0, 1, 3]))
@example(["arm", "confirm active", "boot", "boot", "reject other"], 2, 1)
def test_no_life_of_a_machine_leads_to_where_nothing_boots(life: list[str], tries: int, counted: int) -> None:
    now = view(SlotState(2, 0, True), BAD)
    active = "a"
    for step in life:
        before, other = now, now.other(active)
        given_up: set[str] = set()
        try:
            match step:
                case "boot":
                    slot, now = model.next_boot(now)
                    assert slot is not None
                    active = slot
                case "invalidate":
                    now = model.invalidate(now, other, active=active)
                    given_up = {other}
                case "arm":
                    now = model.arm_trial(now, other, active=active, tries=tries)
                    given_up = {other}
                case "confirm active" | "confirm other":
                    now = model.confirm(now, active if step.endswith("active") else other, counted=counted)
                case "recount":
                    now = model.recount(now, active, counted=counted)
                case "reject active" | "reject other":
                    slot = active if step.endswith("active") else other
                    now = model.reject(now, slot)
                    given_up = {slot}
                case "roll back":
                    now = model.roll_back(now, active=active)
        except BootError:
            assert now == before
        # However many boots fail from here, something boots each time.
        assert None not in model.boot_sequence(now, 2 * model.MAX_TRIES + 2)
        for name, state in before.slots:
            if state.confirmed and name not in given_up:
                assert now.state(name).confirmed
