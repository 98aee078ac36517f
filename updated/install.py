"""The streaming installer: compares the slot with the index, downloads what differs, verifies, and writes it in place.

Nothing is written before its SHA-256 matched the signed index. Comparing first makes a restart go on from what is
verified on the disk, and leaves alone what is there already. Memory is bounded by the queue, whatever the image's size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import zstandard

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.index import MAX_FRAME_LENGTH, Chunk, Frame, Index
from updated.core.plan import Plan, Run, make_plan
from updated.ports import Source
from updated.readback import Progress, in_order
from updated.record import storage_error
from updated.region import Region
from updated.seed import Seed

WORKERS = 2
# Frames that are read but not yet written. With frames of 256 KiB this bounds the buffers to a few megabytes.
FRAMES_IN_FLIGHT = 12
COMPARE_LENGTH = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation cost, in bytes.

    Of the image: in all, in place before, copied from the running slot. Of the blob: downloaded. To the slot: written.
    """

    image: int
    in_place: int
    copied: int
    downloaded: int
    written: int


def install(
    source: Source, blob: str, index: Index, region: Region, progress: Progress, seed: Seed | None = None
) -> Installed:
    """Makes `region` hold the image of `index`; then syncs.

    What is missing is taken from `seed`, and the rest from the file `blob` of `source`.
    Raises `UpdatedError`: "image-too-large", "wrong-digest", "disk-error", and those of `Source`.
    """
    if index.image_size > region.size:
        raise UpdatedError(
            "image-too-large", f"the image of {index.image_size} bytes",
            f"does not fit into the slot of {region.size} bytes",
            "The publisher must make a smaller image, or the machine needs larger slots.",
        )
    in_place = compare(index, region, progress)
    writer = _Writer(region, in_place)
    before = index.image_size - make_plan(index, in_place).image
    copied = _copy(seed, index, in_place, region, progress) if seed is not None else 0
    plan = make_plan(index, in_place)
    writer.write_zeros(plan)
    _download(source, blob, plan, writer, progress)
    try:
        durable.sync_fd(region.fd)
    except OSError as error:
        raise storage_error("the passive slot", error) from None
    return Installed(index.image_size, before, copied, plan.download, copied + writer.written)


def _copy(seed: Seed, index: Index, in_place: set[int], region: Region, progress: Progress) -> int:
    """Writes the chunks that `seed` has, and adds them to `in_place`; how many bytes that were."""
    chunks = (chunk for frame in index.frames if frame.stored for chunk in frame.chunks)
    missing = [chunk for chunk in chunks if chunk.offset not in in_place]
    total = sum(chunk.length for chunk in missing)
    done = copied = 0
    progress("copy", 0, total)

    def copy(chunk: Chunk) -> tuple[Chunk, bool]:
        data = seed.read(chunk)
        if data is not None:
            region.write(chunk.offset, memoryview(data))
        return chunk, data is not None

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="copy") as pool:
        for chunk, found in in_order(pool, copy, iter(missing), 16 * WORKERS):
            done += chunk.length
            if found:
                in_place.add(chunk.offset)
                copied += chunk.length
            progress("copy", done, total)
    return copied


def compare(index: Index, region: Region, progress: Progress) -> set[int]:
    """The offsets of the chunks that `region` holds already."""
    chunks = (chunk for frame in index.frames for chunk in frame.chunks)
    in_place: set[int] = set()
    done = 0
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="compare") as pool:
        for batch in in_order(pool, lambda part: _matching(region, part), _batches(chunks), 2 * WORKERS):
            for chunk, same in batch:
                done += chunk.length
                if same:
                    in_place.add(chunk.offset)
            progress("compare", done, index.image_size)
    return in_place


