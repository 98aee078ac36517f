"""Which release a node takes, and what it says when it takes none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import channels, digests, versions
from updated.core.release import Channel, ChannelEntry, Recall, Rollout
from updated.core.selection import Choice, choose
from updated.core.version import Version

NOW = 1_800_000_000


def entry(version: str, **changes: Any) -> ChannelEntry:
    return replace(ChannelEntry(Version(version), version.encode().hex().rjust(64, "0")), **changes)


def pick(
    *entries: ChannelEntry, running: str = "1.0", denied: tuple[str, ...] = (), floor: str | None = None,
    seed: float = 0.5, now: int = NOW, any_wave: bool = False,
) -> Choice:
    return choose(
        Channel("stable", entries), Version(running), denied=denied, floor=None if floor is None else Version(floor),
        seed=seed, now=now, any_wave=any_wave,
    )


def version(choice: Choice) -> str | None:
    return None if choice.entry is None else choice.entry.version.text


def codes(choice: Choice) -> list[str]:
    return [reason.code for reason in choice.reasons]


def test_the_newest_is_taken_at_once() -> None:
    choice = pick(entry("1.0"), entry("1.1"), entry("1.2"))
    assert (version(choice), codes(choice)) == ("1.2", [])


def test_nothing_is_newer() -> None:
    choice = pick(entry("0.9"), entry("1.0.0"))
    assert (version(choice), codes(choice)) == (None, ["up-to-date"])


def test_a_channel_without_releases_says_so() -> None:
    assert codes(pick()) == ["empty-channel"]


def test_a_node_ahead_of_its_channel_stays() -> None:
    choice = pick(entry("1.0"), running="2.0")
    assert (version(choice), codes(choice)) == (None, ["ahead"])
    assert "its newest is 1.0" in choice.reasons[0].text


def test_a_barrier_is_passed_through_and_not_over() -> None:
    road = (entry("1.0"), entry("1.1"), entry("1.2", barrier=True), entry("1.3"))
    choice = pick(*road)
    assert (version(choice), codes(choice)) == ("1.2", ["barrier"])
    assert version(pick(*road, running="1.2")) == "1.3"
    assert version(pick(*road, running="1.1")) == "1.2"


def test_barriers_are_passed_one_by_one() -> None:
    road = (entry("1.1", barrier=True), entry("1.2", barrier=True), entry("1.3"))
    assert [version(pick(*road, running=at)) for at in ("1.0", "1.1", "1.2")] == ["1.1", "1.2", "1.3"]


def test_a_barrier_that_failed_here_lets_nothing_past() -> None:
    choice = pick(entry("1.1", barrier=True), entry("1.2"), denied=("1.1",))
    assert (version(choice), codes(choice)) == (None, ["barrier", "denied"])


def test_a_barrier_that_was_recalled_is_none() -> None:
    choice = pick(entry("1.1", barrier=True, recalled=Recall("burns")), entry("1.2"))
    assert version(choice) == "1.2"


def test_a_deadend_keeps_its_nodes_and_says_why() -> None:
    choice = pick(entry("1.0", deadend="the layout changed"), entry("1.1"))
    assert (version(choice), codes(choice)) == (None, ["deadend"])
    assert "the layout changed" in choice.reasons[0].text


def test_a_deadend_ahead_is_no_obstacle() -> None:
    assert version(pick(entry("1.0"), entry("1.1", deadend="the layout changed"))) == "1.1"


def test_a_recalled_release_is_not_taken() -> None:
    choice = pick(entry("1.1"), entry("1.2", recalled=Recall("it burns")))
    assert (version(choice), codes(choice)) == ("1.1", ["recalled"])
    assert "it burns" in choice.reasons[0].text


@pytest.mark.parametrize(("running", "taken"), [("1.0", "1.2"), ("1.1", "1.2"), ("1.2", "2.0")])
def test_a_minimum_wants_an_earlier_step(running: str, taken: str) -> None:
    road = (entry("1.0"), entry("1.1"), entry("1.2"), entry("2.0", minimum=Version("1.2")))
    assert version(pick(*road, running=running)) == taken


def test_a_wave_comes_at_the_place_of_the_node() -> None:
    waved = entry("1.1", rollout=Rollout(NOW, 1000))
    choice = pick(waved, seed=0.25, now=NOW + 249)
    assert (version(choice), codes(choice), choice.reasons[0].until) == (None, ["wave"], NOW + 250)
    assert version(pick(waved, seed=0.25, now=NOW + 250)) == "1.1"
    assert version(pick(waved, seed=0.25, now=NOW - 1, any_wave=True)) == "1.1"


def test_an_older_release_is_taken_while_the_newest_is_not_here_yet() -> None:
    choice = pick(entry("1.1"), entry("1.2", rollout=Rollout(NOW, 1000)))
    assert (version(choice), codes(choice)) == ("1.1", ["wave"])


@pytest.mark.parametrize("by", ["version", "manifest"])
def test_a_denied_release_is_not_tried_again_and_a_newer_one_is(by: str) -> None:
    failed = entry("1.1")
    denied = ("1.1",) if by == "version" else (failed.manifest,)
    choice = pick(failed, denied=denied)
    assert (version(choice), codes(choice)) == (None, ["denied"])
    assert "updatectl allow 1.1" in choice.reasons[0].text
    assert version(pick(failed, entry("1.2"), denied=denied)) == "1.2"


def test_a_denied_release_stays_so_when_a_person_insists() -> None:
    assert codes(pick(entry("1.1"), denied=("1.1",), any_wave=True)) == ["denied"]


def test_nothing_below_the_floor_is_taken() -> None:
    # After a fallback the node runs something older than it ran before.
    choice = pick(entry("1.1"), running="1.0", floor="1.2")
    assert (version(choice), codes(choice)) == (None, ["below-floor"])
    assert version(pick(entry("1.1"), entry("1.2"), running="1.0", floor="1.2")) == "1.2"


@given(
    channels, versions, st.lists(digests, max_size=2), st.none() | versions, st.floats(0, 1, exclude_max=True),
    st.integers(0, 253402300799), st.booleans(),
)
def test_whatever_the_channel_says_the_choice_keeps_every_rule(
    channel: Channel, running: Version, denied: list[str], floor: Version | None, seed: float, now: int, any_wave: bool
) -> None:
    choice = choose(channel, running, denied=denied, floor=floor, seed=seed, now=now, any_wave=any_wave)
    chosen = choice.entry
    if chosen is None:
        assert choice.reasons
        return
    assert chosen in channel.entries
    assert chosen.version > running
    assert chosen.recalled is None
    assert chosen.manifest not in denied
    assert floor is None or chosen.version >= floor
    assert chosen.minimum is None or running >= chosen.minimum
    assert any_wave or chosen.rollout is None or chosen.rollout.eligible_at(seed) <= now
    between = [each for each in channel.entries if running < each.version < chosen.version]
    assert not any(each.barrier and each.recalled is None for each in between)
    assert all(each.version != running or each.deadend is None for each in channel.entries)
    assert len(choice.reasons) == sum(each.version > chosen.version for each in channel.entries)
