"""Downloads what this machine doesn't have: frames of the blob and of a patch, over several connections.

Each worker holds one connection, and carries what it received through decoding, checking and writing; since these
release the interpreter's lock, they overlap with what the other workers do, and memory is bounded by their number.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import zstandard

from updated import prefixed
from updated.chunkstate import DONE, MISSING, PATCHED, ChunkStates
from updated.core.errors import UpdatedError
from updated.core.index import MAX_FRAME_LENGTH, Chunk, Frame
from updated.core.patch import MAX_CONTENT_LENGTH, MAX_PREFIX_LENGTH, PatchFrame, PatchTable
from updated.core.plan import Request
from updated.ports import Source
from updated.readback import in_order
from updated.region import BLOCK, Buffer, Region
from updated.slot import Slot, Stretch

Piece = TypeVar("Piece", Frame, PatchFrame)
# A patch frame needs megabytes to decode, however many connections there are.
_PATCHES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch in the file `name` of the repository, for the image of `base_size` bytes in `base`."""

    name: str
    table: PatchTable
    base: Region
    base_size: int


class _Tools(threading.local):
    """The buffers of a thread."""

    def __init__(self, slot: Slot) -> None:
        self.stretch = Stretch(slot)
        self.prefix = Buffer(MAX_PREFIX_LENGTH + BLOCK)
        self.decompressor = prefixed.decompressor(b"", MAX_FRAME_LENGTH)


