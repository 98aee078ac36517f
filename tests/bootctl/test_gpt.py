"""GUID partition tables: round trips against sgdisk, cgpt and fdisk, damage, and garbage."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl import durable, gpt
from bootctl.errors import BootError
from tests.bootctl import disks


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return disks.make_disk(tmp_path / "disk.img")


@pytest.fixture
def pristine(disk: Path) -> bytes:
    return disk.read_bytes()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def read(path: Path) -> gpt.Table:
    with opened(path) as fd:
        return gpt.read_table(fd)


def write(path: Path, table: gpt.Table) -> None:
    with opened(path) as fd:
        gpt.write_table(fd, table)


def with_crc(header: bytearray) -> bytes:
    struct.pack_into("<I", header, 16, 0)
    struct.pack_into("<I", header, 16, zlib.crc32(header[: struct.unpack_from("<I", header, 12)[0]]))
    return bytes(header)


def test_every_field_is_read_as_sgdisk_prints_it(disk: Path) -> None:
    table = read(disk)
    assert table.disk_guid.upper() in disks.run("sgdisk", "-p", disk)
    assert (table.source, table.damage, table.sector_size) == ("primary", (), 512)
    assert [part.name for part in table.partitions] == ["esp", "rootfs-a", "rootfs-b", "state"]
    for part in table.partitions:
        printed = disks.run("sgdisk", "-i", str(part.number), disk)
        assert f"Partition GUID code: {part.type_guid.upper()}" in printed
        assert f"Partition unique GUID: {part.unique_guid.upper()}" in printed
        assert f"First sector: {part.first_lba} " in printed
        assert f"Last sector: {part.last_lba} " in printed
        assert f"Attribute flags: {part.attributes:016X}" in printed
        assert part.offset(512) == part.first_lba * 512
        assert part.size(512) == 64 * 1024


def test_slots_are_the_partitions_of_the_component_in_the_order_of_the_table(disk: Path) -> None:
    disks.rename_partition(disk, 1, "rootfs-")
    disks.rename_partition(disk, 4, "kernel-a")
    slots = gpt.slot_partitions(read(disk))
    assert {slot: part.number for slot, part in slots.items()} == {"a": 2, "b": 3}
    assert list(gpt.slot_partitions(read(disk), "kernel")) == ["a"]
    assert gpt.slot_partitions(read(disk), "verity") == {}


def test_a_partition_is_found_by_its_name(disk: Path) -> None:
    assert read(disk).partition("state").number == 4


def test_a_missing_partition_is_an_error_that_names_those_that_are_there(disk: Path) -> None:
    with pytest.raises(BootError, match="esp, rootfs-a, rootfs-b, state") as caught:
        read(disk).partition("data")
    assert caught.value.code == "no-such-partition"


def test_a_name_that_is_there_twice_is_an_error(disk: Path) -> None:
    disks.rename_partition(disk, 4, "rootfs-a")
    for act in (lambda: read(disk).partition("rootfs-a"), lambda: gpt.slot_partitions(read(disk))):
        with pytest.raises(BootError, match="more than once") as caught:
            act()
        assert caught.value.code == "duplicate-partition"


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4))
def test_any_attributes_are_read_back_by_sgdisk_from_both_copies(values: list[int]) -> None:
    with disks.scratch_disk() as path:
        table = read(path)
        for number, value in enumerate(values, start=1):
            table = table.with_attributes(number, value)
        write(path, table)
        assert read(path) == table
        assert disks.sgdisk_finds_no_problem(path)
        assert [disks.sgdisk_attributes(path, number) for number in (1, 2, 3, 4)] == values
        disks.damage_primary(path)
        assert read(path).partitions == table.partitions


def test_only_the_attributes_and_the_checksums_change(disk: Path, pristine: bytes) -> None:
    write(disk, read(disk).with_attributes(3, 0x0032000000000000))
    changed = {at for at, (old, new) in enumerate(zip(pristine, disk.read_bytes(), strict=True)) if old != new}
    size = len(pristine)
    allowed: set[int] = set()
    for header, entries in ((512, 1024), (size - 512, size - 33 * 512)):
        allowed |= {*range(header + 16, header + 20), *range(header + 88, header + 92)}
        allowed |= set(range(entries + 2 * 128 + 48, entries + 2 * 128 + 56))
    assert changed
    assert changed <= allowed


def test_nothing_is_written_when_nothing_changes(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the disk was written")

    monkeypatch.setattr(durable, "overwrite_pieces", refuse)
    write(disk, read(disk))


@pytest.mark.parametrize("spoil", [disks.damage_primary, disks.damage_backup])
@pytest.mark.parametrize("attributes", [0, 0x0123000000000000])
def test_a_damaged_copy_is_reported_and_mended(
    disk: Path, pristine: bytes, spoil: Callable[[Path], None], attributes: int
) -> None:
    spoil(disk)
    table = read(disk)
    assert len(table.damage) == 1
    assert table.source == ("backup" if spoil is disks.damage_primary else "primary")
    write(disk, table.with_attributes(3, attributes))
    after = read(disk)
    assert (after.source, after.damage) == ("primary", ())
    assert disks.sgdisk_finds_no_problem(disk)
    assert disks.sgdisk_attributes(disk, 3) == attributes
    assert attributes or disk.read_bytes() == pristine


def test_damaged_entries_are_mended_too(disk: Path, pristine: bytes) -> None:
    disks.overwrite(disk, 1024 + 128 + 48, b"\xff")
    assert "checksum of its entries" in read(disk).damage[0]
    write(disk, read(disk))
    assert disk.read_bytes() == pristine


def test_a_backup_that_is_older_than_the_primary_is_stale(disk: Path, pristine: bytes) -> None:
    write(disk, read(disk).with_attributes(3, 1 << 48))
    newer = disk.read_bytes()
    disk.write_bytes(newer[: len(newer) // 2] + pristine[len(pristine) // 2 :])
    table = read(disk)
    assert table.damage == ("the backup copy: it differs from the primary copy",)
    assert table.partition("rootfs-b").attributes == 1 << 48
    write(disk, table)
    assert disk.read_bytes() == newer


def test_the_backup_is_found_on_a_disk_that_has_grown(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.truncate(1024 * 1024)
    assert read(disk).damage == ()
    write(disk, read(disk).with_attributes(3, 1 << 56))
    assert disks.sgdisk_attributes(disk, 3) == 1 << 56


def test_entries_that_lie_elsewhere_stay_there(tmp_path: Path) -> None:
    path = disks.make_disk(tmp_path / "disk.img", "-j", "16")
    between = path.read_bytes()[1024 : 16 * 512]
    disks.overwrite(path, 512 + 88, b"\0\0\0\0")  # the header is damaged but still names the place
    write(path, read(path).with_attributes(3, 1 << 56))
    assert disks.sgdisk_finds_no_problem(path)
    assert disks.sgdisk_attributes(path, 3) == 1 << 56
    assert path.read_bytes()[1024 : 16 * 512] == between


def test_a_table_that_was_changed_meanwhile_is_not_written(disk: Path) -> None:
    before = read(disk)
    disks.rename_partition(disk, 4, "data")
    content = disk.read_bytes()
    with pytest.raises(BootError, match="nothing was written") as caught:
        write(disk, before.with_attributes(3, 1 << 56))
    assert caught.value.code == "table-changed"
    assert disk.read_bytes() == content


def test_both_copies_damaged_is_an_error_that_says_why(disk: Path) -> None:
    disks.damage_primary(disk)
    disks.damage_backup(disk)
    with pytest.raises(BootError, match=r"primary copy: no header was found.*backup copy: no header") as caught:
        read(disk)
    assert caught.value.code == "gpt-damaged"


@pytest.mark.parametrize("length", [0, 1, 511, 512, 1024, 4096, 5000])
def test_a_short_file_is_no_table(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.img"
    path.write_bytes(bytes(length))
    with pytest.raises(BootError) as caught:
        read(path)
    assert caught.value.code == "gpt-damaged"


def test_what_is_neither_a_disk_nor_a_file_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(BootError) as caught:
            gpt.read_table(reading)
    finally:
        os.close(reading)
        os.close(writing)
    assert caught.value.code == "gpt-unreadable"


def test_sectors_that_cannot_be_read_are_damage(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_pread = os.pread

    def bad_sector(fd: int, length: int, offset: int) -> bytes:
        if offset == 512:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", bad_sector)
    table = read(disk)
    assert (table.source, table.damage) == ("backup", ("the primary copy: it can't be read (Input/output error)",))
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real_pread(fd, length, offset)[:100])
    with pytest.raises(BootError, match="beyond the end of the disk"):
        read(disk)


def test_a_disk_without_a_size_cannot_be_read(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "lseek", fail)
    with pytest.raises(BootError, match="Input/output error") as caught:
        read(disk)
    assert caught.value.code == "gpt-unreadable"


# Fields of the header: offset, format, hostile values. Each is put into both copies with right checksums.
HOSTILE = [
    (8, "<I", [0, 0x20000]),
    (12, "<I", [0, 91, 513, 2**32 - 1]),
    (24, "<Q", [0, 2, 2**64 - 1]),
    (32, "<Q", [0, 2**63, 2**64 - 1]),
    (40, "<Q", [0, 33, 2**64 - 1]),
    (48, "<Q", [0, 1022, 2**64 - 1]),
    (72, "<Q", [0, 1, 500, 2**63, 2**64 - 1]),
    (80, "<I", [0, 2**20, 2**32 - 1]),
    (84, "<I", [0, 1, 127, 192, 2**31, 2**32 - 1]),
]


@pytest.mark.parametrize(
    ("offset", "kind", "value"), [(at, kind, value) for at, kind, values in HOSTILE for value in values]
)
def test_hostile_fields_with_right_checksums_are_an_error(disk: Path, offset: int, kind: str, value: int) -> None:
    for place in (512, -512):
        header = bytearray(disk.read_bytes()[place:][:512])
        struct.pack_into(kind, header, offset, value)
        size = struct.unpack_from("<I", header, 12)[0]
        disks.overwrite(disk, place, with_crc(header) if size <= 512 else bytes(header))
    with pytest.raises(BootError) as caught:
        read(disk)
    assert caught.value.code == "gpt-damaged"


def test_a_partition_outside_of_the_disk_is_damage(disk: Path) -> None:
    entries = bytearray(disk.read_bytes()[1024 : 1024 + 16384])
    struct.pack_into("<Q", entries, 40, 2**40)
    header = bytearray(disk.read_bytes()[512:1024])
    struct.pack_into("<I", header, 88, zlib.crc32(entries))
    disks.overwrite(disk, 1024, bytes(entries))
    disks.overwrite(disk, 512, with_crc(header))
    assert read(disk).damage == ("the primary copy: a partition lies outside of the usable sectors",)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 34 * 512 - 8), st.binary(min_size=1, max_size=8)), max_size=6), st.booleans())
def test_whatever_is_on_the_disk_is_a_table_or_a_boot_error(damage: list[tuple[int, bytes]], both: bool) -> None:
    with disks.scratch_disk() as path:
        for offset, data in damage:
            disks.overwrite(path, offset, data)
            if both:
                disks.overwrite(path, offset - 34 * 512, data)
        with contextlib.suppress(BootError):
            assert [part.name for part in read(path).partitions] == ["esp", "rootfs-a", "rootfs-b", "state"]


def test_names_are_read_as_utf_16(disk: Path) -> None:
    disks.run("sgdisk", "-c", "4:Größe 🚀", disk)
    assert read(disk).partitions[3].name == "Größe 🚀"


def test_sectors_of_4096_bytes_are_recognised_in_an_image(tmp_path: Path) -> None:
    path = _disk_with_large_sectors(tmp_path / "large.img")
    table = read(path)
    assert table.sector_size == 4096
    assert [part.size(4096) for part in table.partitions] == [1 << 20, 1 << 20]
    write(path, table.with_attributes(1, 1 << 56 | 2 << 48))
    assert "GUID:49,56" in disks.run("fdisk", "-b", "4096", "-x", path)
    disks.overwrite(path, 4096, bytes(4096))
    damaged = read(path)
    assert (damaged.sector_size, damaged.source) == (4096, "backup")
    write(path, damaged)
    assert read(path) == replace(table.with_attributes(1, 1 << 56 | 2 << 48), damage=())


@pytest.mark.skipif(not os.access("/dev/loop-control", os.W_OK), reason="needs loop devices")
def test_a_block_device_tells_the_size_of_its_sectors(tmp_path: Path) -> None:
    path = _disk_with_large_sectors(tmp_path / "large.img")
    try:
        device = disks.run("losetup", "--sector-size", "4096", "-f", "--show", path).strip()
    except subprocess.CalledProcessError:
        pytest.skip("no loop device is free")
    try:
        table = read(Path(device))
        assert (table.sector_size, table.damage) == (4096, ())
        write(Path(device), table.with_attributes(2, 1 << 52))
    finally:
        disks.run("losetup", "-d", device)
    assert read(path).partitions[1].attributes == 1 << 52


def _disk_with_large_sectors(path: Path) -> Path:
    path.write_bytes(b"")
    os.truncate(path, 8 << 20)
    answers = "g\nn\n1\n\n+1M\nn\n2\n\n+1M\nw\n"
    subprocess.run(["fdisk", "-b", "4096", path], input=answers, text=True, check=True, capture_output=True)
    return path
