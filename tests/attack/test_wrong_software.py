"""Wrong software: a genuine file in the place of another one is not taken for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.attack.signing import ONLINE, entry, ship
from tests.attack.world import Workshop, World, blobs_of
from tests.attack.world import world as make_world
from updated.core.release import Channel, Release, channel_target, release_target
from updated.core.version import Version


@pytest.fixture(scope="module")
def shipping(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(workshop, tmp_path_factory.mktemp("wrong"), known=False) as made:
        made.ship("1.0.0", "1.1.0")
        made.ship("1.0.0", "1.2.0", channel="alpha")
        yield made


@pytest.fixture
def shared(shipping: World) -> World:
    """One node for all that is refused; it has never asked before."""
    shipping.end_attack()
    shipping.node.forget()
    return shipping


@pytest.mark.parametrize(
    ("wanted", "given"),
    [("releases/1.1.0.json", "releases/1.2.0.json"), ("channels/stable.json", "channels/alpha.json")],
)
def test_another_genuine_manifest_is_refused(shared: World, wanted: str, given: str) -> None:
    publisher = shared.publisher
    name = publisher.target_name(publisher.role_of(wanted), wanted)
    shared.mirror.replace(name, publisher.contents[publisher.role_of(given)][given])
    shared.node.refuses_untouched("wrong-digest", f"the target {wanted}")


def test_the_metadata_of_another_channel_is_refused(shared: World) -> None:
    alpha = shared.mirror.content(shared.publisher.metadata_name("alpha")) or b""
    shared.mirror.replace(shared.publisher.metadata_name("stable"), alpha)
    shared.node.refuses_untouched("metadata-invalid", "stable.json: does not verify")


@pytest.mark.parametrize("part", [0, 1], ids=["index", "blob"])
def test_the_image_of_another_genuine_release_is_refused(shared: World, part: int) -> None:
    wanted, given = (blobs_of(shared.workshop.manifest(version))[part] for version in ("1.1.0", "1.2.0"))
    shared.mirror.replace(wanted, shared.workshop.blob(given) or b"")
    shared.node.refuses("wrong-digest")


def test_what_is_right_is_installed_after_all(shared: World) -> None:
    shared.node.updates()


def test_a_release_for_other_machines_is_refused(world: World) -> None:
    world.ship("1.0.0", "1.3.0")
    world.node.refuses_untouched(
        "incompatible", "release 1.3.0", "is made for 'toaster', and this machine is 'test-machine'"
    )


def test_the_key_of_a_channel_gives_no_release_the_name_of_another(world: World) -> None:
    """The channel says 1.1.0 and pins 1.2.0; or it says 7.0.0, which nobody built."""
    thief = world.thief("stable", *ONLINE)
    ship(thief, "stable", entry("1.1.0", world.workshop.manifest("1.2.0")))
    world.attack(thief)
    world.node.refuses_untouched("wrong-digest", "the manifest of release 1.1.0: is not the one that the channel pins")
    ship(thief, "stable", entry("7.0.0", world.workshop.manifest("1.2.0")))
    world.attack(thief)
    world.node.refuses_untouched("no-such-target", "the target releases/7.0.0.json: is not in the signed metadata")


def test_the_key_of_a_channel_makes_no_other_channel_of_it(world: World) -> None:
    thief = world.thief("stable", *ONLINE)
    other = Channel("alpha", (world.entry("1.2.0"),)).format()
    thief.set_target(channel_target("stable"), other)
    world.attack(thief)
    world.node.refuses_untouched("manifest-invalid", "says that it is of channel alpha")


def test_even_both_keys_give_no_release_the_name_of_another(world: World) -> None:
    """What is told about a node, and held against it by its floor, is what it runs."""
    thief = world.thief("releases", "stable", *ONLINE)
    thief.set_target(release_target("1.1.0"), world.workshop.manifest("1.2.0"))
    ship(thief, "stable", entry("1.1.0", world.workshop.manifest("1.2.0")))
    world.attack(thief)
    world.node.refuses_untouched("manifest-invalid", "the manifest of release 1.1.0: says that it is 1.2.0")


def test_an_image_that_its_index_does_not_make_is_not_booted(world: World) -> None:
    """Even with both keys: what is not the image that the manifest signs stays a slot that can't boot."""
    thief = world.thief("releases", "stable", *ONLINE)
    genuine = Release.parse(world.workshop.manifest("1.1.0"))
    part = replace(genuine.components["rootfs"], sha256="ab" * 32)
    manifest = replace(genuine, version=Version("1.1.1"), components={"rootfs": part}).format()
    thief.set_target(release_target("1.1.1"), manifest)
    ship(thief, "stable", entry("1.1.1", manifest))
    world.attack(thief)
    world.node.refuses("slot-differs", "component rootfs in slot b", "where abababababababab… is signed")
