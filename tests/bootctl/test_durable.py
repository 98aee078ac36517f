"""Durable effects; what survives a cut is in tests/crash."""

from __future__ import annotations

import ast
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootctl import durable

REPOSITORY = Path(__file__).parents[2]


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_write_file_creates_and_replaces_with_the_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    for content in (b"first", b""):
        durable.write_file(path, content, mode=mode)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == ["file"]


def test_write_file_works_with_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    durable.write_file("file", b"x")
    assert Path("file").read_bytes() == b"x"


@pytest.mark.parametrize("failing", ["pwrite", "fsync", "rename"])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_leftover_of_a_dead_writer_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "rename", fail)
    monkeypatch.setattr(os, "unlink", lambda path: None)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write_file(tmp_path / "file", b"unfinished")
    monkeypatch.undo()
    assert len(os.listdir(tmp_path)) == 1
    durable.write_file(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_lines_are_appended_and_the_file_is_created(tmp_path: Path) -> None:
    path = tmp_path / "log"
    durable.append_line(path, b"one\n", mode=0o600)
    durable.append_line(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_tail_spoils_only_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    durable.append_line(path, b"three\n")
    assert path.read_bytes() == b"one\ntw\nthree\n"


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:2]))
    with pytest.raises(OSError, match="No space left"):
        durable.append_line(path, b"two\n")
    assert path.read_bytes() == b"one\n"


def test_overwrite_goes_on_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(16))
    real_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real_pwrite(fd, data[:3], offset))
    fd = os.open(path, os.O_RDWR)
    try:
        durable.overwrite(fd, 4, b"12345678")
    finally:
        os.close(fd)
    assert path.read_bytes() == bytes(4) + b"12345678" + bytes(4)


def test_rename_replaces_across_directories(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    durable.rename(tmp_path / "from/file", tmp_path / "to/file")
    assert (tmp_path / "to/file").read_text() == "from"
    assert not (tmp_path / "from/file").exists()


def test_remove_is_idempotent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    durable.remove(tmp_path / "file")
    durable.remove(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_file_its_directory_and_its_file_system_can_be_synced(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        durable.sync_fd(fd)
        durable.sync_directory(tmp_path)
        durable.sync_filesystem(fd)
    finally:
        os.close(fd)


def test_syncing_what_is_closed_is_an_error() -> None:
    for act in (durable.sync_fd, durable.sync_filesystem, durable.filesystem_magic):
        with pytest.raises(OSError, match="Bad file descriptor"):
            act(10**6)


@pytest.mark.parametrize(
    ("magic", "failure", "frozen"),
    [
        (durable.EXT_MAGIC, None, False),
        (durable.EXT_MAGIC, errno.ENODEV, False),  # no journal
        (durable.EXT_MAGIC, errno.ENOTTY, True),  # Linux before 5.14
        (durable.EXT_MAGIC, errno.EPERM, True),
        (durable.XFS_MAGIC, None, True),
        (durable.FAT_MAGIC, None, False),
    ],
)
def test_a_file_system_whose_journal_cannot_be_emptied_is_frozen_by_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: int, failure: int | None, frozen: bool
) -> None:
    def checkpoint(fd: int, request: int, argument: bytes) -> bytes:
        if failure is not None:
            raise OSError(failure, os.strerror(failure))
        return argument

    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(fcntl, "ioctl", checkpoint)
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: magic)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        durable.sync_filesystem(fd)
    finally:
        os.close(fd)
    assert (tmp_path / "arguments").exists() == frozen
    if frozen:
        arguments = (tmp_path / "arguments").read_text()
        assert arguments.endswith(f"\n{fd}\n")
        assert arguments.index(str(0xC0045877)) < arguments.index(str(0xC0045878))  # freeze, then thaw


def test_the_type_of_a_file_system_is_that_of_stat(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        magic = durable.filesystem_magic(fd)
    finally:
        os.close(fd)
    assert f"{magic:x}" == subprocess.check_output(["stat", "-f", "-c", "%t", tmp_path], text=True).strip()


def test_no_other_module_syncs_or_renames() -> None:
    packages = [REPOSITORY / name for name in ("bootctl", "health", "updated")]
    sources = {source for package in packages for source in package.rglob("*.py")}
    found = [
        f"{source.relative_to(REPOSITORY)}:{node.lineno}"
        for source in sorted(sources - {REPOSITORY / "bootctl/durable.py"})
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if node.attr in {"fsync", "fdatasync", "rename", "renames", "replace", "sync"}
    ]
    assert not found
