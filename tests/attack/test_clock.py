"""The clock: whoever sets it makes nothing valid again, and does no lasting harm."""

from __future__ import annotations

import pytest

from tests.attack.signing import DAY, NOW, publish
from tests.attack.world import World
from tests.node.images import EPOCH as BUILT

CLOCKS = {"1970": 5.0, "a year ago": NOW - 365.0 * DAY}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_is_set_back_makes_nothing_valid_again(world: World, clock: str) -> None:
    """The signature of the channel ran out, and the node has seen a later day."""
    late = NOW + 91 * DAY
    world.ship("1.0.0", "1.1.0")
    publish(world.publisher, at=late)
    world.node.refuses_untouched("metadata-expired", "'stable'", "by the system clock", at=late)
    world.node.refuses_untouched(
        "metadata-expired", "'stable'", "by the last trusted time", "is behind, and was not used", at=CLOCKS[clock]
    )
    world.publisher.set_expiry("stable", late + 90 * DAY)
    publish(world.publisher, at=late)
    world.node.sees("1.1.0")


def test_a_clock_in_1970_makes_nothing_valid_that_expired_before_the_system_was_built(world: World) -> None:
    thief = world.thief("timestamp")
    world.node.forget()
    world.freeze(thief, at=BUILT - 4 * DAY)
    world.node.refuses_untouched("metadata-expired", "'timestamp'", "by the build time of this system", at=5.0)


def test_a_clock_in_1970_hinders_no_update(world: World) -> None:
    world.node.forget()
    world.ship("1.0.0", "1.1.0")
    world.node.sees("1.1.0", at=5.0)


def test_a_clock_in_the_far_future_is_named_and_does_no_harm_when_it_is_right_again(world: World) -> None:
    world.ship("1.0.0", "1.1.0")
    for clock in (NOW + 5000.0 * DAY, 253_402_300_799.0, 1e15):
        world.node.refuses_untouched("metadata-expired", "Check the clock of this machine", at=clock)
    world.node.sees("1.1.0", at=NOW)
