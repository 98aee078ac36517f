"""Copies what the running slot has into the passive one, and makes zeros."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from updated.chunkstate import DONE, LOAD_LENGTH, LOCAL, MISSING, WORKERS, ChunkStates, find_in_place, pieces, span
from updated.core.errors import UpdatedError
from updated.core.index import Chunk, Frame, PageEntry
from updated.readback import in_order
from updated.region import BLOCK, Buffer, Region
from updated.seed import Seed
from updated.slot import Slot, Stretch

# Pages that are worked on at once: their neighbourhood makes for long writes.
_PAGES = 4


class _Tools(threading.local):
    """The buffers of a thread."""

    def __init__(self, slot: Slot) -> None:
        self.stretch = Stretch(slot)
        self.buffer = Buffer(LOAD_LENGTH + 2 * BLOCK)


class Copying:
    """Brings the local chunks of `states` and all zeros into `slot`; what `seed` does not give becomes missing."""

    def __init__(self, states: ChunkStates, slot: Slot, seed: Seed | None, stopped: Callable[[], bool]) -> None:
        self._states = states
        self._slot = slot
        self._seed = seed
        self._stopped = stopped
        self._tools = _Tools(slot)
        self._lock = threading.Lock()
        self.copied = self.in_place = 0

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Does it; `progress` is told bytes of the image. Raises `UpdatedError` ("disk-error")."""
        total = self._states.index.root.image_size
        done = 0
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="copy") as pool:
            for size in in_order(pool, self._copy, self._groups(), 2 * WORKERS):
                done += size
                progress(done, total)

    def _groups(self) -> Iterator[tuple[PageEntry, ...]]:
        entries = self._states.index.root.entries
        for at in range(0, len(entries), _PAGES):
            if self._stopped():
                return
            yield entries[at : at + _PAGES]

    def _copy(self, entries: tuple[PageEntry, ...]) -> int:
        stretch = self._tools.stretch
        frames = [frame for entry in entries for frame in self._states.index.page(entry)]
        for frame in frames:
            if not frame.stored:
                stretch.zero(frame.offset, frame.length)
        if self._slot.compare:
            found = find_in_place(self._states, frames, LOCAL, self._slot.region, self._tools.buffer)
            with self._lock:
                self.in_place += found
        if self._seed is not None:
            for place, first, run in self._local_runs(self._seed, frames):
                self._copy_run(self._seed.region, place, first, run)
        stretch.flush()
        return sum(entry.size for entry in entries)

    def _local_runs(self, seed: Seed, frames: list[Frame]) -> Iterator[tuple[int, int, list[Chunk]]]:
        """Runs of local chunks that follow each other in the seed as well: place there, number of the first, chunks."""
        for first, run in self._states.runs(frames, LOCAL):
            begin = 0
            places = [seed.find(chunk.sha256) for chunk in run]
            for at in range(1, len(run) + 1):
                previous = places[at - 1]
                if at < len(run) and previous is not None and places[at] == previous + run[at - 1].length:
                    continue
                place = places[begin]
                if place is not None:
                    yield place, first + begin, run[begin:at]
                begin = at

    def _copy_run(self, region: Region, place: int, first: int, run: list[Chunk]) -> None:
        tools, states = self._tools, self._states.states
        try:
            data = region.load(place, span(run), tools.buffer)
        except UpdatedError:
            data = memoryview(bytes(span(run)))  # fails its digests
        copied = 0
        for number, (chunk, piece) in enumerate(pieces(run, data), first):
            if piece is not None:
                tools.stretch.add(chunk.offset, piece)
                copied += chunk.length
                states[number] = DONE
            else:
                states[number] = MISSING
        with self._lock:
            self.copied += copied
