"""GUID partition tables as bytes and as values (UEFI specification 2.10, section 5.3).

Reads a table of which one copy is damaged, and changes types and attributes only. A cut while it writes leaves at
least one whole copy, and each whole copy is the table from before or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from bootctl import durable
from bootctl.errors import BootError, mend_of

SECTOR_SIZES: Final = (512, 4096)
MAX_ARRAY_BYTES: Final = 1 << 20  # a table has 16 KiB; more than this is no table but garbage

_SIGNATURE: Final = b"EFI PART"
_REVISION: Final = 0x00010000
# signature, revision, header size, header CRC, reserved, own LBA, other LBA, first and last usable LBA, disk GUID,
# LBA of the entries, number of entries, size of an entry, CRC of the entries
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
# type GUID, unique GUID, first LBA, last LBA, attributes, name in UTF-16LE
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_ATTRIBUTES_AT: Final = 48
_UNUSED: Final = bytes(16)
_BLKSSZGET: Final = 0x1268

Source = Literal["primary", "backup"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One used entry. `number` counts from 1 as in the names of devices; GUIDs are in lower case."""

    number: int
    type_guid: str
    unique_guid: str
    first_lba: int
    last_lba: int
    attributes: int
    name: str

    def offset(self, sector_size: int) -> int:
        """Where the partition begins on the disk, in bytes."""
        return self.first_lba * sector_size

    def size(self, sector_size: int) -> int:
        """The length of the partition in bytes."""
        return (self.last_lba - self.first_lba + 1) * sector_size


@dataclass(frozen=True, slots=True)
class Table:
    """A partition table. `source` is the copy that counts; `damage` tells what is wrong with the copies."""

    sector_size: int
    disk_guid: str
    partitions: tuple[Partition, ...]
    source: Source
    damage: tuple[str, ...]

    def partition(self, name: str) -> Partition:
        """The partition called `name`. Raises BootError `no-such-partition`, `duplicate-partition`."""
        found = [partition for partition in self.partitions if partition.name == name]
        if not found:
            names = ", ".join(partition.name for partition in self.partitions if partition.name)
            raise BootError(
                "no-such-partition",
                f"partition {name}",
                f"the partition table has only {names or 'partitions without names'}",
                "Lay out the disk with this partition, or name the right disk.",
            )
        if len(found) > 1:
            raise _duplicate(name)
        return found[0]

    def with_attributes(self, number: int, attributes: int) -> Table:
        """A copy in which partition `number` has other attributes."""
        return replace(
            self,
            partitions=tuple(
                replace(partition, attributes=attributes) if partition.number == number else partition
                for partition in self.partitions
            ),
        )

    def with_type(self, number: int, type_guid: str) -> Table:
        """A copy in which partition `number` has another type GUID; for whoever lays out a disk."""
        return replace(
            self,
            partitions=tuple(
                replace(partition, type_guid=type_guid.lower()) if partition.number == number else partition
                for partition in self.partitions
            ),
        )


def _guid(data: bytes) -> str:
    """A GUID as text: its first three numbers lie the other way round (UEFI specification 2.10, appendix A)."""
    low, middle, high = struct.unpack_from("<IHH", data)
    return f"{low:08x}-{middle:04x}-{high:04x}-{data[8:10].hex()}-{data[10:16].hex()}"


def _guid_bytes(text: str) -> bytes:
    low, middle, high, *rest = text.split("-")
    return struct.pack("<IHH", int(low, 16), int(middle, 16), int(high, 16)) + bytes.fromhex("".join(rest))


def slot_partitions(table: Table, component: str = "rootfs") -> dict[str, Partition]:
    """The partitions named `<component>-<slot>` by slot, in the order of the table.

    Raises BootError `duplicate-partition`.
    """
    slots: dict[str, Partition] = {}
    prefix = f"{component}-"
    for partition in table.partitions:
        slot = partition.name.removeprefix(prefix)
        if slot == partition.name or not (slot.isascii() and slot.isalnum() and slot == slot.lower()):
            continue
        if slot in slots:
            raise _duplicate(partition.name)
        slots[slot] = partition
    return slots