def _batches(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    length = 0
    for chunk in chunks:
        batch.append(chunk)
        length += chunk.length
        if length >= COMPARE_LENGTH:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _matching(region: Region, batch: list[Chunk]) -> list[tuple[Chunk, bool]]:
    start = batch[0].offset
    data = memoryview(region.read(start, batch[-1].offset + batch[-1].length - start))
    result = []
    for chunk in batch:
        piece = data[chunk.offset - start : chunk.offset - start + chunk.length]
        result.append((chunk, hashlib.sha256(piece).digest() == chunk.sha256))
    return result


class _Writer:
    """Decodes frames, checks each chunk, and writes those that differ. Safe to call from several threads."""

    def __init__(self, region: Region, in_place: set[int]) -> None:
        self._region = region
        self._in_place = in_place
        self._local = threading.local()
        self._lock = threading.Lock()
        self.written = 0

    def write(self, frame: Frame, stored: bytes) -> None:
        try:
            data = memoryview(self._decompressor().decompress(stored, max_output_size=MAX_FRAME_LENGTH))
        except zstandard.ZstdError as error:
            raise _damaged(frame, f"does not decompress ({error})") from None
        if len(data) != frame.length:
            raise _damaged(frame, f"decompresses to {len(data)} bytes instead of {frame.length}")
        self._write_chunks(frame, data)

    def write_zeros(self, plan: Plan) -> None:
        for frame in plan.zeros:
            self._write_chunks(frame, memoryview(bytes(frame.length)))

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        if not hasattr(self._local, "decompressor"):
            self._local.decompressor = zstandard.ZstdDecompressor(max_window_size=2 * MAX_FRAME_LENGTH)
        decompressor: zstandard.ZstdDecompressor = self._local.decompressor
        return decompressor

    def _write_chunks(self, frame: Frame, data: memoryview) -> None:
        start = end = frame.offset
        for chunk in frame.chunks:
            piece = data[chunk.offset - frame.offset : chunk.offset - frame.offset + chunk.length]
            if hashlib.sha256(piece).digest() != chunk.sha256:
                raise _damaged(frame, f"differs from its signed digest at byte {chunk.offset} of the image")
            if chunk.offset in self._in_place:
                self._flush(frame, data, start, end)
                start = chunk.offset + chunk.length
            end = chunk.offset + chunk.length
        self._flush(frame, data, start, end)

    def _flush(self, frame: Frame, data: memoryview, start: int, end: int) -> None:
        if end > start:
            self._region.write(start, data[start - frame.offset : end - frame.offset])
            with self._lock:
                self.written += end - start


def _damaged(frame: Frame, cause: str) -> UpdatedError:
    return UpdatedError(
        "wrong-digest", f"the blob at byte {frame.position}", cause,
        "It is not written. If it stays so, the mirror is damaged: the publisher must mend it.",
    )


def _download(source: Source, blob: str, plan: Plan, writer: _Writer, progress: Progress) -> None:
    done = 0
    progress("download", 0, plan.download)
    slots = threading.Semaphore(FRAMES_IN_FLIGHT)
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="write") as pool:

        def submit(frame: Frame, stored: bytes) -> None:
            slots.acquire()
            future = pool.submit(writer.write, frame, stored)
            future.add_done_callback(lambda _: slots.release())
            pending.append(future)

        try:
            for run in plan.runs:
                for frame, stored, received in _frames(source.stream(blob, run.start, run.length), run):
                    submit(frame, stored)
                    progress("download", done + received, plan.download)
                    while pending and pending[0].done():
                        pending.pop(0).result()
                done += run.length
            for future in pending:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _frames(pieces: Iterator[bytes], run: Run) -> Iterator[tuple[Frame, bytes, int]]:
    """Cuts the bytes of a run into its frames, leaving out what lies between them."""
    buffer = bytearray()
    position = run.start
    received = 0
    for frame in run.frames:
        end = frame.position + frame.stored
        while position + len(buffer) < end:
            piece = next(pieces, b"")
            if not piece:
                raise UpdatedError(
                    "truncated", "the blob", f"ended {end - position - len(buffer)} bytes early", "It is tried again."
                )
            received += len(piece)
            buffer += piece
        stored = bytes(buffer[frame.position - position : end - position])
        del buffer[: end - position]
        position = end
        yield frame, stored, received
