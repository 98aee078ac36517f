"""Arbitrary software installation: whoever holds the mirror or the line, and no key, installs nothing of his own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.signing import touch
from tests.attack.world import Workshop, World, blobs_of
from tests.attack.world import world as make_world
from tests.fakes.repository import RepositorySimulator

ROLES = ("snapshot", "targets", "stable", "releases")


@pytest.fixture(scope="module")
def thief_and_world(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RepositorySimulator, World]]:
    """The publisher ships 1.1.0; without a key of his, somebody has a repository of the same versions with another."""
    with make_world(workshop, tmp_path_factory.mktemp("arbitrary")) as made:
        thief = made.thief()
        touch(made.publisher, *ROLES)
        made.ship("1.0.0", "1.1.0")
        made.forge(thief)
        touch(thief, *ROLES)
        thief.publish()
        yield thief, made


@pytest.fixture
def thief(thief_and_world: tuple[RepositorySimulator, World]) -> RepositorySimulator:
    return thief_and_world[0]


@pytest.fixture
def shared(thief_and_world: tuple[RepositorySimulator, World]) -> World:
    """One node for all that is refused, which has no manifest and no index at hand."""
    made = thief_and_world[1]
    made.end_attack()
    for name in ("store/targets", "indexes"):
        shutil.rmtree(made.node.machine.state / "fetch" / name, ignore_errors=True)
    return made


def test_a_repository_of_somebody_else_is_refused(shared: World, thief: RepositorySimulator) -> None:
    shared.mirror.shows(thief)
    shared.node.refuses_untouched("metadata-invalid", "metadata/timestamp.json: does not verify")


def test_a_repository_of_somebody_else_with_a_root_of_his_own_is_refused(
    shared: World, thief: RepositorySimulator
) -> None:
    shared.mirror.shows(thief)
    own = thief._root()
    own.version = 2
    shared.mirror.replace("metadata/2.root.json", thief.sign("root", own))
    shared.node.refuses_untouched("metadata-invalid", "metadata/2.root.json: does not verify")


@pytest.mark.parametrize("role", ROLES)
def test_metadata_that_the_timestamp_does_not_vouch_for_is_refused(
    shared: World, thief: RepositorySimulator, role: str
) -> None:
    name = shared.publisher.metadata_name(role)
    assert name == thief.metadata_name(role)
    shared.mirror.replace(name, Path(thief.directory, name).read_bytes())
    shared.node.refuses_untouched("metadata-invalid", f"{name}: does not verify")


@pytest.mark.parametrize("target", ["channels/stable.json", "releases/1.1.0.json"])
def test_a_manifest_that_nobody_signed_is_refused(shared: World, thief: RepositorySimulator, target: str) -> None:
    role = thief.role_of(target)
    shared.mirror.replace(shared.publisher.target_name(role, target), thief.contents[role][target])
    shared.node.refuses_untouched("wrong-digest", f"the target {target}: differs from what was signed")


@pytest.mark.parametrize("parts", ["index", "blob", "index and blob"])
def test_another_image_under_the_name_of_the_signed_one_never_boots(shared: World, parts: str) -> None:
    genuine = blobs_of(shared.workshop.manifest("1.1.0"))
    forged = blobs_of(shared.workshop.forged_manifest("1.1.0"))
    for part, name, other in zip(("index", "blob"), genuine, forged, strict=True):
        if part in parts:
            shared.mirror.replace(name, shared.workshop.blob(other) or b"")
    words = "what was downloaded for byte 0"
    if parts != "blob":
        words = f"the chunk index of 1.1.0, {genuine[0]}: differs from its signed digest"
    shared.node.refuses("wrong-digest", words)
    assert not shared.workshop.forged_parts_in(shared.node.slot("b"))


def test_an_image_with_one_other_bit_never_boots(shared: World) -> None:
    """It unpacks as the true one does."""
    name = blobs_of(shared.workshop.manifest("1.1.0"))[1]
    data = bytearray(shared.workshop.blob(name) or b"")
    data[-20_000] ^= 1
    shared.mirror.replace(name, bytes(data))
    shared.node.refuses("wrong-digest", "what was downloaded for byte", "differs from its signed digest")


def test_the_next_boot_is_the_old_system(shared: World) -> None:
    assert shared.node.reboot() == "a"


def test_when_the_attack_ends_the_update_goes_on(shared: World) -> None:
    """This gives the refusals above their meaning."""
    shared.node.updates()
    assert shared.node.reboot() == "b"
    shared.node.cycle()
    assert shared.node.bench.status()["running"] == {"slot": "b", "version": "1.1.0", "confirmed": True}
