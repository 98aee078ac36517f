"""Scenarios 2, 3 and 6: releases that panic, hang, are sick or can't update; the machine leaves them by itself."""

from __future__ import annotations

import json

import pytest

from tests.e2e.images import Repository
from tests.e2e.node import Node
from tests.e2e.promises import assert_left, roots, times

# A machine starts four times here, each time to a hang of its own length.
_FOUR_BOOTS = 1500.0
_DEADLINE = 75
_SHORT_DEADLINE = f"""\
[Timer]
OnBootSec=
OnBootSec={_DEADLINE}s
"""


@pytest.mark.timeout(2 * _FOUR_BOOTS)
def test_a_kernel_that_panics_uses_up_its_tries_and_the_old_slot_is_back_and_tells_why(
    node: Node, repository: Repository
) -> None:
    old = node.slot_digest("a")
    repository.release("1.1.0", "panics")

    node.check()
    assert node.wait_for_reboot(_FOUR_BOOTS) == "a"
    assert times(node, "e2e: it panics") == 3
    assert roots(node) == ["a", "a"]
    assert_left(node, "1.1.0", "^slot b did not come up on trial(: the kernel panicked.*)?$", untouched=old)


@pytest.mark.ci("grub")
def test_a_release_whose_required_service_fails_is_rejected_at_its_first_boot_and_left(
    node: Node, repository: Repository
) -> None:
    old = node.slot_digest("a")
    repository.release("1.1.0", "sick")

    node.check()
    node.wait_fallen_back("1.1.0")
    assert roots(node) == ["a", "b", "a"]
    assert_left(node, "1.1.0", r"web-unit.*nginx\.service is (failed|activating)", untouched=old)
    # What a person wants to see of it was kept.
    assert "nginx" in node.read("/var/lib/updated/health/failed-boot/journal.txt")


@pytest.mark.timeout(2 * _FOUR_BOOTS)
def test_a_boot_that_reaches_nothing_is_ended_by_its_deadline_until_the_old_slot_is_back(
    node: Node, repository: Repository
) -> None:
    node.configure(deadline=_DEADLINE)
    node.write("/etc/systemd/system/updated-deadline.timer.d/override.conf", _SHORT_DEADLINE)
    old = node.slot_digest("a")
    repository.release("1.1.0", "hangs")

    node.check()
    assert node.wait_for_reboot(_FOUR_BOOTS) == "a"
    assert times(node, "e2e: this release hangs") == 3
    assert roots(node) == ["a", "b", "b", "b", "a"]
    reason = f"no verdict {_DEADLINE} seconds after the start"
    assert_left(node, "1.1.0", f"^slot b did not come up on trial: {reason}$", untouched=old)
    about = json.loads(node.read("/var/lib/updated/health/failed-boot/about.json"))
    assert (about["slot"], about["version"]) == ("b", "1.1.0")
    assert about["reason"].endswith(reason)


@pytest.mark.timeout(2 * _FOUR_BOOTS)
def test_a_system_that_freezes_is_reset_by_the_watchdog_until_the_old_slot_is_back(
    node: Node, repository: Repository
) -> None:
    old = node.slot_digest("a")
    repository.release("1.1.0", "freezes")

    node.check()
    assert node.wait_for_reboot(_FOUR_BOOTS) == "a"
    assert times(node, "e2e: PID 1 freezes") == 3
    assert roots(node) == ["a", "b", "b", "b", "a"]
    told = "^slot b did not come up on trial(: the watchdog says that it reset the machine)?$"
    assert_left(node, "1.1.0", told, untouched=old)


def test_a_release_in_which_the_updater_itself_is_broken_is_rejected_at_its_first_boot_and_left(
    node: Node, repository: Repository
) -> None:
    old = node.slot_digest("a")
    repository.release("1.1.0", "without-packages")

    node.check()
    node.wait_fallen_back("1.1.0")
    assert roots(node) == ["a", "b", "a"]
    assert_left(node, "1.1.0", "required check updated-loads failed", untouched=old)


def test_a_broken_updater_is_noticed_in_probation_too_and_the_release_left(node: Node, repository: Repository) -> None:
    node.write("/etc/updated/health.d/required.d/updated-loads.toml", "")
    # Nothing but the probation notices: long enough for a service that starts again each 10 seconds to be a loop.
    node.configure(probation=150)
    old = node.slot_digest("a")
    repository.release("1.1.0", "without-packages")

    node.check()
    node.wait_fallen_back("1.1.0")
    assert roots(node) == ["a", "b", "a"]
    assert_left(node, "1.1.0", r"updated\.service was restarted \d+ times", untouched=old)
