"""What a person reads: the status at a glance, progress that is never too early, the end of a hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.change import hold_end
from updated.cli.show import progress_bar, progress_text, status_text
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.selection import Reason
from updated.core.state import BootFacts, Denial, Fallback, Hold, Phase, State, Target
from updated.core.status import Progress, Report, status_document

NOW = 1_800_000_000
VIEW = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 3, False))))
STATE = replace(
    first_state(BootFacts("a", "1.0.0", "boot", VIEW), 0.5),
    phase=Phase.STAGED, target=Target("1.1.0", "m", "b", tries=3), versions={"a": "1.0.0", "b": "1.1.0"},
    reasons=(Reason("held", "held by root until somebody lifts it"),),
)


def shown(state: State, report: Report | None = None, *, alive: bool = True, colours: bool = False) -> str:
    document = status_document(state, Policy(), report or Report(), NOW)
    return status_text({**document, "alive": alive}, colours=colours)


def test_the_slots_are_told_by_glyph_state_and_tries() -> None:
    lines = shown(STATE).splitlines()
    assert "  ● slot a  1.0.0        good   running" in lines
    assert "  ↻ slot b  1.1.0        trial  boots next, 3 tries left" in lines


def test_why_it_waits_is_in_the_first_line_and_in_a_row() -> None:
    text = shown(STATE)
    assert "held by root" in text.splitlines()[0]
    assert "Reason:  held by root until somebody lifts it" in text


def test_a_slot_that_nothing_was_ever_installed_in_is_empty() -> None:
    view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
    assert "○ slot b  -            empty" in shown(first_state(BootFacts("a", "1.0.0", "boot", view), 0.5))


def test_fallback_denials_holds_and_errors_are_told() -> None:
    state = replace(
        STATE, fallback=Fallback("1.2.0", "web failed", NOW), denied=(Denial("1.2.0", "m", "web failed", NOW),),
        hold=Hold("root"), error=UpdatedError("unreachable", "the server", "is away", "Wait."),
    )
    text = shown(state)
    assert "from 1.2.0 at 20" in text
    assert "1.2.0 (web failed)" in text
    assert "by root, until somebody lifts it" in text
    assert "the server: is away. Wait." in text


def test_who_rolled_back_is_told_and_it_is_not_called_a_fallback() -> None:
    state = replace(STATE, phase=Phase.FALLEN_BACK, fallback=Fallback("1.2.0", "rolled back by eva", NOW, by="eva"))
    text = shown(state)
    assert "rolled back from 1.2.0 by eva" in text.splitlines()[0]
    assert "from 1.2.0 at 2027-01-15T08:00:00Z, by eva" in text
    assert "Fell back" not in text


def test_a_dead_daemon_is_told() -> None:
    assert "The daemon does not run; this is from 2027" in shown(STATE, alive=False)


def test_colours_only_where_they_are_wanted() -> None:
    assert "\x1b[" in shown(STATE, colours=True)
    assert "\x1b[" not in shown(STATE)


@example(one=999_999, other=1_000_000, rate=1.0)
@given(one=st.integers(0, 10**12), other=st.integers(0, 10**12), rate=st.floats(0, 1e9))
def test_progress_never_says_100_before_it_is_done(one: int, other: int, rate: float) -> None:
    done, total = sorted((one, other))
    progress = Progress("download", "rootfs", done, total, rate)
    document = {
        "step": "download", "done": done, "total": total, "rate": int(rate), "eta_seconds": progress.eta_seconds,
    }
    assert ("100 %" in progress_text(document)) == (done == total)
    assert len(progress_bar(document).partition("]")[0]) == 31


def test_progress_tells_bytes_rate_and_time_left() -> None:
    document = {"step": "download", "done": 25_000_000, "total": 100_000_000, "rate": 1_000_000, "eta_seconds": 75}
    assert progress_text(document) == "download  25 %, 25.0 of 100.0 MB, 1.0 MB/s, 1 min 15 s left"


@pytest.mark.parametrize(
    ("text", "end"),
    [(None, 0), ("90m", NOW + 5400), ("12h", NOW + 43200), ("7d", NOW + 604800), ("2027-02-01T00:00:00Z", 1801440000)],
)
def test_a_hold_ends_at_a_time_or_after_a_length(text: str | None, end: int) -> None:
    assert hold_end(text, NOW) == end


@pytest.mark.parametrize("text", ["soon", "5", "1999-01-01T00:00:00Z", "-3d", "2027-13-01T00:00:00Z"])
def test_any_other_end_of_a_hold_is_a_wrong_argument(text: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        hold_end(text, NOW)
    assert exits.BY_CODE[caught.value.code] == exits.USAGE


def written(root: Path, data: object) -> Path:
    (root / "run/updated").mkdir(parents=True)
    (root / "run/updated/status.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return root


@pytest.mark.parametrize("data", ["", "{", [], 5, "null"])
def test_a_damaged_status_file_is_one_clear_line(tmp_path: Path, data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(written(tmp_path, data)), "status"]) == exits.FAILED
    assert "Restart the daemon" in capsys.readouterr().err


def test_a_process_that_got_the_daemons_id_is_not_taken_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = status_document(STATE, Policy(), Report(pid=1, pid_start=-1), NOW)
    assert main(["--root", str(written(tmp_path, document)), "status", "--json"]) == exits.DONE
    assert json.loads(capsys.readouterr().out)["alive"] is False


@pytest.mark.parametrize(("lines", "count"), [(0, 0), (2, 2), (99, 3)])
def test_history_shows_as_many_lines_as_wanted(
    tmp_path: Path, lines: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "var/lib/updated").mkdir(parents=True)
    entry = json.dumps({"at": "2027-01-15T08:00:00Z", "kind": "staged", "version": "1.1.0", "text": "slot b"})
    (tmp_path / "var/lib/updated/history.jsonl").write_text(f"{entry}\n{entry}\nhalf a li\n{entry}\n")
    assert main(["--root", str(tmp_path), "history", "-n", str(lines)]) == exits.DONE
    assert len(capsys.readouterr().out.splitlines()) == count


def test_what_expires_has_a_row_for_each_role() -> None:
    expiries = {"stable": Expiry(NOW + 86400), "root": Expiry(NOW - 3600), "beta": Expiry(NOW * 2)}
    state = replace(STATE, expiries=expiries)
    text = shown(state)
    assert "Expiry:  the metadata of root expired less than 2 hours ago (" in text
    assert "Expiry:  the metadata of stable expires in 24 hours (" in text
    assert "beta" not in text


def test_a_node_that_looks_for_nothing_has_no_next_look() -> None:
    document = {**status_document(STATE, Policy(repository=False), Report(), NOW), "alive": True}
    assert "Checked: never" in status_text(document, colours=False).splitlines()[-1]
