"""A directory gives the same promises as a server; and whoever owns it can't make the reader wait or stray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from updated.core.errors import UpdatedError
from updated.directory import PIECE, DirectorySource

DATA = bytes(range(256)) * 3000


@pytest.fixture
def source(tmp_path: Path) -> DirectorySource:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/x").write_bytes(DATA)
    return DirectorySource(str(tmp_path))


def _code(call: Callable[..., Iterable[object]], *arguments: object) -> str:
    with pytest.raises(UpdatedError) as refused:
        list(call(*arguments))
    return refused.value.code


def test_a_file_is_read_whole(source: DirectorySource) -> None:
    assert source.read("blobs/x", len(DATA)) == DATA


def test_a_range_is_streamed_exactly(source: DirectorySource) -> None:
    assert b"".join(source.stream("blobs/x", 100, PIECE + 5)) == DATA[100 : PIECE + 105]
    assert list(source.stream("blobs/x", 100, 0)) == []


def test_only_the_directory_itself_could_deliver_other_bytes(source: DirectorySource) -> None:
    assert not source.blame("blobs/x", 100)


def test_a_file_longer_than_signed_is_refused(source: DirectorySource) -> None:
    assert _code(source.read, "blobs/x", len(DATA) - 1) == "too-long"


def test_a_file_without_end_is_not_read_to_its_end(source: DirectorySource, tmp_path: Path) -> None:
    (tmp_path / "blobs/huge").touch()
    os.truncate(tmp_path / "blobs/huge", 2**40)
    assert _code(source.read, "blobs/huge", 1000) == "too-long"


def test_a_file_shorter_than_the_range_is_truncated(source: DirectorySource) -> None:
    assert _code(source.stream, "blobs/x", len(DATA) - 5, 6) == "truncated"


@pytest.mark.parametrize("name", ["blobs/y", "blobs/x/y", "blobs", "nowhere/x"])
def test_what_is_not_there_is_not_found(source: DirectorySource, name: str) -> None:
    assert _code(source.read, name, 10) == "not-found"


@pytest.mark.parametrize("name", ["../x", "blobs/../../x", "/etc/hostname", "blobs//x", ".", "", "x\0y"])
def test_a_name_that_leads_elsewhere_is_refused(source: DirectorySource, name: str) -> None:
    assert _code(source.read, name, 10_000_000) == "not-found"
    assert _code(source.stream, name, 0, 1) == "not-found"


def test_a_pipe_is_refused_without_waiting(source: DirectorySource, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "blobs/pipe")
    assert _code(source.read, "blobs/pipe", 10) == "not-found"


def test_an_unreadable_file_is_a_disk_error(source: DirectorySource, tmp_path: Path) -> None:
    os.symlink("loop", tmp_path / "blobs/loop")
    assert _code(source.read, "blobs/loop", 10) == "disk-error"
