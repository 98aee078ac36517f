"""What `updatectl health` shows, and what the status says of probation: from files that may be anybody's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.judged import health_text
from updated.cli.show import status_text
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.state import BootFacts, Phase, Target
from updated.core.status import Report, status_document
from updated.healthfiles import read_health, read_verdicts

NOW = 1_800_000_000
BOOT = "6f2c"


def check(name: str, result: str = "pass", kind: str = "required", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "type": "unit", "result": result, "attempts": 1, "duration_seconds": 0.25,
        "output": "", "counts": kind == "required", "before": None, "note": None, **more,
    }  # fmt: skip


def verdict(*checks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "schema": 1, "slot": "b", "version": "1.2.0", "boot_id": BOOT, "verdict": "confirmed", "reason": None,
        "started": "2026-11-21T10:00:00Z", "finished": "2026-11-21T10:00:09Z",
        "baseline": {"version": "1.1.0", "time": "2026-11-21T09:59:00Z", "reason": None}, "checks": list(checks),
        **more,
    }  # fmt: skip


class Node:
    """A root in which health left something."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "var/lib/updated/health"
        self.folder.mkdir(parents=True)
        boot = root / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True)
        boot.write_text(f"{BOOT}\n")

    def judged(self, *checks: dict[str, Any], **more: Any) -> str:
        """What is shown of this verdict."""
        (self.folder / "verdict.json").write_text(json.dumps(verdict(*checks, **more)))
        return self.shown()

    def shown(self) -> str:
        return health_text(read_health(str(self.root)), read_verdicts(str(self.root)))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_each_check_is_told_with_its_result_its_time_and_what_was_before(node: Node) -> None:
    lines = node.judged(
        check("web", before="pass"),
        check("containerd", "fail", before="pass", output="no socket\nat all"),
        check("disk", "fail", before="fail", counts=False, note="failed before the update as well", output="full"),
        check("ntp", "timeout", "wanted"), check("gpu", "skip"),
        verdict="rejected", reason="required check containerd failed: no socket",
    ).splitlines()  # fmt: skip
    assert lines == [
        "slot b (1.2.0): rejected, as of 2026-11-21T10:00:09Z",
        "  Reason:   required check containerd failed: no socket",
        "  Baseline: 1.1.0 at 2026-11-21T09:59:00Z, before the reboot",
        "",
        "  ✓ required web         passed in 0.2 s, passed before the update",
        "  ✗ required containerd  failed in 0.2 s, passed before the update, counts",
        "      no socket",
        "      at all",
        "  ✗ required disk        failed in 0.2 s, does not count, it failed before the update as well",
        "      full",
        "  ✗ wanted   ntp         timed out in 0.2 s, does not count",
        "  – required gpu         skipped in 0.2 s",
    ]


def test_probation_is_told_with_its_end(node: Node) -> None:
    text = node.judged(check("web"), verdict="probation", probation_until="2026-11-21T10:05:09Z")
    assert text.splitlines()[0] == (
        "slot b (1.2.0): on probation until 2026-11-21T10:05:09Z, as of 2026-11-21T10:00:09Z"
    )


def test_a_verdict_of_an_earlier_boot_is_told_as_such(node: Node) -> None:
    text = node.judged(check("web"), verdict="probation", boot_id="another", probation_until="2026-11-21T10:05:09Z")
    assert text.splitlines()[0] == "slot b (1.2.0): probation, as of 2026-11-21T10:00:09Z, in a boot before this one"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("no baseline was kept from before this boot",
         "nothing was compared, as no baseline was kept from before this boot"),
        ("slot a was confirmed before", "nothing was compared, as slot a was confirmed before"),
        (None, "nothing was compared"),
    ],
)  # fmt: skip
def test_why_there_was_nothing_to_compare_with_is_told(node: Node, reason: str | None, words: str) -> None:
    nothing = {"version": None, "time": None, "reason": reason}
    assert f"  Baseline: {words}" in node.judged(check("web"), baseline=nothing).splitlines()


def test_a_verdict_from_before_the_baseline_was_known_is_read(node: Node) -> None:
    old = {key: value for key, value in verdict().items() if key != "baseline"}
    each = check("web", "fail")
    old["checks"] = [{key: each[key] for key in ("name", "kind", "result", "duration_seconds", "output")}]
    (node.folder / "verdict.json").write_text(json.dumps(old))
    lines = node.shown().splitlines()
    assert "  Baseline: none" in lines
    assert "  ✗ required web  failed in 0.2 s, counts" in lines


def test_what_a_check_wrote_can_not_steer_the_terminal(node: Node) -> None:
    text = node.judged(check("web", "fail", output="\x1b[2J\x07gone"), reason="\x1b]0;x\x07")
    assert "gone" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_machine_that_was_never_judged_says_so(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(node.root), "health"]) == exits.DONE
    assert capsys.readouterr().out == "No verdict on this machine yet.\n"
    assert main(["--root", str(node.root), "health", "--json"]) == exits.DONE
    assert json.loads(capsys.readouterr().out) == {"verdict": None, "history": []}


