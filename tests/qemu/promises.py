"""What every loader has to keep, told once for all of them. Each boot is compared with what the model foretells."""

from __future__ import annotations

from collections.abc import Callable

from bootctl.model import BootView, SlotState, arm_trial, confirm, invalidate, recount, reject, roll_back
from tests.qemu.loaders import Node

Transition = Callable[[BootView], BootView]


def armed(tries: int) -> Transition:
    """A new image was written into slot b while slot a runs."""
    return lambda view: arm_trial(invalidate(view, "b", active="a"), "b", active="a", tries=tries)


def confirmed(slot: str, counted: int = 0) -> Transition:
    return lambda view: confirm(view, slot, counted=counted)


def make_both_good(node: Node, *, counted: int = 0) -> None:
    """Slot b was installed and confirmed, and is the first one now."""
    node.change(armed(1))
    node.change(confirmed("b", counted))


class Promises:
    """Tests for a fixture `node`."""

    def test_an_armed_slot_is_tried_three_times_and_then_the_confirmed_one_boots(self, node: Node) -> None:
        node.change(armed(3))
        assert node.boots(5) == "bbbaa"

    def test_a_trial_that_was_confirmed_stays(self, node: Node) -> None:
        node.change(armed(3))
        assert node.boot() == "b"
        node.change(confirmed("b"))
        assert node.boots(5) == "bbbbb"

    def test_a_trial_that_was_rejected_never_boots_again(self, node: Node) -> None:
        node.change(armed(3))
        assert node.boot() == "b"
        node.change(lambda view: reject(view, "b"))
        assert node.boots(2) == "aa"

    def test_a_slot_that_is_being_written_does_not_boot(self, node: Node) -> None:
        make_both_good(node)
        node.change(confirmed("a"))
        node.change(lambda view: invalidate(view, "b", active="a"))
        assert node.boot() == "a"

    def test_a_roll_back_starts_the_other_slot_from_then_on(self, node: Node) -> None:
        make_both_good(node)
        assert node.boot() == "b"
        node.change(lambda view: roll_back(view, active="b"))
        assert node.boots(2) == "aa"


class CountingPromises(Promises):
    """For a loader that counts the boots of a confirmed slot too."""

    def test_a_confirmed_slot_that_breaks_later_is_left_for_the_other_one(self, node: Node) -> None:
        make_both_good(node, counted=2)
        assert node.boots(4) == "bbaa"

    def test_when_every_try_is_used_up_the_last_confirmed_slot_boots_and_never_a_prompt(self, node: Node) -> None:
        node.change(confirmed("a", counted=1))
        node.change(armed(1))
        assert node.boots(2) == "ba"
        node.change(lambda view: reject(recount(view, "a", counted=1), "b"))
        assert node.boots(3) == "aaa"
        assert node.view().state("a") == SlotState(0, 0, True)

    def test_a_confirmed_slot_that_comes_up_each_time_stays(self, node: Node) -> None:
        make_both_good(node, counted=2)
        for _ in range(4):
            assert node.boot() == "b"
            node.change(lambda view: recount(view, "b", counted=2))
