"""The partition that is opened must lie on the configured disk: cloned disks share their identifiers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from updated.disk import is_partition_of

DISK, DEVICE = os.makedev(8, 0), os.makedev(8, 2)
MEBIBYTE = 1 << 20


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """What sysfs shows of /dev/sda2: 100 MiB at 65 MiB."""
    folder = tmp_path / "sys/devices/pci/block/sda/sda2"
    folder.mkdir(parents=True)
    (folder.parent / "dev").write_text("8:0\n")
    for name, value in {"dev": "8:2", "partition": "2", "start": "133120", "size": "204800"}.items():
        (folder / name).write_text(f"{value}\n")
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/8:2").symlink_to("../../devices/pci/block/sda/sda2")
    return tmp_path


def judged(
    root: Path, *, disk: int = DISK, device: int = DEVICE, number: int = 2, at: int = 65, size: int = 100
) -> bool:
    return is_partition_of(str(root), device, disk, number, at * MEBIBYTE, size * MEBIBYTE)


def test_the_partition_of_the_configured_disk_is_known(sysfs: Path) -> None:
    assert judged(sysfs)


def test_the_same_partition_of_another_disk_is_not_taken(sysfs: Path) -> None:
    assert not judged(sysfs, disk=os.makedev(8, 16))


@pytest.mark.parametrize("wrong", [{"number": 3}, {"at": 66}, {"size": 99}, {"device": os.makedev(8, 3)}])
def test_another_partition_is_not_taken(sysfs: Path, wrong: dict[str, int]) -> None:
    assert not judged(sysfs, **wrong)
