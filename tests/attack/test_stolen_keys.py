"""Key compromise: what whoever stole keys can do, and what not; alone, with others, and after they were replaced.

`packaging/doc/safety.md` tells it to people. The keys of snapshot and timestamp, without which no change is seen, are
"online"; how long they can freeze a node stands in `test_freeze`, what they can mix in `test_mix_and_match`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.signing import ONLINE, entry, ship, touch
from tests.attack.world import World
from updated.core.release import Channel, Recall, channel_target, release_target

NEWEST = "1.0.0 is the newest release of channel stable"
PINNED = "the manifest of release 1.1.0: is not the one that the channel pins"


@pytest.mark.parametrize("role", ["stable", "releases", "targets"])
def test_without_the_timestamp_nothing_that_is_signed_is_seen(world: World, role: str) -> None:
    thief = world.thief(role)
    world.forge(thief)
    touch(thief, "targets")
    world.attack(thief)
    world.node.refuses_untouched("metadata-invalid", "metadata/timestamp.json: does not verify")


# ---------------------------------------------------------------------------------------------- timestamp, snapshot


def test_the_snapshot_key_alone_puts_no_snapshot_in_the_place_of_the_newest(world: World) -> None:
    thief = world.thief("snapshot")
    world.ship("1.0.0", "1.1.0")
    thief.publish()
    name = world.publisher.metadata_name("snapshot")
    world.mirror.replace(name, Path(thief.directory, name).read_bytes())
    world.node.refuses_untouched("metadata-invalid", f"{name}: does not verify")


def test_the_timestamp_key_vouches_for_no_snapshot_of_its_own(world: World) -> None:
    thief = world.thief("timestamp")
    world.forge(thief)
    world.attack(thief)
    world.node.refuses_untouched("metadata-invalid", "2.snapshot.json: does not verify: snapshot was signed by 0/1")


def test_the_timestamp_key_brings_no_older_snapshot_back(world: World) -> None:
    thief = world.thief("timestamp")
    world.ship("1.0.0")
    world.node.finds_nothing(NEWEST)
    thief.versions["timestamp"] = 10
    world.freeze(thief)
    world.node.refuses_untouched("metadata-rolled-back", "metadata/timestamp.json: has the wrong version")


@pytest.mark.parametrize("role", ["targets", "stable", "releases"])
def test_the_online_keys_sign_nothing_for_others(world: World, role: str) -> None:
    world.ship("1.0.0", "1.1.0")
    thief = world.thief(*ONLINE)
    world.forge(thief, channel="stable" if role == "stable" else None)
    touch(thief, role)
    thief._dirty &= {role}
    world.attack(thief)
    world.node.refuses_untouched("metadata-invalid", f"{role}.json: does not verify: {role} was signed by 0/1 keys")


# ------------------------------------------------------------------------------------------------------ one channel


@pytest.mark.parametrize("role", ["alpha", "beta"])
def test_the_key_of_another_channel_ships_nothing_to_stable(world: World, role: str) -> None:
    """Not even as a target of that channel's role under the names of others."""
    thief = world.thief(role, *ONLINE)
    forged = world.forge(thief, "9.9.9", channel=None)
    del thief.contents["releases"][release_target("9.9.9")]
    thief._dirty.discard("releases")
    thief.contents[role][release_target("9.9.9")] = forged
    thief.contents[role][channel_target("stable")] = Channel("stable", (entry("9.9.9", forged),)).format()
    ship(thief, role, entry("9.9.9", forged))
    world.attack(thief)
    world.node.finds_nothing(NEWEST)


def test_the_key_of_a_channel_ships_no_forged_image_there(world: World) -> None:
    """Neither with the version of a genuine release nor with one of its own; also not as a release of its own role."""
    thief = world.thief("stable", *ONLINE)
    for version in ("1.1.0", "9.9.9"):
        forged = world.workshop.forged_manifest(version)
        thief.contents["stable"][release_target(version)] = forged
        ship(thief, "stable", entry(version, forged))
        world.attack(thief)
        code = "wrong-digest" if version == "1.1.0" else "no-such-target"
        world.node.refuses_untouched(code, PINNED if version == "1.1.0" else "releases/9.9.9.json")
    world.revoke("stable", *ONLINE)
    world.node.finds_nothing(NEWEST)


