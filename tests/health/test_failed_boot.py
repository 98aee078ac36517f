"""What is left of a boot that failed: bounded, of the last one only, and never a reason to keep a sick slot."""

import json
from pathlib import Path

import pytest

from health import failed_boot
from health.failed_boot import FOLDER, PSTORE_LIMIT, PSTORE_RECORDS, Which, keep
from tests.health.conftest import Machine, Put


def kept(root: Path, which: Which = "previous") -> dict[str, bytes]:
    keep(str(root), which, slot="b", version="1.2.0", reason="why", at="2026-01-01T00:00:00Z")
    folder = root / FOLDER.lstrip("/")
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.is_dir() else {}


def test_what_the_kernel_left_is_kept_from_where_it_is_and_from_where_systemd_moves_it(
    tmp_path: Path, put: Put
) -> None:
    put("sys/fs/pstore/dmesg-efi-1", "panic")
    put("var/lib/systemd/pstore/1767225600/dmesg.txt", "older panic")
    found = kept(tmp_path)
    assert (found["pstore-dmesg-efi-1"], found["pstore-dmesg.txt"]) == (b"panic", b"older panic")
    assert json.loads(found["about.json"]) == {
        "slot": "b", "version": "1.2.0", "reason": "why", "at": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def test_it_is_bounded_and_the_end_of_each_record_is_what_stays(tmp_path: Path, put: Put) -> None:
    for number in range(40):
        put(f"sys/fs/pstore/dmesg-efi-{number}", b"x" * PSTORE_LIMIT + b"the end")
    records = {name: data for name, data in kept(tmp_path).items() if name.startswith("pstore-")}
    assert len(records) == PSTORE_RECORDS
    assert all(len(data) == PSTORE_LIMIT and data.endswith(b"the end") for data in records.values())


def test_a_new_failure_replaces_the_old_one(tmp_path: Path, put: Put) -> None:
    put("sys/fs/pstore/dmesg-efi-1", "panic")
    assert "pstore-dmesg-efi-1" in kept(tmp_path)
    assert set(kept(tmp_path, "this")) == {"about.json"}


def test_what_the_boot_kept_of_itself_is_not_replaced_by_nothing(tmp_path: Path, put: Put) -> None:
    put(f"{FOLDER.lstrip('/')}/journal.txt", "its last words")
    assert kept(tmp_path)["journal.txt"] == b"its last words"


def test_where_nothing_can_be_kept_it_is_told_and_no_more(
    tmp_path: Path, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    put("var/lib/updated/health", "a file where the folder should be")
    kept(tmp_path)
    assert "the log of a failed boot can't be kept" in capsys.readouterr().err


def test_a_rejection_keeps_what_it_was_about(machine: Machine) -> None:
    assert machine.required(passes=False).health().returncode == 3
    about = json.loads((machine.root / FOLDER.lstrip("/") / "about.json").read_text())
    assert about["slot"] == "b"
    assert about["reason"].startswith("required check it failed")


def test_a_journal_that_is_not_there_leaves_nothing_in_its_place() -> None:
    assert "No journal files" not in failed_boot._journal("previous")
