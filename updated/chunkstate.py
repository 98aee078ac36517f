"""What is known of each chunk of the image that is being installed, and what the slot holds of it."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

from updated.core.index import Chunk, Frame, PageEntry
from updated.readback import Progress, in_order
from updated.region import BLOCK, Buffer, Region
from updated.stored import StoredIndex

MISSING, LOCAL, PATCHED, DONE = range(4)
"""To be fetched from the blob; to be copied from the running slot; to be made with a patch; in its place, verified."""

LOAD_LENGTH = 1024 * 1024
WORKERS = 4
"""Threads that read the disk: twice the cores of a small machine, since half of them wait for the medium."""
# A slot of which none of so many chunks is in place holds something else, and comparing the rest would be wasted.
SAMPLES = 512
_PAGES_KEPT = 8


class ChunkStates:
    """The state of each chunk of `index`, a byte for each. A chunk is changed by one thread at a time."""

    def __init__(self, index: StoredIndex) -> None:
        self.index = index
        self.states = bytearray(index.root.chunk_count)
        self._firsts = [entry.first for entry in index.root.entries]
        # Runs are asked for in ascending order, and a page has many of them.
        self._chunks = lru_cache(_PAGES_KEPT)(partial(_chunks_of, index))

    def has(self, state: int, frame: Frame) -> bool:
        """Whether a chunk of `frame` is in `state`."""
        return self.states.find(state, frame.first, frame.first + frame.chunk_count) >= 0

    def any(self, state: int) -> bool:
        """Whether any chunk is in `state`."""
        return self.states.find(state) >= 0

    def replace(self, old: int, new: int) -> None:
        """Changes all chunks in the state `old`; other threads may change others meanwhile."""
        at = self.states.find(old)
        while at >= 0:
            self.states[at] = new
            at = self.states.find(old, at + 1)

    def numbered(self, frame: Frame, state: int) -> Iterator[tuple[int, Chunk]]:
        """The chunks of `frame` in `state`, with their numbers."""
        states = self.states
        chunks = frame.chunks if self.has(state, frame) else ()
        return ((number, chunk) for number, chunk in enumerate(chunks, frame.first) if states[number] == state)

    def runs(self, frames: Sequence[Frame], state: int) -> Iterator[tuple[int, list[Chunk]]]:
        """Chunks in `state` that follow each other in the image: the number of the first, and they, `LOAD_LENGTH` at
        most."""
        first, run = 0, list[Chunk]()
        for frame in frames:
            for number, chunk in self.numbered(frame, state):
                if run:
                    follows = run[-1].offset + run[-1].length == chunk.offset
                    if not follows or chunk.offset + chunk.length - run[0].offset > LOAD_LENGTH:
                        yield first, run
                        run = []
                if not run:
                    first = number
                run.append(chunk)
        if run:
            yield first, run

    def chunks(self, first: int, count: int) -> list[Chunk]:
        """The chunks with the numbers [first, first + count). Raises as `StoredIndex.pages`."""
        found: list[Chunk] = []
        at = bisect_right(self._firsts, first) - 1
        while len(found) < count:
            entry = self.index.root.entries[at]
            members = self._chunks(entry)
            begin = first + len(found) - entry.first
            found += members[begin : begin + count - len(found)]
            at += 1
        return found

    def pages_with(self, state: int) -> Iterator[PageEntry]:
        """The pages with a chunk in `state`."""
        for entry in self.index.root.entries:
            if self.states.find(state, entry.first, entry.first + entry.chunks) >= 0:
                yield entry


def _chunks_of(index: StoredIndex, entry: PageEntry) -> list[Chunk]:
    return [chunk for frame in index.page(entry) for chunk in frame.chunks]


def resembles(states: ChunkStates, region: Region) -> bool:
    """Whether `region` holds some of the image, by a sample of its chunks. Raises `UpdatedError`."""
    count = len(states.states)
    if not count:
        return True
    buffer = Buffer(LOAD_LENGTH + 2 * BLOCK)
    for number in range(0, count, max(1, count // SAMPLES)):
        chunk = states.chunks(number, 1)[0]
        if holds(region, chunk, buffer):
            return True
    return False


def compare(states: ChunkStates, region: Region, progress: Progress) -> int:
    """Finds which of the missing chunks `region` holds in their place; their bytes. Raises `UpdatedError`."""
    local = threading.local()

    def work(entry: PageEntry) -> tuple[int, int]:
        if not hasattr(local, "buffer"):
            local.buffer = Buffer(LOAD_LENGTH + 2 * BLOCK)
        return entry.size, find_in_place(states, states.index.page(entry), MISSING, region, local.buffer)

    total = sum(entry.size for entry in states.pages_with(MISSING))
    done = here = 0
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="compare") as pool:
        for size, found in in_order(pool, work, states.pages_with(MISSING), 4 * WORKERS):
            done += size
            here += found
            progress("compare", done, total)
    return here


def find_in_place(states: ChunkStates, frames: Sequence[Frame], state: int, region: Region, buffer: Buffer) -> int:
    """Marks those chunks of `frames` in `state` that `region` holds in their place; their bytes.

    Raises `UpdatedError` ("disk-error").
    """
    found = 0
    for first, run in states.runs(frames, state):
        data = region.load(run[0].offset, span(run), buffer)
        for number, (chunk, piece) in enumerate(pieces(run, data), first):
            if piece is not None:
                states.states[number] = DONE
                found += chunk.length
    return found


def span(run: Sequence[Chunk]) -> int:
    """The length in bytes of chunks that follow each other."""
    return run[-1].offset + run[-1].length - run[0].offset


def pieces(run: Sequence[Chunk], data: memoryview) -> Iterator[tuple[Chunk, memoryview | None]]:
    """Each chunk of `run` with its bytes in `data`, which begins with the first; None where the digest is another."""
    for chunk in run:
        start = chunk.offset - run[0].offset
        piece = data[start : start + chunk.length]
        yield chunk, piece if hashlib.sha256(piece).digest() == chunk.sha256 else None


def holds(region: Region, chunk: Chunk, buffer: Buffer) -> bool:
    """Whether `region` holds `chunk` in its place. Raises `UpdatedError` ("disk-error")."""
    return hashlib.sha256(region.load(chunk.offset, chunk.length, buffer)).digest() == chunk.sha256
