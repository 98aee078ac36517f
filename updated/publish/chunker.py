"""Content-defined chunking: where an image is cut, decided by its bytes and not by their position.

A cut stands after each byte where a rolling hash of the last 32 bytes is small enough; so data that moved is cut in the
same places again, and only what really changed makes new chunks. The hash is the gear hash of FastCDC (Xia et al.,
USENIX ATC 2016), `h = (h << 1) + GEAR[byte]` modulo 2^32: a byte has left it after 32 steps, so it needs no state
from before the chunk.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from updated.core.index import MAX_CHUNK_LENGTH

MIN_CHUNK: Final = 4 * 1024
"""The shortest chunk, in bytes; only the last one of an image can be shorter."""
AVERAGE_CHUNK: Final = 16 * 1024
"""What chunks of random data have on average, in bytes."""
MAX_CHUNK: Final = 64 * 1024
"""The longest chunk that holds anything but zeros, in bytes."""
ZERO_CHUNK: Final = MAX_CHUNK_LENGTH
"""The longest chunk of zeros, in bytes: they cost nothing but their entry in the index."""
WINDOW: Final = 1024 * 1024
"""How much of the image is looked at in one step, in bytes. It has no influence on the cuts."""

_HASH_WIDTH: Final = 32
_GEAR_TEXT: Final = b"updated gear table, version 1, byte "
# A cut stands on average this far behind the shortest length; the longest one, met by 1 chunk of 150, takes little off.
_THRESHOLD: Final = np.uint32(2**32 // (AVERAGE_CHUNK - MIN_CHUNK))
_ZEROS: Final = bytes(ZERO_CHUNK)


class Readable(Protocol):
    """A binary file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes: ...


def gear_table() -> npt.NDArray[np.uint32]:
    """The 256 numbers of the hash: the first 4 bytes, little-endian, of the SHA-256 of a fixed text and the byte."""
    digests = (hashlib.sha256(_GEAR_TEXT + bytes([value])).digest() for value in range(256))
    return np.frombuffer(b"".join(digest[:4] for digest in digests), dtype="<u4").astype(np.uint32)


_GEAR: Final = gear_table()


def _hashes(data: bytes | bytearray) -> npt.NDArray[np.uint32]:
    """The rolling hash behind each byte of `data`, by doubling the width of the hashed window in five steps."""
    hashes = _GEAR[np.frombuffer(data, dtype=np.uint8)]
    width = 1
    while width < _HASH_WIDTH:
        hashes[width:] += hashes[:-width] << np.uint32(width)
        width *= 2
    return hashes


def _zero_run(data: bytes | bytearray, start: int) -> int:
    """How many zeros lie at `start`: `MIN_CHUNK` to `ZERO_CHUNK`, or 0 when there are fewer."""
    view = memoryview(data)
    if view[start : start + MIN_CHUNK] != _ZEROS[:MIN_CHUNK]:
        return 0
    run = view[start : start + ZERO_CHUNK]
    if run == _ZEROS[: len(run)]:
        return len(run)
    return int(np.flatnonzero(np.frombuffer(run, dtype=np.uint8))[0])


def _lengths(data: bytes | bytearray, *, final: bool) -> list[int]:
    """The lengths of the chunks at the beginning of `data`, as far as what follows can't change them any more."""
    cuts: list[int] = (np.flatnonzero(_hashes(data) < _THRESHOLD) + 1).tolist()
    lengths = []
    start = 0
    lookahead = 1 if final else ZERO_CHUNK
    while len(data) - start >= lookahead:
        length = _zero_run(data, start)
        if not length:
            length = min(MAX_CHUNK, len(data) - start)
            at = bisect_left(cuts, start + MIN_CHUNK)
            if at < len(cuts):
                length = min(length, cuts[at] - start)
        lengths.append(length)
        start += length
    return lengths


def boundaries(data: bytes) -> list[int]:
    """The ends of the chunks of `data`, ascending; the last one is its length."""
    return list(itertools.accumulate(_lengths(data, final=True)))


def chunks(image: Readable, *, window: int = WINDOW) -> Iterator[bytes]:
    """The chunks of `image` one after the other; memory is bounded by `window`, at least `ZERO_CHUNK` bytes."""
    pending = bytearray()
    final = False
    while not final:
        while len(pending) < window + ZERO_CHUNK and not final:
            piece = image.read(window + ZERO_CHUNK - len(pending))
            pending += piece
            final = not piece
        start = 0
        for length in _lengths(pending, final=final):
            yield bytes(memoryview(pending)[start : start + length])
            start += length
        pending = pending[start:]
