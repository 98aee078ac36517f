"""A cut while bootctl.durable works on a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootctl import durable
from tests.crash.recorder import Create, Log, Rename, Sync, SyncFolder, Write, lay_out, recorded

OLD = b"old content " * 100
NEW = b"NEW CONTENT! " * 300


@pytest.mark.parametrize("old", [OLD, None])
def test_a_written_file_is_the_old_one_or_the_new_one(folder: Path, old: bytes | None) -> None:
    lay_out(folder, {"other": b"x"} if old is None else {"file": old, "other": b"x"})
    with recorded(folder) as log:
        durable.write_file(folder / "file", NEW)
    found = set()
    for state in log.cuts():
        found.add(state.get("file"))
        assert state["other"] == b"x"
        assert all(name in ("file", "other") or name.endswith(".tmp") for name in state)
    assert found == {old, NEW}
    assert {state.get("file") for state in Log(log.final(), {"file": 1, "other": 2}, []).cuts()} == {NEW}


def test_a_leftover_of_a_cut_does_not_disturb_the_next_write(folder: Path) -> None:
    lay_out(folder, {"file": OLD})
    with recorded(folder) as log:
        durable.write_file(folder / "file", NEW)
    for state in log.cuts():
        lay_out(folder, state)
        durable.write_file(folder / "file", b"again")
        assert (folder / "file").read_bytes() == b"again"


def test_a_cut_spoils_at_most_the_line_that_is_being_appended(folder: Path) -> None:
    lines = [b"first\n", b"second\n"]
    lay_out(folder, {"log": b"".join(lines)})
    with recorded(folder) as log:
        durable.append_line(folder / "log", b"third\n")
    for state in log.cuts(unit=1):
        lay_out(folder, state)
        assert state["log"].startswith(b"first\nsecond\n")
        durable.append_line(folder / "log", b"fourth\n")
        after = (folder / "log").read_bytes().splitlines(keepends=True)
        assert after[:2] == lines
        assert after[-1] == b"fourth\n"
        assert len(after) <= 4


def test_a_renamed_file_has_one_of_its_two_names(folder: Path) -> None:
    lay_out(folder, {"from": NEW, "to": OLD})
    with recorded(folder) as log:
        durable.rename(folder / "from", folder / "to")
    assert list(log.cuts()) == [{"from": NEW, "to": OLD}, {"to": NEW}]


def test_a_removed_file_is_gone_when_the_call_returns(folder: Path) -> None:
    lay_out(folder, {"file": OLD})
    with recorded(folder) as log:
        durable.remove(folder / "file")
    assert list(log.cuts()) == [{"file": OLD}, {}]
    assert isinstance(log.effects[-1], SyncFolder)


def test_the_model_of_the_disk_finds_a_missing_flush() -> None:
    """The same steps as write_file without the fsync of the data: a cut can leave an empty or a torn file."""
    careless = Log({"file": OLD}, {"file": 1}, [
        Create("tmp", 2), Write(2, 0, NEW), Rename("tmp", "file"), SyncFolder(), Sync(2)
    ])  # fmt: skip
    found = {state["file"] for state in careless.cuts()}
    assert {OLD, NEW, b""} < found


def test_the_model_of_the_disk_finds_a_missing_flush_of_the_folder() -> None:
    careless = Log({"file": OLD}, {"file": 1}, [Create("tmp", 2), Write(2, 0, NEW), Sync(2), Rename("tmp", "file")])
    assert [state["file"] for state in careless.cuts()][-1] == NEW
    assert {state["file"] for state in careless.cuts()} == {OLD, NEW}
