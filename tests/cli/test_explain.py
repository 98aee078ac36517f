"""Each code has one explanation, and the documents have the same words."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.documents import FOLDER, ROOT, rows, section
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.arguments import parser
from updated.cli.explain import explanations
from updated.cli.mends import ERRORS, REASONS
from updated.core.errors import CODES

OPERATING = (FOLDER / "operating.md").read_text()


def plain(cell: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell).replace("`", "")


def reasons_of_the_core() -> Iterator[str]:
    """The code of each reason that the core can give, from its source."""
    for path in (ROOT / "updated/core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reason" and isinstance(
                node.args[0], ast.Constant
            ):
                yield str(node.args[0].value)


def test_each_reason_that_a_node_can_have_is_explained_and_there_is_no_other() -> None:
    documented = {code for code, _ in rows(section(OPERATING, "Reasons"))}
    assert set(reasons_of_the_core()) == set(REASONS) == documented


def test_each_error_has_a_mend_and_there_is_no_other() -> None:
    assert list(ERRORS) == list(CODES)


@pytest.mark.parametrize("row", rows(section(OPERATING, "Reasons")), ids=lambda row: row[0])
def test_the_manual_and_the_program_say_the_same_of_a_reason(row: list[str]) -> None:
    code, text = row
    assert code in REASONS, f"updated/cli/mends.py lacks {code}"
    assert plain(text).startswith(REASONS[code][0])


@pytest.mark.parametrize("mend", [mend for *_, mend in (*ERRORS.values(), *REASONS.values())])
def test_every_command_of_updatectl_in_a_mend_is_one(mend: str) -> None:
    for command in re.findall(r"'updatectl ([^']*)'", mend):
        words = ["status" if word == "VERB" else word for word in shlex.split(command)]
        if "--help" not in words:
            assert parser().parse_args(words)


def test_a_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "held"]) == exits.DONE
    assert capsys.readouterr().out.splitlines() == [
        "held  (why it waits)", "    a person paused updates",
        "    by itself: stops a download, which goes on when the pause has ended; does not reboot until then",
        "    → 'updatectl unhold' ends the pause",
    ]  # fmt: skip


@pytest.mark.parametrize("each", explanations(), ids=lambda each: f"{each['kind']}-{each['code']}")
def test_each_explanation_says_more_than_the_message(each: dict[str, Any]) -> None:
    """What the node does by itself, and, but where that is all, what a person can do; each once."""
    told = [text for text in (each["meaning"], each["by_itself"], each["mend"]) if text]
    assert len(told) == len(set(told)) == (3 if each["mend"] else 2)
    assert each["mend"] or each["code"] == "up-to-date"


def test_what_the_node_does_by_itself_about_an_error_fits_what_its_core_does() -> None:
    waits = {code for code, (by_itself, _) in ERRORS.items() if "next regular check" in by_itself}
    repeats = {code for code, (by_itself, _) in ERRORS.items() if "tries again after a minute" in by_itself}
    assert waits
    assert repeats
    assert all(not CODES[code].retry for code in waits)
    assert all(CODES[code].retry for code in repeats)


@pytest.mark.parametrize("name", ["not-possible-now", "NotPossibleNow", "org.updated.Updated1.Error.NotPossibleNow"])
def test_the_name_of_an_error_on_the_bus_is_known_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == exits.DONE
    assert "the request does not fit the state of the node" in capsys.readouterr().out


def test_a_code_of_both_kinds_has_both_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "hook-refused"]) == exits.DONE
    assert [each["kind"] for each in json.loads(capsys.readouterr().out)] == ["reason", "error"]


@pytest.mark.parametrize(
    ("name", "near"), [("hold", "held"), ("diskfull", "disk-full"), ("expired", "metadata-expired")]
)
def test_an_unknown_code_gets_near_ones(name: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == exits.USAGE
    assert near in capsys.readouterr().err


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == exits.DONE
    out = capsys.readouterr().out
    assert all(f"\n{each['code']}  (" in f"\n{out}" for each in explanations())
