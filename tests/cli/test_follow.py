"""What is shown of a request that is followed: what came of it, and nothing of what was before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.states import IDLE, NOW, WAITING
from updated.cli import follow
from updated.cli.paper import Paper
from updated.core.errors import UpdatedError
from updated.core.policy import Policy, install_obstacles
from updated.core.state import Hold, Phase, State
from updated.core.status import Report, status_document
from updated.processes import process_start

GONE = UpdatedError("unknown-channel", "channel nope", "is not in the repository", "Choose another one.")
NOWHERE = replace(IDLE, phase=Phase.FAILED, error=GONE, failures=1, reasons=())
ASKING = replace(NOWHERE, phase=Phase.CHECKING, error=None)
FOUND = replace(IDLE, last_check=NOW)
HELD = replace(WAITING, hold=Hold("root"))
assert HELD.offer is not None
WAITS = replace(HELD, reasons=install_obstacles(HELD, Policy(), HELD.offer, NOW))
LIFTED = replace(WAITS, hold=None)
Shown = Callable[..., list[str]]


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """What is shown of states that follow each other; the first is that before the request, and still there after."""
    (tmp_path / "run/updated").mkdir(parents=True)

    def document(state: State) -> dict[str, Any]:
        report = Report(pid=os.getpid(), pid_start=process_start(os.getpid()))
        return status_document(state, Policy(), report, NOW)

    def told(*states: State, as_json: bool = False) -> list[str]:
        left = list(states)

        def step(seconds: float) -> None:
            (tmp_path / "run/updated/status.json").write_text(json.dumps(document(left.pop(0))))

        step(0)
        monkeypatch.setattr("updated.cli.follow.time.sleep", step)
        follow.wait(str(tmp_path), document(states[0]), as_json=as_json, paper=Paper())
        assert not left, "it ended too early"
        return capsys.readouterr().out.splitlines()

    return told


def test_the_error_of_a_channel_that_was_left_is_not_told_of_the_new_one(shown: Shown) -> None:
    assert shown(NOWHERE, NOWHERE, ASKING, FOUND) == [
        "runs 1.0.0 in slot a; asks for releases of channel stable",
        "runs 1.0.0 in slot a; 1.0.0 is the newest release of channel stable",
    ]


def test_a_pause_that_was_ended_is_not_told_as_one(shown: Shown) -> None:
    lines = shown(WAITS, LIFTED, ASKING, FOUND)
    assert lines[0] == "runs 1.0.0 in slot a; asks for releases of channel stable"
    assert not [line for line in lines if "held by" in line]


def test_what_is_as_before_in_the_end_is_told(shown: Shown) -> None:
    assert shown(IDLE, FOUND) == ["runs 1.0.0 in slot a; 1.0.0 is the newest release of channel stable"]


def test_programs_are_not_told_what_was_before_either(shown: Shown) -> None:
    documents = [json.loads(line) for line in shown(NOWHERE, ASKING, FOUND, as_json=True)]
    assert [each["phase"] for each in documents] == ["checking", "idle"]


def test_the_work_that_the_request_ended_is_not_the_one_that_is_waited_for(shown: Shown) -> None:
    """As when another channel is chosen in the middle of a check."""
    before = replace(IDLE, phase=Phase.CHECKING, channel="beta")
    lines = shown(before, before, replace(IDLE, reasons=()), ASKING, FOUND)
    assert lines[-1] == "runs 1.0.0 in slot a; 1.0.0 is the newest release of channel stable"
