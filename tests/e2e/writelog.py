"""All that a machine wrote to its disk, in order, and the disk as a power cut would have left it at any instant.

QEMU's block driver `blklogwrites` keeps each write, discard and flush in the format of the Linux target dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst, drivers/md/dm-log-writes.c). All numbers are little-endian:

| where | what |
|---|---|
| the first sector of the log | 64 bits each: magic 0x6a736677736872, version 1, entries; 32 bits: bytes of a sector |
| each entry, in a sector of its own | 64 bits each: first sector, sectors, flags, length of the data of a mark |
| behind it | the sectors that were written; nothing behind a discard |

A flush is an entry of its own. QEMU makes a write that has to be durable at once (FUA) a write and a flush; but its
NVMe doesn't pass that flag on, so that a machine whose writes are logged has another disk.

What a cut leaves: all that was written before the last flush, and of what was written after it anything, in any order.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootctl import gpt

FLUSH: Final = 1
DISCARD: Final = 4
MARK: Final = 8
TABLE: Final = "table"  # what belongs to no partition

_MAGIC: Final = 0x6A736677736872
_SUPER: Final = struct.Struct("<QQQI")
_ENTRY: Final = struct.Struct("<QQQQ")
_BLOCK: Final = 1 << 20
_BACKUP_SECTORS: Final = 33


class BadLog(Exception):
    """It is no log of writes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A write or discard of `length` bytes at `offset`, or a flush; its data are at `data_at` of the log."""

    offset: int
    length: int
    flags: int
    data_at: int

    @property
    def flushes(self) -> bool:
        """Whether all that came before it is durable after it."""
        return bool(self.flags & FLUSH)


def read_log(path: Path) -> list[Entry]:
    """The entries, the oldest first. The log of a machine that was killed is read as far as it goes. Raises BadLog."""
    entries = []
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_SUPER.size)
        if len(head) < _SUPER.size:
            raise BadLog(f"{path} is too short")
        magic, version, counted, sector = _SUPER.unpack(head)
        if (magic, version) != (_MAGIC, 1) or sector < _ENTRY.size:
            raise BadLog(f"{path} does not begin as a log of writes")
        at = sector
        # The number of entries is written at each flush only. What is no entry yet is zeros.
        while at + sector <= size:
            first, sectors, flags, _ = _ENTRY.unpack(os.pread(file.fileno(), _ENTRY.size, at))
            if not (sectors or flags):
                break
            length = sectors * sector
            entries.append(Entry(first * sector, length, flags, at + sector))
            at += sector
            if not flags & (DISCARD | MARK):
                at += length
        if len(entries) < counted:
            raise BadLog(f"{path} has {len(entries)} entries, and {counted} were counted")
    return entries


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the disk from `start` up to `end`."""

    name: str
    start: int
    end: int


def regions(disk: Path) -> list[Region]:
    """The partitions by their names, each up to the next one, and what is left of the disk as TABLE twice."""
    with disk.open("rb") as file:
        table = gpt.read_table(file.fileno())
    size = disk.stat().st_size
    sector = table.sector_size
    places = sorted((partition.offset(sector), partition.name) for partition in table.partitions)
    ends = [*(start for start, _ in places[1:]), size - _BACKUP_SECTORS * sector]
    found = [Region(name, start, end) for (start, name), end in zip(places, ends, strict=True)]
    return [Region(TABLE, 0, found[0].start), *found, Region(TABLE, found[-1].end, size)]


