"""The file with the results of the old slot: what it says, and what it must not be believed."""

import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.baseline import (
    SIZE_LIMIT,
    Baseline,
    Key,
    NoBaseline,
    discard,
    document,
    for_slot,
    is_for,
    parse,
    read,
    write,
)
from health.check import CheckResult, Kind, Result
from tests.health.conftest import Put

FILE = "var/lib/updated/health/baseline.json"
RESULTS = (
    CheckResult("web", "required", "http", "fail", 3, 4.0, "no route"),
    CheckResult("ntp", "wanted", "unit", "pass"),
)
TAKEN = document("a", "1.1.0", "6f2c", "1.2.0", "2026-01-01T00:00:00Z", RESULTS)
FOUND = Baseline(
    "a", "1.1.0", "6f2c", "1.2.0", "2026-01-01T00:00:00Z",
    {("required", "web", "http"): "fail", ("wanted", "ntp", "unit"): "pass"},
)  # fmt: skip


def reason(root: Path) -> str:
    found = read(str(root))
    assert isinstance(found, NoBaseline)
    return found.reason


def test_the_document_has_the_keys_that_others_rely_on() -> None:
    assert document("a", "1.1.0", "6f2c", "1.2.0", "2026-01-01T00:00:00Z", RESULTS[:1]) == {
        "schema": 1,
        "slot": "a",
        "version": "1.1.0",
        "boot_id": "6f2c",
        "target": "1.2.0",
        "time": "2026-01-01T00:00:00Z",
        "checks": [{"kind": "required", "name": "web", "type": "http", "result": "fail", "output": "no route"}],
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(str(tmp_path), TAKEN)
    assert read(str(tmp_path)) == FOUND


def test_a_baseline_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert reason(tmp_path) == "no baseline was kept from before this boot"


def test_a_baseline_that_was_discarded_is_none(tmp_path: Path) -> None:
    write(str(tmp_path), TAKEN)
    discard(str(tmp_path))
    discard(str(tmp_path))
    assert reason(tmp_path) == "no baseline was kept from before this boot"


def changed(**changes: Any) -> bytes:
    return json.dumps({**TAKEN, **changes}).encode()


CHECK = TAKEN["checks"][0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 512,
        b"\xff",
        json.dumps(TAKEN).encode()[:-20],
        b"[" * 100_000,
        b"[]",
        b"null",
        changed(schema=2),
        changed(schema=True),
        changed(schema="1"),
        changed(slot=None),
        changed(version=7),
        changed(time=None),
        changed(checks={}),
        changed(checks=[CHECK, CHECK]),
        changed(checks=[{**CHECK, "result": "passed"}]),
        changed(checks=[{**CHECK, "kind": "needed"}]),
        changed(checks=[{**CHECK, "name": 1}]),
        changed(checks=[{**CHECK, "more": ""}]),
        changed(checks=[{key: value for key, value in CHECK.items() if key != "output"}]),
        changed(more=1),
        b'{"slot": "b", ' + changed()[1:],
    ],
)
def test_a_damaged_baseline_is_none(tmp_path: Path, put: Put, data: bytes) -> None:
    put(FILE, data)
    assert reason(tmp_path).startswith("the baseline is damaged (")


def test_a_baseline_that_is_no_file_is_none_and_nobody_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True)
    os.mkfifo(tmp_path / FILE)
    assert reason(tmp_path) == "the baseline is not a file"
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert "the baseline" in reason(tmp_path)


def test_an_oversized_baseline_is_none(tmp_path: Path, put: Put) -> None:
    put(FILE, b" " * (SIZE_LIMIT + 1))
    assert "is larger than" in reason(tmp_path)


def test_a_baseline_is_for_the_other_slot() -> None:
    assert for_slot(FOUND, "b", "1.2.0") == FOUND
    assert for_slot(FOUND, "b", "1.2") == FOUND
    foreign = for_slot(FOUND, "a", "1.1.0")
    assert isinstance(foreign, NoBaseline)
    assert "slot a itself" in foreign.reason


def test_a_baseline_for_another_version_is_none() -> None:
    foreign = for_slot(FOUND, "b", "1.3.0")
    assert isinstance(foreign, NoBaseline)
    assert "was taken for 1.2.0" in foreign.reason


def test_a_version_that_nobody_told_does_not_stand_in_the_way() -> None:
    assert for_slot(FOUND, "b", None) == FOUND
    untold = parse(changed(target=None))
    assert for_slot(untold, "b", "1.3.0") == untold


def test_only_what_tells_of_the_very_same_update_may_stay_while_a_new_one_is_taken() -> None:
    assert is_for(FOUND, "a", "1.1.0", "1.2.0")
    for slot, version, target in (("b", "1.1.0", "1.2.0"), ("a", "1.0.0", "1.2.0"), ("a", "1.1.0", "1.3.0")):
        assert not is_for(FOUND, slot, version, target)
    assert not is_for(NoBaseline("there is no baseline"), "a", "1.1.0", "1.2.0")
    assert not is_for(parse(changed(version=None)), "a", None, "1.2.0")
    assert not is_for(parse(changed(target=None)), "a", "1.1.0", None)


@given(st.binary())
def test_whatever_the_bytes_are_the_only_error_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data)


CHECKS = st.lists(
    st.builds(
        CheckResult,
        name=st.text(),
        kind=st.sampled_from(get_args(Kind)),
        type=st.text(),
        result=st.sampled_from(get_args(Result)),
        output=st.text(),
    ),
    unique_by=lambda result: (result.kind, result.name, result.type),
)


@given(st.text(), st.none() | st.text(), st.none() | st.text(), st.none() | st.text(), st.text(), CHECKS)
def test_every_baseline_is_read_as_it_was_taken(
    slot: str, version: str | None, boot: str | None, target: str | None, time: str, checks: list[CheckResult]
) -> None:
    read_back = parse(json.dumps(document(slot, version, boot, target, time, checks)).encode())
    results: dict[Key, Result] = {(each.kind, each.name, each.type): each.result for each in checks}
    assert read_back == Baseline(slot, version, boot, target, time, results)
