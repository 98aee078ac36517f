"""Which release a node takes, and what it says when it takes none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import channels, digests, places, versions
from updated.core.release import Channel, ChannelEntry, Recall
from updated.core.rollout import Place, Rollout
from updated.core.selection import (
    OF_A_CHANNEL,
    Choice,
    Pin,
    choose,
    effective_floor,
    is_urgent,
    recalled,
    unreachable,
)
from updated.core.version import Version

NOW = 1_800_000_000
EVERYTHING = Pin()


def entry(version: str, **changes: Any) -> ChannelEntry:
    return replace(ChannelEntry(Version(version), version.encode().hex().rjust(64, "0")), **changes)


def pick(
    *entries: ChannelEntry, running: str = "1.0", denied: tuple[str, ...] = (), floor: str | None = None,
    wave: float = 0.5, now: int = NOW, any_wave: bool = False, allow_downgrade: bool = False,
    pin: Pin = EVERYTHING,
) -> Choice:
    return choose(
        Channel("stable", entries), Version(running), denied=dict.fromkeys(denied, "1.1 failed here: web"),
        floor=None if floor is None else Version(floor),
        place=Place(0.0, wave), now=now, any_wave=any_wave, allow_downgrade=allow_downgrade, pin=pin,
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


RAMP = Rollout(NOW, ((0, 0.0), (1000, 1.0)))
TENTH = Rollout(NOW, ((0, 0.1),))


def test_a_wave_comes_at_the_place_of_the_node() -> None:
    waved = entry("1.1", rollout=RAMP)
    choice = pick(waved, wave=0.25, now=NOW + 250)
    assert (version(choice), codes(choice), choice.reasons[0].until) == (None, ["wave"], NOW + 251)
    assert choice.reasons[0].text == (
        "1.1 comes to this node at 2027-01-15T08:04:11Z, after 25 % of the nodes ([updates] wave)"
    )
    assert version(pick(waved, wave=0.25, now=NOW + 251)) == "1.1"
    assert version(pick(waved, wave=0.25, now=NOW - 1, any_wave=True)) == "1.1"


def test_a_rollout_that_stands_still_says_where() -> None:
    choice = pick(entry("1.1", rollout=TENTH), wave=0.25)
    assert (version(choice), codes(choice), choice.reasons[0].until) == (None, ["wave"], None)
    assert choice.reasons[0].text == (
        "1.1 is not for this node yet: the rollout ends at 10 % of the nodes until the publisher goes on, and it comes "
        "after 25 % of the nodes ([updates] wave)"
    )
    assert version(pick(entry("1.1", rollout=TENTH), wave=0.05)) == "1.1"
    assert version(pick(entry("1.1", rollout=TENTH), wave=0.25, any_wave=True)) == "1.1"


def test_a_rollout_that_goes_on_and_ends_before_this_node_promises_nothing() -> None:
    waves = Rollout(NOW, ((0, 0.01), (100, 0.01), (100, 0.1)))
    choice = pick(entry("1.1", rollout=waves), wave=0.25)
    assert (codes(choice), choice.reasons[0].until) == (["wave"], None)
    assert "the rollout ends at 10 % of the nodes until the publisher goes on" in choice.reasons[0].text


@pytest.mark.parametrize("now", [NOW - 5, NOW + 100, NOW + 10**6])
def test_a_paused_rollout_is_called_paused_at_whatever_time_it_is_here(now: int) -> None:
    choice = pick(entry("1.1", rollout=Rollout(NOW, RAMP.curve, NOW + 100)), wave=0.25, now=now)
    assert (codes(choice), choice.reasons[0].until) == (["wave"], None)
    assert "the rollout is paused at 10 % of the nodes, and it comes after 25 %" in choice.reasons[0].text


def test_a_node_that_is_put_last_comes_when_the_rollout_is_complete() -> None:
    waved = entry("1.1", rollout=RAMP)
    choice = pick(waved, wave=1.0, now=NOW + 999)
    assert choice.reasons[0].text == (
        "1.1 comes to this node at 2027-01-15T08:16:40Z, after all others ([updates] wave)"
    )
    assert version(pick(waved, wave=1.0, now=NOW + 1000)) == "1.1"
    assert version(pick(entry("1.1"), wave=1.0)) == "1.1"


def test_a_node_that_is_put_first_comes_with_the_first_wave() -> None:
    assert version(pick(entry("1.1", rollout=TENTH), wave=0.0)) == "1.1"
    choice = pick(entry("1.1", rollout=RAMP), wave=0.0)
    assert choice.reasons[0].text == "1.1 comes to this node at 2027-01-15T08:00:01Z, among the first ([updates] wave)"


def test_a_release_is_urgent_by_its_own_mark_and_by_what_it_overtakes() -> None:
    burning = entry("1.2", urgent=True, recalled=Recall("burns"))
    channel = Channel("stable", (entry("1.1", urgent=True), burning, entry("1.3"), entry("1.4", urgent=True)))

    def urgent(running: str, name: str) -> bool:
        chosen = channel.entry(Version(name))
        assert chosen is not None
        return is_urgent(channel, Version(running), chosen)

    assert urgent("1.0", "1.1")
    assert urgent("1.0", "1.3")
    assert urgent("1.3", "1.4")
    assert not urgent("1.1", "1.3")
    assert not urgent("1.4", "1.3")


def test_an_urgent_release_comes_by_its_waves_all_the_same() -> None:
    assert codes(pick(entry("1.1", rollout=TENTH, urgent=True), wave=0.5)) == ["wave"]


def test_an_older_release_is_taken_while_the_newest_is_not_here_yet() -> None:
    choice = pick(entry("1.1"), entry("1.2", rollout=RAMP))
    assert (version(choice), codes(choice)) == ("1.1", ["wave"])


@pytest.mark.parametrize("by", ["version", "manifest"])
def test_a_denied_release_is_not_tried_again_and_a_newer_one_is(by: str) -> None:
    failed = entry("1.1")
    denied = ("1.1",) if by == "version" else (failed.manifest,)
    choice = pick(failed, denied=denied)
    assert (version(choice), codes(choice)) == (None, ["denied"])
    assert choice.reasons[0].text == "1.1 failed here: web"
    assert version(pick(failed, entry("1.2"), denied=denied)) == "1.2"


def test_a_denied_release_stays_so_when_a_person_insists() -> None:
    assert codes(pick(entry("1.1"), denied=("1.1",), any_wave=True)) == ["denied"]


def test_nothing_below_the_floor_is_taken() -> None:
    # After a fallback the node runs something older than it ran before.
    choice = pick(entry("1.1"), running="1.0", floor="1.2")
    assert (version(choice), codes(choice)) == (None, ["below-floor"])
    assert version(pick(entry("1.1"), entry("1.2"), running="1.0", floor="1.2")) == "1.2"


# -------------------------------------------------------------------------------------- recalled, with a replacement


def replaced(by: str | None, name: str = "1.5", **changes: Any) -> ChannelEntry:
    return entry(name, recalled=Recall("it burns", None if by is None else Version(by)), **changes)


ROAD = (entry("1.4"), replaced("1.4"))


def test_a_recalled_release_that_runs_is_left_for_its_replacement_where_that_is_allowed() -> None:
    choice = pick(*ROAD, running="1.5", floor="1.5", allow_downgrade=True)
    assert (version(choice), codes(choice)) == ("1.4", ["recalled"])


def test_without_permission_the_node_stays_and_says_what_it_could_do() -> None:
    choice = pick(*ROAD, running="1.5", floor="1.5")
    assert (version(choice), codes(choice)) == (None, ["downgrade"])
    assert choice.reasons[0].text == (
        "1.5 was recalled: it burns; 1.4 replaces it, and [updates] allow_downgrade is off"
    )


def test_a_newer_release_goes_before_the_replacement() -> None:
    assert version(pick(*ROAD, entry("1.6"), running="1.5", allow_downgrade=True)) == "1.6"
    choice = pick(*ROAD, entry("1.6", rollout=RAMP), running="1.5", allow_downgrade=True)
    assert (version(choice), codes(choice)) == ("1.4", ["recalled", "wave"])


def test_what_was_recalled_is_known_of_each_slot_whatever_the_channel_has_for_the_node() -> None:
    channel = Channel("stable", (entry("1.4", recalled=Recall("it burns")), entry("1.5")))
    assert recalled(channel, ("1.4.0", "1.5", "1.6", "unknown")) == {"1.4.0": "it burns"}


def test_a_recall_without_a_replacement_is_told_to_who_runs_it() -> None:
    choice = pick(entry("1.4"), replaced(None), running="1.5", allow_downgrade=True)
    assert (version(choice), codes(choice)) == (None, ["recalled"])
    assert choice.reasons[0].text == "1.5 was recalled: it burns"


def test_only_who_runs_the_recalled_release_goes_back() -> None:
    assert codes(pick(*ROAD, entry("1.6"), running="1.6", allow_downgrade=True)) == ["up-to-date"]
    assert codes(pick(*ROAD, running="1.4", allow_downgrade=True)) == ["recalled"]


def test_a_replacement_that_was_recalled_as_well_is_passed_over() -> None:
    road = (entry("1.3"), replaced("1.3", "1.4"), replaced("1.4"))
    assert version(pick(*road, running="1.5", floor="1.5", allow_downgrade=True)) == "1.3"
    end = (entry("1.3"), replaced(None, "1.4"), replaced("1.4"))
    choice = pick(*end, running="1.5", floor="1.5", allow_downgrade=True)
    assert (version(choice), codes(choice)) == (None, ["recalled", "recalled"])


@pytest.mark.parametrize(
    ("changes", "options", "code"),
    [
        ({}, {"denied": ("1.4",)}, "denied"),
        ({}, {"floor": "1.6"}, "below-floor"),
        ({"rollout": TENTH}, {}, "wave"),
        ({"minimum": Version("1.6")}, {}, "minimum"),
    ],
)
def test_a_replacement_passes_every_other_rule(
    changes: dict[str, Any], options: dict[str, Any], code: str
) -> None:
    choice = pick(entry("1.4", **changes), replaced("1.4"), running="1.5", allow_downgrade=True, **options)
    assert (version(choice), codes(choice)) == (None, ["recalled", code])


def test_a_dead_end_that_was_recalled_can_be_left_for_its_replacement_alone() -> None:
    road = (entry("1.4"), replaced("1.4", deadend="the layout changed"), entry("1.6"))
    assert version(pick(*road, running="1.5", allow_downgrade=True)) == "1.4"
    assert codes(pick(*road, running="1.5")) == ["downgrade", "deadend"]


def test_after_the_way_back_what_follows_is_taken_also_below_the_recalled_release() -> None:
    fixed = (entry("1.4"), entry("1.4.1"), replaced("1.4"))
    assert version(pick(*fixed, running="1.4", floor="1.5", allow_downgrade=True)) == "1.4.1"
    assert codes(pick(*fixed, running="1.4", floor="1.5")) == ["recalled", "below-floor"]
    assert version(pick(*ROAD, entry("1.6"), running="1.4", floor="1.5")) == "1.6"


def test_the_floor_is_lowered_by_its_own_recall_alone() -> None:
    channel = Channel("stable", (entry("1.3"), replaced("1.3", "1.4"), replaced("1.4"), entry("1.6")))
    floors = {
        text: str(effective_floor(channel, Version(text), allow_downgrade=True)) for text in ("1.3", "1.5", "1.6", "2")
    }
    assert floors == {"1.3": "1.3", "1.5": "1.3", "1.6": "1.6", "2": "2"}
    assert effective_floor(channel, None, allow_downgrade=True) is None


@given(channels, st.none() | versions)
def test_without_permission_the_floor_is_the_floor(channel: Channel, floor: Version | None) -> None:
    assert effective_floor(channel, floor, allow_downgrade=False) is floor


@st.composite
def situations(draw: st.DrawFn) -> tuple[Channel, Version, Version | None]:
    """A channel, what runs and the floor: often releases of the channel."""
    channel = draw(channels)
    known = [each.version for each in channel.entries]
    one = st.sampled_from(known) | versions if known else versions
    return channel, draw(one), draw(st.none() | one)


@given(
    situations(), st.lists(digests, max_size=2), places, st.integers(0, 253402300799),
    st.booleans(), st.booleans(),
)
def test_whatever_the_channel_says_the_choice_keeps_every_rule(
    situation: tuple[Channel, Version, Version | None], denied: list[str], place: Place, now: int, any_wave: bool,
    allow_downgrade: bool,
) -> None:
    channel, running, floor = situation
    choice = choose(
        channel, running, denied=dict.fromkeys(denied, "it failed"), floor=floor, place=place, now=now,
        any_wave=any_wave, allow_downgrade=allow_downgrade,
    )
    assert {reason.code for reason in choice.reasons} <= OF_A_CHANNEL
    chosen = choice.entry
    if chosen is None:
        assert choice.reasons
        return
    assert chosen in channel.entries
    assert chosen.recalled is None
    assert chosen.manifest not in denied
    assert chosen.minimum is None or running >= chosen.minimum
    at = None if chosen.rollout is None else chosen.rollout.eligible_at(place.of(chosen.manifest))
    assert any_wave or chosen.rollout is None or (at is not None and at <= now)
    between = [each for each in channel.entries if running < each.version < chosen.version]
    assert not any(each.barrier and each.recalled is None for each in between)
    own = channel.entry(running)
    if chosen.version > running:
        assert own is None or own.deadend is None
        assert len(choice.reasons) == sum(each.version > chosen.version for each in channel.entries)
    else:
        assert allow_downgrade
        assert own is not None
        assert own.recalled is not None
        assert own.recalled.replacement is not None
        assert chosen.version <= own.recalled.replacement < running
    lowest = effective_floor(channel, floor, allow_downgrade=allow_downgrade)
    assert lowest is None or chosen.version >= lowest
    assert allow_downgrade or lowest == floor
    assert unreachable(channel, running, chosen, allow_downgrade=allow_downgrade) is None


@given(situations())
def test_without_permission_nothing_older_can_be_reached(situation: tuple[Channel, Version, object]) -> None:
    channel, running, _ = situation
    for each in channel.entries:
        if each.version <= running:
            assert unreachable(channel, running, each, allow_downgrade=False) is not None


# -------------------------------------------------------------------------------------------------------------- pins


def test_a_pin_takes_just_its_version() -> None:
    line = (entry("1.0"), entry("1.1"), entry("1.2"))
    choice = pick(*line, pin=Pin(only="1.1.0"))
    assert (version(choice), codes(choice)) == ("1.1", ["pinned"])
    arrived = pick(*line, running="1.1", pin=Pin(only="1.1"))
    assert (version(arrived), codes(arrived)) == (None, ["pinned"])
    assert codes(pick(entry("1.1"), running="1.1", pin=Pin(only="1.1"))) == ["up-to-date"]


def test_a_pin_that_leads_nowhere_says_so() -> None:
    choice = pick(entry("1.0"), entry("1.2"), pin=Pin(only="1.1"))
    assert (version(choice), codes(choice)) == (None, ["pinned", "pinned"])
    assert choice.reasons[0].text == "[updates] pin admits 1.1 alone, and channel stable does not have it"
    assert codes(pick(entry("1.0"), pin=Pin(only="1.1"))) == ["pinned"]


def test_a_pin_alone_leads_to_nothing_older() -> None:
    for allowed in (False, True):
        choice = pick(entry("0.9"), entry("1.0"), pin=Pin(only="0.9"), allow_downgrade=allowed)
        assert (version(choice), codes(choice)) == (None, ["pinned"])
        assert "older than 1.0" in choice.reasons[0].text


def test_a_recalled_release_is_left_only_for_one_that_the_pin_admits() -> None:
    line = (entry("0.9"), entry("1.0", recalled=Recall("it is bad", Version("0.9"))))
    assert version(pick(*line, allow_downgrade=True, pin=Pin(only="0.9"))) == "0.9"
    assert version(pick(*line, allow_downgrade=True, pin=Pin(newest="1"))) == "0.9"
    assert version(pick(*line, allow_downgrade=True, pin=Pin(only="1.0"))) is None


def test_nothing_after_the_bound_is_taken() -> None:
    line = (entry("1.0"), entry("1.1.5"), entry("1.2"))
    choice = pick(*line, pin=Pin(newest="1.1"))
    assert (version(choice), codes(choice)) == ("1.1.5", ["pinned"])
    assert codes(pick(entry("1.2"), pin=Pin(newest="1.1"))) == ["pinned"]


def test_a_barrier_that_is_not_admitted_is_not_passed_through() -> None:
    choice = pick(entry("1.1", barrier=True), entry("1.2"), pin=Pin(only="1.2"))
    assert (version(choice), codes(choice)) == (None, ["barrier", "pinned"])


@given(channels, versions, versions, st.booleans())
def test_what_is_chosen_is_always_admitted(channel: Channel, running: Version, bound: Version, only: bool) -> None:
    pin = Pin(only=bound.text) if only else Pin(newest=bound.text)
    choice = choose(channel, running, denied={}, floor=None, place=Place(0.0), now=NOW, any_wave=True, pin=pin)
    if choice.entry is not None:
        assert choice.entry.version == bound if only else pin.obstacle(choice.entry.version.text) is None
        assert choice.entry.version > running
