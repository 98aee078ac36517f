"""What a person reads: the status at a glance, and progress that is never too early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.follow import _Line
from updated.cli.paper import Paper, paper_of
from updated.cli.past import history_text
from updated.cli.show import progress_bar, progress_text, status_text
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.release import Channel, ChannelEntry, Recall
from updated.core.rollout import Place
from updated.core.selection import Reason, choose
from updated.core.state import BootFacts, Denial, Fallback, Hold, Phase, State, Target
from updated.core.status import Progress, Report, status_document
from updated.core.version import Version
from updated.core.windows import Window, Windows

NOW = 1_800_000_000
VIEW = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 3, False))))
STATE = replace(
    first_state(BootFacts("a", "1.0.0", "boot", VIEW), 0.5),
    phase=Phase.STAGED, target=Target("1.1.0", "m", "b", tries=3), versions={"a": "1.0.0", "b": "1.1.0"},
    reasons=(Reason("held", "held by root until somebody lifts it"),),
)


def shown(state: State, report: Report | None = None, *, alive: bool = True, colours: bool = False) -> str:
    document = status_document(state, Policy(), report or Report(), NOW)
    return status_text({**document, "alive": alive}, now=NOW, paper=Paper(colours=colours))


def test_the_slots_are_told_by_glyph_state_and_tries() -> None:
    lines = shown(STATE).splitlines()
    assert "  ● slot a  1.0.0  good   running" in lines
    assert "  ↻ slot b  1.1.0  trial  boots next, 3 tries left" in lines


def test_why_it_waits_is_in_the_first_line_and_in_a_block_with_what_to_do() -> None:
    text = shown(STATE)
    assert "held by root" in text.splitlines()[0]
    assert text.splitlines()[-3:] == [
        "Why it does not reboot now:", "  held: held by root until somebody lifts it",
        "    → 'updatectl unhold' ends the pause",
    ]  # fmt: skip


def test_a_slot_that_nothing_was_ever_installed_in_is_empty() -> None:
    view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
    assert "○ slot b  -      empty" in shown(first_state(BootFacts("a", "1.0.0", "boot", view), 0.5))


def test_fallback_denials_holds_and_errors_are_told() -> None:
    state = replace(
        STATE, fallback=Fallback("1.2.0", "web failed", NOW), denied=(Denial("1.2.0", "m", "web failed", NOW),),
        hold=Hold("root"), error=UpdatedError("unreachable", "the server", "is away", "Wait."),
    )
    text = shown(state)
    assert "Fell back: from 1.2.0, " in text
    assert "Denied:    1.2.0; 'updatectl allow 1.2.0' tries it again" in text
    assert "held by root until somebody lifts it" in text
    assert "unreachable: the server: is away" in text
    assert "→ Wait. 'updatectl explain unreachable' says more" in text


def test_who_rolled_back_is_told_and_it_is_not_called_a_fallback() -> None:
    state = replace(STATE, phase=Phase.FALLEN_BACK, fallback=Fallback("1.2.0", "rolled back by eva", NOW, by="eva"))
    text = shown(state)
    assert "rolled back from 1.2.0 by eva" in text.splitlines()[0]
    assert "Rolled back: from 1.2.0 by eva, " in text
    assert "Fell back" not in text


RECALL = {"1.4.0": "it burns"}


def on_recalled(**changes: Any) -> str:
    """1.4.0 runs in slot a and was recalled; 1.1.0 is in slot b, confirmed."""
    view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState(1, 0, True))))
    node = replace(
        first_state(BootFacts("a", "1.4.0", "boot", view), 0.5), versions={"a": "1.4.0", "b": "1.1.0"},
        recalled=RECALL, reasons=(Reason("recalled", "1.4.0 was recalled: it burns"),), last_check=NOW,
    )
    return shown(replace(node, **changes))


def test_a_recalled_release_that_runs_has_a_row_whatever_else_there_is_to_tell() -> None:
    wave = (Reason("wave", "1.5.0 comes to this node later"),)
    assert "Recalled: 1.4.0, which runs here: it burns" in on_recalled(reasons=wave)


def test_a_roll_back_is_advised_where_it_leaves_the_recalled_release_for_a_good_one() -> None:
    assert "→ wait for a newer release; 'updatectl rollback' leaves the one that runs" in on_recalled()
    denied = (Denial("1.1.0", "", "rolled back by eva", NOW),)
    assert "updatectl rollback" not in on_recalled(denied=denied)
    assert "updatectl rollback" not in on_recalled(recalled={**RECALL, "1.1.0": "it smokes"})


def test_nothing_leads_back_into_a_recalled_release_that_was_left() -> None:
    view = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 0, True))))
    text = on_recalled(
        facts=BootFacts("b", "1.1.0", "boot", view), denied=(Denial("1.4.0", "", "rolled back by root", NOW),),
        reasons=(
            Reason("recalled", "1.4.0 was recalled: it burns"), Reason("below-floor", "1.3.0 is below 1.4.0"),
            Reason("denied", "1.4.0 was rolled back here by root"),
        ),
    )  # fmt: skip
    assert "1.4.0, which is in slot a: it burns" in text
    assert "updatectl rollback" not in text
    assert "wait for a newer release, or, when the cause is gone, 'updatectl allow 1.4.0'" in text


def test_denied_releases_that_are_not_taken_anyway_share_a_line_and_no_reason_is_told_twice() -> None:
    denied = tuple(Denial(version, "", "web failed", NOW) for version in ("1.1.0", "1.2.0", "1.5.0", "1.6.0"))
    text = on_recalled(recalled={}, denied=denied, fallback=Fallback("1.6.0", "web failed", NOW))
    assert rows_of_denied(text) == [
        "1.5.0 (web failed); 'updatectl allow 1.5.0' tries it again", "1.6.0; 'updatectl allow 1.6.0' tries it again",
        "1.1.0, 1.2.0, older than 1.4.0, which runs",
    ]  # fmt: skip


def rows_of_denied(text: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if "Denied:" in line]


def test_no_row_promises_a_release_that_is_not_taken_anyway() -> None:
    """1.4.0 was confirmed in slot a and left for 1.1.0; 1.2.0, 1.3.0 and 1.5.0 failed, and 1.5.0 was recalled since."""
    view = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 0, True))))
    left = Fallback("1.4.0", "rolled back by eva", NOW, by="eva")
    denied = tuple(Denial(version, "", "web failed", NOW) for version in ("1.2.0", "1.3.0", "1.4.0", "1.5.0"))
    reasons = (Reason("recalled", "1.5.0 was recalled: it burns"),)
    state = {
        "facts": BootFacts("b", "1.1.0", "boot", view), "recalled": {}, "denied": denied, "fallback": left,
        "reasons": reasons,
    }  # fmt: skip
    assert rows_of_denied(on_recalled(**state)) == [
        "1.4.0; 'updatectl allow 1.4.0' tries it again", "1.2.0, 1.3.0, below 1.4.0, which was confirmed here",
        "1.5.0, recalled: it burns",
    ]  # fmt: skip
    # When another release was written over 1.4.0, the look at the channel tells the floor.
    below = Reason("below-floor", "1.3.0 is below 1.4.0, the lowest version that this node accepts")
    written_over = on_recalled(**{**state, "versions": {"a": "", "b": "1.1.0"}, "reasons": (*reasons, below)})
    kept = "1.2.0, 1.3.0, below 1.4.0, the lowest version that this node accepts"
    assert kept in rows_of_denied(written_over)


def test_what_a_look_at_the_channel_said_is_understood() -> None:
    """The rows read the reasons, in the words of the look itself."""
    burnt = ChannelEntry(Version("1.5.0"), "f" * 64, recalled=Recall("it burns"))
    channel = Channel("stable", (ChannelEntry(Version("1.3.0"), "3" * 64), burnt))
    found = choose(
        channel, Version("1.1.0"), denied={}, floor=Version("1.4.0"), place=Place(0.0), now=NOW
    ).reasons  # fmt: skip
    assert [reason.code for reason in found] == ["recalled", "below-floor"]
    view = BootView((("a", SlotState()), ("b", SlotState(2, 0, True))))
    denied = tuple(Denial(version, "", "web failed", NOW) for version in ("1.2.0", "1.5.0"))
    text = on_recalled(facts=BootFacts("b", "1.1.0", "boot", view), recalled={}, denied=denied, reasons=found)
    assert rows_of_denied(text) == [
        "1.2.0, below 1.4.0, the lowest version that this node accepts", "1.5.0, recalled: it burns",
    ]  # fmt: skip


def test_a_single_denied_release_that_is_older_than_what_runs_is_not_promised_either() -> None:
    text = on_recalled(recalled={}, denied=(Denial("1.1.0", "", "web failed", NOW),))
    assert rows_of_denied(text) == ["1.1.0, older than 1.4.0, which runs"]


def test_where_the_floor_was_recalled_nothing_is_said_to_be_below_it() -> None:
    """What replaces it may be installed."""
    view = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 0, True))))
    denied = (Denial("1.3.0", "", "web failed", NOW),)
    text = on_recalled(facts=BootFacts("b", "1.1.0", "boot", view), denied=denied)
    assert rows_of_denied(text) == ["1.3.0 (web failed); 'updatectl allow 1.3.0' tries it again"]


def test_time_that_goes_by_is_no_change_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    line = _Line(terminal=False)
    for seconds in (3, 2, 1):
        line.show(f"held until noon (in {seconds} s)", passing=False, said="held until noon")
    line.show("runs", passing=False)
    assert capsys.readouterr().out == "held until noon (in 3 s)\nruns\n"


def test_an_encoding_without_the_marks_is_no_reason_to_fail(tmp_path: Path) -> None:
    document = {**status_document(STATE, Policy(), Report(), NOW), "alive": True}
    words = [sys.executable, "-m", "updated.cli", "--root", str(written(tmp_path, document)), "status"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "  ? slot b  1.1.0  trial  boots next, 3 tries left" in done.stdout.splitlines()
    assert done.stderr == ""


def test_a_dead_daemon_is_told() -> None:
    assert "The daemon does not run; this is from Fri 2027" in shown(STATE, alive=False)


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
    assert progress_text(document) == "downloading  25 %, 25.0 of 100.0 MB, 1.0 MB/s, 1 min 15 s left"


def written(root: Path, data: object) -> Path:
    (root / "run/updated").mkdir(parents=True)
    (root / "run/updated/status.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return root


@pytest.mark.parametrize("data", ["", "{", [], 5, "null", "[" * 100_000], ids=repr)
def test_a_damaged_status_file_is_one_clear_line(tmp_path: Path, data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(written(tmp_path, data)), "status"]) == exits.FAILED
    told = capsys.readouterr()
    assert told.err == (
        f"updatectl: the status file {tmp_path}/run/updated/status.json: is damaged: it holds no status. "
        "Restart the daemon, which writes it anew: systemctl restart updated.\n"
    )


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


def test_the_windows_have_a_row_where_there_are_any_and_a_daemon_that_keeps_to_them() -> None:
    always = Windows((Window(),))
    nine = Windows((Window(start=540, minutes=60),))
    policy = Policy(downloads=always, reboots=nine)
    document = {**status_document(STATE, policy, Report(), NOW), "alive": True}
    row = "  Windows: closed for reboots until Fri 2027-01-15 10:00 CET (in 1 h); open for downloads"
    assert row in status_text(document, now=NOW).splitlines()
    assert "Windows:" not in status_text({**document, "alive": False}, now=NOW)
    assert "Windows:" not in shown(STATE)


def test_what_expires_has_a_row_for_each_role() -> None:
    expiries = {"stable": Expiry(NOW + 86400), "root": Expiry(NOW - 3600), "beta": Expiry(NOW * 2)}
    state = replace(STATE, expiries=expiries)
    text = shown(state)
    assert "Expiry:  the metadata of root expired less than 2 hours ago (" in text
    assert "Expiry:  the metadata of stable expires in 24 hours (" in text
    assert "beta" not in text


def test_a_node_that_looks_for_nothing_has_no_next_look() -> None:
    document = {**status_document(STATE, Policy(repository=False), Report(), NOW), "alive": True}
    assert "  Checked: never" in status_text(document, now=NOW).splitlines()


@pytest.mark.parametrize(
    ("choice", "environment", "terminal", "coloured"),
    [
        ("auto", {}, True, True), ("auto", {}, False, False), ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True), ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True), ("never", {}, True, False),
    ],
)  # fmt: skip
def test_who_decides_over_colours(
    choice: str, environment: dict[str, str], terminal: bool, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    inner, outer = os.openpty()
    with os.fdopen(outer, "w") as tty, open(os.devnull, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", tty if terminal else pipe)
        paper = paper_of(choice)
    os.close(inner)
    assert paper.colours is coloured
    assert (paper.width is not None) is terminal


def test_a_line_that_is_too_long_goes_on_below_its_own_text() -> None:
    assert Paper(40).wrapped("  Plan: ", "ranges: 38.1 MB of 406 MB, 91 % from this machine") == [
        "  Plan: ranges: 38.1 MB of 406 MB, 91 %", "        from this machine",
    ]  # fmt: skip


def test_history_since_a_time_or_a_while_ago(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "var/lib/updated").mkdir(parents=True)
    lines = [
        json.dumps({"at": at, "kind": "failed", "version": "1.1.0", "text": f"until 2026-01-01T00:00:00Z {at[:4]}"})
        for at in ("2025-01-15T08:00:00Z", "2026-01-15T08:00:00Z")
    ]
    (tmp_path / "var/lib/updated/history.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["--root", str(tmp_path), "history", "--since", "2025-06-01T00:00:00Z"]) == exits.DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Thu 2026-01-15 09:00:00 CET  failed  1.1.0  until Thu 2026-01-01 01:00 CET (")
    assert main(["--root", str(tmp_path), "history", "--since", "1m"]) == exits.DONE
    assert capsys.readouterr().out == "Nothing happened since then.\n"


def entries(*told: tuple[str, str]) -> list[dict[str, Any]]:
    """Entries of the history, by kind and text."""
    return [{"at": "2027-01-15T07:00:00Z", "kind": kind, "version": "", "text": text} for kind, text in told]


def test_on_a_narrow_terminal_the_texts_of_the_history_have_lines_of_their_own() -> None:
    entry = {"at": "2027-01-15T07:00:00Z", "kind": "fell-back", "version": "1.1.0", "text": "web failed: no answer"}
    assert history_text([entry], NOW, Paper(69)).splitlines() == [
        "Fri 2027-01-15 08:00:00 CET  fell-back  1.1.0", "  web failed: no answer",
    ]  # fmt: skip
    assert history_text([entry], NOW, Paper(70)).endswith("1.1.0  web failed: no answer")
    assert len(history_text([entry], NOW, Paper()).splitlines()) == 1


UNTIL = "by eva, until 2027-01-15T15:21:00Z"
STILL = "by eva, until Fri 2027-01-15 16:21 CET (in 7 h 21 min)"
OVER = "by eva, until Fri 2027-01-15 16:21:00 CET"


def test_how_far_the_end_of_a_hold_is_stands_with_the_one_that_holds_alone() -> None:
    def last(*told: tuple[str, str], later: int = 0) -> list[str]:
        lines = history_text(entries(*told), NOW + later, Paper()).splitlines()
        return [line.rpartition("  ")[2] for line in lines]

    assert last(("hold", UNTIL), ("failed", "web")) == [STILL, "web"]
    assert last(("hold", UNTIL), ("hold", UNTIL)) == [OVER, STILL]
    assert last(("hold", UNTIL), ("unhold", "by eva")) == [OVER, "by eva"]
    assert last(("hold", UNTIL), later=86400) == [OVER]
    assert last(("hold", UNTIL), ("hold", "by eva, until somebody lifts it"))[0] == OVER
