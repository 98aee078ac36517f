"""What programs read: each verb prints what its published schema says, and nothing that it does not describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.schema import SCHEMAS, misfits, schema
from tests.cli.states import NOW, PHASES
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.arguments import parser
from updated.core.errors import UpdatedError
from updated.core.status import fault_document


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = exits.DONE) -> Any:
    assert main(list(words)) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("phase", PHASES)
def test_the_status_fits_its_schema_in_each_phase(phase: str) -> None:
    assert not misfits("status", PHASES[phase])


def test_a_status_with_keys_of_a_later_version_fits_too() -> None:
    later = {**PHASES["idle"], "weather": "fair"}
    assert misfits("status", later) == ["status: weather is not described"]
    assert not misfits("status", later, closed=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", 2), ("phase", "asleep"), ("slots", {}), ("written_at", "yesterday"), ("failures", -1), ("enabled", 1)],
)
def test_a_status_that_is_none_does_not_fit(key: str, value: Any) -> None:
    assert misfits("status", {**PHASES["idle"], key: value})
    assert misfits("status", {name: each for name, each in PHASES["idle"].items() if name != key})


def test_the_schema_names_every_key_of_the_status() -> None:
    fault = UpdatedError("disk-full", "the disk", "is full", "Free some space.")
    assert set(schema("status")["properties"]) == {*fault_document(fault, NOW), "alive"}


def test_the_history_fits_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "var/lib/updated").mkdir(parents=True)
    entry = {"at": "2027-01-15T08:00:00Z", "kind": "failed", "version": "", "text": "the disk: is full. Free some."}
    (tmp_path / "var/lib/updated/history.jsonl").write_text(json.dumps(entry) + "\n")
    found = printed(capsys, "--root", str(tmp_path), "history", "--json")
    assert found == [entry]
    assert not misfits("history", found)


def test_health_without_a_verdict_fits_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not misfits("health", printed(capsys, "--root", str(tmp_path), "health", "--json"))


def test_the_explanations_fit_their_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert not misfits("explain", printed(capsys, "explain", "--json"))


def test_what_the_doctor_says_fits_its_schema_also_where_there_is_no_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "--root", str(tmp_path), "doctor", "--json", status=exits.FAILED)
    assert not misfits("doctor", found)


@pytest.mark.parametrize(
    ("words", "status"),
    [(["status"], exits.NO_DAEMON), (["config"], exits.FAILED), (["explain", "nonsense"], exits.USAGE),
     (["nonsense"], exits.USAGE), (["status", "--nonsense"], exits.USAGE), (["import"], exits.USAGE),
     (["history", "-n", "x"], exits.USAGE), (["history", "--since", "x"], exits.USAGE),
     (["hold", "x"], exits.USAGE), (["watch"], exits.NO_DAEMON)],
)  # fmt: skip
def test_a_failure_fits_its_schema_and_has_a_line_for_people(
    words: list[str], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path), *words, "--json"]) == status
    printed_both = capsys.readouterr()
    assert not misfits("error", json.loads(printed_both.out))
    assert printed_both.err.startswith("updatectl: ")
    assert printed_both.err.count("\n") == 1


def test_a_newer_status_is_printed_for_programs_and_refused_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps({"schema": 2, "state": "well"}))
    assert printed(capsys, "--root", str(tmp_path), "status", "--json")["schema"] == 2
    assert main(["--root", str(tmp_path), "status"]) == exits.FAILED
    assert "has the newer schema 2, and this updatectl knows 1" in capsys.readouterr().err


@pytest.mark.parametrize("key", sorted(PHASES["probation"]))
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, [5], [{}]], ids=repr)
def test_whatever_a_key_holds_the_answer_is_a_text_or_one_clear_line(
    key: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run/updated").mkdir(parents=True)
    document = {**PHASES["probation"], key: value}
    (tmp_path / "run/updated/status.json").write_text(json.dumps(document))
    assert main(["--root", str(tmp_path), "status"]) in (exits.DONE, exits.FAILED)
    assert "Traceback" not in capsys.readouterr().err


def test_every_published_schema_is_one_that_the_judge_knows() -> None:
    for path in SCHEMAS.glob("*.json"):
        assert schema(path.stem)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        misfits(path.stem, {})
        misfits(path.stem, [])
    requests = schema("request")["properties"]["requested"]["enum"]
    assert all(parser().parse_args([verb, *["x"] * (verb in ("import", "allow"))]) for verb in requests)
