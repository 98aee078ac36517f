"""Rollback: no signed file that is older than what the node trusted counts again, and no older release is installed."""

from __future__ import annotations

from tests.attack.signing import ONLINE, ship
from tests.attack.world import World

CHANNELS = ("stable", *ONLINE)


def test_an_older_repository_is_refused_whatever_was_lost(world: World) -> None:
    """The cache of metadata or the record of floors: each is enough."""
    older = world.thief()
    world.ship("1.0.0")
    world.node.finds_nothing()
    for lost in ("nothing", "*.json", "floors*"):
        kept = {path: path.read_bytes() for path in (world.node.machine.state / "fetch/store").glob(lost)}
        for path in kept:
            path.unlink()
        world.mirror.shows(older)
        world.node.refuses_untouched("metadata-rolled-back", "replays old metadata: compare it with the publisher's")
        for path, data in kept.items():
            path.write_bytes(data)
    world.ship("1.0.0", "1.1.0")
    world.end_attack()
    world.node.sees("1.1.0")


def test_a_channel_that_ships_only_older_releases_changes_nothing(world: World) -> None:
    """With the keys of the channel: a genuine release is as genuine as ever, and not newer than what runs."""
    world.ship("1.0.0", "1.1.0")
    world.node.updates("1.1.0")
    assert world.node.reboot() == "b"
    world.node.cycle()
    thief = world.thief(*CHANNELS)
    ship(thief, "stable", world.entry("1.0.0"))
    world.attack(thief)
    world.node.finds_nothing("1.1.0 is newer than all of channel stable (its newest is 1.0.0)")


def test_no_release_comes_back_that_is_older_than_one_that_ran(world: World) -> None:
    """A person went back to the oldest; a thief of the channel's keys ships what lies between."""
    world.ship("1.0.0", "1.2.0")
    world.node.updates("1.2.0")
    assert world.node.reboot() == "b"
    world.node.cycle()
    assert world.node.roll_back() == "a"
    thief = world.thief(*CHANNELS)
    ship(thief, "stable", world.entry("1.0.0"), world.entry("1.1.0"))
    world.attack(thief)
    document = world.node.finds_nothing()
    assert [reason["code"] for reason in document["reasons"]] == ["below-floor"]
    assert document["reasons"][0]["text"] == "1.1.0 is below 1.2.0, the lowest version that this node accepts"