class Download:
    """Brings missing chunks of `states` into `slot`.

    Attributes: `received`, bytes by file; `fault`, the last error of content that did not verify: the chunks that it
    should have given are missing still.
    """

    def __init__(self, source: Source, states: ChunkStates, slot: Slot, stopped: Callable[[], bool]) -> None:
        self._source = source
        self._states = states
        self._stopped = stopped
        self._tools = _Tools(slot)
        self._lock = threading.Lock()
        self._progress: Callable[[], None] = lambda: None
        self._patching = threading.Semaphore(_PATCHES_AT_ONCE)
        self._no_patch = False
        self.received: dict[str, int] = {}
        self.fault: UpdatedError | None = None

    def blob(self, name: str, request: Request[Frame]) -> Callable[[], None]:
        """The work of a request of the blob in the file `name`."""
        return partial(self._get, name, request.start, request.length, request.frames, partial(self._write_frame, name))

    def patch(self, patch: Patch, request: Request[PatchFrame]) -> Callable[[], None]:
        """The work of a request of a patch."""
        return partial(self._get_patch, patch, request)

    def whole(self, name: str, length: int, frames: Iterable[Frame]) -> Callable[[], None]:
        """The work of reading a blob from its beginning to its end for some of its frames."""
        return partial(self._get, name, 0, length, frames, partial(self._write_frame, name))

    @property
    def total(self) -> int:
        """How many bytes were received."""
        with self._lock:
            return sum(self.received.values())

    def run(self, works: Iterator[Callable[[], None]], connections: int, progress: Callable[[], None]) -> None:
        """Does the `works`, `connections` at a time. Raises `UpdatedError`: "disk-error", and those of `Source`."""
        self._progress = progress
        with ThreadPoolExecutor(connections, thread_name_prefix="download") as pool:
            try:
                for _ in in_order(pool, lambda work: work(), works, connections + 1):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _get(
        self, name: str, start: int, length: int, frames: Iterable[Piece], write: Callable[[Piece, bytes], None]
    ) -> None:
        if self._stopped():
            return
        try:
            for frame, stored in self._frames(name, start, length, frames):
                write(frame, stored)
        finally:
            # What was gathered counts as done already, however the answer ended.
            self._tools.stretch.flush()

    def _get_patch(self, patch: Patch, request: Request[PatchFrame]) -> None:
        """Like `_get`; but what a patch does not give, for whatever reason, comes from the blob."""
        if self._no_patch:
            return
        try:
            self._get(patch.name, request.start, request.length, request.frames, partial(self._write_patched, patch))
        except UpdatedError as error:
            if error.code in ("disk-error", "disk-full", "no-ranges", "internal"):
                raise
            self._no_patch = True

    def _frames(self, name: str, start: int, length: int, frames: Iterable[Piece]) -> Iterator[tuple[Piece, bytes]]:
        """Cuts the bytes of a request into its frames, leaving out what lies between them."""
        pieces = self._source.stream(name, start, length)
        buffer = bytearray()
        position = start
        for frame in frames:
            end = frame.position + frame.stored
            while position + len(buffer) < end:
                piece = next(pieces, b"")
                if not piece:
                    missing = end - position - len(buffer)
                    raise UpdatedError("truncated", "the blob", f"ended {missing} bytes early", "It is tried again.")
                with self._lock:
                    self.received[name] = self.received.get(name, 0) + len(piece)
                self._progress()
                buffer += piece
                if position + len(buffer) < frame.position:
                    position += len(buffer)
                    buffer.clear()
            stored = bytes(memoryview(buffer)[frame.position - position : end - position])
            del buffer[: end - position]
            position = end
            yield frame, stored

    def _write_frame(self, name: str, frame: Frame, stored: bytes) -> None:
        try:
            data = memoryview(_decoded(self._tools.decompressor, frame.position, stored, frame.length))
            for number, chunk in self._states.numbered(frame, MISSING):
                start = chunk.offset - frame.offset
                self._write_chunk(number, chunk, data[start : start + chunk.length])
        except UpdatedError as error:
            if error.code != "wrong-digest" or not self._source.blame(name, frame.position):
                raise
            self.fault = error

    def _write_patched(self, patch: Patch, frame: PatchFrame, stored: bytes) -> None:
        try:
            self._write_content(patch, frame, stored)
        except UpdatedError as error:
            if error.code != "wrong-digest":
                raise

    def _write_content(self, patch: Patch, frame: PatchFrame, stored: bytes) -> None:
        chunks = [
            (number, chunk)
            for first, count in frame.runs
            for number, chunk in enumerate(self._states.chunks(first, count), first)
        ]
        length = sum(chunk.length for _, chunk in chunks)
        if length > MAX_CONTENT_LENGTH:
            raise _damaged(frame.position, f"holds {length} bytes, more than {MAX_CONTENT_LENGTH}")
        with self._patching:
            try:
                prefix = _prefix(patch, frame, self._tools.prefix)
            except UpdatedError as error:
                raise _damaged(frame.position, f"needs the running slot ({error.cause})") from None
            decompressor = prefixed.decompressor(prefix, length)
            data = memoryview(_decoded(decompressor, frame.position, stored, length))
        start = 0
        for number, chunk in chunks:
            if self._states.states[number] == PATCHED:
                self._write_chunk(number, chunk, data[start : start + chunk.length])
            start += chunk.length

    def _write_chunk(self, number: int, chunk: Chunk, data: memoryview) -> None:
        if hashlib.sha256(data).digest() != chunk.sha256:
            raise _damaged(chunk.offset, "differs from its signed digest")
        self._tools.stretch.add(chunk.offset, data)
        self._states.states[number] = DONE


def _prefix(patch: Patch, frame: PatchFrame, room: Buffer) -> memoryview:
    """The windows of the base that `frame` was compressed with, in `room`. Raises `UpdatedError` ("disk-error")."""
    length = 0
    for first, count in frame.windows:
        start = first * patch.table.block
        end = min(start + count * patch.table.block, patch.base_size)
        # Blocks are whole blocks of the disk, so that each window lands where the one before it ended.
        length += len(patch.base.load(start, max(0, end - start), room, length))
    return room.view[:length]


def _decoded(decompressor: zstandard.ZstdDecompressor, position: int, stored: bytes, length: int) -> bytes:
    """The `length` bytes that `stored` holds. Raises `UpdatedError` ("wrong-digest")."""
    try:
        return prefixed.decompress(decompressor, stored, length)
    except prefixed.DamagedError as error:
        raise _damaged(position, str(error)) from None


def _damaged(position: int, cause: str) -> UpdatedError:
    return UpdatedError(
        "wrong-digest", f"what was downloaded for byte {position}", cause,
        "It is not written. If it stays so, the mirror is damaged: the publisher must mend it.",
    )