def test_a_damaged_verdict_is_an_error_and_the_verdicts_before_are_shown_all_the_same(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.folder / "verdict.json").write_text("{")
    line = {"at": "2026-11-22T10:00:00Z", "boot_id": "x", "slot": "a", "version": "1.0.0", "verdict": "healthy",
            "reason": None}  # fmt: skip
    (node.folder / "history.jsonl").write_text(json.dumps(line) + "\n")
    assert main(["--root", str(node.root), "health"]) == exits.FAILED
    told = capsys.readouterr()
    assert told.out.splitlines() == ["Verdicts:", "  Sun 2026-11-22 11:00:00 CET  slot a  1.0.0        healthy"]
    assert told.err.startswith(f"updatectl: the verdict {node.folder}/verdict.json: is damaged; ")


def test_the_verdicts_before_are_shown_the_newest_last(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        json.dumps({"at": f"2026-11-2{day}T10:00:00Z", "boot_id": "x", "slot": "a", "version": "1.0.0",
                    "verdict": "sick" if day == 2 else "healthy", "reason": "web failed" if day == 2 else None})
        for day in range(4)
    ]  # fmt: skip
    (node.folder / "history.jsonl").write_text("\n".join([*lines[:2], "half a li", "[" * 60_000, *lines[2:]]) + "\n")
    assert main(["--root", str(node.root), "health", "-n", "2"]) == exits.DONE
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Verdicts:",
        "  Sun 2026-11-22 11:00:00 CET  slot a  1.0.0        sick         web failed",
        "  Mon 2026-11-23 11:00:00 CET  slot a  1.0.0        healthy",
    ]


def test_a_line_with_values_of_other_types_is_no_verdict(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"at": "2026-11-20T10:00:00Z", "slot": "a", "version": None, "verdict": "sick", "reason": None}
    never: tuple[Any, ...] = (7, [], True)
    wrong = [(key, value) for key in good for value in never]
    wrong += [(key, None) for key in ("at", "slot", "verdict")]
    lines = [json.dumps({**good, key: value}) for key, value in (("reason", "x"), *wrong, ("verdict", "healthy"))]
    (node.folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["--root", str(node.root), "health", "-n", "2", "--json"]) == exits.DONE
    shown = json.loads(capsys.readouterr().out)["history"]
    assert [verdict["verdict"] for verdict in shown] == ["sick", "healthy"]


@pytest.mark.parametrize("verb", ["health", "history"])
@pytest.mark.parametrize("lines", ["-1", "x", "1.5", ""])
def test_a_number_of_lines_that_is_none_is_refused(
    node: Node, capsys: pytest.CaptureFixture[str], verb: str, lines: str
) -> None:
    assert main(["--root", str(node.root), verb, f"--lines={lines}"]) == exits.USAGE
    assert f"argument -n/--lines: {lines!r} is no number of lines" in capsys.readouterr().err


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(verdict())), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(verdict())), value=VALUES)
def test_whatever_the_file_holds_there_is_a_text_for_people(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    node = Node(tmp_path_factory.mktemp("node"))
    assert node.judged(check("web", "fail", output="x"), **{key: value})
    (node.folder / "verdict.json").write_text(json.dumps(value))
    assert node.shown()


# -------------------------------------------------------------------------------------------------------- the status


def status(node: Node) -> str:
    view = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 2, False))))
    state = replace(
        first_state(BootFacts("b", "1.2.0", BOOT, view), 0.5), phase=Phase.TRIAL, target=Target("1.2.0", "m", "b", 3)
    )
    document = status_document(state, Policy(), Report(health=read_health(str(node.root))), NOW)
    return status_text({**document, "alive": True}, now=NOW)


def test_the_status_says_until_when_the_slot_is_on_probation(node: Node) -> None:
    node.judged(check("web"), verdict="probation", probation_until="2026-11-21T10:05:09Z")
    lines = status(node).splitlines()
    assert lines[0] == "runs 1.2.0 in slot b, on probation until Sat 2026-11-21 11:05 CET (54 d 21 h ago)"
    assert any("Health:" in line and "'updatectl health' shows the checks" in line for line in lines)


@pytest.mark.parametrize("more", [{"probation_until": None}, {"probation_until": "soon"}, {}])
def test_a_probation_without_a_known_end_is_told_as_one(node: Node, more: dict[str, Any]) -> None:
    node.judged(check("web"), verdict="probation", **more)
    assert status(node).splitlines()[0] == "runs 1.2.0 in slot b, on probation"


def test_a_probation_of_an_earlier_boot_says_nothing_of_this_one(node: Node) -> None:
    node.judged(check("web"), verdict="probation", boot_id="another", probation_until="2026-11-21T10:05:09Z")
    assert status(node).splitlines()[0] == "runs 1.2.0 in slot b on trial; health has not confirmed it yet"
