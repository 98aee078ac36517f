"""Small disks for the machines: an EFI system partition and one of ext4, made and read by the tools, never mounted."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

Files = Mapping[str, bytes]  # the files of one folder

_MEBIBYTE: Final = 1 << 20
_SECTOR: Final = 512
_DISK: Final = 48 * _MEBIBYTE
_ESP_START: Final = 1 * _MEBIBYTE
_ESP: Final = 34 * _MEBIBYTE  # FAT32 needs 65525 clusters
_EXT4_START: Final = 36 * _MEBIBYTE
_EXT4: Final = 8 * _MEBIBYTE
_LAYOUT: Final = f"""\
label: gpt
start={_ESP_START // _SECTOR}, size={_ESP // _SECTOR}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start={_EXT4_START // _SECTOR}, size={_EXT4 // _SECTOR}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
"""


def make_disk(path: Path) -> None:
    """A GPT with an empty EFI system partition (FAT32) as partition 1, and an empty ext4 as partition 2."""
    path.write_bytes(_laid_out())


@cache
def _laid_out() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder, "disk.img")
        with disk.open("xb") as file:
            file.truncate(_DISK)
        run("sfdisk", "-q", disk, words=_LAYOUT)
        run("mformat", *_esp(disk), "-T", str(_ESP // _SECTOR), "-h", "64", "-s", "32", "-F", "::")
        fill_ext4(disk, {})
        return disk.read_bytes()


def put_on_esp(disk: Path, folder: str, files: Files) -> None:
    """Write `files` into `folder`, such as "a/b" or ""; what else is in it stays."""
    _make_folder(disk, folder)
    if files:
        with _written(files) as source:
            run("mcopy", "-o", *_esp(disk), *(source / name for name in files), f"::/{folder}")


def replace_on_esp(disk: Path, folder: str, files: Files, *, names: str = "*") -> None:
    """Make `files` all that `folder` has of files whose names fit the pattern `names`."""
    _make_folder(disk, folder)
    old = _files_on_esp(disk, folder, names)
    if old:
        run("mdel", *_esp(disk), *(_path(folder, name) for name in old))
    put_on_esp(disk, folder, files)


def take_from_esp(disk: Path, folder: str, *, names: str = "*") -> dict[str, bytes]:
    """The files of `folder` whose names fit the pattern `names`."""
    found = _files_on_esp(disk, folder, names)
    with tempfile.TemporaryDirectory() as target:
        if found:
            run("mcopy", "-n", *_esp(disk), *(_path(folder, name) for name in found), target)
        return {name: Path(target, name).read_bytes() for name in found}


def _files_on_esp(disk: Path, folder: str, names: str) -> list[str]:
    listed = _listed(disk, folder)
    return [name for name in listed if not name.endswith("/") and fnmatch.fnmatchcase(name, names)]


def _make_folder(disk: Path, folder: str) -> None:
    parent = ""
    for part in folder.split("/") if folder else ():
        if f"{part}/" not in _listed(disk, parent):
            run("mmd", *_esp(disk), _path(parent, part))
        parent = f"{parent}/{part}".strip("/")


def _listed(disk: Path, folder: str) -> list[str]:
    """Names; those of folders end in a slash."""
    lines = run("mdir", "-b", "-a", *_esp(disk), f"::/{folder}").splitlines()
    return [line[len(line.rstrip("/").rpartition("/")[0]) + 1 :] for line in lines]


def _path(folder: str, name: str) -> str:
    return f"::/{folder}/{name}" if folder else f"::/{name}"


def fill_ext4(disk: Path, files: Files) -> None:
    """Make the file system of partition 2 anew, with exactly `files` in it."""
    with _written(files) as source:
        options = ("-q", "-F", "-t", "ext4", "-E", f"offset={_EXT4_START}", "-d", source)
        run("mke2fs", *options, disk, f"{_EXT4 // 1024}k")


def take_from_ext4(disk: Path) -> dict[str, bytes]:
    """The files in the root of partition 2."""
    filesystem = f"{disk}?offset={_EXT4_START}"
    taken = {}
    for line in run("debugfs", "-R", "ls -p /", filesystem).splitlines():
        # /inode/mode/user/group/name/size/
        _, _, mode, _, _, name, *_ = [*line.split("/"), *[""] * 6]
        if mode.startswith("100"):
            with tempfile.NamedTemporaryFile() as file:
                run("debugfs", "-R", f'dump "/{name}" {file.name}', filesystem)
                taken[name] = Path(file.name).read_bytes()
    return taken


def run(*command: str | Path, words: str | None = None) -> str:
    """What `command` says when it is told `words`."""
    ran = subprocess.run(
        [str(word) for word in command],
        input=words or "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"},
    )
    if ran.returncode:
        raise RuntimeError(f"{command[0]} failed: {ran.stderr.strip()}")
    return ran.stdout


def _esp(disk: Path) -> tuple[str, str]:
    return "-i", f"{disk}@@{_ESP_START}"


@contextmanager
def _written(files: Files) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        yield Path(folder)
