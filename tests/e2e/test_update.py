"""Scenario 1: a good release comes."""

from __future__ import annotations

from tests.e2e.images import Repository
from tests.e2e.node import UPDATE_LIMIT, Node


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


def test_a_kexec_starts_the_release_without_the_loader_and_every_later_reboot_goes_through_it(
    node: Node, repository: Repository
) -> None:
    node.configure(reboot="kexec")
    release = repository.release("1.1.0")

    node.check()
    assert node.wait_kexec(UPDATE_LIMIT) == "b"
    node.wait_confirmed("1.1.0")
    node.tell_status("after")
    assert node.resets == 0
    assert "updated.kexec=1" in node.read("/proc/cmdline")
    assert node.holds("b", release)

    assert node.reboot() == "b"
    assert node.resets == 1
    assert "updated.kexec=1" not in node.read("/proc/cmdline")
    node.wait_confirmed("1.1.0")
