"""The chunk index: an image as content-defined chunks, and where each lies compressed in the blob.

The index is itself cut into pages, again where the content says, so that a small change of the image changes few pages,
and a node that kept the pages of another release fetches only those. Format, version 2, all numbers little-endian.

The root, which the release manifest pins by its digest:

| bytes | what |
|---|---|
| 8 | magic `UPDIDX\\x00\\x02` |
| 8 | image size in bytes |
| 8 | blob length in bytes |
| 32 | SHA-256 of the pages, one after the other: the name of their file in `blobs/` |
| 4 | number of pages P |
| P x 52 | per page: SHA-256 (32), its length (u32); it lists: blob bytes (u32), chunks (u32), image bytes (u64) |

A page:

| bytes | what |
|---|---|
| 4 | number of frames F |
| F x 8 | per frame: compressed length in bytes (u32), number of chunks in it (u32) |
| C x 34 | per chunk: SHA-256 (32), length in bytes less one (u16) |

Chunks lie in the image one after the other; frames lie in the blob one after the other, in the order of the image. A
frame of compressed length 0 is a run of zeros: it has no chunks and no bytes in the blob, and its second number is its
length in bytes. Root and pages are trusted through their digests; they are parsed as if they were hostile all the same.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from updated.core.errors import UpdatedError

MAGIC = b"UPDIDX\x00\x02"
_HEADER = struct.Struct("<8sQQ32sI")
_ENTRY = struct.Struct("<32sIIIQ")
_COUNT = struct.Struct("<I")
_FRAME = struct.Struct("<II")
_CHUNK = struct.Struct("<32sH")
MAX_CHUNK_LENGTH = 64 * 1024
MAX_FRAME_LENGTH = 1024 * 1024
MAX_STORED_LENGTH = MAX_FRAME_LENGTH + 64 * 1024
"""The most bytes of a frame in the blob: what can't be compressed grows a little."""
MAX_ZEROS = 2**31
MAX_PAGE_LENGTH = 256 * 1024
MAX_PAGES = 2**20
MAX_WHOLE_INDEX = 8 * 1024 * 1024
"""The most bytes of root and pages together for which an index is given as the difference to another one."""
MAX_ROOT_LENGTH = _HEADER.size + MAX_PAGES * _ENTRY.size


class Chunk(NamedTuple):
    """`length` bytes of the image at `offset`, with their SHA-256 digest (32 bytes)."""

    offset: int
    length: int
    sha256: bytes