def read_table(fd: int) -> Table:
    """Read the table of the disk or image `fd`, from the backup if the primary copy is damaged.

    Raises BootError `gpt-damaged` when no copy is whole, `gpt-unreadable` when `fd` is neither disk nor file.
    """
    return _read_disk(fd).table()


def write_table(fd: int, table: Table) -> None:
    """Give the partitions on the disk the types and attributes that they have in `table`, and mend a damaged copy.

    Nothing is written when the disk holds them already in two whole copies. Otherwise a damaged copy is
    made equal to the good one first, then the primary is changed, then the backup; each time the entries before the
    header, with a flush after both. cgpt writes the header first. But Flatcar's GRUB (grub_gpt_check_backup) refuses a
    backup whose checksums differ from those of a valid primary header, so that a cut after that header would leave it
    without any table; here the header on the disk always belongs to entries that one of the copies has.

    Raises BootError `gpt-damaged`, `gpt-unreadable`, `table-changed`; OSError from the disk.
    """
    disk = _read_disk(fd)
    current = disk.table()
    if _places(table) != _places(current):
        raise BootError(
            "table-changed",
            "the partition table",
            "its partitions are not those that were read before",
            "Read it again; nothing was written.",
        )
    if disk.damaged:
        disk.write(fd, disk.damaged, disk.good.entries)
    if table.partitions != current.partitions:
        entries = disk.entries_with(table)
        disk.write(fd, "primary", entries)
        disk.write(fd, "backup", entries)


def _places(table: Table) -> list[Partition]:
    return [replace(partition, attributes=0, type_guid="") for partition in table.partitions]


@dataclass(frozen=True, slots=True)
class _Copy:
    """One whole copy: its header without the padding of the sector, and its array of entries, as on the disk."""

    header: bytes
    entries: bytes

    @property
    def own_lba(self) -> int:
        return self._field(5)

    @property
    def other_lba(self) -> int:
        return self._field(6)

    @property
    def first_usable(self) -> int:
        return self._field(7)

    @property
    def disk_guid(self) -> bytes:
        return self.header[56:72]

    @property
    def entries_lba(self) -> int:
        return self._field(10)

    @property
    def entry_size(self) -> int:
        return self._field(12)

    def _field(self, index: int) -> int:
        return int(_HEADER.unpack_from(self.header)[index])

    def partitions(self) -> Iterator[Partition]:
        entry_size = self.entry_size
        for index in range(len(self.entries) // entry_size):
            type_guid, unique_guid, first, last, attributes, name = _ENTRY.unpack_from(self.entries, index * entry_size)
            if type_guid == _UNUSED:
                continue
            yield Partition(
                number=index + 1,
                type_guid=_guid(type_guid),
                unique_guid=_guid(unique_guid),
                first_lba=first,
                last_lba=last,
                attributes=attributes,
                name=name.decode("utf-16-le", errors="replace").partition("\0")[0],
            )

    def moved(self, entries: bytes, own_lba: int, other_lba: int, entries_lba: int) -> _Copy:
        """This table with other entries, as it stands at another place of the disk."""
        fields = list(_HEADER.unpack_from(self.header))
        fields[3] = 0
        fields[5], fields[6], fields[10] = own_lba, other_lba, entries_lba
        fields[13] = zlib.crc32(entries)
        header = _HEADER.pack(*fields) + self.header[_HEADER.size :]
        fields[3] = zlib.crc32(header)
        return _Copy(_HEADER.pack(*fields) + self.header[_HEADER.size :], entries)


class _Damage(Exception):
    """Why one copy can't be used."""


@dataclass(frozen=True, slots=True)
class _Disk:
    """A disk with at least one whole copy. `good` is the one that counts, `damaged` the one to be mended."""

    sector_size: int
    good: _Copy
    source: Source
    damaged: Source | None
    damage: tuple[str, ...]
    backup_lba: int
    entries_lba: Mapping[Source, int]

    def table(self) -> Table:
        return Table(
            sector_size=self.sector_size,
            disk_guid=_guid(self.good.disk_guid),
            partitions=tuple(self.good.partitions()),
            source=self.source,
            damage=self.damage,
        )

    def entries_with(self, table: Table) -> bytes:
        """The array of entries with the types and attributes of `table`."""
        entries = bytearray(self.good.entries)
        for partition in table.partitions:
            at = (partition.number - 1) * self.good.entry_size
            struct.pack_into("<16s", entries, at, _guid_bytes(partition.type_guid))
            struct.pack_into("<Q", entries, at + _ATTRIBUTES_AT, partition.attributes)
        return bytes(entries)

    def write(self, fd: int, source: Source, entries: bytes) -> None:
        """Write one copy, each sector of it only if it differs."""
        lbas = (1, self.backup_lba) if source == "primary" else (self.backup_lba, 1)
        entries_lba = self.entries_lba[source]
        copy = self.good.moved(entries, *lbas, entries_lba)
        for lba, data in ((entries_lba, entries), (lbas[0], copy.header.ljust(self.sector_size, b"\0"))):
            pieces = list(_changed_sectors(fd, self.sector_size, lba * self.sector_size, data))
            if pieces:
                durable.overwrite_pieces(fd, pieces)


def _changed_sectors(fd: int, sector_size: int, offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), sector_size):
        sector = data[at : at + sector_size]
        if os.pread(fd, len(sector), offset + at) != sector:
            yield offset + at, sector


