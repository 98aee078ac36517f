"""The verdicts over boots are kept, in bounds, whatever a power cut did to the file."""

from pathlib import Path

import pytest

from health import history
from health.history import append, read, version_before
from tests.health.conftest import Machine, Put

FILE = history.HISTORY.lstrip("/")


def note(root: Path, number: int, version: str | None = "1.0", reason: str | None = None) -> None:
    append(
        str(root), at="2026-01-01T00:00:00Z", boot_id=f"{number}", slot="a", version=version, verdict="healthy",
        reason=reason,
    )  # fmt: skip


def test_each_boot_has_its_line_and_the_newest_is_the_last(machine: Machine) -> None:
    machine.required(passes=True)
    for boot in ("first", "second"):
        machine.write("proc/sys/kernel/random/boot_id", f"{boot}\n")
        assert machine.health().returncode == 0
    lines = list(read(str(machine.root)))
    assert [(line["boot_id"], line["verdict"]) for line in lines] == [("first", "confirmed"), ("second", "healthy")]
    assert set(lines[0]) == {"at", "boot_id", "slot", "version", "verdict", "reason"}


@pytest.mark.parametrize("damage", [b'{"at": "20', b"\x00" * 512, b"[1]\n", b"[" * 100000 + b"\n"])
def test_a_damaged_line_spoils_only_itself(tmp_path: Path, put: Put, damage: bytes) -> None:
    note(tmp_path, 1)
    file = tmp_path / FILE
    put(FILE, file.read_bytes() + damage)
    note(tmp_path, 2)
    assert [line["boot_id"] for line in read(str(tmp_path))] == ["1", "2"]


def test_the_file_is_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    for number in range(300):
        note(tmp_path, number, reason="x" * 10_000)
        assert (tmp_path / FILE).stat().st_size <= history.SIZE_LIMIT + 2 * history.REASON_LIMIT
    assert [line["boot_id"] for line in read(str(tmp_path))][-1] == "299"


def test_the_version_before_is_the_newest_other_one(tmp_path: Path) -> None:
    for number, version in enumerate(["0.9", "1.0", None, "1.1", "1.1"]):
        note(tmp_path, number, version)
    assert version_before(str(tmp_path), "1.1") == "1.0"
    assert version_before(str(tmp_path), "1.0") == "1.1"


def test_without_a_history_nothing_was_before(tmp_path: Path) -> None:
    assert version_before(str(tmp_path), "1.0") is None
