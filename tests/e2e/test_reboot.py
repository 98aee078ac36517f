"""Scenario 8: a person reboots the machine whenever they like; packaging/doc/operating.md says what boots."""

from __future__ import annotations

import pytest

from tests.e2e.images import Repository
from tests.e2e.node import UPDATE_LIMIT, Node
from tests.e2e.promises import armed, assert_left, conditions, reasons, roots

_SENTINEL = "test -e /run/reboot-required"
# Nothing of a release is fetched within a test at this rate.
_SLOW = "[fetch]\nbandwidth_limit = 1024\n"


@pytest.mark.timeout(3600)
def test_a_reboot_by_hand_takes_what_is_armed_and_loses_nothing_in_any_other_phase(
    node: Node, repository: Repository
) -> None:
    # Idle: the slot that ran.
    assert node.reboot() == "a"

    # Fetching: the slot that ran; the other one can't boot.
    node.configure(reboot="none", more=_SLOW)
    release = repository.release("1.1.0")
    node.check()
    status = node.wait_for(lambda status: status["phase"] == "fetching" and conditions(status)["b"] == "empty",
                           UPDATE_LIMIT, what="that it is fetched")  # fmt: skip
    node.tell_status("fetching")
    node.configure(reboot="none")  # a limit of bandwidth counts from the next download on
    assert node.status()["phase"] == "fetching"
    assert node.reboot() == "a"

    # It is fetched by itself, and nobody is told of a reboot that somebody else decides.
    status = node.wait_for(armed, UPDATE_LIMIT, what="that it is staged")
    node.tell_status("staged")
    assert "manual-reboot" in reasons(status)
    assert node.run(_SENTINEL, check=False)[0] != 0
    # For an agent that reboots machines.
    node.configure(reboot="sentinel", probation=240)
    node.wait_for(lambda _: node.run(_SENTINEL, check=False)[0] == 0, UPDATE_LIMIT, what="that an agent is told")

    # Staged: the new slot, on trial.
    assert node.reboot() == "b"
    status = node.wait_for(lambda status: status["phase"] == "trial", UPDATE_LIMIT, what="that it is on trial")
    node.tell_status("on trial")
    assert node.run(_SENTINEL, check=False)[0] != 0

    # Trial: the same slot again, which is judged again.
    assert node.reboot() == "b"
    status = node.wait_confirmed("1.1.0")
    node.tell_status("after")
    assert conditions(status) == {"a": "good", "b": "good"}
    assert node.holds("b", release)
    assert roots(node) == ["a", "a", "a", "b", "b"]


def test_a_reboot_by_hand_on_the_last_try_of_a_trial_boots_the_old_slot(node: Node, repository: Repository) -> None:
    node.configure(probation=900, more="[boot]\ntries = 1\n")
    old = node.slot_digest("a")
    repository.release("1.1.0")
    node.check()
    assert node.wait_for_reboot() == "b"
    node.wait_for(lambda status: status["phase"] == "trial", UPDATE_LIMIT, what="that it is on trial")
    node.tell_status("on its only try")

    assert node.reboot() == "a"
    assert roots(node) == ["a", "b", "a"]
    assert_left(node, "1.1.0", "^slot b did not come up on trial: a boot of it ended in its probation$", untouched=old)
