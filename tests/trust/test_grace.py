"""Metadata that is past its expiry, where the configuration has a grace for it: nothing but the expiry is forgiven."""

from __future__ import annotations

import pytest

from tests.trust.world import DAY, NOW, STABLE, World
from updated import record
from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource
from updated.trust import Clock, Trust

MONTH = 30 * DAY


def trust(world: World, grace: int, system: float) -> Trust:
    source = DirectorySource(world.repository.directory)
    return Trust(source, str(world.store), world.repository.root_of_trust, Clock(system, NOW - DAY), grace=grace)


def test_expired_metadata_is_accepted_within_the_grace_and_named(world: World) -> None:
    with trust(world, 5 * DAY, NOW + MONTH + 4 * DAY) as cycle:
        cycle.refresh()
        assert cycle.target(STABLE, 100) == b"stable, first"
        late = ("timestamp", "snapshot", "targets", "stable")
        assert cycle.expired() == dict.fromkeys(late, NOW + MONTH)


@pytest.mark.parametrize("grace", [0, 5 * DAY])
def test_beyond_the_grace_it_is_refused(world: World, grace: int) -> None:
    with trust(world, grace, NOW + MONTH + grace) as cycle, pytest.raises(UpdatedError) as refused:
        cycle.refresh()
    assert refused.value.code == "metadata-expired"
    assert "'timestamp'" in refused.value.what


def test_the_role_that_is_named_is_the_one_beyond_the_grace(world: World) -> None:
    world.repository.set_expiry("snapshot", NOW + DAY)
    world.repository.set_expiry("timestamp", NOW + 9 * DAY)
    world.repository.publish()
    with trust(world, 5 * DAY, NOW + 10 * DAY) as cycle, pytest.raises(UpdatedError) as refused:
        cycle.refresh()
    assert "'snapshot'" in refused.value.what


def test_fresh_metadata_is_not_called_expired(world: World) -> None:
    with trust(world, 5 * DAY, NOW) as cycle:
        cycle.refresh()
        assert cycle.expired() == {}


def test_the_trusted_time_is_the_true_one_all_the_same(world: World) -> None:
    with trust(world, 5 * DAY, NOW + MONTH + DAY) as cycle:
        cycle.refresh()
        assert cycle.reference_time == NOW + MONTH + DAY
    floors = record.read(str(world.store / "floors"))
    assert floors is not None
    assert floors.text("time") == format_time(NOW + MONTH + DAY)
    with trust(world, 0, NOW) as cycle, pytest.raises(UpdatedError, match="the last trusted time"):
        cycle.refresh()


def test_grace_forgives_no_rollback(world: World) -> None:
    old = world.repository.saved()
    world.change()
    with trust(world, 5 * DAY, NOW) as cycle:
        cycle.refresh()
    world.repository.restore(old)
    with trust(world, 5 * DAY, NOW + MONTH + DAY) as cycle, pytest.raises(UpdatedError) as refused:
        cycle.refresh()
    assert refused.value.code == "metadata-rolled-back"


@pytest.mark.parametrize(
    ("value", "seconds"), [(3, 3 * DAY), (0, None), (-1, None), (True, None), ("3", None), (10**9, None)]
)
def test_a_lifetime_is_what_the_publisher_signed(world: World, value: object, seconds: int | None) -> None:
    signed = world.repository._timestamp()
    signed.unrecognized_fields["x-updated-lifetime-days"] = value
    world.published("timestamp").write_bytes(world.repository.sign("timestamp", signed))
    with trust(world, 0, NOW) as cycle:
        cycle.refresh()
        assert cycle.lifetimes() == ({} if seconds is None else {"timestamp": seconds})
