"""Writes verified bytes into a slot: in whole blocks, skipping what is there already, synced in slices.

Chunks begin and end anywhere; the blocks at their edges, which they share with their neighbours, are gathered and
written once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

from bootctl import durable
from updated.record import storage_error
from updated.region import BLOCK, Buffer, Region

STRETCH_LENGTH = 1024 * 1024
# What a slow medium has to catch up with at most when the last byte is written.
SLICE_LENGTH = 64 * 1024 * 1024
# Edges wait for their neighbours: written alone, each costs a read and two writes. Two KiB of memory each.
MAX_EDGES = 8192

Piece = tuple[int, bytes]
"""A part of a block: where in it, and the bytes."""


class Slot:
    """A region that is being written. Safe to use from several threads, each with a `Stretch` of its own.

    `compare`: the region may hold some of the content already, and blocks that are the same are not written.
    """

    def __init__(self, region: Region, *, compare: bool) -> None:
        self.region = region
        self.compare = compare
        self._lock = threading.Lock()
        self._edge_lock = threading.Lock()
        self._edges: dict[int, list[Piece]] = {}
        self._settle_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._unsynced = 0
        self.written = 0
        self.skipped = 0
        self.discarded = 0

    def store(self, base: int, start: int, end: int, buffer: Buffer, old: Buffer) -> None:
        """Writes the bytes [start, end) of the slot, which lie in `buffer` as from the block at `base`.

        `old` is room for what is there. Raises `UpdatedError` ("disk-error").
        """
        first, last = -(-start // BLOCK) * BLOCK, end // BLOCK * BLOCK
        view = buffer.view
        if first > last:
            self._store_edge(start, bytes(view[start - base : end - base]), old)
            return
        if start < first:
            self._store_edge(start, bytes(view[start - base : first - base]), old)
        if first < last:
            for begin, finish in self._differing(first, last, view[first - base : last - base], old):
                self._write(begin, view[begin - base : finish - base])
        if last < end:
            self._store_edge(last, bytes(view[last - base : end - base]), old)

    def zero(self, start: int, length: int, old: Buffer) -> None:
        """Makes the bytes [start, start + length) zeros. Raises `UpdatedError` ("disk-error")."""
        end = start + length
        first, last = -(-start // BLOCK) * BLOCK, end // BLOCK * BLOCK
        if first > last:
            self._store_edge(start, bytes(length), old)
            return
        if start < first:
            self._store_edge(start, bytes(first - start), old)
        if last < end:
            self._store_edge(last, bytes(end - last), old)
        for begin, finish in self._not_zero(first, last, old) if self.compare else [(first, last)]:
            if finish > begin and self.region.punch(begin, finish - begin):
                with self._lock:
                    self.discarded += finish - begin
            else:
                blank = Buffer(STRETCH_LENGTH).view
                for at in range(begin, finish, STRETCH_LENGTH):
                    self._write(at, blank[: min(STRETCH_LENGTH, finish - at)])

    def finish(self) -> None:
        """Writes the edges that nobody completed, and returns when all is on the medium."""
        with self._edge_lock:
            left, self._edges = self._edges, {}
        self._settle(left, Buffer(BLOCK))
        self._sync()

    def _sync(self) -> None:
        try:
            durable.sync_fd(self.region.fd)
        except OSError as error:
            raise storage_error("the passive slot", error) from None

    def _differing(self, first: int, last: int, data: memoryview, old: Buffer) -> Iterator[tuple[int, int]]:
        """The stretches of blocks in [first, last) that do not hold `data` yet."""
        if not self.compare:
            yield first, last
            return
        there = self.region.load(first, last - first, old)
        new, present = bytes(data), bytes(there)
        if new == present:
            self._skip(last - first)
            return
        begin = first
        for at in range(first, last, BLOCK):
            if new[at - first : at - first + BLOCK] == present[at - first : at - first + BLOCK]:
                if begin < at:
                    yield begin, at
                begin = at + BLOCK
                self._skip(BLOCK)
        if begin < last:
            yield begin, last

    def _not_zero(self, first: int, last: int, old: Buffer) -> Iterator[tuple[int, int]]:
        for at in range(first, last, STRETCH_LENGTH):
            length = min(STRETCH_LENGTH, last - at)
            present = bytes(self.region.load(at, length, old))
            if present.count(0) == length:
                self._skip(length)
            else:
                yield at, at + length

    def _skip(self, length: int) -> None:
        with self._lock:
            self.skipped += length

    def _write(self, start: int, data: memoryview) -> None:
        self.region.write(start, data)
        with self._lock:
            self.written += len(data)
            self._unsynced += len(data)
            due = self._unsynced >= SLICE_LENGTH
            if due:
                self._unsynced = 0
        if due:
            with self._sync_lock:
                self._sync()

    def _store_edge(self, start: int, data: bytes, room: Buffer) -> None:
        """Keeps a part of a block until the rest of it comes, or there are too many."""
        block = start // BLOCK * BLOCK
        with self._edge_lock:
            pieces = self._edges.setdefault(block, [])
            pieces.append((start - block, data))
            if sum(len(piece) for _, piece in pieces) >= BLOCK:
                due = {block: self._edges.pop(block)}
            elif len(self._edges) > MAX_EDGES:
                due = {oldest: self._edges.pop(oldest) for oldest in list(islice(self._edges, MAX_EDGES // 2))}
            else:
                return
        if len(due) == 1:
            # Each byte is stored once, so that no part of this block was settled before.
            self._settle_block(block, due[block], room)
        else:
            self._settle(due, room)

    def _settle(self, edges: dict[int, list[Piece]], room: Buffer) -> None:
        """Writes parts of blocks, over what is there in the rest of each.

        One thread at a time: another part of one of these blocks that comes meanwhile is settled after it.
        """
        with self._settle_lock:
            for block in sorted(edges):
                self._settle_block(block, edges[block], room)

    def _settle_block(self, block: int, pieces: list[Piece], room: Buffer) -> None:
        length = min(BLOCK, self.region.size - block)
        view = room.view[:length]
        before = None
        if self.compare or sum(len(piece) for _, piece in pieces) < length:
            before = bytes(self.region.load(block, length, room))
        for at, piece in pieces:
            view[at : at + len(piece)] = piece
        if before == bytes(view):
            self._skip(length)
        else:
            self._write(block, view)


class Stretch:
    """Gathers bytes that follow each other into large writes of a slot. For one thread."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._buffer = Buffer(STRETCH_LENGTH)
        self.spare = Buffer(STRETCH_LENGTH)
        self._base = self._start = self._end = 0

    def add(self, offset: int, data: memoryview) -> None:
        """Takes `data` for the byte `offset` of the slot. Raises `UpdatedError` ("disk-error")."""
        while data:
            room = self._base + STRETCH_LENGTH - self._end
            if offset != self._end or not room:
                self.flush()
                self._base = offset // BLOCK * BLOCK
                self._start = self._end = offset
                room = self._base + STRETCH_LENGTH - self._end
            piece = data[:room]
            at = self._end - self._base
            self._buffer.view[at : at + len(piece)] = piece
            self._end += len(piece)
            offset += len(piece)
            data = data[len(piece) :]

    def zero(self, offset: int, length: int) -> None:
        """Makes `length` bytes at `offset` of the slot zeros. Raises `UpdatedError` ("disk-error")."""
        self._slot.zero(offset, length, self.spare)

    def flush(self) -> None:
        """Hands over what was gathered. Raises `UpdatedError` ("disk-error")."""
        if self._start < self._end:
            self._slot.store(self._base, self._start, self._end, self._buffer, self.spare)
        self._start = self._end = self._base = 0
