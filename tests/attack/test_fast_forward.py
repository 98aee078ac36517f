"""Fast-forward: versions that a thief ran up block honest ones, which is told, and only until his keys are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.signing import DAY, NOW, ONLINE, touch
from tests.attack.world import Workshop, World
from tests.attack.world import world as make_world
from tests.fakes.repository import RepositorySimulator

FAR = 1_000_000_000
NEWEST = "1.0.0 is the newest release of channel stable"


def run_up(world: World, thief: RepositorySimulator, *stolen: str, to: int = FAR) -> None:
    """The thief signs all that he can with a huge version."""
    for role in stolen:
        thief.versions[role] = to
    touch(thief, *(role for role in stolen if role not in ONLINE))
    if "snapshot" in stolen:
        world.attack(thief)
    else:
        world.freeze(thief)


@pytest.mark.parametrize(
    "stolen", [("timestamp",), ONLINE, (*ONLINE, "stable"), (*ONLINE, "targets")], ids=lambda stolen: "+".join(stolen)
)
def test_versions_that_a_thief_ran_up_end_with_his_keys(world: World, stolen: tuple[str, ...]) -> None:
    run_up(world, world.thief(*stolen), *stolen)
    world.node.finds_nothing(NEWEST)
    world.ship("1.0.0", "1.1.0")
    world.end_attack()
    world.node.refuses_untouched("metadata-rolled-back", "metadata/timestamp.json: has the wrong version")
    world.revoke(*stolen)
    world.node.sees("1.1.0")


@pytest.mark.parametrize("role", ONLINE)
def test_a_new_key_for_either_online_role_is_enough(world: World, role: str) -> None:
    """TUF specification, 5.3.11: cached timestamp and snapshot are forgotten together."""
    run_up(world, world.thief(*ONLINE), *ONLINE)
    world.node.finds_nothing(NEWEST)
    world.ship("1.0.0", "1.1.0")
    world.revoke(role)
    world.node.sees("1.1.0")


@pytest.mark.parametrize("known", [True, False], ids=["a node that knows the keys", "a node from the factory"])
def test_a_timestamp_that_names_a_snapshot_of_the_far_future_ends_with_its_key(
    workshop: Workshop, tmp_path: Path, *, known: bool
) -> None:
    """The library keeps such a timestamp although the cycle fails, and holds it against all honest ones."""
    with make_world(workshop, tmp_path, known=known) as world:
        thief = world.thief("timestamp")
        thief.versions["snapshot"] = FAR
        world.freeze(thief)
        world.node.refuses_untouched("not-found", f"metadata/{FAR}.snapshot.json")
        world.ship("1.0.0")
        world.ship("1.0.0", "1.1.0")
        world.end_attack()
        world.node.refuses_untouched("metadata-rolled-back", "metadata/timestamp.json")
        world.revoke("timestamp")
        world.node.sees("1.1.0")


@pytest.mark.parametrize("version", [2**53 + 1, 10**40], ids=["more than JSON is sure of", "a long number"])
def test_a_version_beyond_all_records_makes_no_node_forget_what_it_trusted(world: World, version: int) -> None:
    """The floors hold the trusted time as well: without it, a clock that is set back revives what has expired."""
    thief = world.thief("timestamp")
    run_up(world, thief, "timestamp", to=version)
    for _ in range(2):
        assert world.node.cycle()["notes"] == []
    run_up(world, thief, "timestamp", to=version + 1)
    stale = NOW - 10 * DAY
    world.freeze(thief, at=stale)
    world.node.refuses_untouched("metadata-expired", "the last trusted time", at=stale)
