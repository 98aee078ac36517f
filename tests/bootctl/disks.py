"""Small disks with two slots, laid out and read back by the tools that own the format."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bootctl.gptprio import SLOT_TYPE_GUID

ATTRIBUTES_OF_A_CONFIRMED = "0101000000000000"  # successful, priority 1
NUMBERS = {"a": 2, "b": 3}


def run(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def make_disk(path: Path, *options: str) -> Path:
    """esp, rootfs-a (confirmed, priority 1), rootfs-b (nothing set) and state, of 64 KiB each, on a disk of 512 KiB."""
    path.write_bytes(_laid_out(options))
    return path


@cache  # sgdisk takes a second
def _laid_out(options: tuple[str, ...]) -> bytes:
    layout = ["-a", "1", *options]
    for number, name in enumerate(("esp", "rootfs-a", "rootfs-b", "state"), start=1):
        kind = {"esp": "ef00", "state": "8300"}.get(name, SLOT_TYPE_GUID)
        layout += ["-n", f"{number}:0:+64K", "-c", f"{number}:{name}", "-t", f"{number}:{kind}"]
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(512 * 1024)
        run("sgdisk", *layout, "-A", f"2:=:{ATTRIBUTES_OF_A_CONFIRMED}", file.name)
        return Path(file.name).read_bytes()


@contextmanager
def scratch_disk() -> Iterator[Path]:
    """A disk for one example of many."""
    with tempfile.TemporaryDirectory() as folder:
        yield make_disk(Path(folder) / "disk.img")


def rename_partition(path: Path, number: int, name: str) -> None:
    run("sfdisk", "-q", "--part-label", path, str(number), name)


def cgpt_state(path: Path, slot: str) -> tuple[int, int, bool]:
    """(priority, tries, successful) as cgpt reads them."""
    number = str(NUMBERS[slot])
    values = [int(run("cgpt", "show", "-i", number, option, path)) for option in ("-P", "-T", "-S")]
    return values[0], values[1], bool(values[2])


def sgdisk_attributes(path: Path, number: int) -> int:
    match = re.search(r"Attribute flags: ([0-9A-F]{16})", run("sgdisk", "-i", str(number), path))
    assert match
    return int(match[1], 16)


def sgdisk_finds_no_problem(path: Path) -> bool:
    return "No problems found" in run("sgdisk", "-v", path)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write `data` at `offset`, which counts from the end when it is negative."""
    with path.open("r+b") as file:
        file.seek(offset, 2 if offset < 0 else 0)
        file.write(data)


def damage_primary(path: Path) -> None:
    overwrite(path, 512, bytes(512))


def damage_backup(path: Path) -> None:
    overwrite(path, -512, bytes(512))