class Replay:
    """The disk `base` with the writes of a log, taken apart: one sparse file for each partition, in `folder`.

    `position` is how many entries were applied. `generation(name)` is a number that changes whenever the content of
    the partition does, and comes back with it: what was found out about a content need not be found out again.
    """

    def __init__(self, base: Path, log: Path, folder: Path) -> None:
        self.entries: Sequence[Entry] = read_log(log)
        self.position = 0
        self.regions = regions(base)
        self.size = base.stat().st_size
        self._log = os.open(log, os.O_RDONLY)
        self._folder = folder
        self._newest = 0
        self._generations = {region.name: 0 for region in self.regions}
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {
            name: os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for name in self._generations
        }
        self._split(base)

    def close(self) -> None:
        """Gives the files up; they stay."""
        for file in (self._log, *self._files.values()):
            os.close(file)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, name: str) -> Path:
        """The file of a partition. That of TABLE is as long as the disk and has holes for the partitions."""
        return self._folder / f"{name}.img"

    def generation(self, name: str) -> int:
        """Which content a partition has now."""
        return self._generations[name]

    # ------------------------------------------------------------------------------------------------------- cuts

    def forward(self, position: int) -> None:
        """Apply the entries up to `position`: the disk if the cut came there and nothing was lost."""
        assert self.position <= position <= len(self.entries), "a replay goes forward only"
        for number in range(self.position, position):
            self._apply(self.entries[number])
        self.position = position

    def flushed(self, position: int) -> int:
        """How many of the first `position` entries a cut there can't take back."""
        while position and not self.entries[position - 1].flushes:
            position -= 1
        return position

    def touches(self, number: int) -> set[str]:
        """The partitions that an entry changes."""
        entry = self.entries[number]
        return {region.name for region, _, _ in self._pieces(entry.offset, entry.length)}

    def epochs(self) -> Iterator[range]:
        """The numbers of the entries that lie between two flushes, without the flushes, for each such gap in turn."""
        begin = 0
        for number, entry in enumerate([*self.entries, Entry(0, 0, FLUSH, 0)]):
            if entry.flushes:
                if number > begin:
                    yield range(begin, number)
                begin = number + 1

    @contextmanager
    def applied(self, numbers: Collection[int]) -> Iterator[None]:
        """For the length of a block, apply some of the entries that follow `position` and were not flushed yet.

        Raises ValueError for others: no cut leaves them without those before.
        """
        end = next((n for n in range(self.position, len(self.entries)) if self.entries[n].flushes), len(self.entries))
        wrong = [number for number in numbers if not self.position <= number < end]
        if wrong or self.flushed(self.position) != self.position:
            raise ValueError(f"at {self.position} no cut leaves just {sorted(numbers)}: the flushes forbid it")
        before = dict(self._generations)
        undo: list[tuple[Region, int, bytes]] = []
        try:
            for number in sorted(numbers):
                entry = self.entries[number]
                undo += [(region, at, os.pread(self._files[region.name], length, self._place(region, at)))
                         for region, at, length in self._pieces(entry.offset, entry.length)]
                self._apply(entry)
            yield
        finally:
            for region, at, data in reversed(undo):
                os.pwrite(self._files[region.name], data, self._place(region, at))
            self._generations = before

    def image(self, target: Path) -> None:
        """The whole disk, as it is now, for a machine to boot from."""
        with target.open("wb") as file:
            file.truncate(self.size)
            for region in self.regions:
                length = region.end - region.start
                _copy(self._files[region.name], self._place(region, region.start), file.fileno(), region.start, length)

    # ----------------------------------------------------------------------------------------------------- within

    def _split(self, base: Path) -> None:
        with base.open("rb") as file:
            for region in self.regions:
                target = self._files[region.name]
                length = region.end - region.start
                os.truncate(target, self.size if region.name == TABLE else length)
                _copy(file.fileno(), region.start, target, self._place(region, region.start), length)

    @staticmethod
    def _place(region: Region, offset: int) -> int:
        return offset if region.name == TABLE else offset - region.start

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[Region, int, int]]:
        for region in self.regions:
            begin, end = max(offset, region.start), min(offset + length, region.end)
            if begin < end:
                yield region, begin, end - begin

    def _apply(self, entry: Entry) -> None:
        if entry.flags & MARK or not entry.length:
            return
        for region, begin, length in self._pieces(entry.offset, entry.length):
            target, place = self._files[region.name], self._place(region, begin)
            data_at = entry.data_at + begin - entry.offset
            for done in range(0, length, _BLOCK):
                size = min(_BLOCK, length - done)
                # A discarded sector may hold anything; QEMU's disk gives zeros.
                data = bytes(size) if entry.flags & DISCARD else os.pread(self._log, size, data_at + done)
                os.pwrite(target, data, place + done)
            self._newest += 1
            self._generations[region.name] = self._newest


def _copy(source: int, start: int, target: int, place: int, length: int) -> None:
    """Copies the data and leaves the holes out; the target must hold nothing there yet."""
    at, end = start, start + length
    while at < end:
        try:
            at = max(os.lseek(source, at, os.SEEK_DATA), at)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        hole = min(os.lseek(source, at, os.SEEK_HOLE), end) if at < end else end
        while at < hole:
            data = os.pread(source, min(_BLOCK, hole - at), at)
            if data.count(0) != len(data):
                os.pwrite(target, data, place + at - start)
            at += len(data)
