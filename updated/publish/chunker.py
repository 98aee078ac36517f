"""Content-defined chunking: where an image is cut, decided by its bytes and not by their position.

Runs of zero blocks are told apart first. In what lies between them a cut stands after each byte where a rolling hash of
the last 32 bytes is small enough; so data that moved is cut in the same places again, and only what really changed
makes new chunks. The hash is the gear hash of FastCDC (Xia et al., USENIX ATC 2016), `h = (h << 1) + GEAR[byte]`
modulo 2^32: a byte has left it after 32 steps, so it needs no state from before the chunk.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from updated.core.index import MAX_CHUNK_LENGTH, MAX_ZEROS

MIN_CHUNK: Final = 4 * 1024
"""The shortest chunk, in bytes; only the last one before zeros or the end can be shorter."""
AVERAGE_CHUNK: Final = 16 * 1024
"""What chunks of random data have on average, in bytes."""
MAX_CHUNK: Final = MAX_CHUNK_LENGTH
"""The longest chunk, in bytes."""
BLOCK: Final = 4 * 1024
"""File systems allocate in blocks of this many bytes; runs of zeros begin and end with one."""
MIN_ZEROS: Final = 16 * 1024
"""The shortest run of zeros that is told apart, in bytes: a chunk is cheaper for fewer."""
WINDOW: Final = 1024 * 1024
"""How much of the image is looked at in one step, in bytes. It has no influence on the cuts."""

_HASH_WIDTH: Final = 32
_GEAR_TEXT: Final = b"updated gear table, version 1, byte "
# A cut stands on average this far behind the shortest length; the longest one, met by 1 chunk of 150, takes little off.
_THRESHOLD: Final = np.uint32(2**32 // (AVERAGE_CHUNK - MIN_CHUNK))
# The arrays of one step stay in the processor's cache: three times as fast as steps of 1 MiB.
_STEP: Final = 128 * 1024


class Readable(Protocol):
    """A binary file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes: ...


def gear_table() -> npt.NDArray[np.uint32]:
    """The 256 numbers of the hash: the first 4 bytes, little-endian, of the SHA-256 of a fixed text and the byte."""
    digests = (hashlib.sha256(_GEAR_TEXT + bytes([value])).digest() for value in range(256))
    return np.frombuffer(b"".join(digest[:4] for digest in digests), dtype="<u4").astype(np.uint32)


_GEAR: Final = gear_table()


def rolling_hashes(data: bytes | bytearray | memoryview) -> npt.NDArray[np.uint32]:
    """The rolling hash behind each byte of `data`, by doubling the width of the hashed window in five steps."""
    hashes = np.take(_GEAR, np.frombuffer(data, dtype=np.uint8))
    shifted = np.empty_like(hashes)
    width = 1
    while width < _HASH_WIDTH:
        np.left_shift(hashes[:-width], np.uint32(width), out=shifted[width:])
        np.add(hashes[width:], shifted[width:], out=hashes[width:])
        width *= 2
    return hashes


class _Cutter:
    """Cuts a stretch of data that comes in pieces."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._hashed = 0
        self._cuts: list[int] = []

    def feed(self, data: memoryview) -> Iterator[bytes]:
        """The chunks that what follows can't change any more."""
        self._pending += data
        yield from self._take(MAX_CHUNK)

    def finish(self) -> Iterator[bytes]:
        """The rest of the chunks; the next data begin a new stretch."""
        yield from self._take(1)

    def _take(self, enough: int) -> Iterator[bytes]:
        self._hash()
        view = memoryview(self._pending)
        start = at = 0
        while len(view) - start >= enough:
            length = min(MAX_CHUNK, len(view) - start)
            at = bisect_left(self._cuts, start + MIN_CHUNK, at)
            if at < len(self._cuts):
                length = min(length, self._cuts[at] - start)
            yield bytes(view[start : start + length])
            start += length
        view.release()
        del self._pending[:start]
        self._hashed -= start
        self._cuts = [cut - start for cut in self._cuts[at:] if cut > start]

    def _hash(self) -> None:
        view = memoryview(self._pending)
        while self._hashed < len(view):
            begin = max(0, self._hashed - _HASH_WIDTH)
            hashes = rolling_hashes(view[begin : self._hashed + _STEP])[self._hashed - begin :]
            self._cuts += (np.flatnonzero(hashes < _THRESHOLD) + (self._hashed + 1)).tolist()
            self._hashed += len(hashes)


def chunks(image: Readable) -> Iterator[bytes | int]:
    """The chunks of `image` one after the other; a number is the length of a run of zeros. Memory is bounded."""
    cutter = _Cutter()
    held = 0  # zeros at the end of what was read, of which it is not known yet whether they are enough
    for piece in _pieces(image):
        view = memoryview(piece)
        for zero, start, end in _stretches(piece):
            if zero:
                held += end - start
                continue
            yield from _settle(cutter, held)
            held = 0
            yield from cutter.feed(view[start:end])
    yield from _settle(cutter, held)
    yield from cutter.finish()


def _settle(cutter: _Cutter, zeros: int) -> Iterator[bytes | int]:
    """Zeros that have ended: a run of their own, or a part of the data around them."""
    if zeros < MIN_ZEROS:
        if zeros:
            yield from cutter.feed(memoryview(bytes(zeros)))
        return
    yield from cutter.finish()
    while zeros:
        run = min(zeros, MAX_ZEROS)
        yield run
        zeros -= run


def _pieces(image: Readable) -> Iterator[bytes]:
    """What `image` holds, in pieces of whole blocks but for the last, however little a read returns."""
    pending = b""
    while piece := image.read(WINDOW - len(pending)):
        pending += piece
        if len(pending) == WINDOW:
            yield pending
            pending = b""
    if pending:
        yield pending


def _stretches(data: bytes) -> Iterator[tuple[bool, int, int]]:
    """The stretches of blocks that hold zeros only, and of others: (zeros, start, end)."""
    whole = len(data) // BLOCK * BLOCK
    words = np.frombuffer(data[:whole], dtype=np.uint64).reshape(-1, BLOCK // 8)
    zero: npt.NDArray[np.bool_] = np.logical_not(words.any(axis=1))
    edges = [0, *(np.flatnonzero(zero[1:] != zero[:-1]) + 1).tolist(), len(zero)] if len(zero) else []
    for start, end in itertools.pairwise(edges):
        yield bool(zero[start]), start * BLOCK, end * BLOCK
    if whole < len(data):
        yield not any(data[whole:]), whole, len(data)
