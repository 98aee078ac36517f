"""A model of the loader that starts the slots of a GPT disk: `gptprio.next` of Flatcar's GRUB.

It follows grub-core/lib/gpt.c and grub-core/commands/gptprio.c of that GRUB, among them three traits that the order of
our writes has to respect: a backup is refused when its checksums differ from those of a valid primary *header*, even
if the primary entries are damaged; a damaged copy is repaired on the disk only when a try is counted; and the backup is
written before the primary.

Its code shares nothing with bootctl.gpt, so that a mistake there does not cancel itself out here.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SLOT_TYPE = uuid.UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6").bytes_le
MINIMUM_ARRAY = 16384


@dataclass(frozen=True, slots=True)
class BootedPartition:
    """The partition that the loader starts; `offset` and `size` are bytes of the image."""

    name: str
    uuid: str
    offset: int
    size: int


def next_boot(image: Path) -> BootedPartition | None:
    """Choose the partition to start, count its try on the disk, and return it; None when the loader would give up."""
    with image.open("r+b") as file:
        disk = _Disk(file)
        if not disk.load():
            return None
        chosen: int | None = None
        for index in range(disk.count):
            if disk.entry(index)[:16] != SLOT_TYPE:
                continue
            priority, tries, successful = disk.bits(index)
            best = disk.bits(chosen)[0] if chosen is not None else 0
            if (tries or successful) and priority > best:
                chosen = index
        if chosen is None:
            return None
        if disk.bits(chosen)[1]:
            disk.take_try(chosen)
            disk.store()
        entry = disk.entry(chosen)
        first, last = struct.unpack_from("<QQ", entry, 32)
        return BootedPartition(
            name=entry[56:128].decode("utf-16-le").split("\0")[0],
            uuid=str(uuid.UUID(bytes_le=entry[16:32])),
            offset=first * disk.sector,
            size=(last - first + 1) * disk.sector,
        )


def kernel_finds_partitions(image: Path) -> bool:
    """Whether Linux, started without the argument `gpt`, sees the partitions: it reads the primary copy only."""
    with image.open("rb") as file:
        disk = _Disk(file)
        header = disk.header(1)
        return disk.header_valid(header, 1) and disk.array(header) is not None


class _Disk:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sector = 4096 if self._at(4096, 8) == b"EFI PART" and self._at(512, 8) != b"EFI PART" else 512
        self.total = file.seek(0, 2) // self.sector
        self.entries = bytearray()
        self.head = b""  # the header that counts
        self.backup_lba = 0
        self.primary_array_lba = 0
        self.backup_array_lba = 0

    def _at(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(length)

    # The header: 0 magic, 8 revision, 12 size, 16 CRC, 24 own LBA, 32 other LBA, 40 first usable, 48 last usable,
    # 56 GUID, 72 LBA of the array, 80 number of entries, 84 size of an entry, 88 CRC of the array.
    def header(self, lba: int) -> bytes:
        return self._at(lba * self.sector, 92)

    def header_valid(self, header: bytes, lba: int) -> bool:
        if len(header) < 92 or header[:12] != b"EFI PART\0\0\1\0":
            return False
        if zlib.crc32(header[:16] + b"\0\0\0\0" + header[20:]) != int.from_bytes(header[16:20], "little"):
            return False
        own, other, start, end = struct.unpack_from("<QQQQ", header, 24)
        array_lba, count, size, _ = struct.unpack_from("<QIII", header, 72)
        length = -(-count * size // self.sector)
        if size < 128 or size % 128 or (size // 128).bit_count() != 1 or count * size < MINIMUM_ARRAY or start > end:
            return False
        if lba == 1:
            return bool(own == 1 and array_lba > 1 and array_lba + length <= start and other > end)
        return bool(own == lba and other == 1 and end < array_lba and array_lba + length <= own and own > end)

    def array(self, header: bytes) -> bytes | None:
        lba, count, size, crc = struct.unpack_from("<QIII", header, 72)
        data = self._at(lba * self.sector, count * size)
        return data if len(data) == count * size and zlib.crc32(data) == crc else None

    def load(self) -> bool:
        """grub_gpt_read and grub_gpt_repair: what counts is then in `head` and `entries`."""
        primary = self.header(1)
        primary_header_valid = self.header_valid(primary, 1)
        primary_array = self.array(primary) if primary_header_valid else None
        self.backup_lba = struct.unpack_from("<Q", primary, 32)[0] if primary_header_valid else self.total - 1
        backup = self.header(self.backup_lba) if 1 < self.backup_lba < self.total else b""
        backup_valid = self.header_valid(backup, self.backup_lba)
        if backup_valid and primary_header_valid:
            backup_valid = all(primary[part] == backup[part] for part in (slice(12, 16), slice(40, 72), slice(80, 92)))
        backup_array = self.array(backup) if backup_valid else None
        if primary_array is not None:
            self.head, self.entries = primary, bytearray(primary_array)
            self.primary_array_lba = struct.unpack_from("<Q", primary, 72)[0]
            self.backup_array_lba = self.backup_lba - -(-len(primary_array) // self.sector)
            if backup_array is not None:
                self.backup_array_lba = struct.unpack_from("<Q", backup, 72)[0]
            return True
        if backup_array is not None:
            self.head, self.entries = backup, bytearray(backup_array)
            self.primary_array_lba = 2
            self.backup_array_lba = struct.unpack_from("<Q", backup, 72)[0]
            return True
        return False

    @property
    def count(self) -> int:
        return int(struct.unpack_from("<I", self.head, 80)[0])

    @property
    def size(self) -> int:
        return int(struct.unpack_from("<I", self.head, 84)[0])

    def entry(self, index: int) -> bytes:
        return bytes(self.entries[index * self.size : (index + 1) * self.size])

    def bits(self, index: int) -> tuple[int, int, int]:
        """(priority, tries left, successful): bytes 54 and 55 of an entry are bits 48-63 of its attributes."""
        low, high = self.entry(index)[54:56]
        return low & 15, low >> 4, high & 1

    def take_try(self, index: int) -> None:
        self.entries[index * self.size + 54] -= 1 << 4

    def store(self) -> None:
        """grub_gpt_write: the backup, then the primary; of each the header, then the array."""
        for own, other, array_lba in (
            (self.backup_lba, 1, self.backup_array_lba),
            (1, self.backup_lba, self.primary_array_lba),
        ):
            header = bytearray(self.head)
            struct.pack_into("<IIIQQ", header, 12, 92, 0, 0, own, other)
            struct.pack_into("<Q", header, 72, array_lba)
            struct.pack_into("<I", header, 88, zlib.crc32(self.entries))
            struct.pack_into("<I", header, 16, zlib.crc32(header))
            self.file.seek(own * self.sector)
            self.file.write(header)
            self.file.seek(array_lba * self.sector)
            self.file.write(self.entries)