def test_the_key_of_a_channel_says_which_genuine_release_it_ships(world: World) -> None:
    """This it can: ship what nobody promoted, order nodes to leave it, and hold it back. The image is genuine."""
    thief = world.thief("stable", *ONLINE)
    ship(thief, "stable", world.entry("1.2.0"))
    world.attack(thief)
    world.node.updates("1.2.0")
    assert world.node.slot("b").startswith(world.workshop.genuine.image("1.2.0").read_bytes())
    ship(thief, "stable", world.entry("1.2.0", recalled=Recall("because I say so")))
    world.attack(thief)
    document = world.node.cycle()
    assert [reason["code"] for reason in document["reasons"]] == ["recalled"]
    assert world.node.may_boot() == {"a"}
    world.revoke("stable", *ONLINE)
    world.node.finds_nothing(NEWEST)


# --------------------------------------------------------------------------------------------------- the build key


def test_the_key_of_releases_ships_nothing(world: World) -> None:
    """The channel pins the digest of each manifest, so a release of the same version is another release."""
    world.ship("1.0.0", "1.1.0")
    thief = world.thief("releases", *ONLINE)
    world.forge(thief, "9.9.9", channel=None)
    world.forge(thief, "1.1.0", channel=None)
    world.attack(thief)
    world.node.refuses_untouched("wrong-digest", PINNED)
    world.revoke("releases", *ONLINE)
    world.node.sees("1.1.0")


def test_the_key_of_releases_spoils_no_update_through_the_manifest_of_what_runs(world: World) -> None:
    """A node copies from the slot that runs, and asks the manifest of that version where its chunks lie."""
    world.ship("1.0.0", "1.1.0")
    thief = world.thief("releases", *ONLINE)
    world.forge(thief, "1.0.0", channel=None)
    world.attack(thief)
    world.node.updates()
    assert world.node.slot("b").startswith(world.workshop.genuine.image("1.1.0").read_bytes())


# --------------------------------------------------------------------------------------------------- root, targets


def test_one_key_of_the_root_does_nothing(world: World) -> None:
    thief = world.thief("root")
    for role in ("timestamp", "snapshot", "targets", "stable", "releases"):
        thief.rotate_key(role)
    world.forge(thief)
    world.attack(thief)
    world.node.refuses_untouched("metadata-invalid", "metadata/2.root.json: does not verify: root was signed by 1/2")
    world.publisher.rotate_key("root")
    world.ship("1.0.0", "1.1.0")
    world.end_attack()
    world.node.sees("1.1.0")


def test_the_releases_and_a_channel_together_install_anything_in_that_channel_alone(world: World) -> None:
    """What it takes; and that the forged releases of all these tests would be installed if they got so far."""
    thief = world.thief("releases", "stable", *ONLINE)
    world.forge(thief)
    world.attack(thief)
    world.node.follow("alpha")
    world.node.finds_nothing("1.0.0 is the newest release of channel alpha")
    world.node.follow("stable")
    world.node.updates()
    assert world.workshop.forged_parts_in(world.node.slot("b"))


def test_the_key_of_targets_names_other_keys_until_the_root_is_renewed(world: World) -> None:
    thief = world.thief("targets", *ONLINE)
    thief.rotate_key("releases")
    thief.rotate_key("stable")
    world.forge(thief)
    world.attack(thief)
    world.node.updates()
    assert world.workshop.forged_parts_in(world.node.slot("b"))
    world.revoke("targets", *ONLINE)
    document = world.node.cycle()
    assert document["summary"].endswith(NEWEST)
    assert world.node.may_boot() == {"a"}


# ---------------------------------------------------------------------------------------------- after a revocation


@pytest.mark.parametrize("role", ["stable", "releases", "targets"])
def test_a_revoked_key_is_worthless_even_to_who_still_has_the_online_keys(world: World, role: str) -> None:
    stolen = world.publisher.keys[role]
    world.publisher.rotate_key(role)
    world.ship("1.0.0", "1.1.0")
    thief = world.thief(*ONLINE)
    thief.keys[role] = stolen
    world.forge(thief, channel="stable" if role == "stable" else None)
    touch(thief, role)
    thief._dirty &= {role}
    world.attack(thief)
    world.node.refuses_untouched("metadata-invalid", f"{role}.json: does not verify: {role} was signed by 0/1 keys")


def test_revoked_online_keys_are_worthless(world: World) -> None:
    thief = world.thief(*ONLINE, "stable")
    world.revoke(*ONLINE)
    world.node.finds_nothing(NEWEST)
    ship(thief, "stable", world.entry("1.2.0"))
    thief.versions.update(dict.fromkeys(ONLINE, 1000))
    world.attack(thief)
    world.mirror.replace("metadata/2.root.json", world.publisher.saved()["2.root.json"])
    world.node.refuses_untouched("metadata-invalid", "timestamp.json: does not verify: timestamp was signed by 0/1")


