"""Makes a patch: the new chunks of an image, compressed with what is similar in the image of another release.

What is similar is found by content, wherever it lies: of the rolling hash of the last 32 bytes one value in 256 is
looked at, both in the base and in the new chunks, and the blocks of the base with the most hits become the prefix.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.index import Chunk, Frame
from updated.core.patch import PatchTable, Range
from updated.publish.blob import WORKERS, Writable, decode
from updated.publish.chunker import rolling_hashes
from updated.stored import StoredIndex

# Measured with 2 cores on real Debian images of 2 GiB: a security patch (14.7 MB of new chunks) and 62 MB of those of
# a large upgrade. Of plain chunks, compressed together by the MiB, level 15 makes 4.22 and 17.5 MB.
#   prefix   block    level  security patch  upgrade
#   2 MiB    64 KiB   15     0.85 MB         5.05 MB
#   2 MiB    32 KiB   15     0.87 MB         5.12 MB
#   4 MiB    64 KiB   15                     5.05 MB
#   2 MiB    32 KiB   17                     4.91 MB
#   2 MiB    32 KiB   19                     4.67 MB
CONTENT_LENGTH: Final = 1024 * 1024
"""The most bytes of new chunks in one frame."""
PREFIX_LENGTH: Final = 2 * 1024 * 1024
"""The most bytes of the base that a frame is compressed with."""
BLOCK: Final = 64 * 1024
"""The length in bytes of the blocks that a prefix is made of."""
_HASH_WIDTH: Final = 32
_THRESHOLD: Final = np.uint32(2**32 // 256)
_STEP: Final = 128 * 1024
# What stands in more places than this says nothing about where to look.
_MOST_PLACES: Final = 8
_LEAST_SCORE: Final = 2.0
# A frame ends, when it is long enough, behind one of so many chunks: where its content says, so that the patches from
# several releases have frames in common.
_PART_CUT: Final = 16

Progress = Callable[[int, int], None]
"""Is told how many bytes of new chunks are done, and how many there are."""
Made = dict[bytes, bytes]
"""Frames by the SHA-256 of their prefix and content."""
_MOST_MADE: Final = 1024
# Of more new content than this, in bytes, no one waits for the higher levels: 17 takes twice the time of 15 for 3 %.
_LARGE: Final = 64 * 1024 * 1024
_LEVEL_OF_LARGE: Final = 15
"""How many frames are kept for other patches at most: it bounds the memory."""
_Numbers = npt.NDArray[np.uint32]


def _landmarks(data: memoryview) -> tuple[_Numbers, _Numbers]:
    """The hashes in `data` that are looked at, and where each stands."""
    hashes, places = [], []
    for start in range(0, len(data), _STEP):
        before = max(0, start - _HASH_WIDTH)
        found = rolling_hashes(data[before : start + _STEP])[start - before :]
        at = np.flatnonzero(found < _THRESHOLD)
        hashes.append(found[at])
        places.append((at + start).astype(np.uint32))
    return np.concatenate(hashes), np.concatenate(places)


class _Base:
    """The image of the base release, unpacked into the empty file `room`, and where its landmarks are."""

    def __init__(self, index: StoredIndex, blob: str, room: IO[bytes]) -> None:
        self._fd = room.fileno()
        hashes, blocks = [], []
        room.truncate(index.root.image_size)
        with open(blob, "rb") as source:
            for frame, data in decode(index, source):
                if frame.stored:
                    room.seek(frame.offset)
                    room.write(data)
                    found, places = _landmarks(memoryview(data))
                    hashes.append(found)
                    blocks.append(((places.astype(np.uint64) + frame.offset) // BLOCK).astype(np.uint32))
        room.flush()
        unsorted = np.concatenate(hashes) if hashes else np.zeros(0, np.uint32)
        order = np.argsort(unsorted, kind="stable")
        self._hashes = unsorted[order]
        self._blocks = np.concatenate(blocks)[order] if blocks else unsorted

    def similar(self, data: memoryview) -> list[Range]:
        """The blocks that are most like `data`: (first, number), ascending, `PREFIX_LENGTH` in all at most."""
        wanted = np.unique(_landmarks(data)[0])
        first = np.searchsorted(self._hashes, wanted, "left")
        count = np.searchsorted(self._hashes, wanted, "right") - first
        telling = (count > 0) & (count <= _MOST_PLACES)
        first, count = first[telling], count[telling]
        if not len(first):
            return []
        before = np.repeat(np.cumsum(count) - count, count)
        places = np.repeat(first, count) + np.arange(count.sum()) - before
        blocks, which = np.unique(self._blocks[places], return_inverse=True)
        scores = np.bincount(which, weights=np.repeat(1.0 / count, count))
        best = np.argsort(-scores, kind="stable")[: PREFIX_LENGTH // BLOCK]
        chosen = sorted(int(block) for block in blocks[best[scores[best] >= _LEAST_SCORE]])
        return _ranges(chosen)

    def read(self, windows: list[Range]) -> bytes:
        """The bytes of these blocks, one after the other."""
        return b"".join(os.pread(self._fd, count * BLOCK, first * BLOCK) for first, count in windows)


def _ranges(numbers: list[int]) -> list[Range]:
    """Ascending numbers as (first, number of those that follow each other)."""
    ranges: list[Range] = []
    for number in numbers:
        if ranges and sum(ranges[-1]) == number and ranges[-1][1] < 0xFFFF:
            ranges[-1] = ranges[-1][0], ranges[-1][1] + 1
        else:
            ranges.append((number, 1))
    return ranges


@dataclass(frozen=True, slots=True)
class _Part:
    """New chunks that are compressed together, with their numbers."""

    numbers: list[int]
    chunks: list[Chunk]

    @property
    def length(self) -> int:
        return sum(chunk.length for chunk in self.chunks)


def _missing(base: StoredIndex, new: StoredIndex) -> Iterator[tuple[Frame, list[tuple[int, Chunk]]]]:
    """The frames of `new` with chunks that `base` doesn't have, and these chunks with their numbers."""
    present = {chunk.sha256 for frame in base.frames() for chunk in frame.chunks}
    for frame in new.frames():
        lacking = [each for each in enumerate(frame.chunks, frame.first) if each[1].sha256 not in present]
        if lacking:
            yield frame, lacking