def _read_disk(fd: int) -> _Disk:
    size, sector_sizes = _geometry(fd)
    damages: list[str] = []
    found: list[_Disk] = []
    for sector_size in sector_sizes:
        disk, damage = _read_copies(fd, sector_size, size // sector_size)
        if disk is not None:
            found.append(disk)
        damages += [f"{what} (with sectors of {sector_size} bytes)" for what in damage]
    if not found:
        raise BootError(
            "gpt-damaged",
            "the partition table",
            f"no copy of it is whole: {'; '.join(damages)}",
            "Name the right disk, or restore the table with sgdisk or gdisk.",
        )
    # With an image the size of the sectors is a guess: a leftover backup of another size must not win.
    return next((disk for disk in found if disk.source == "primary"), found[0])


def _geometry(fd: int) -> tuple[int, tuple[int, ...]]:
    """The size in bytes, and the possible sizes of a sector."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISBLK(mode):
            sector_size = struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0]
            return os.lseek(fd, 0, os.SEEK_END), (sector_size,)
        if stat.S_ISREG(mode):
            return os.lseek(fd, 0, os.SEEK_END), SECTOR_SIZES
    except OSError as error:
        raise BootError(
            "gpt-unreadable", "the disk", f"it can't be read ({error.strerror})",
            mend_of(error, "Check the disk and its cable."),
        ) from error
    raise BootError(
        "gpt-unreadable", "the disk", "it is neither a block device nor an image file", "Name the right disk."
    )


def _read_copies(fd: int, sector_size: int, sectors: int) -> tuple[_Disk | None, list[str]]:
    """The disk if a copy is whole, and what is wrong with the copies."""
    primary, damage = _try_copy(fd, sector_size, sectors, 1)
    backup, backup_damage = _try_copy(fd, sector_size, sectors, primary.other_lba if primary else sectors - 1)
    damages = [f"the primary copy: {damage}"] if damage else []
    damages += [f"the backup copy: {backup_damage}"] if backup_damage else []
    good = primary or backup
    if good is None:
        return None, damages
    array_sectors = -(-len(good.entries) // sector_size)
    backup_lba = primary.other_lba if primary else good.own_lba
    backup_entries = backup.entries_lba if backup else backup_lba - array_sectors
    damaged: Source | None = None
    if primary is None:
        damaged = "primary"
    elif backup is None:
        damaged = "backup"
    elif backup != primary.moved(primary.entries, backup_lba, 1, backup_entries):
        damaged = "backup"
        damages.append("the backup copy: it differs from the primary copy")
    disk = _Disk(
        sector_size=sector_size,
        good=good,
        source="primary" if primary else "backup",
        damaged=damaged,
        damage=tuple(damages),
        backup_lba=backup_lba,
        entries_lba={
            "primary": primary.entries_lba if primary else _lost_entries_lba(fd, sector_size, good, array_sectors),
            "backup": backup_entries,
        },
    )
    return disk, damages


def _lost_entries_lba(fd: int, sector_size: int, backup: _Copy, array_sectors: int) -> int:
    """Where the entries of a damaged primary copy belong: at LBA 2, unless its header still names another place.

    Some boards keep their boot code between the header and the entries.
    """
    with contextlib.suppress(_Damage):
        signature, *_, entries_lba, _, _, _ = _HEADER.unpack(_read_exactly(fd, _HEADER.size, sector_size))
        if signature == _SIGNATURE and 2 <= entries_lba <= backup.first_usable - array_sectors:
            return int(entries_lba)
    return 2


def _try_copy(fd: int, sector_size: int, sectors: int, lba: int) -> tuple[_Copy | None, str]:
    """The copy whose header is at `lba`, or None and why it can't be used."""
    try:
        return _read_copy(fd, sector_size, sectors, lba), ""
    except _Damage as damage:
        return None, str(damage)


def _read_exactly(fd: int, length: int, offset: int) -> bytes:
    try:
        data = os.pread(fd, length, offset)
    except OSError as error:
        raise _Damage(f"it can't be read ({error.strerror})") from error
    if len(data) != length:
        raise _Damage("it lies beyond the end of the disk")
    return data


def _read_copy(fd: int, sector_size: int, sectors: int, lba: int) -> _Copy:
    """Raises _Damage unless the copy is whole, by the checks of the UEFI specification (section 5.3.2)."""
    if not 1 <= lba < sectors:
        raise _Damage("it lies beyond the end of the disk")
    sector = _read_exactly(fd, sector_size, lba * sector_size)
    (signature, revision, header_size, header_crc, _, own, other, first, last, _, entries_lba, count, entry_size,
     entries_crc) = _HEADER.unpack_from(sector)  # fmt: skip
    if signature != _SIGNATURE:
        raise _Damage("no header was found")
    if revision != _REVISION or not _HEADER.size <= header_size <= sector_size:
        raise _Damage("its header has an unknown revision or size")
    header = sector[:header_size]
    if zlib.crc32(header[:16] + bytes(4) + header[20:]) != header_crc:
        raise _Damage("the checksum of its header is wrong")
    if own != lba:
        raise _Damage("its header belongs to another place")
    # 128 bytes times a power of two; the array is bounded before anything of it is read.
    if entry_size < 128 or entry_size & (entry_size - 1) or not 0 < count * entry_size <= MAX_ARRAY_BYTES:
        raise _Damage("its entries have an impossible size or number")
    array_sectors = -(-count * entry_size // sector_size)
    backup_lba = other if lba == 1 else own
    if not 2 + array_sectors <= first <= last + 1 <= backup_lba - array_sectors < backup_lba < sectors:
        raise _Damage("its header names sectors that the disk doesn't have, or leaves no room for the table")
    if lba != 1 and other != 1:
        raise _Damage("it belongs to another table")
    lowest, end = (2, first) if lba == 1 else (last + 1, lba)
    if not lowest <= entries_lba <= end - array_sectors:
        raise _Damage("its entries lie where they can't be")
    entries = _read_exactly(fd, count * entry_size, entries_lba * sector_size)
    if zlib.crc32(entries) != entries_crc:
        raise _Damage("the checksum of its entries is wrong")
    copy = _Copy(header, entries)
    if any(not first <= part.first_lba <= part.last_lba <= last for part in copy.partitions()):
        raise _Damage("a partition lies outside of the usable sectors")
    return copy


def _duplicate(name: str) -> BootError:
    return BootError(
        "duplicate-partition",
        f"partition {name}",
        "the partition table has this name more than once",
        "Rename all but the right one (sgdisk -c NUMBER:NAME).",
    )
