"""updated.cfg, run by GRUB itself."""

from __future__ import annotations

import subprocess

import pytest

from bootctl import grub, model
from bootctl.model import BootView, SlotState
from tests.bootctl.grub_emulator import SNIPPET, boot, grubenv, listed

GOOD = SlotState(1, 0, True)
BAD = SlotState()


def block(view: BootView) -> bytes:
    return grub.format_block(grub.EnvBlock(grub.encode({}, view)))


def view_in(data: bytes) -> BootView:
    return grub.decode(grub.parse(data).variables)


def test_the_snippet_is_valid_for_grub() -> None:
    subprocess.run(["grub-script-check", SNIPPET], check=True)


def canonical(view: BootView) -> BootView:
    """The view as the block can say it."""
    return view_in(block(view))


STATES = [BAD, GOOD, SlotState(2, 0, True), SlotState(2, 0, False), SlotState(2, 1, False), SlotState(1, 15, False)]
STATES += [SlotState(2, 2, True), SlotState(2, 1, True), SlotState(0, 0, True)]  # counted though confirmed


@pytest.mark.parametrize("a", STATES)
@pytest.mark.parametrize("b", STATES)
def test_grub_does_what_the_model_says(a: SlotState, b: SlotState) -> None:
    view = canonical(BootView((("a", a), ("b", b))))
    slot, after = model.next_boot(view)
    booted = boot({"grubenv": block(view)})
    assert view_in(booted.files["grubenv"]) == after
    if slot is None:
        slot = view_first(view)
    other = after.other(slot)
    assert (booted.slot, booted.default) == (slot, f"updated-{slot}")
    # GRUB takes only the number of an entry there.
    assert booted.fallback == ({"a": "0", "b": "1"}[other] if after.state(other).confirmed else "")


def view_first(view: BootView) -> str:
    return grub.encode({}, view)["ORDER"].split()[0].lower()


def test_a_trial_of_fifteen_tries_is_counted_down_to_the_fallback() -> None:
    view = model.arm_trial(BootView((("a", GOOD), ("b", BAD))), "b", active="a", tries=15)
    files = {"grubenv": block(view)}
    slots = []
    for _ in range(17):
        booted = boot(files)
        files = booted.files
        slots.append(booted.slot)
    assert slots == ["b"] * 15 + ["a"] * 2


def test_a_confirmed_slot_that_breaks_later_is_left_for_the_other_one_and_is_the_last_resort() -> None:
    good = BootView((("a", GOOD), ("b", SlotState(2, 0, True))))
    armed = model.arm_trial(model.recount(good, "b", counted=2), "a", active="b", tries=1)
    files = {"grubenv": block(armed)}
    slots = []
    for _ in range(5):
        booted = boot(files)
        files = booted.files
        slots.append(booted.slot)
    assert slots == ["a", "b", "b", "b", "b"]
    assert view_in(files["grubenv"]).state("b") == SlotState(0, 0, True)


def test_a_confirmed_slot_that_cannot_be_counted_boots_all_the_same() -> None:
    unsavable = grubenv({"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "3", "B_GOOD": "1"})[:-1] + b"x"
    assert boot({"grubenv": unsavable}).slot == "b"


@pytest.mark.parametrize("broken", [b"", b"#" * 1024, b"\0" * 1024])
def test_a_block_that_was_cut_off_is_replaced_by_its_second_copy(broken: bytes) -> None:
    armed = model.arm_trial(BootView((("a", GOOD), ("b", BAD))), "b", active="a", tries=2)
    booted = boot({"grubenv": broken, "grubenv.backup": block(armed)})
    assert booted.slot == "b"
    assert booted.files["grubenv"] == broken
    assert view_in(booted.files["grubenv.backup"]).state("b").tries_left == 1


def test_without_any_block_the_first_slot_boots_and_not_a_prompt() -> None:
    assert boot({"grubenv": b""}).slot == "a"


def test_a_trial_that_cannot_be_counted_does_not_begin() -> None:
    variables = {"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "3"}
    # GRUB lists a block with a broken end, but refuses to save into it.
    unsavable = grubenv(variables)[:-1] + b"x"
    booted = boot({"grubenv": unsavable})
    assert booted.slot == "a"
    assert booted.files["grubenv"] == unsavable


@pytest.mark.parametrize("tries", ["x", "-1", "16", "03", "1 "])
def test_tries_that_are_no_number_are_none(tries: str) -> None:
    data = grubenv({"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": tries})
    assert boot({"grubenv": data}).slot == "a"
    assert view_in(data).state("b").condition == "bad"


def test_a_slot_that_order_omits_is_tried_last() -> None:
    data = grubenv({"ORDER": "B", "A_OK": "1", "B_OK": "1", "B_TRIES": "0"})
    assert boot({"grubenv": data}).slot == "a"
    assert model.next_boot(view_in(data))[0] == "a"


def test_foreign_variables_survive_a_counted_boot() -> None:
    data = grubenv({"ORDER": "A", "A_OK": "1", "A_TRIES": "10", "saved_entry": "x"})
    assert listed(boot({"grubenv": data}).files["grubenv"]) == {
        "ORDER": "A", "A_OK": "1", "A_TRIES": "9", "saved_entry": "x"
    }  # fmt: skip


def test_a_commit_is_read_as_raucs_script_expects() -> None:
    """RAUC boots the first slot of ORDER with X_OK=1 and X_TRY=0."""
    armed = model.arm_trial(BootView((("a", GOOD), ("b", BAD))), "b", active="a")
    variables = listed(grub.format_block(grub.EnvBlock(grub.encode({"B_TRY": "1"}, armed))))
    assert variables == {
        "ORDER": "B A", "A_OK": "1", "A_TRY": "0", "B_OK": "1", "B_TRY": "0", "B_TRIES": "3"
    }  # fmt: skip
