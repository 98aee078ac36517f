"""The model of the loader keeps to what Flatcar's GRUB does; cgpt and sgdisk set the scene and read the outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bootctl import disks
from tests.fakes.firmware import BootedPartition, kernel_finds_partitions, next_boot


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return disks.make_disk(tmp_path / "disk.img")


def set_state(disk: Path, slot: str, priority: int, tries: int, successful: int) -> None:
    values = ["-P", str(priority), "-T", str(tries), "-S", str(successful)]
    disks.run("cgpt", "add", "-i", str(disks.NUMBERS[slot]), *values, disk)


def booted(disk: Path) -> str | None:
    partition = next_boot(disk)
    return partition.name if partition else None


def test_the_partition_is_told_as_sgdisk_prints_it(disk: Path) -> None:
    printed = disks.run("sgdisk", "-i", "2", disk)
    first = int(printed.split("First sector: ")[1].split()[0])
    unique = printed.split("unique GUID: ")[1].split()[0].lower()
    assert next_boot(disk) == BootedPartition("rootfs-a", unique, first * 512, 64 * 1024)


def test_the_highest_priority_boots_and_the_first_of_equals(disk: Path) -> None:
    set_state(disk, "b", 2, 0, 1)
    assert booted(disk) == "rootfs-b"
    set_state(disk, "a", 2, 0, 1)
    assert booted(disk) == "rootfs-a"


def test_tries_are_taken_down_on_the_disk_until_the_next_slot_boots(disk: Path) -> None:
    set_state(disk, "b", 2, 2, 0)
    seen = []
    for _ in range(4):
        seen.append((booted(disk), disks.cgpt_state(disk, "b")))
        assert disks.sgdisk_finds_no_problem(disk)
    assert seen == [
        ("rootfs-b", (2, 1, False)),
        ("rootfs-b", (2, 0, False)),
        ("rootfs-a", (2, 0, False)),
        ("rootfs-a", (2, 0, False)),
    ]


def test_tries_of_a_successful_slot_are_taken_down_too(disk: Path) -> None:
    set_state(disk, "a", 1, 5, 1)
    assert booted(disk) == "rootfs-a"
    assert disks.cgpt_state(disk, "a") == (1, 4, True)


@pytest.mark.parametrize(("priority", "tries", "successful"), [(0, 3, 1), (2, 0, 0), (0, 0, 0)])
def test_what_must_not_boot_does_not(disk: Path, priority: int, tries: int, successful: int) -> None:
    set_state(disk, "a", priority, tries, successful)
    before = disk.read_bytes()
    assert next_boot(disk) is None
    assert disk.read_bytes() == before


def test_other_partition_types_are_not_seen(disk: Path) -> None:
    disks.run("cgpt", "add", "-i", "4", "-P", "15", "-S", "1", disk)
    assert booted(disk) == "rootfs-a"


@pytest.mark.parametrize("spoil", [disks.damage_primary, disks.damage_backup])
def test_a_damaged_copy_is_repaired_when_a_try_is_counted(disk: Path, spoil: object) -> None:
    assert callable(spoil)
    set_state(disk, "b", 2, 1, 0)
    spoil(disk)
    assert booted(disk) == "rootfs-b"
    assert disks.sgdisk_finds_no_problem(disk)
    assert disks.cgpt_state(disk, "b") == (2, 0, False)


def test_a_damaged_copy_stays_so_when_nothing_is_counted(disk: Path) -> None:
    disks.damage_primary(disk)
    before = disk.read_bytes()
    assert booted(disk) == "rootfs-a"
    assert disk.read_bytes() == before
    assert not kernel_finds_partitions(disk)


def test_two_damaged_copies_boot_nothing(disk: Path) -> None:
    disks.damage_primary(disk)
    disks.damage_backup(disk)
    assert next_boot(disk) is None


def test_a_backup_that_differs_from_a_valid_primary_header_is_refused(disk: Path) -> None:
    """grub_gpt_check_backup: a new header over old entries is worse than a damaged header."""
    old = disk.read_bytes()
    set_state(disk, "b", 2, 1, 0)
    torn = bytearray(old)
    torn[512:1024] = disk.read_bytes()[512:1024]
    disk.write_bytes(torn)
    assert next_boot(disk) is None


def test_an_empty_or_foreign_file_boots_nothing(tmp_path: Path) -> None:
    for content in (b"", bytes(1 << 16), b"\xff" * (1 << 16)):
        path = tmp_path / "disk.img"
        path.write_bytes(content)
        assert next_boot(path) is None
