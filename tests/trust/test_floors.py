"""What was trusted once is the least that is accepted ever after, whatever becomes of the cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.world import NOW, STABLE, World
from updated import record
from updated.core.document import Object
from updated.core.errors import UpdatedError
from updated.core.floors import TOP_ROLES, Floors

KEYS = {role: frozenset({f"{role}-key"}) for role in TOP_ROLES}


def _floors(world: World) -> Floors:
    document = record.read(str(world.store / "floors"))
    assert document is not None
    return Floors.parse(document)


def _damage_floors(world: World) -> None:
    for path in world.store.glob("floors*"):
        path.write_bytes(b"updated-record 1 0000\n{}")


def _two_cycles(world: World) -> dict[str, bytes]:
    """The node trusts version 1, then 2; returns the metadata of version 1."""
    with world.cycle():
        pass
    old = world.repository.saved()
    world.change()
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    return old


def test_replayed_metadata_is_refused(world: World) -> None:
    world.repository.restore(_two_cycles(world))
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-rolled-back"
    assert "timestamp" in str(refused.value)


@pytest.mark.parametrize("damage", ["empty", "missing"])
@pytest.mark.parametrize("names", ["timestamp", "timestamp snapshot", "timestamp snapshot targets stable"])
def test_replayed_metadata_is_refused_when_the_cache_lost_it(world: World, damage: str, names: str) -> None:
    world.repository.restore(_two_cycles(world))
    for name in names.split():
        path = world.store / f"{name}.json"
        if damage == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
    for _ in range(2):
        with pytest.raises(UpdatedError) as refused, world.cycle():
            pass
        assert refused.value.code == "metadata-rolled-back"


def test_a_hidden_root_is_refused_when_the_cache_lost_it(world: World) -> None:
    world.repository.rotate_key("root")
    world.repository.publish()
    with world.cycle():
        pass
    (world.store / "root_history/2.root.json").write_bytes(b"")
    Path(world.repository.directory, "metadata/2.root.json").unlink()
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-rolled-back"
    assert "'root'" in str(refused.value)


def test_a_single_role_of_an_older_version_is_refused_when_the_cache_is_gone(world: World) -> None:
    _two_cycles(world)
    world.repository.versions["stable"] = 0
    world.change(b"an older channel, signed anew")
    for name in ("timestamp", "snapshot", "targets", "stable"):
        (world.store / f"{name}.json").unlink()
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-rolled-back"
    assert "'stable' has version 1, and version 2 was trusted" in str(refused.value).replace(":", "")


def test_after_a_refused_replay_honest_metadata_is_taken(world: World) -> None:
    old = _two_cycles(world)
    new = world.repository.saved()
    world.repository.restore(old)
    with pytest.raises(UpdatedError), world.cycle():
        pass
    world.repository.restore(new)
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, changed"


def test_damaged_floors_are_rebuilt_from_the_cache_and_said(world: World) -> None:
    old = _two_cycles(world)
    before = _floors(world)
    _damage_floors(world)
    world.repository.restore(old)
    with world.unrefreshed() as trust:
        (note,) = trust.notes
        assert "damaged" in note
        assert "taken from the cached metadata" in note
        with pytest.raises(UpdatedError) as refused:
            trust.refresh()
        assert refused.value.code == "metadata-rolled-back"
    assert (world.store / "floors.damaged").exists()
    world.change()
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, changed"
    assert _floors(world).versions["timestamp"] > before.versions["timestamp"]


def test_floors_that_cant_be_rebuilt_are_said(world: World) -> None:
    _two_cycles(world)
    _damage_floors(world)
    (world.store / "timestamp.json").write_bytes(b"")
    with world.cycle() as trust:
        (note,) = trust.notes
        assert "not whole either" in note
        assert "begins anew" in note
    with world.cycle() as trust:
        assert trust.notes == []


def test_floors_are_not_rebuilt_from_what_nobody_signed(world: World) -> None:
    _two_cycles(world)
    _damage_floors(world)
    cached = world.store / "timestamp.json"
    forged = json.loads(cached.read_bytes())
    forged["signed"]["version"] = 1_000_000
    cached.write_text(json.dumps(forged))
    with world.cycle() as trust:
        assert "not whole either" in trust.notes[0]
    assert _floors(world).versions["timestamp"] == 2


def test_rebuilt_floors_hold_even_when_the_cache_is_lost_after(world: World) -> None:
    old = _two_cycles(world)
    _damage_floors(world)
    with world.cycle():
        pass
    world.repository.restore(old)
    (world.store / "timestamp.json").unlink()
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-rolled-back"


def test_missing_floors_beside_a_cache_are_said(world: World) -> None:
    _two_cycles(world)
    for path in world.store.glob("floors*"):
        path.unlink()
    with world.cycle() as trust:
        (note,) = trust.notes
        assert "is missing" in note


def test_a_first_cycle_has_nothing_to_say(world: World) -> None:
    with world.cycle() as trust:
        assert trust.notes == []


def test_floors_of_a_foreign_schema_are_treated_as_damaged(world: World) -> None:
    _two_cycles(world)
    record.write(str(world.store / "floors"), {"schema": 2})
    with world.cycle() as trust:
        assert "knows only 1" in trust.notes[0]


def test_the_release_floor_only_rises_and_lasts(world: World) -> None:
    with world.cycle() as trust:
        floors = [trust.release_floor]
        for version in ("1.10.0", "1.9.0"):
            trust.raise_release_floor(version)
            floors.append(trust.release_floor)
        assert floors == [None, "1.10.0", "1.10.0"]
    with world.cycle() as trust:
        assert trust.release_floor == "1.10.0"


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_rotated_key_takes_back_versions_that_a_thief_ran_up(world: World, role: str) -> None:
    """TUF specification, 5.3.11: recovery from a fast-forward attack."""
    repository = world.repository
    for each in ("timestamp", "snapshot", "targets", "stable"):
        repository.versions[each] = 1_000_000
    repository._dirty |= {"targets", "stable"}
    repository.publish()
    with world.cycle() as trust:
        trust.target(STABLE, 100)

    for each in ("timestamp", "snapshot", "targets", "stable"):
        repository.versions[each] = 10
    repository.rotate_key(role)
    repository._dirty |= {"targets", "stable"}
    repository.publish()
    with world.cycle() as trust:
        assert trust.versions()["timestamp"] == 11
        assert trust.versions()["stable"] == 11
        assert trust.target(STABLE, 100) == b"stable, first"
    assert _floors(world).versions["stable"] == 11


def test_without_a_rotation_such_versions_stand(world: World) -> None:
    repository = world.repository
    repository.versions["timestamp"] = 1_000_000
    repository.publish()
    with world.cycle():
        pass
    repository.versions["timestamp"] = 10
    repository.rotate_key("root")
    repository.publish()
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-rolled-back"


def test_recovery_does_not_forget_the_root(world: World) -> None:
    world.repository.rotate_key("timestamp")
    world.repository.publish()
    with world.cycle():
        pass
    assert _floors(world).versions["root"] == 2
    floors = Floors(versions={"root": 2, "timestamp": 9}, keys={"timestamp": {"old"}})
    assert floors.recovered(KEYS).versions == {"root": 2}


def test_a_role_that_is_delegated_no_more_keeps_no_floor(world: World) -> None:
    with world.cycle():
        pass
    assert "alpha" in _floors(world).versions
    world.repository.undelegate("alpha")
    world.repository.rotate_key("snapshot")
    world.repository.publish()
    with world.cycle():
        pass
    assert "alpha" not in _floors(world).versions


def test_a_delegated_role_that_vanishes_is_refused(world: World) -> None:
    with world.cycle():
        pass
    # The delegation stays, and only the snapshot hides the role; the cache is lost, so the library can't know.
    del world.repository.contents["alpha"]
    world.repository.publish()
    for name in ("timestamp", "snapshot"):
        (world.store / f"{name}.json").unlink()
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-rolled-back"
    assert "'alpha'" in str(refused.value)


_versions = st.dictionaries(st.sampled_from([*TOP_ROLES, "stable", "beta"]), st.integers(1, 2**53), max_size=6)
_keys = st.fixed_dictionaries({role: st.frozensets(st.text(min_size=1, max_size=8), max_size=3) for role in TOP_ROLES})
_all_floors = st.builds(
    Floors,
    versions=_versions,
    keys=_keys,
    time=st.integers(0, 253_402_300_799),
    release=st.none() | st.just("1.2.3"),
)


@given(_all_floors)
def test_floors_are_read_as_they_were_written(floors: Floors) -> None:
    assert Floors.parse(Object(json.loads(json.dumps(floors.format())), "")) == floors


@given(_all_floors, _versions, st.integers(0, 2**33))
def test_raising_never_lowers_anything(floors: Floors, seen: dict[str, int], time: int) -> None:
    delegated = frozenset({"stable", "beta"})
    if any(seen.get(role, 0) < version for role, version in floors.versions.items()):
        with pytest.raises(UpdatedError) as refused:
            floors.raised(seen, delegated=delegated, keys=KEYS, time=time)
        assert refused.value.code == "metadata-rolled-back"
        return
    raised = floors.raised(seen, delegated=delegated, keys=KEYS, time=time)
    assert all(raised.versions[role] >= version for role, version in floors.versions.items())
    assert raised.time == max(floors.time, time)
    assert raised.release == floors.release
    assert raised.raised(seen, delegated=delegated, keys=KEYS, time=time) == raised


def test_now_is_in_range_of_a_record() -> None:
    assert Floors(time=NOW).format()["time"] == "2027-01-15T08:00:00Z"
