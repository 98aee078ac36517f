"""What the daemon believes of the file in which health says why a slot did not come up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from updated.core.state import Ending
from updated.healthfiles import FOLDER, MAX_CAUSE_LENGTH, MAX_NOTE_LENGTH, read_ending

BOOT = "f1c0"
WHOLE = {"slot": "b", "version": "1.1.0", "reason": "x", "cause": "the kernel panicked", "boot_id": BOOT}


def read(root: Path, content: bytes | dict[str, Any], boot: str = BOOT) -> Ending | None:
    file = root / FOLDER.lstrip("/") / "fallback.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_ending(str(root), boot)


def test_what_health_found_in_this_boot_is_taken(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == Ending("b", "1.1.0", "the kernel panicked")


def test_what_it_found_in_another_boot_is_not(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE, "another") is None
    assert read(tmp_path, {**WHOLE, "boot_id": ""}, "") is None


def test_without_the_file_nothing_is_known(tmp_path: Path) -> None:
    assert read_ending(str(tmp_path), BOOT) is None


@pytest.mark.parametrize("key", ["slot", "version", "cause", "boot_id"])
@pytest.mark.parametrize("value", [None, 7, ["b"], {"b": "b"}])
def test_a_value_of_another_type_tells_nothing(tmp_path: Path, key: str, value: object) -> None:
    assert read(tmp_path, {**WHOLE, key: value}) is None


@pytest.mark.parametrize("key", ["slot", "version", "cause", "boot_id"])
def test_a_note_of_an_older_health_without_a_key_tells_nothing(tmp_path: Path, key: str) -> None:
    assert read(tmp_path, {name: value for name, value in WHOLE.items() if name != key}) is None


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"[1", b"[" * 100_000, b"7", b"\xff\xfe", b"null", b"[]"])
def test_a_damaged_file_tells_nothing(tmp_path: Path, damage: bytes) -> None:
    assert read(tmp_path, damage) is None


def test_a_file_that_is_too_large_tells_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, {**WHOLE, "more": "x" * MAX_NOTE_LENGTH}) is None


def test_a_cause_becomes_one_printable_line_of_a_bounded_length(tmp_path: Path) -> None:
    hostile = "\x1b]0;it\x07 panicked\nupdated: all is well\u202e\ud800 " + "x" * 10_000
    found = read(tmp_path, {**WHOLE, "cause": hostile})
    assert found is not None
    assert found.cause.startswith("]0;it panicked updated: all is well xxx")
    assert found.cause.isprintable()
    assert len(found.cause) <= MAX_CAUSE_LENGTH
    assert read(tmp_path, {**WHOLE, "cause": "\x1b \n"}) is None
