"""Indefinite freeze: who holds back what is new is found out at an expiry, which a person can see coming."""

from __future__ import annotations

import pytest

from tests.attack.signing import DAY, NOW, ONLINE
from tests.attack.world import World
from updated.core.document import format_time

NEWEST = "1.0.0 is the newest release of channel stable"


@pytest.mark.parametrize(
    ("stolen", "role", "days"),
    [
        ((), "timestamp", 3),
        (("timestamp",), "snapshot", 14),
        (ONLINE, "stable", 90),
        ((*ONLINE, "stable"), "targets", 365),
        ((*ONLINE, "stable", "targets"), "root", 730),
    ],
    ids=lambda value: "+".join(value) or "no key" if isinstance(value, tuple) else None,
)
def test_a_freeze_lasts_until_what_the_attacker_can_not_sign_expires(
    world: World, stolen: tuple[str, ...], role: str, days: int
) -> None:
    """The publisher goes on, and the node sees the old state; with a fresh date on all that the stolen keys sign."""
    thief, end = world.thief(*stolen), NOW + days * DAY
    world.mirror.shows(thief)
    world.ship("1.0.0", "1.1.0")
    world.mirror.hide("metadata/2.root.json")
    for at in (NOW + DAY, end - 1):
        for each in stolen:
            if each not in ONLINE:
                thief.set_expiry(each, int(at) + 1000 * DAY)
        if "snapshot" in stolen:
            world.attack(thief, at=at)
        elif stolen:
            world.freeze(thief, at=at)
        document = world.node.finds_nothing(NEWEST, at=at)
        # What an alert is made of: this date does not move, whatever else is fresh.
        assert document["expiries"][role] == format_time(end)
        assert world.node.metric("tuf_metadata_expiry_timestamp_seconds", role=role) == end
    if "snapshot" in stolen:
        world.attack(thief, at=end)
    elif stolen:
        world.freeze(thief, at=end)
    document = world.node.refuses_untouched(
        "metadata-expired", f"the metadata of the role '{role}'", f"expired on {format_time(end)}",
        "the publisher must refresh the repository", at=end,
    )  # fmt: skip
    assert document["last_check"] == format_time(end - 1)
    assert world.node.metric("last_check_timestamp_seconds") == end - 1
    assert world.node.metric("phase", phase="failed") == 1


def test_when_the_freeze_ends_the_node_goes_on(world: World) -> None:
    world.mirror.shows(world.thief())
    world.node.refuses_untouched("metadata-expired", at=NOW + 4 * DAY)
    world.ship("1.0.0", "1.1.0", at=NOW + 4 * DAY)
    world.end_attack()
    world.node.sees("1.1.0")


def test_a_revocation_can_not_be_hidden_behind_the_last_timestamp_for_more_than_a_day(world: World) -> None:
    """The stolen key still signs what the node saw last; the mirror replays that, and does not hide the new root."""
    last = world.mirror.content("metadata/timestamp.json") or b""
    world.revoke("timestamp")
    world.mirror.replace("metadata/timestamp.json", last)
    world.node.finds_nothing(NEWEST, at=NOW + DAY / 2)
    world.node.refuses_untouched(
        "metadata-invalid", "metadata/timestamp.json: does not verify: timestamp was signed by 0/1", at=NOW + 1.1 * DAY
    )


def test_the_revoked_key_of_a_frozen_timestamp_signs_nothing_new(world: World) -> None:
    thief = world.thief("timestamp")
    world.revoke("timestamp")
    world.freeze(thief)
    world.mirror.replace("metadata/2.root.json", world.publisher.saved()["2.root.json"])
    world.node.refuses_untouched("metadata-invalid", "timestamp.json: does not verify: timestamp was signed by 0/1")


