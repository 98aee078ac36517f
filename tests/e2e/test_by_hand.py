"""Scenario 5: what a person asks of a node: roll back, another channel, a pause."""

from __future__ import annotations

from tests.e2e.images import Repository
from tests.e2e.node import UPDATE_LIMIT, Node
from tests.e2e.promises import armed, assert_denied, conditions, history, reasons, roots


def test_a_roll_back_boots_the_old_slot_and_denies_what_was_left(node: Node, repository: Repository) -> None:
    release = repository.release("1.1.0")
    node.check()
    node.wait_confirmed("1.1.0")

    node.type("updatectl rollback")
    assert node.wait_for_reboot() == "a"

    status = node.wait_for(lambda status: status["phase"] == "fallen-back" or status["fallback"], UPDATE_LIMIT)
    node.tell_status("after the roll back")
    assert status["running"] == {"slot": "a", "version": "1.0.0", "confirmed": True}
    assert (status["fallback"]["version"], status["fallback"]["by"]) == ("1.1.0", "root")
    assert "1.1.0 by root" in node.run("updatectl status")[1]
    assert "rolled-back" in [entry["kind"] for entry in history(node)]
    assert roots(node) == ["a", "b", "a"]
    assert node.holds("b", release)
    assert_denied(node, "1.1.0")


def test_another_channel_and_a_pause_count_at_once_and_a_pause_leaves_what_is_staged(
    node: Node, repository: Repository
) -> None:
    release = repository.release("1.1.0", channels=["beta"])
    daemon = node.run("systemctl show -P MainPID updated")[1]
    node.run("updatectl check --wait")
    assert node.status()["target"] is None
    passive = node.slot_digest("b")

    # A pause: the node knows of the release and leaves the other slot alone.
    node.run("updatectl hold")
    node.run("updatectl channel beta")
    status = node.wait_for(lambda status: "held" in reasons(status), UPDATE_LIMIT, what="that it is held")
    node.tell_status("on hold, in channel beta")
    assert (status["channel"], status["offer"]["version"]) == ("beta", "1.1.0")
    assert node.slot_digest("b") == passive

    # The end of the pause: it is installed. The daemon was neither restarted nor configured for it.
    node.configure(reboot="none")
    node.run("updatectl unhold")
    status = node.wait_for(armed, UPDATE_LIMIT, what="that it is staged")
    assert status["hold"] is None
    assert node.run("systemctl show -P MainPID updated")[1] == daemon

    # Another pause: a staged release is not rebooted into, though that is allowed by now, and stays armed.
    node.run("updatectl hold 12h")
    node.configure(reboot="reboot")
    node.run("updatectl check --wait")
    status = node.wait_for(lambda status: "held" in reasons(status), UPDATE_LIMIT, what="that it is held again")
    node.tell_status("on hold, staged")
    assert (status["phase"], conditions(status)["b"]) == ("staged", "trial")
    assert node.resets == 0

    # Any other reboot boots it. Hold and channel outlive that.
    assert node.reboot() == "b"
    status = node.wait_confirmed("1.1.0")
    node.tell_status("after")
    assert (status["channel"], status["hold"]["by"]) == ("beta", "root")
    assert node.holds("b", release)
    assert roots(node) == ["a", "b"]
