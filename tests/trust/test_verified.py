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
from updated.region import Room
from updated.task import Task
from updated.verified import check_target, choose_release, withdrawn

PART = Component(100, "ab" * 32, Blob("cd" * 32, 10), Blob("ef" * 32, 50))
RELEASE = Release(Version("1.2.0"), "box", NOW, {"rootfs": PART})
MANIFEST = hashlib.sha256(RELEASE.format()).hexdigest()
ENTRY = ChannelEntry(Version("1.2.0"), MANIFEST)
TASK = Task(
    store="", export="", root_of_trust="", system_time=NOW, built=0, channel="stable", running="1.0.0", floor="1.0.0",
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


def test_files_that_share_a_file_system_must_fit_together(world: World) -> None:
    two = replace(RELEASE, components={"kernel": PART, "initrd": PART})
    entry = replace(ENTRY, manifest=hashlib.sha256(two.format()).hexdigest())
    ship(world, entry, release=two)
    target = Target("1.2.0", entry.manifest, "b")
    task = replace(TASK, target=target, sizes={"kernel": 199, "initrd": 199}, rooms=(Room(("kernel", "initrd"), 199),))
    error = refused(world, task)
    assert (error.code, error.what) == ("image-too-large", "components initrd, kernel of release 1.2.0")
    assert error.cause == "have 200 bytes together, and the file system of their files holds 199"
    assert judged(world, replace(task, rooms=(Room(("kernel", "initrd"), 200),))) == two
    assert judged(world, replace(task, rooms=(Room(("kernel",), 100), Room(("initrd",), 100)))) == two


@pytest.mark.parametrize("denied", [("1.2.0",), ("1.2",), (MANIFEST,)])
def test_a_release_that_failed_here_is_refused(world: World, denied: tuple[str, ...]) -> None:
    ship(world, ENTRY)
    assert refused(world, replace(TASK, denied=dict.fromkeys(denied, "1.2.0 failed here: web"))).code == "denied"


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


# -------------------------------------------------------------------------------------- recalled, with a replacement

RECALLED = ChannelEntry(Version("1.5.0"), "55" * 32, recalled=Recall("it burns", Version("1.2.0")))
BETWEEN = ChannelEntry(Version("1.3.0"), "33" * 32)
BACK = replace(TASK, running="1.5.0", allow_downgrade=True)


def confirmed_before(world: World, version: str) -> None:
    with world.cycle() as trust:
        trust.raise_release_floor(version)


def test_the_replacement_of_what_runs_passes_where_that_is_allowed(world: World) -> None:
    ship(world, ENTRY, RECALLED)
    confirmed_before(world, "1.5.0")
    assert judged(world, BACK) == RELEASE
    with world.cycle() as trust:
        assert choose_release(trust, BACK).entry == ENTRY
        assert withdrawn(trust, BACK) is None


def test_the_replacement_is_refused_without_permission_and_is_withdrawn_with_it(world: World) -> None:
    ship(world, ENTRY, RECALLED)
    confirmed_before(world, "1.5.0")
    kept = replace(BACK, allow_downgrade=False)
    error = refused(world, kept)
    assert (error.code, error.cause) == ("release-too-old", "is below 1.5.0, the lowest that this node accepts")
    with world.cycle() as trust:
        assert choose_release(trust, kept).entry is None
        assert withdrawn(trust, kept) == "it is older than 1.5.0, and [updates] allow_downgrade is off"


def test_permission_is_for_the_replacement_alone(world: World) -> None:
    ship(world, ENTRY, BETWEEN, RECALLED)
    confirmed_before(world, "1.5.0")
    error = refused(world, replace(BACK, target=Target("1.3.0", BETWEEN.manifest, "b")))
    assert (error.code, error.cause) == ("no-such-target", "it is not newer than 1.5.0, and does not replace it")


@pytest.mark.parametrize("recalled", [None, Recall("it burns")])
def test_permission_alone_lets_no_node_go_back(world: World, recalled: Recall | None) -> None:
    ship(world, ENTRY, replace(RECALLED, recalled=recalled))
    confirmed_before(world, "1.5.0")
    assert refused(world, BACK).code == "release-too-old"


def test_a_floor_that_was_not_recalled_stands_also_with_permission(world: World) -> None:
    ship(world, ENTRY, RECALLED)
    confirmed_before(world, "1.6.0")
    assert refused(world, BACK).code == "release-too-old"


def test_after_the_way_back_what_is_newer_passes_below_the_recalled_release(world: World) -> None:
    recalled = replace(RECALLED, recalled=Recall("it burns", Version("1.1.0")))
    ship(world, ChannelEntry(Version("1.1.0"), "11" * 32), ENTRY, recalled)
    confirmed_before(world, "1.5.0")
    after = replace(TASK, running="1.1.0", allow_downgrade=True)
    assert judged(world, after) == RELEASE
    assert refused(world, replace(after, allow_downgrade=False)).code == "release-too-old"


def test_what_can_not_be_reached_any_more_is_withdrawn(world: World) -> None:
    ship(world, ChannelEntry(Version("1.1.0"), "11" * 32, barrier=True), ENTRY)
    with world.cycle() as trust:
        assert withdrawn(trust, TASK) == "it can only be reached through 1.1.0"
