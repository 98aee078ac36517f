"""What a release must pass before it may be written, and again before it may boot, whatever the downloader says."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from tests.trust.world import NOW, STABLE, World
from updated.core.errors import UpdatedError
from updated.core.release import Blob, Channel, ChannelEntry, Component, Recall, Release, release_target
from updated.core.state import Target
from updated.core.version import Version
from updated.task import Task
from updated.verified import check_target, withdrawn

PART = Component(100, "ab" * 32, Blob("cd" * 32, 10), Blob("ef" * 32, 50))
RELEASE = Release(Version("1.2.0"), "box", NOW, {"rootfs": PART})
MANIFEST = hashlib.sha256(RELEASE.format()).hexdigest()
ENTRY = ChannelEntry(Version("1.2.0"), MANIFEST)
TASK = Task(
    store="", export="", root_of_trust="", system_time=NOW, built=0, channel="stable", running="1.0.0", confirmed=True,
    compatible="box", sizes={"rootfs": 100}, target=Target("1.2.0", MANIFEST, "b"),
)


def ship(world: World, *entries: ChannelEntry, release: Release = RELEASE) -> None:
    world.repository.set_target(release_target(release.version.text), release.format())
    world.repository.set_target(STABLE, Channel("stable", entries).format())
    world.repository.publish()


def judged(world: World, task: Task = TASK) -> Release:
    assert task.target is not None
    with world.cycle() as trust:
        return check_target(trust, task, task.target)


def refused(world: World, task: Task = TASK) -> UpdatedError:
    with pytest.raises(UpdatedError) as caught:
        judged(world, task)
    return caught.value


def test_what_the_channel_ships_and_the_machine_can_hold_passes(world: World) -> None:
    ship(world, ENTRY)
    assert judged(world) == RELEASE


@pytest.mark.parametrize("sizes", [{}, {"rootfs": 100, "kernel": 100}, {"kernel": 100}])
def test_a_component_on_one_side_alone_is_refused(world: World, sizes: dict[str, int]) -> None:
    ship(world, ENTRY)
    error = refused(world, replace(TASK, sizes=sizes))
    assert error.code == "incompatible"
    assert "has the components rootfs, and the slots have" in error.cause


@pytest.mark.parametrize("denied", [("1.2.0",), ("1.2",), (MANIFEST,)])
def test_a_release_that_failed_here_is_refused(world: World, denied: tuple[str, ...]) -> None:
    ship(world, ENTRY)
    assert refused(world, replace(TASK, denied=denied)).code == "denied"


def test_a_barrier_can_not_be_passed_over(world: World) -> None:
    ship(world, ChannelEntry(Version("1.1.0"), "11" * 32, barrier=True), ENTRY)
    assert "can only be reached through 1.1.0" in refused(world).cause


def test_the_lowest_version_to_come_from_holds(world: World) -> None:
    ship(world, replace(ENTRY, minimum=Version("1.1.0")))
    assert "can only be reached from 1.1.0 on" in refused(world).cause


def test_a_release_that_is_the_end_of_its_line_is_not_left(world: World) -> None:
    ship(world, ChannelEntry(Version("1.0.0"), "00" * 32, deadend="install 2.0 anew"), ENTRY)
    assert "end of its line: install 2.0 anew" in refused(world).cause


@pytest.mark.parametrize(
    "entry",
    [replace(ENTRY, manifest="22" * 32), replace(ENTRY, recalled=Recall("it eats data"))],
    ids=["other", "recalled"],
)
def test_what_the_channel_does_not_ship_any_more_is_refused_and_told(world: World, entry: ChannelEntry) -> None:
    ship(world, entry)
    assert refused(world).code == "no-such-target"
    with world.cycle() as trust:
        assert withdrawn(trust, TASK) in ("it is not in channel stable any more", "it was recalled: it eats data")


def test_what_the_channel_ships_is_not_withdrawn(world: World) -> None:
    ship(world, ENTRY)
    with world.cycle() as trust:
        assert withdrawn(trust, TASK) is None
        assert withdrawn(trust, replace(TASK, target=None)) is None


def test_a_release_below_what_ran_here_is_refused(world: World) -> None:
    ship(world, ENTRY)
    with world.cycle() as trust:
        trust.raise_release_floor("1.3.0")
        with pytest.raises(UpdatedError) as caught:
            check_target(trust, TASK, Target("1.2.0", MANIFEST, "b"))
    assert caught.value.code == "release-too-old"
