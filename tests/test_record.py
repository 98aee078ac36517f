"""Records: after any cut the old or the new one is read, and what is damaged is said to be."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updated import record
from updated.core.errors import UpdatedError

OLD, NEW = {"is": "old"}, {"is": "new"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "folder" / "record")


def held(path: str) -> str | None:
    found = record.read(path)
    return None if found is None else found.text("is")


def code(path: str) -> str:
    with pytest.raises(UpdatedError) as caught:
        record.read(path)
    return caught.value.code


def bytes_of(value: dict[str, str], folder: Path) -> bytes:
    record.write(str(folder / "sample"), value)
    return (folder / "sample").read_bytes()




@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), st.integers(0, 2**50)))
@settings(max_examples=50)
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "record")
        record.write(path, value)
        found = record.read(path)
        assert found is not None
        assert {key: found.number(key) for key in found.keys()} == value  # noqa: SIM118


def test_there_was_never_one(path: str) -> None:
    assert held(path) is None


def test_the_newest_one_counts_and_the_one_before_is_kept(path: str) -> None:
    record.write(path, OLD)
    record.write(path, NEW)
    assert held(path) == "new"
    os.unlink(path)
    assert held(path) == "old"


def test_the_same_value_is_not_written_again(path: str) -> None:
    record.write(path, OLD)
    before = os.stat(path)
    record.write(path, OLD)
    assert (os.stat(path).st_ino, os.stat(path).st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not os.path.exists(record.previous(path))


def test_every_prefix_of_a_torn_write_leaves_the_old_or_the_new_one(path: str, tmp_path: Path) -> None:
    """A file system may keep the rename and lose the end of the data."""
    record.write(path, OLD)
    record.write(path, NEW)
    whole = Path(path).read_bytes()
    for length in range(len(whole) + 1):
        Path(path).write_bytes(whole[:length])
        assert held(path) == ("new" if length == len(whole) else "old"), length


def test_every_prefix_of_zeros_leaves_the_old_or_the_new_one(path: str) -> None:
    """Or it may keep the length, and show zeros for the data that it lost."""
    record.write(path, OLD)
    record.write(path, NEW)
    whole = Path(path).read_bytes()
    for length in range(len(whole) + 1):
        Path(path).write_bytes(whole[:length].ljust(len(whole), b"\0"))
        assert held(path) == ("new" if length == len(whole) else "old"), length


def test_every_prefix_of_the_first_record_is_damaged_or_whole(path: str) -> None:
    record.write(path, NEW)
    whole = Path(path).read_bytes()
    for length in range(len(whole)):
        Path(path).write_bytes(whole[:length])
        assert code(path) == "state-corrupt"


def test_each_byte_of_a_record_is_covered_by_the_checksum(path: str) -> None:
    record.write(path, OLD)
    record.write(path, NEW)
    whole = Path(path).read_bytes()
    for at in range(len(whole)):
        Path(path).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert held(path) == "old", at


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_garbage_is_one_typed_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "record")
        Path(path).write_bytes(data)
        Path(record.previous(path)).write_bytes(data)
        assert code(path) == "state-corrupt"


def test_a_torn_newest_record_is_never_kept_as_the_previous_one(path: str) -> None:
    record.write(path, OLD)
    record.write(path, NEW)
    Path(path).write_bytes(b"torn")
    record.write(path, {"is": "newest"})
    assert held(path) == "newest"
    os.unlink(path)
    assert held(path) == "old"


def test_damaged_copies_are_set_aside_and_kept_for_a_look(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    for name in (path, record.previous(path)):
        Path(name).write_bytes(b"torn")
    record.set_aside(path)
    assert held(path) is None
    assert sorted(os.listdir(os.path.dirname(path))) == ["record.damaged", "record.previous.damaged"]


def test_a_record_without_end_is_damaged_and_not_read_to_its_end(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.truncate(2**40)
    assert code(path) == "state-corrupt"


def test_a_disk_that_can_not_be_read_is_no_damaged_record(path: str) -> None:
    os.makedirs(path)
    assert code(path) == "disk-error"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_as_such() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        full.write(b"x")
    error = record.storage_error("the record", caught.value)
    assert (error.code, error.cause) == ("disk-full", "there is no space left on its file system")
