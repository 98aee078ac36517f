"""The chunk index: an image as content-defined chunks, and where each lies compressed in the blob.

Format, version 1, all numbers little-endian:

| bytes | what |
|---|---|
| 8 | magic `UPDIDX\\x00\\x01` |
| 8 | image size in bytes |
| 8 | blob length in bytes |
| 4 | number of frames F |
| 4 | number of chunks C |
| F x 8 | per frame: compressed length in bytes (u32), number of chunks in it (u32) |
| C x 36 | per chunk: SHA-256 (32), length in bytes (u32) |

Chunks lie in the image one after the other; frames lie in the blob one after the other, in the order of the image. A
frame of compressed length 0 holds chunks of zeros only, and has no bytes in the blob. The index is trusted through its
digest in the signed release manifest; it is parsed as if it were hostile all the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from updated.core.errors import UpdatedError

MAGIC = b"UPDIDX\x00\x01"
_HEADER = struct.Struct("<8sQQII")
_FRAME = struct.Struct("<II")
_CHUNK = struct.Struct("<32sI")
MAX_CHUNK_LENGTH = 256 * 1024
MAX_FRAME_LENGTH = 4 * 1024 * 1024
MAX_INDEX_LENGTH = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` bytes of the image at `offset`, with their SHA-256 digest (32 bytes)."""

    offset: int
    length: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """Chunks that are compressed together as one zstd frame of `stored` bytes at `position` of the blob.

    `stored` is 0 for zeros. `offset` and `length` say which bytes of the image it holds.
    """

    position: int
    stored: int
    chunks: tuple[Chunk, ...]

    @property
    def offset(self) -> int:
        """Where the frame begins in the image, in bytes."""
        return self.chunks[0].offset

    @property
    def length(self) -> int:
        """How many bytes of the image it holds."""
        last = self.chunks[-1]
        return last.offset + last.length - self.chunks[0].offset


@dataclass(frozen=True, slots=True)
class Index:
    """A parsed chunk index."""

    image_size: int
    blob_length: int
    frames: tuple[Frame, ...]

    @property
    def chunk_count(self) -> int:
        """The number of chunks of the image."""
        return sum(len(frame.chunks) for frame in self.frames)

    @classmethod
    def build(cls, frames: Sequence[tuple[int, Sequence[tuple[bytes, int]]]]) -> Index:
        """The index of `frames`, each (compressed length, [(SHA-256, length), ...]) in the order of the image."""
        built = []
        offset = position = 0
        for stored, members in frames:
            chunks = []
            for sha256, length in members:
                chunks.append(Chunk(offset, length, sha256))
                offset += length
            built.append(Frame(position, stored, tuple(chunks)))
            position += stored
        return cls(offset, position, tuple(built))

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """The index in `data`. Raises `UpdatedError` ("index-invalid")."""
        if len(data) < _HEADER.size:
            raise _invalid(f"has {len(data)} bytes, fewer than its header")
        magic, image_size, blob_length, frame_count, chunk_count = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise _invalid("does not begin with the magic number of this format")
        expected = _HEADER.size + frame_count * _FRAME.size + chunk_count * _CHUNK.size
        if len(data) != expected:
            raise _invalid(f"has {len(data)} bytes where its header says {expected}")
        table_end = _HEADER.size + frame_count * _FRAME.size
        records = _CHUNK.iter_unpack(memoryview(data)[table_end:])
        frames = []
        left = chunk_count
        for stored, count in _FRAME.iter_unpack(memoryview(data)[_HEADER.size : table_end]):
            if not 0 < count <= left:
                raise _invalid("has frames that do not match its chunks")
            left -= count
            frames.append((stored, [next(records) for _ in range(count)]))
        if left:
            raise _invalid("has chunks that belong to no frame")
        index = cls.build(frames)
        if index.image_size != image_size or index.blob_length != blob_length:
            raise _invalid("has sums that differ from its header")
        for frame in index.frames:
            if frame.length > MAX_FRAME_LENGTH or frame.stored > 2 * MAX_FRAME_LENGTH:
                raise _invalid("has a frame that is too large")
            if any(not 0 < chunk.length <= MAX_CHUNK_LENGTH for chunk in frame.chunks):
                raise _invalid("has a chunk whose length is out of range")
        return index

    def format(self) -> bytes:
        """The index as bytes; `parse` reads them back."""
        parts = [_HEADER.pack(MAGIC, self.image_size, self.blob_length, len(self.frames), self.chunk_count)]
        parts += [_FRAME.pack(frame.stored, len(frame.chunks)) for frame in self.frames]
        parts += [_CHUNK.pack(chunk.sha256, chunk.length) for frame in self.frames for chunk in frame.chunks]
        return b"".join(parts)


def _invalid(cause: str) -> UpdatedError:
    return UpdatedError("index-invalid", "the chunk index", cause, "The publisher must publish the release again.")