class Frame(NamedTuple):
    """Chunks that are compressed together as one zstd frame of `stored` bytes at `position` of the blob.

    `stored` is 0 for zeros, which have no chunks. `offset` and `length` say which bytes of the image the frame holds;
    `first` is the number of its first chunk, counted through the image, `chunk_count` how many it has, and `records`
    what the page says of them: most frames are passed over, and their chunks are never asked for.
    """

    position: int
    stored: int
    offset: int
    length: int
    first: int
    chunk_count: int
    records: memoryview

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Its chunks, unpacked anew each time."""
        members = list(_CHUNK.iter_unpack(self.records))
        lengths = [less + 1 for _, less in members]
        offsets = itertools.accumulate(lengths, initial=self.offset)
        return tuple(map(Chunk, offsets, lengths, (sha256 for sha256, _ in members)))


@dataclass(frozen=True, slots=True)
class PageEntry:
    """What the root says of a page. All but `sha256` and `chunks` are bytes; `start` is its place among the pages.

    `offset`, `position` and `first` are where its part of the image and of the blob and its chunks begin.
    """

    sha256: bytes
    start: int
    length: int
    stored: int
    chunks: int
    size: int
    offset: int
    position: int
    first: int


@dataclass(frozen=True, slots=True)
class IndexRoot:
    """A parsed root. `pages_sha256` is in lower-case hexadecimal."""

    image_size: int
    blob_length: int
    pages_sha256: str
    entries: tuple[PageEntry, ...]

    @property
    def pages_length(self) -> int:
        """The length of all pages together, in bytes."""
        return sum(entry.length for entry in self.entries)

    @property
    def chunk_count(self) -> int:
        """The number of chunks of the image; runs of zeros are none."""
        return sum(entry.chunks for entry in self.entries)

    @classmethod
    def parse(cls, data: bytes) -> IndexRoot:
        """The root in `data`. Raises `UpdatedError` ("index-invalid")."""
        if len(data) < _HEADER.size:
            raise _invalid(f"has {len(data)} bytes, fewer than its header")
        magic, image_size, blob_length, pages, count = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise _invalid("does not begin with the magic number of this format")
        if len(data) != _HEADER.size + count * _ENTRY.size:
            raise _invalid(f"has {len(data)} bytes where its header says {_HEADER.size + count * _ENTRY.size}")
        records = list(_ENTRY.iter_unpack(memoryview(data)[_HEADER.size :]))
        if count > MAX_PAGES:
            raise _invalid(f"has {count} pages, more than {MAX_PAGES}")
        if any(not 0 < length <= MAX_PAGE_LENGTH for _, length, *_ in records):
            raise _invalid("has a page whose length is out of range")
        root = cls(image_size, blob_length, pages.hex(), _entries(records))
        if sum(entry.size for entry in root.entries) != image_size:
            raise _invalid("has pages that do not add up to the size of its image")
        if sum(entry.stored for entry in root.entries) != blob_length:
            raise _invalid("has pages that do not add up to the length of its blob")
        return root

    def format(self) -> bytes:
        """The root as bytes; `parse` reads them back."""
        pages = bytes.fromhex(self.pages_sha256)
        parts = [_HEADER.pack(MAGIC, self.image_size, self.blob_length, pages, len(self.entries))]
        parts += [
            _ENTRY.pack(entry.sha256, entry.length, entry.stored, entry.chunks, entry.size) for entry in self.entries
        ]
        return b"".join(parts)


def _entries(records: Iterable[tuple[bytes, int, int, int, int]]) -> tuple[PageEntry, ...]:
    entries = []
    start = offset = position = first = 0
    for sha256, length, stored, chunks, size in records:
        entries.append(PageEntry(sha256, start, length, stored, chunks, size, offset, position, first))
        start, offset, position, first = start + length, offset + size, position + stored, first + chunks
    return tuple(entries)


def parse_page(entry: PageEntry, data: bytes) -> tuple[Frame, ...]:
    """The frames in the page `data` that `entry` lists. Raises `UpdatedError`: "wrong-digest", "index-invalid"."""
    if len(data) != entry.length or hashlib.sha256(data).digest() != entry.sha256:
        raise UpdatedError(
            "wrong-digest", "a page of the chunk index", "differs from its signed digest",
            "It is not used. If it stays so, the mirror is damaged: the publisher must mend it.",
        )
    table_end = _COUNT.size + (_COUNT.unpack_from(data)[0] if len(data) >= _COUNT.size else 0) * _FRAME.size
    if len(data) != table_end + entry.chunks * _CHUNK.size:
        raise _invalid("has a page that does not hold as many chunks as it should")
    records = memoryview(data)[table_end:]
    frames = []
    position, first = entry.position, entry.first
    offset, end = entry.offset, entry.first + entry.chunks
    for stored, count in _FRAME.iter_unpack(memoryview(data)[_COUNT.size : table_end]):
        if stored:
            if not 0 < count <= end - first:
                raise _invalid("has frames that do not match its chunks")
            members, records = records[: count * _CHUNK.size], records[count * _CHUNK.size :]
            length, most = sum(struct.unpack("<" + count * "32xH", members)) + count, MAX_FRAME_LENGTH
        else:
            members, length, most, count = records[:0], count, MAX_ZEROS, 0
        if not 0 < length <= most or stored > MAX_STORED_LENGTH:
            raise _invalid("has a frame that is too large, or empty")
        frames.append(Frame(position, stored, offset, length, first, count, members))
        position, offset, first = position + stored, offset + length, first + count
    if (offset, position, first) != (entry.offset + entry.size, entry.position + entry.stored, end):
        raise _invalid("has a page whose sums differ from the root")
    return tuple(frames)


Draft = tuple[int, Sequence[tuple[bytes, int]] | int]
"""A frame to be listed: its compressed length, and (SHA-256, length) of each chunk; 0 and the length of zeros."""


def format_page(frames: Sequence[Draft]) -> bytes:
    """A page as bytes; `parse_page` reads them back."""
    parts = [_COUNT.pack(len(frames))]
    parts += [_FRAME.pack(stored, members if isinstance(members, int) else len(members)) for stored, members in frames]
    for _, members in frames:
        if not isinstance(members, int):
            parts += [_CHUNK.pack(sha256, length - 1) for sha256, length in members]
    return b"".join(parts)


def build_index(pages: Iterable[Sequence[Draft]]) -> tuple[IndexRoot, bytes]:
    """The root of the index whose pages hold these frames, and the pages one after the other."""
    records = []
    parts = []
    for frames in pages:
        data = format_page(frames)
        stored = sum(length for length, _ in frames)
        lists = [members for _, members in frames if not isinstance(members, int)]
        zeros = sum(members for _, members in frames if isinstance(members, int))
        size = zeros + sum(length for members in lists for _, length in members)
        records.append((hashlib.sha256(data).digest(), len(data), stored, sum(map(len, lists)), size))
        parts.append(data)
    entries = _entries(records)
    whole = b"".join(parts)
    image_size = sum(entry.size for entry in entries)
    blob_length = sum(entry.stored for entry in entries)
    return IndexRoot(image_size, blob_length, hashlib.sha256(whole).hexdigest(), entries), whole


def _invalid(cause: str) -> UpdatedError:
    return UpdatedError("index-invalid", "the chunk index", cause, "The publisher must publish the release again.")