def _parts(chunks: Iterable[tuple[int, Chunk]]) -> Iterator[_Part]:
    """The numbered `chunks`, as they are compressed together."""
    part = _Part([], [])
    length = 0
    for number, chunk in chunks:
        if part.chunks and length + chunk.length > CONTENT_LENGTH:
            yield part
            part, length = _Part([], []), 0
        part.numbers.append(number)
        part.chunks.append(chunk)
        length += chunk.length
        if length >= CONTENT_LENGTH // 2 and chunk.sha256[2] % _PART_CUT == 0:
            yield part
            part, length = _Part([], []), 0
    if part.chunks:
        yield part


def _content(image: int, chunks: Iterable[Chunk]) -> bytes:
    """The bytes of `chunks` in the open file `image`. Raises `UpdatedError` ("bad-image")."""
    pieces = []
    for chunk in chunks:
        piece = os.pread(image, chunk.length, chunk.offset)
        if hashlib.sha256(piece).digest() != chunk.sha256:
            raise UpdatedError("bad-image", "the image", "changed while it was read", "Publish it when it is finished.")
        pieces.append(piece)
    return b"".join(pieces)


def make(
    base: StoredIndex, base_blob: str, new: StoredIndex, image: str, patch: Writable, *,
    room: IO[bytes], level: int, made: Made | None = None, progress: Progress = lambda done, total: None,
) -> tuple[PatchTable, int]:
    """Writes the patch from the release of `base` to the `image` of `new`.

    Returns its table, and how many bytes of the blob it stands for: those of the frames with new chunks. `room` is an
    empty file, for the image of the base. `made` has the frames of other patches to the same image, and gets those of
    this one. Raises `UpdatedError`: "wrong-digest" and "index-invalid" when the base is damaged, "bad-image" when
    `image` has changed; and OSError.
    """
    missing = list(_missing(base, new))
    parts = list(_parts(each for _, lacking in missing for each in lacking))
    total = sum(part.length for part in parts)
    if not parts:
        return PatchTable.build(BLOCK, []), 0
    if total > _LARGE:
        level = min(level, _LEVEL_OF_LARGE)
    old = _Base(base, base_blob, room)
    frames = made if made is not None else {}
    table = []
    done = 0
    with open(image, "rb", buffering=0) as file, ThreadPoolExecutor(WORKERS, thread_name_prefix="patch") as pool:

        def pack(part: _Part) -> tuple[bytes, list[Range], list[Range]]:
            data = _content(file.fileno(), part.chunks)
            windows = old.similar(memoryview(data))
            prefix = old.read(windows)
            key = hashlib.sha256(prefix + data).digest()
            packed = frames.get(key) or prefixed.compress(data, prefix, level)
            if len(frames) < _MOST_MADE:
                frames[key] = packed
            return packed, windows, _ranges(part.numbers)

        waiting: deque[tuple[int, Future[tuple[bytes, list[Range], list[Range]]]]] = deque()

        def settle() -> None:
            nonlocal done
            length, future = waiting.popleft()
            data, windows, runs = future.result()
            patch.write(data)
            table.append((len(data), windows, runs))
            done += length
            progress(done, total)

        for part in parts:
            waiting.append((part.length, pool.submit(pack, part)))
            if len(waiting) > 2 * WORKERS:
                settle()
        while waiting:
            settle()
    return PatchTable.build(BLOCK, table), sum(frame.stored for frame, _ in missing)
