"""Extraneous dependencies: nothing that a repository says makes a node fetch or install more than it needs."""

from __future__ import annotations

import json

import pytest

from tests.attack.signing import ONLINE, entry, ship
from tests.attack.world import World
from updated.core.index import IndexRoot
from updated.core.release import Release, channel_target, release_target


def test_only_what_an_update_needs_is_asked_for(world: World) -> None:
    """However much else is signed and served."""
    for number in range(50):
        world.publisher.set_target(release_target(f"5.0.{number}"), world.workshop.manifest("1.2.0"))
    world.ship("1.0.0", "1.2.0", channel="beta")
    world.ship("1.0.0", "1.1.0")
    world.mirror.asked.clear()
    world.node.updates()
    publisher = world.publisher
    needed = {publisher.metadata_name(role) for role in ("timestamp", "snapshot", "stable", "releases")}
    needed |= {publisher.target_name("stable", "channels/stable.json"), "metadata/2.root.json"}
    for version in ("1.0.0", "1.1.0"):
        needed |= {publisher.target_name("releases", f"releases/{version}.json"), *blobs_of(world, version)}
    assert set(world.mirror.asked) <= needed


def blobs_of(world: World, version: str) -> set[str]:
    """The names of all files that belong to the image of a genuine release."""
    part = Release.parse(world.workshop.manifest(version)).components["rootfs"]
    root = IndexRoot.parse(world.workshop.blob(f"blobs/{part.index.sha256}") or b"")
    return {f"blobs/{digest}" for digest in (part.index.sha256, part.blob.sha256, root.pages_sha256)}


@pytest.mark.parametrize(
    ("components", "words"),
    [({"rootfs": "rootfs", "firmware": "rootfs"}, "firmware, rootfs"), ({"firmware": "rootfs"}, "firmware")],
    ids=["one more", "another"],
)
def test_a_release_with_components_that_the_slots_do_not_have_is_refused(
    world: World, components: dict[str, str], words: str
) -> None:
    """Even with the keys of releases and channel."""
    thief = world.thief("releases", "stable", *ONLINE)
    document = json.loads(world.workshop.manifest("1.1.0"))
    document["components"] = {name: document["components"][part] for name, part in components.items()}
    manifest = json.dumps(document).encode()
    thief.set_target(release_target("1.1.0"), manifest)
    ship(thief, "stable", entry("1.1.0", manifest))
    world.attack(thief)
    world.node.refuses_untouched("incompatible", f"has the components {words}, and the slots have rootfs")


@pytest.mark.parametrize("where", ["release", "channel"])
def test_a_manifest_that_asks_for_more_is_refused(world: World, where: str) -> None:
    thief = world.thief("releases", "stable", *ONLINE)
    manifest = world.workshop.manifest("1.1.0")
    if where == "release":
        manifest = json.dumps({**json.loads(manifest), "requires": ["http://elsewhere/more.img"]}).encode()
        thief.set_target(release_target("1.1.0"), manifest)
    ship(thief, "stable", entry("1.1.0", manifest))
    if where == "channel":
        document = json.loads(thief.contents["stable"][channel_target("stable")])
        more = json.dumps({**document, "requires": ["http://elsewhere/more.img"]}).encode()
        thief.set_target(channel_target("stable"), more)
    world.attack(thief)
    world.node.refuses_untouched("manifest-invalid", f"the {where} manifest: requires is not a known key")
