"""Mix-and-match: files that are genuine each, and were never published together, are not taken together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.attack.signing import ONLINE, entry, ship, touch
from tests.attack.world import World
from updated.core.release import Release, release_target
from updated.core.version import Version

ROLES = ("snapshot", "targets", "stable", "releases")
NEWEST = "1.0.0 is the newest release of channel stable"


def test_an_older_file_under_the_name_of_the_newest_is_refused(world: World) -> None:
    """With no key: the newest state, of which one file is the one from before."""
    older = {role: world.mirror.content(world.publisher.metadata_name(role)) or b"" for role in ROLES}
    touch(world.publisher, "targets", "releases")
    world.ship("1.0.0", "1.1.0")
    for role in ROLES:
        name = world.publisher.metadata_name(role)
        world.mirror.replace(name, older[role])
        world.node.refuses_untouched("metadata-invalid", f"{name}: does not verify")
        world.end_attack()
    world.node.sees("1.1.0")


def test_the_newest_files_below_an_older_snapshot_are_refused(world: World) -> None:
    """With no key: an older timestamp, whose snapshot names files that were changed since."""
    older = world.publisher.saved()
    world.ship("1.0.0", "1.1.0")
    world.node.updates("1.1.0")
    world.ship("1.0.0", "1.1.0", "1.2.0")
    for name in ("timestamp.json", "1.snapshot.json"):
        world.mirror.replace(f"metadata/{name}", older[name])
    staged = world.node.bench.active()
    document = world.node.cycle()
    assert document["error"]["code"] == "metadata-rolled-back"
    assert world.node.bench.active() == staged


@pytest.mark.parametrize("role", ["targets", "releases", "stable"])
def test_who_signs_snapshots_lowers_no_version_that_the_node_has_seen(world: World, role: str) -> None:
    thief = world.thief(*ONLINE)
    older = world.mirror.content(world.publisher.metadata_name(role)) or b""
    touch(world.publisher, "targets", "releases")
    world.ship("1.0.0")
    world.node.finds_nothing(NEWEST)
    fresh = world.publisher.saved()
    for name, data in fresh.items():
        Path(thief.directory, "metadata", name).write_bytes(data)
    thief.versions.update(world.publisher.versions)
    thief._published.update(world.publisher._published)
    thief.versions[role], thief._published[role] = 1, older
    world.attack(thief)
    world.node.refuses_untouched("metadata-rolled-back", "metadata/3.snapshot.json: has the wrong version", role)
    world.revoke(*ONLINE)
    world.node.finds_nothing(NEWEST)


@pytest.mark.parametrize("lost", [False, True], ids=["with its cache", "whose cache of metadata is lost"])
def test_who_signs_snapshots_hides_no_role_from_a_node(world: World, *, lost: bool) -> None:
    thief = world.thief(*ONLINE)
    del thief.contents["releases"]
    world.attack(thief)
    if lost:
        for path in (world.node.machine.state / "fetch/store").glob("*.json"):
            path.unlink()
    code = "metadata-rolled-back" if lost else "metadata-invalid"
    world.node.refuses_untouched(code, "releases")


def test_a_channel_beside_the_releases_of_another_day_ships_nothing(world: World) -> None:
    """Who signs snapshots may show a node one role without the other, if it has seen neither."""
    thief = world.thief(*ONLINE)
    newer = replace(Release.parse(world.workshop.manifest("1.2.0")), version=Version("2.0.0")).format()
    world.publisher.set_target(release_target("2.0.0"), newer)
    ship(world.publisher, "stable", entry("2.0.0", newer))
    world.publisher.publish()
    thief.versions["stable"], thief._published["stable"] = 2, world.publisher._published["stable"]
    for name in ("metadata/2.stable.json", world.publisher.target_name("stable", "channels/stable.json")):
        Path(thief.directory, name).write_bytes(world.mirror.content(name) or b"")
    world.attack(thief)
    world.node.refuses_untouched("no-such-target", "releases/2.0.0.json: is not in the signed metadata")
    world.revoke(*ONLINE)
    world.node.sees("2.0.0")
