"""A poll that brings nothing new reads one file; whatever is in doubt, the whole workflow is gone through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.trust.world import DAY, NOW, STABLE, World
from updated import record
from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource

HOUR = 3600
TIMESTAMP = "metadata/timestamp.json"
NEXT_ROOT = "metadata/2.root.json"
RELEASE = "releases/1.0.0.json"


class Counted(DirectorySource):
    """The repository of a world, and the names that were read from it."""

    def __init__(self, world: World) -> None:
        super().__init__(world.repository.directory)
        self.names: list[str] = []

    def read(self, name: str, most: int) -> bytes:
        self.names.append(name)
        return super().read(name, most)


def poll(world: World, at: float = NOW, *, expected: bytes = b"stable, first") -> list[str]:
    """One poll of the node: the names that it read."""
    source = Counted(world)
    with world.cycle(system=at, source=source, root_once_a_day=True) as trust:
        assert trust.target(STABLE, 100) == expected
        trust.forget_other_targets()
    return source.names


def refused(world: World, at: float) -> tuple[str, list[str]]:
    """The error of a poll, and the names that it read."""
    source = Counted(world)
    with pytest.raises(UpdatedError) as caught, world.cycle(system=at, source=source, root_once_a_day=True) as trust:
        trust.target(STABLE, 100)
    return caught.value.code, source.names


def publish_root_alone(world: World) -> None:
    """Publishes what changed, and puts all but the root back."""
    before = world.repository.saved()
    world.repository.publish()
    root = world.repository.metadata_name("root").removeprefix("metadata/")
    world.repository.restore(before | {root: world.repository.saved()[root]})


def root_version(world: World, at: float) -> int:
    with world.cycle(system=at, root_once_a_day=True) as trust:
        return trust.versions()["root"]


# ---------------------------------------------------------------------------------------------------- nothing is new


def test_no_news_is_one_read(world: World) -> None:
    assert poll(world)[:2] == [NEXT_ROOT, TIMESTAMP]
    for hour in (0, 1, 2, 23):
        assert poll(world, NOW + hour * HOUR) == [TIMESTAMP]


def test_a_poll_over_the_cache_gives_what_the_whole_one_gave(world: World) -> None:
    with world.cycle(root_once_a_day=True) as trust:
        trust.target(STABLE, 100)
        first = (trust.versions(), trust.expiries())
    with world.cycle(system=NOW + HOUR, root_once_a_day=True) as trust:
        trust.target(STABLE, 100)
        assert (trust.versions(), trust.expiries()) == first


def test_the_same_timestamp_costs_no_metadata_even_in_the_whole_workflow(world: World) -> None:
    poll(world)
    source = Counted(world)
    with world.cycle(source=source) as trust:
        trust.target(STABLE, 100)
        trust.target(RELEASE, 100)
    metadata = [name for name in source.names if name.startswith("metadata/")]
    assert metadata == [NEXT_ROOT, TIMESTAMP, "metadata/1.releases.json"]


def test_only_who_asks_for_it_leaves_the_root_out(world: World) -> None:
    poll(world)
    source = Counted(world)
    with world.cycle(source=source):
        pass
    assert source.names == [NEXT_ROOT, TIMESTAMP]


def test_news_are_taken_at_once(world: World) -> None:
    poll(world)
    world.change()
    names = poll(world, NOW + HOUR, expected=b"stable, changed")
    assert names[:3] == [TIMESTAMP, NEXT_ROOT, TIMESTAMP]
    assert poll(world, NOW + HOUR, expected=b"stable, changed") == [TIMESTAMP]


def test_a_new_root_is_asked_for_once_a_day(world: World) -> None:
    asked = [hour for hour in range(0, 96, 6) if NEXT_ROOT in poll(world, NOW + hour * HOUR)]
    assert asked == [0, 24, 48, 72]


# ------------------------------------------------------------------------------------------------ what is found when


def test_a_new_root_alone_is_found_within_a_day(world: World) -> None:
    poll(world)
    world.repository.rotate_key("root")
    publish_root_alone(world)
    assert root_version(world, NOW + DAY - 1) == 1
    assert root_version(world, NOW + DAY) == 2
    assert poll(world, NOW + DAY + HOUR) == [TIMESTAMP]


def test_a_rotated_timestamp_key_is_found_with_the_next_timestamp(world: World) -> None:
    poll(world)
    world.repository.rotate_key("timestamp")
    world.change()
    assert NEXT_ROOT in poll(world, NOW + HOUR, expected=b"stable, changed")


def test_an_old_timestamp_outlives_its_key_by_a_day_at_most(world: World) -> None:
    poll(world)
    world.repository.rotate_key("timestamp")
    publish_root_alone(world)
    assert poll(world, NOW + DAY - 1) == [TIMESTAMP]
    code, names = refused(world, NOW + DAY)
    assert code == "metadata-invalid"
    assert names[0] == NEXT_ROOT
    assert refused(world, NOW + DAY + HOUR)[0] == "metadata-invalid"


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_what_expired_is_refused_after_the_whole_workflow(world: World, role: str) -> None:
    world.repository.set_expiry(role, NOW + 2 * HOUR)
    world.repository.publish()
    poll(world)
    code, names = refused(world, NOW + 3 * HOUR)
    assert code == "metadata-expired"
    assert names[0] == TIMESTAMP
    assert any(name.endswith(".root.json") for name in names)


def test_a_rollback_is_refused(world: World) -> None:
    poll(world)
    old = world.repository.saved()
    world.change()
    poll(world, NOW + HOUR, expected=b"stable, changed")
    world.repository.restore(old)
    code, names = refused(world, NOW + 2 * HOUR)
    assert code == "metadata-rolled-back"
    assert NEXT_ROOT in names


def test_a_rollback_is_refused_when_the_cache_holds_the_old_timestamp(world: World) -> None:
    poll(world)
    old, timestamp = world.repository.saved(), (world.store / "timestamp.json").read_bytes()
    world.change()
    poll(world, NOW + HOUR, expected=b"stable, changed")
    world.repository.restore(old)
    (world.store / "timestamp.json").write_bytes(timestamp)
    assert refused(world, NOW + 2 * HOUR)[0] == "metadata-rolled-back"


def test_the_same_version_in_other_bytes_is_gone_into(world: World) -> None:
    poll(world)
    published = world.published("timestamp")
    published.write_bytes(json.dumps(json.loads(published.read_bytes()), indent=3).encode())
    assert poll(world, NOW + HOUR) == [TIMESTAMP, NEXT_ROOT, TIMESTAMP]


def test_a_timestamp_that_is_not_read_is_the_error_that_it_is(world: World) -> None:
    poll(world)
    world.published("timestamp").unlink()
    assert refused(world, NOW + HOUR) == ("not-found", [TIMESTAMP])


# ------------------------------------------------------------------------------------------------------------ doubts


@pytest.mark.parametrize("damage", [b"", b"{}", None], ids=["empty", "foreign", "missing"])
@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "root-probe", "floors"])
def test_a_damaged_store_is_mended_by_the_whole_workflow(world: World, name: str, damage: bytes | None) -> None:
    poll(world)
    for path in (world.store / name, world.store / f"{name}.previous"):
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
    names = poll(world, NOW + HOUR)
    assert names[names.index(NEXT_ROOT) + 1] == TIMESTAMP
    assert poll(world, NOW + HOUR) == [TIMESTAMP]


def test_a_lost_root_is_fetched_again(world: World) -> None:
    world.repository.rotate_key("timestamp")
    world.repository.publish()
    poll(world)
    (world.store / "root_history/2.root.json").unlink()
    names = poll(world, NOW + HOUR)
    assert names == [TIMESTAMP, NEXT_ROOT, "metadata/3.root.json", TIMESTAMP]


def test_a_lost_delegated_role_is_fetched_again(world: World) -> None:
    poll(world)
    (world.store / "stable.json").write_bytes(b"{}")
    assert poll(world, NOW + HOUR) == [TIMESTAMP, "metadata/1.stable.json"]


def test_a_clock_that_was_set_back_is_not_relied_upon(world: World) -> None:
    poll(world, NOW + 2 * HOUR)
    for _ in range(2):
        assert poll(world, NOW + HOUR) == [NEXT_ROOT, TIMESTAMP]
    assert poll(world, NOW + 3 * HOUR) == [TIMESTAMP]


def test_a_clock_before_the_build_is_not_relied_upon(world: World) -> None:
    for _ in range(2):
        assert poll(world, 60.0)[:2] == [NEXT_ROOT, TIMESTAMP]


def test_a_probe_from_the_future_is_not_relied_upon(world: World) -> None:
    poll(world)
    record.write(str(world.store / "root-probe"), {"schema": 1, "probed": format_time(NOW + 2 * DAY)})
    assert poll(world, NOW + HOUR) == [NEXT_ROOT, TIMESTAMP]


@pytest.mark.parametrize(
    "content", [{"schema": 2}, {"schema": 1}, {"schema": 1, "probed": format_time(NOW), "more": 1}]
)
def test_a_probe_of_a_foreign_schema_is_not_relied_upon(world: World, content: dict[str, object]) -> None:
    poll(world)
    record.write(str(world.store / "root-probe"), content)
    assert poll(world, NOW + HOUR) == [NEXT_ROOT, TIMESTAMP]


def test_a_probe_within_a_cycle_that_failed_does_not_count(world: World) -> None:
    poll(world)
    timestamp = world.published("timestamp")
    data = timestamp.read_bytes()
    timestamp.unlink()
    assert refused(world, NOW + DAY) == ("not-found", [NEXT_ROOT, TIMESTAMP])
    timestamp.write_bytes(data)
    assert poll(world, NOW + DAY) == [NEXT_ROOT, TIMESTAMP]


def test_floors_of_a_store_from_before_probes_were_recorded_hold(world: World) -> None:
    poll(world)
    for path in world.store.glob("root-probe*"):
        path.unlink()
    with world.unrefreshed() as trust:
        assert trust.notes == []
    assert poll(world, NOW + HOUR) == [NEXT_ROOT, TIMESTAMP]


# ----------------------------------------------------------------------------------------------------------- targets


def cached(world: World) -> set[str]:
    return {path.name for path in (world.store / "targets").iterdir()}


def digest(world: World, role: str, path: str) -> str:
    return Path(world.repository.target_name(role, path)).name.partition(".")[0]


@pytest.mark.parametrize("change", [b"stable, FIRST", b"stable", b"", b"stable, first and more", None])
def test_a_cached_target_that_was_altered_is_fetched_again(world: World, change: bytes | None) -> None:
    poll(world)
    path = world.store / "targets" / digest(world, "stable", STABLE)
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change)
    fetched = [TIMESTAMP, world.repository.target_name("stable", STABLE)]
    assert poll(world, NOW + HOUR) == fetched
    assert poll(world, NOW + HOUR) == [TIMESTAMP]


def test_what_is_no_file_in_the_place_of_a_cached_target_costs_a_download_only(world: World) -> None:
    poll(world)
    path = world.store / "targets" / digest(world, "stable", STABLE)
    path.unlink()
    path.mkdir()
    for _ in range(2):
        assert poll(world, NOW + HOUR) == [TIMESTAMP, world.repository.target_name("stable", STABLE)]


def test_an_empty_target_is_cached_too(world: World) -> None:
    world.change(b"")
    poll(world, expected=b"")
    assert poll(world, expected=b"") == [TIMESTAMP]


def test_a_target_is_read_once_in_a_cycle_even_without_a_cache(world: World) -> None:
    world.store.mkdir()
    (world.store / "targets").write_bytes(b"a file where the folder should be")
    source = Counted(world)
    with world.cycle(source=source) as trust:
        for _ in range(2):
            assert trust.target(STABLE, 100) == b"stable, first"
    assert source.names.count(world.repository.target_name("stable", STABLE)) == 1


def test_a_cached_target_that_the_metadata_replaced_is_not_used(world: World) -> None:
    poll(world)
    world.change(b"stable, second")
    poll(world, expected=b"stable, second")
    assert cached(world) == {digest(world, "stable", STABLE)}


def test_what_a_poll_does_not_ask_for_is_removed(world: World) -> None:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
        trust.target(RELEASE, 100)
    (world.store / "targets/.half.17.tmp").write_bytes(b"ha")
    assert {digest(world, "stable", STABLE), digest(world, "releases", RELEASE)} < cached(world)
    poll(world)
    assert cached(world) == {digest(world, "stable", STABLE)}


def test_an_export_has_targets_that_came_from_the_cache(world: World) -> None:
    poll(world)
    source = Counted(world)
    with world.cycle(source=source) as trust:
        trust.target(STABLE, 100)
        trust.export(str(world.folder / "export"))
    assert source.names == [NEXT_ROOT, TIMESTAMP]
    shutil.rmtree(world.repository.directory)
    with world.cycle(source=DirectorySource(str(world.folder / "export")), store="second") as trust:
        assert trust.target(STABLE, 100) == b"stable, first"
