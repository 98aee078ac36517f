"""The state on disk: what is saved is read back; what is not a state is one typed error."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from tests.core.strategies import states
from updated.core.document import dump, load_object
from updated.core.errors import UpdatedError
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.saved import format_state, parse_state
from updated.core.selection import Reason
from updated.core.state import BootFacts, Denial, Fallback, Phase, State, Target
from updated.core.status import Report, fault_document, status_document, summary

OPTIONAL = (
    "target", "offer", "error", "last_check", "hold", "fallback", "highest", "importing", "expiries", "recalled",
    "reboots_took", "grace", "last_install",
)


def read(document: Any) -> State:
    data = dump(document)
    return parse_state(load_object(data, what="the saved state", code="state-corrupt", mend="Begin anew."))


@given(states)
def test_a_state_is_read_back(state: State) -> None:
    again = read(format_state(state))
    assert again == state
    assert str(again.error) == str(state.error)


@given(states, st.data())
def test_a_field_of_another_kind_is_one_typed_error_or_fits(state: State, data: st.DataObject) -> None:
    document = format_state(state)
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(st.sampled_from((None, True, -1, 1.5, "x", [], {}, [{}], [1])))
    try:
        read(document)
    except UpdatedError as error:
        if error.code != "state-corrupt":
            raise


@given(states, st.data())
def test_a_field_that_is_missing_is_one_typed_error(state: State, data: st.DataObject) -> None:
    document = format_state(state)
    key = data.draw(st.sampled_from(sorted(document)))
    if key not in (*OPTIONAL, "schema"):
        with pytest.raises(UpdatedError, match="the saved state: "):
            read({name: value for name, value in document.items() if name != key})


@given(states)
def test_a_state_from_before_releases_could_be_urgent_is_read(state: State) -> None:
    document = format_state(state)
    for key in ("target", "offer"):
        if document[key] is not None:
            del document[key]["urgent"]
    again = read(document)
    assert not (again.target is not None and again.target.urgent)
    assert not (again.offer is not None and again.offer.urgent)


@given(states, st.sampled_from((None, 1, {}, {"version": "1.1.0", "seconds": -1})))
def test_figures_of_the_last_installation_that_do_not_fit_cost_nothing_else(state: State, figures: Any) -> None:
    document = format_state(state)
    without = replace(state, last_install=None)
    assert read({**document, "last_install": figures}) == without
    del document["last_install"]
    assert read(document) == without, "a state from before them is read"


@given(states)
def test_what_a_newer_daemon_wrote_before_it_fell_back_is_read(state: State) -> None:
    document = format_state(state)
    assert read({**document, "new": 1}) == read(document)
    assert read({**document, "phase": "a phase of the future"}).denied == state.denied


@pytest.mark.parametrize("view", [[], ["a"], ["a", "a"], ["b", "c"], ["a", "b", "c"]])
@given(state=states)
def test_a_view_without_the_running_slot_and_one_other_is_refused(view: list[str], state: State) -> None:
    document = format_state(state)
    document["facts"] = {
        **document["facts"], "slot": "a",
        "view": [{"slot": name, "priority": 1, "tries_left": 0, "confirmed": True} for name in view],
    }
    with pytest.raises(UpdatedError, match="does not hold the running slot and one other"):
        read(document)


@given(states, st.integers(0, 2**40))
def test_any_state_can_be_shown(state: State, now: int) -> None:
    document = status_document(state, Policy(), Report(), now)
    assert json.loads(dump(document)) == document
    assert document["summary"] == summary(state, Policy(), Report())
    assert [slot["running"] for slot in document["slots"]].count(True) == 1


@given(states)
def test_a_node_that_could_not_start_shows_the_same_keys(state: State) -> None:
    fault = UpdatedError("disk-full", "the state", "is full", "Free some space.")
    document = fault_document(fault, 0)
    assert document.keys() == status_document(state, Policy(), Report(), 0).keys()
    assert document["error"]["code"] == "disk-full"


@given(states, st.booleans())
def test_what_is_known_of_a_node_that_could_not_start_stays_beside_the_error(state: State, staged: bool) -> None:
    fault = UpdatedError("bad-config", "updated.toml", "is no TOML", "Correct it.")
    target = Target("1.1", "m", "b", tries=3) if staged else None
    known = status_document(state.with_changes(phase=Phase.IDLE, target=target), Policy(), Report(pid=7), 5)
    document = fault_document(fault, 9, {**known, "of a newer daemon": 1})
    assert document.keys() == fault_document(fault, 9).keys()
    assert document["phase"] == ("staged" if staged else "failed")
    assert (document["pid"], document["error"]) == (0, fault.to_json())
    assert document["summary"] == f"could not start; {fault}"
    for key in ("slots", "running", "target", "channel", "hold", "denied", "last_install"):
        assert document[key] == known[key]


def test_a_denial_says_in_a_short_sentence_who_or_what_it_came_from() -> None:
    assert Denial("1.4.0", "", "rolled back by root", 1).text == "1.4.0 was rolled back here by root"
    assert Denial("1.4.0", "", "web failed", 1).text == "1.4.0 failed here: web failed"
    long = Denial("1.4.0", "", "x" * 500, 1).text
    assert len(long) < 150
    assert long.endswith("…")


def test_without_an_offer_the_headline_is_the_wave_that_is_waited_for() -> None:
    burning, wave = Reason("recalled", "1.0 was recalled: it burns"), Reason("wave", "1.5 comes to this node later")
    view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState(1, 0, True))))
    for reasons, told in (((burning, wave), "1.5 comes to this node later"), ((burning,), burning.text)):
        waiting = replace(first_state(BootFacts("a", "1.0", "boot", view), 0.5), phase=Phase.WAITING, reasons=reasons)
        assert summary(waiting, Policy(), Report()) == f"runs 1.0 in slot a; no update now: {told}"


def test_after_a_release_was_left_the_headline_says_what_was_found_since() -> None:
    view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState(1, 0, True))))
    denied, empty = Reason("denied", "1.4.0 failed here: web failed"), Reason("empty-channel", "channel beta has none")
    for by, left in (("", "fell back from 1.4.0: web failed"), ("eva", "rolled back from 1.4.0 by eva")):
        there = replace(
            first_state(BootFacts("a", "1.0", "boot", view), 0.5), phase=Phase.FALLEN_BACK,
            fallback=Fallback("1.4.0", "web failed", 1, by),
        )  # fmt: skip
        for reasons, more in (((), ""), ((denied,), ""), ((denied, empty), "; channel beta has none")):
            told = summary(there.with_changes(reasons=reasons), Policy(), Report())
            assert told == f"runs 1.0 in slot a; {left}{more}"
