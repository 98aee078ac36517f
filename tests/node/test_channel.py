"""What a channel says reaches the slots: a recall with a replacement, the version floor, and a rollout that rests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.bench import IMAGE_SIZE, WAITING, Bench, bench


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    """A node that runs 1.0.0."""
    with bench(tmp_path) as made:
        yield made


def channel(node: Bench, verb: str, version: str, *options: str) -> None:
    """A verb of releasectl about a release in stable."""
    place = ("--keys", str(node.publisher.keys), "--channel", "stable", "--version", version)
    node.publisher.call(verb, str(node.repository), *place, *options)


def recall(node: Bench, version: str, *options: str) -> None:
    channel(node, "recall", version, "--reason", "it burns", *options)


def allow_downgrade(node: Bench) -> None:
    node.machine.write_config(node.machine.config.replace("[updates]\n", "[updates]\nallow_downgrade = true\n"))


def confirmed(node: Bench, version: str, slot: str) -> None:
    """Stages `version` and boots it; health confirms it, and the node has seen that."""
    assert f"{version} is staged and boots next" in node.once()
    assert node.machine.power_on() == slot
    node.once()
    assert node.status()["running"] == {"slot": slot, "version": version, "confirmed": True}


def reasons(node: Bench) -> list[str]:
    return [reason["code"] for reason in node.status()["reasons"]]


def test_a_recalled_release_is_left_for_its_replacement_and_what_follows_is_taken(node: Bench) -> None:
    allow_downgrade(node)
    node.ship("1.1.0")
    confirmed(node, "1.1.0", "b")
    recall(node, "1.1.0", "--replacement", "1.0.0")
    confirmed(node, "1.0.0", "a")
    node.once()
    assert reasons(node) == ["recalled"]
    # Newer than what runs, and below what was confirmed before.
    node.ship("1.0.1")
    confirmed(node, "1.0.1", "b")
    node.ship("1.2.0")
    confirmed(node, "1.2.0", "a")
    assert reasons(node) == ["up-to-date"]


def test_without_permission_a_recalled_release_stays_and_says_what_replaces_it(node: Bench) -> None:
    node.ship("1.1.0")
    confirmed(node, "1.1.0", "b")
    recall(node, "1.1.0", "--replacement", "1.0.0")
    before = node.disk_content()
    text = "1.1.0 was recalled: it burns; 1.0.0 replaces it, and [updates] allow_downgrade is off"
    assert text in node.once()
    assert (reasons(node), node.disk_content()) == (["downgrade"], before)


def test_permission_that_is_taken_back_takes_a_staged_replacement_out_of_the_boot_reference(node: Bench) -> None:
    allow_downgrade(node)
    node.ship("1.1.0")
    confirmed(node, "1.1.0", "b")
    recall(node, "1.1.0", "--replacement", "1.0.0")
    assert "1.0.0 is staged and boots next" in node.once()
    node.machine.write_config(node.machine.config.replace("allow_downgrade = true\n", ""))
    node.once()
    assert node.status()["target"] is None
    assert node.machine.power_on() == "b"
    node.once()
    assert reasons(node) == ["downgrade"]


def test_a_release_that_fell_back_raises_no_floor(node: Bench) -> None:
    node.publisher.release("2.0.0", sick=True, size=IMAGE_SIZE, channels=("stable",))
    assert "2.0.0 is staged and boots next" in node.once()
    assert node.machine.power_on() == "a"
    node.ship("1.5.0")
    confirmed(node, "1.5.0", "b")


def left_2_0_0(node: Bench) -> None:
    """2.0.0 was confirmed and left for 1.0.0 by a person; then it is recalled, and 1.5.0 shipped."""
    node.ship("2.0.0")
    confirmed(node, "2.0.0", "b")
    node.machine.run("bootctl", "--root", str(node.root), "rollback")
    assert node.machine.power_on() == "a"
    recall(node, "2.0.0")
    node.ship("1.5.0")


def test_a_release_that_was_confirmed_raises_the_floor(node: Bench) -> None:
    left_2_0_0(node)
    before = node.disk_content()
    node.once()
    assert node.status()["running"]["version"] == "1.0.0"
    assert (reasons(node), node.disk_content()) == (["recalled", "below-floor"], before)


def test_what_was_confirmed_stays_the_floor_when_the_downloader_forgets_it(node: Bench) -> None:
    """It may have been taken over; and the process that seals was never asked while that release ran."""
    left_2_0_0(node)
    shutil.rmtree(node.root / "var/lib/updated/fetch")
    before = node.disk_content()
    node.once()
    assert (reasons(node), node.disk_content()) == (["recalled", "below-floor"], before)


def test_a_paused_rollout_waits_and_goes_on(node: Bench) -> None:
    node.publisher.release("1.1.0", size=IMAGE_SIZE, channels=(), patches=0)
    channel(node, "promote", "1.1.0", "--waves", "0%,100%@1h")
    channel(node, "rollout", "1.1.0", "--pause")
    before = node.disk_content()
    text = node.once(WAITING)
    assert "1.1.0 is not for this node yet: the rollout is paused at 0 % of the nodes" in text
    assert (reasons(node), node.status()["reasons"][0]["until"]) == (["wave"], None)
    channel(node, "rollout", "1.1.0", "--resume")
    assert "1.1.0 comes to this node at 20" in node.once(WAITING)
    assert node.disk_content() == before
    channel(node, "rollout", "1.1.0", "--all")
    node.updates()
