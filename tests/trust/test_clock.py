"""No clock, right or wrong, makes expired metadata acceptable; and people learn which time was used."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.trust.world import DAY, NOW, STABLE, World
from updated.core.document import format_time
from updated.core.errors import UpdatedError

IN_1970 = 60.0
IN_2040 = datetime(2040, 1, 1, tzinfo=UTC).timestamp()


def test_a_node_without_a_clock_still_refuses_what_expired_before_it_was_built(world: World) -> None:
    with pytest.raises(UpdatedError) as refused, world.cycle(system=IN_1970, built=NOW + 31 * DAY):
        pass
    assert refused.value.code == "metadata-expired"
    assert "'timestamp'" in refused.value.what
    assert format_time(NOW + 30 * DAY) in refused.value.cause
    assert "the build time of this system" in refused.value.cause
    assert "1970-01-01" in refused.value.mend


def test_a_node_without_a_clock_still_refuses_what_expired_before_its_last_cycle(world: World) -> None:
    world.repository.set_expiry("stable", NOW + 5 * DAY)
    world.repository.publish()
    with world.cycle(system=NOW + 6 * DAY):
        pass
    with world.cycle(system=IN_1970) as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 100)
    assert refused.value.code == "metadata-expired"
    assert "'stable'" in refused.value.what
    assert "the last trusted time" in refused.value.cause
    assert format_time(NOW + 6 * DAY) in refused.value.cause


def test_a_node_without_a_clock_updates_from_a_fresh_repository(world: World) -> None:
    with world.cycle(system=IN_1970) as trust:
        assert trust.reference_time == NOW - DAY
        assert trust.target(STABLE, 100) == b"stable, first"


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_clock_far_ahead_is_named_as_the_likely_cause(world: World, role: str) -> None:
    for other in ("root", "timestamp", "snapshot", "targets"):
        world.repository.set_expiry(other, int(IN_2040) + (DAY if other != role else -DAY))
    world.repository.publish()
    with pytest.raises(UpdatedError) as refused, world.cycle(system=IN_2040):
        pass
    assert refused.value.code == "metadata-expired"
    assert role in refused.value.what
    assert "2039-12-31" in refused.value.cause
    assert "2040-01-01T00:00:00Z by the system clock" in refused.value.cause
    assert "Check the clock" in refused.value.mend


def test_a_clock_that_was_far_ahead_does_no_lasting_harm(world: World) -> None:
    with pytest.raises(UpdatedError), world.cycle(system=IN_2040):
        pass
    with world.cycle(system=NOW) as trust:
        assert trust.reference_time == NOW


def test_time_never_runs_backwards(world: World) -> None:
    with world.cycle(system=NOW + 10 * DAY):
        pass
    with world.cycle(system=NOW + DAY) as trust:
        assert trust.reference_time == NOW + 10 * DAY


def test_a_clock_beyond_the_calendar_is_no_traceback(world: World) -> None:
    with pytest.raises(UpdatedError) as refused, world.cycle(system=1e18):
        pass
    assert refused.value.code == "metadata-expired"


@pytest.mark.parametrize("absurd", [float("nan"), float("-inf"), -(2.0**62), -1.0, 0.0])
def test_a_clock_that_tells_no_time_revives_nothing(world: World, absurd: float) -> None:
    with world.cycle(system=NOW + 6 * DAY, built=0):
        pass
    with world.cycle(system=absurd, built=0) as trust:
        assert trust.reference_time == NOW + 6 * DAY
    world.repository.set_expiry("timestamp", NOW + 6 * DAY)
    world.repository.publish()
    with pytest.raises(UpdatedError) as refused, world.cycle(system=absurd, built=0):
        pass
    assert refused.value.code == "metadata-expired"
    assert "the last trusted time" in refused.value.cause


@pytest.mark.parametrize("absurd", [float("nan"), -1.0])
def test_a_clock_that_tells_no_time_lets_no_newer_root_wait(world: World, absurd: float) -> None:
    with world.cycle(root_once_a_day=True):
        pass
    world.repository.rotate_key("root")
    before = world.repository.saved()
    world.repository.publish()
    world.repository.restore(before | {"2.root.json": world.repository.saved()["2.root.json"]})
    with world.cycle(system=absurd, root_once_a_day=True) as trust:
        assert trust.versions()["root"] == 2


@pytest.mark.parametrize("absurd", [2.0**40, 1e300, float("inf")])
def test_a_clock_beyond_all_times_refuses_everything_and_is_not_remembered(world: World, absurd: float) -> None:
    for how in ({"system": absurd}, {"system": float(NOW), "built": int(min(absurd, 2.0**60))}):
        with pytest.raises(UpdatedError) as refused, world.cycle(**how):  # type: ignore[arg-type]
            pass
        assert refused.value.code == "metadata-expired"
        assert "9999-12-31" in refused.value.cause
    with world.cycle(system=NOW) as trust:
        assert trust.reference_time == NOW


def test_what_expires_at_the_very_second_is_expired(world: World) -> None:
    with world.cycle(system=NOW + 30 * DAY - 1):
        pass
    with pytest.raises(UpdatedError) as refused, world.cycle(system=NOW + 30 * DAY):
        pass
    assert refused.value.code == "metadata-expired"


def test_an_expired_intermediate_root_is_passed_through(world: World) -> None:
    world.repository.set_expiry("root", NOW - 5 * DAY)
    world.repository.publish()
    world.repository.set_expiry("root", NOW + 365 * DAY)
    world.repository.publish()
    with world.cycle() as trust:
        assert trust.versions()["root"] == 3


def test_a_cached_repository_expires_too(world: World) -> None:
    with world.cycle():
        pass
    with pytest.raises(UpdatedError) as refused, world.cycle(system=NOW + 31 * DAY):
        pass
    assert refused.value.code == "metadata-expired"
    assert "'timestamp'" in refused.value.what
