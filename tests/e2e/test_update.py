"""Scenario 1: a good release comes."""

from __future__ import annotations

from tests.e2e.images import Repository
from tests.e2e.node import Node


def test_a_good_release_is_streamed_booted_watched_and_confirmed_and_the_old_slot_stays(
    node: Node, repository: Repository
) -> None:
    node.tell_status("before")
    old = node.slot_digest("a")
    release = repository.release("1.1.0")

    node.check()
    assert node.wait_for_reboot() == "b"
    status = node.wait_confirmed("1.1.0")
    node.tell_status("after")

    assert node.boots == ["a", "b"]
    assert node.version() == "1.1.0"
    assert {slot["slot"]: slot["state"] for slot in status["slots"]} == {"a": "good", "b": "good"}
    assert node.holds("b", release)
    assert node.slot_digest("a") == old
