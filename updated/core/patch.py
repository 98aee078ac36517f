"""The table of a patch: what is new in an image, compressed with what is similar in the image of another release.

Each frame holds chunks of the new image that the base image doesn't have, compressed with windows of the base as a
prefix (a zstd dictionary of raw content). Format, version 1, compressed as one zstd frame, numbers little-endian:

| bytes | what |
|---|---|
| 8 | magic `UPDPAT\\x00\\x01` |
| 4 | length in bytes of a block of the base, in which windows are counted; a multiple of 4096 |
| 4 | number of frames |
| per frame: 4 | compressed length in bytes |
| 2, 2 | number of windows W, number of runs of chunks R |
| W x 6 | first block of the base (u32), number of blocks (u16) |
| R x 6 | first chunk (u32), number of chunks (u16), counted through the new image |

Frames lie one after the other in the patch, in the order of the image. The last block of the base may be cut short by
its end. The table is trusted through its digest in the signed release manifest, and what a frame gives through the
digests of its chunks; it is parsed as if it were hostile all the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from updated.core.errors import UpdatedError

MAGIC = b"UPDPAT\x00\x01"
_HEADER = struct.Struct("<8sII")
_FRAME = struct.Struct("<IHH")
_RANGE = struct.Struct("<IH")
MAX_TABLE_LENGTH = 64 * 1024 * 1024
"""The most bytes of a table, decompressed."""
MAX_PREFIX_LENGTH = 8 * 1024 * 1024
"""The most bytes of the base that one frame may need; bounds the memory of a node."""
MAX_CONTENT_LENGTH = 2 * 1024 * 1024
"""The most bytes that one frame may give."""
MAX_STORED_LENGTH = MAX_CONTENT_LENGTH + 64 * 1024

Range = tuple[int, int]
"""(first, number)."""


@dataclass(frozen=True, slots=True)
class PatchFrame:
    """`stored` bytes at `position` of the patch. `windows` are blocks of the base, `runs` chunks of the new image."""

    position: int
    stored: int
    windows: tuple[Range, ...]
    runs: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class PatchTable:
    """A parsed table; `block` is in bytes."""

    block: int
    frames: tuple[PatchFrame, ...]

    @property
    def length(self) -> int:
        """The length of the patch in bytes."""
        return sum(frame.stored for frame in self.frames)

    @classmethod
    def build(cls, block: int, frames: Sequence[tuple[int, Sequence[Range], Sequence[Range]]]) -> PatchTable:
        """The table of `frames`, each (compressed length, windows, runs)."""
        built = []
        position = 0
        for stored, windows, runs in frames:
            built.append(PatchFrame(position, stored, tuple(windows), tuple(runs)))
            position += stored
        return cls(block, tuple(built))

    @classmethod
    def parse(cls, data: bytes, chunk_count: int) -> PatchTable:
        """The table in `data`, for an image of `chunk_count` chunks. Raises `UpdatedError` ("patch-invalid")."""
        try:
            magic, block, count = _HEADER.unpack_from(data)
            if magic != MAGIC:
                raise _invalid("does not begin with the magic number of this format")
            frames = []
            at = _HEADER.size
            for _ in range(count):
                stored, window_count, run_count = _FRAME.unpack_from(data, at)
                at += _FRAME.size
                ranges = []
                for number in (window_count, run_count):
                    end = at + number * _RANGE.size
                    ranges.append([(first, length) for first, length in _RANGE.iter_unpack(data[at:end])])
                    if len(ranges[-1]) != number:
                        raise _invalid("ends early")
                    at = end
                frames.append((stored, ranges[0], ranges[1]))
        except struct.error:
            raise _invalid("ends early") from None
        if at != len(data):
            raise _invalid("has more bytes than its header says")
        if not 0 < block <= MAX_PREFIX_LENGTH or block % 4096:
            raise _invalid("has blocks of an impossible length")
        table = cls.build(block, frames)
        reached = 0
        for frame in table.frames:
            if not 0 < frame.stored <= MAX_STORED_LENGTH or not frame.runs:
                raise _invalid("has a frame that is too large, or empty")
            if sum(length for _, length in frame.windows) * block > MAX_PREFIX_LENGTH:
                raise _invalid("has a frame that needs too much of the base")
            for first, length in frame.runs:
                if first < reached or not length:
                    raise _invalid("has chunks that are out of order")
                reached = first + length
        if reached > chunk_count:
            raise _invalid("has chunks that the image doesn't have")
        return table

    def format(self) -> bytes:
        """The table as bytes, not compressed; `parse` reads them back."""
        parts = [_HEADER.pack(MAGIC, self.block, len(self.frames))]
        for frame in self.frames:
            parts.append(_FRAME.pack(frame.stored, len(frame.windows), len(frame.runs)))
            parts += [_RANGE.pack(*each) for each in (*frame.windows, *frame.runs)]
        return b"".join(parts)


def _invalid(cause: str) -> UpdatedError:
    return UpdatedError(
        "patch-invalid", "the table of a patch", cause, "The update goes on without it. The publisher should know."
    )
