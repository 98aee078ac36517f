"""An image as a chunk index and a blob of zstd frames, and back.

Chunks that lie side by side are compressed together in frames of at most `FRAME_LENGTH` bytes, each decodable alone.
The same image, level and version of zstd always give the same bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

import zstandard

from updated.core.errors import UpdatedError
from updated.core.index import MAX_FRAME_LENGTH, MAX_INDEX_LENGTH, Chunk, Frame, Index
from updated.core.release import Blob, Component
from updated.publish.chunker import Readable, chunks

# Measured with 2 cores on two images of packaging/image, 127 MB each: Debian 12 without and with its updates, which
# renew 17 of 123 packages and 29 MB of chunks.
#   frame    level  blob     the update in whole frames  requests at most  time
#   64 KiB   15     41.4 MB  10.5 MB                     595                7 s
#   128 KiB  3      45.2 MB  13.0 MB                     315                2 s
#   128 KiB  9      42.1 MB  12.1 MB                     315                3 s
#   128 KiB  15     39.2 MB  11.3 MB                     315                9 s
#   128 KiB  19     38.7 MB  11.2 MB                     315               26 s
#   256 KiB  15     37.4 MB  12.5 MB                     175               10 s
FRAME_LENGTH: Final = 128 * 1024
"""The most bytes of the image in one frame that is stored."""
LEVEL: Final = 15
"""The zstd level when none is asked for."""
WORKERS: Final = 2
_AHEAD: Final = 4 * WORKERS

Progress = Callable[[int], None]
"""Is told how many bytes of the image are done."""
_Members = list[tuple[bytes, int]]


class Writable(Protocol):
    """A binary file, as far as it is needed here."""

    def write(self, data: bytes, /) -> object: ...


def group(pieces: Iterable[bytes]) -> Iterator[tuple[bool, list[bytes]]]:
    """Neighbouring chunks grouped into frames: (whether they are all zeros, the chunks)."""
    frame: list[bytes] = []
    length = 0
    zeros = False
    for piece in pieces:
        zero = piece.count(0) == len(piece)
        if frame and (zero != zeros or length + len(piece) > (MAX_FRAME_LENGTH if zeros else FRAME_LENGTH)):
            yield zeros, frame
            frame, length = [], 0
        zeros = zero
        frame.append(piece)
        length += len(piece)
    if frame:
        yield zeros, frame


class _Packer:
    """Compresses frames in worker threads (zstd and SHA-256 release the GIL), in order, few at a time."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="zstd", initializer=self._prepare)

    def _prepare(self) -> None:
        # A compressor must not be shared by threads.
        self._local.compressor = zstandard.ZstdCompressor(level=self._level, write_content_size=True)

    def _pack(self, zeros: bool, frame: list[bytes]) -> tuple[bytes, _Members]:
        members = [(hashlib.sha256(piece).digest(), len(piece)) for piece in frame]
        compressor: zstandard.ZstdCompressor = self._local.compressor
        return b"" if zeros else compressor.compress(b"".join(frame)), members

    def packed(self, groups: Iterable[tuple[bool, list[bytes]]]) -> Iterator[tuple[bytes, _Members]]:
        """For each group the compressed bytes, and digest and length of each chunk."""
        with self._pool:
            waiting: deque[Future[tuple[bytes, _Members]]] = deque()
            for zeros, frame in groups:
                waiting.append(self._pool.submit(self._pack, zeros, frame))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def build(
    image: Readable, blob: Writable, *, level: int = LEVEL, progress: Progress = lambda done: None
) -> tuple[Component, bytes]:
    """Writes the blob of `image` to `blob`; the component of a release manifest, and the bytes of its chunk index.

    Raises `UpdatedError` ("bad-image") for an empty image, and OSError.
    """
    whole = hashlib.sha256()
    size = 0

    def measured() -> Iterator[bytes]:
        nonlocal size
        for piece in chunks(image):
            whole.update(piece)
            size += len(piece)
            yield piece

    stored = hashlib.sha256()
    table: list[tuple[int, _Members]] = []
    done = 0
    for data, members in _Packer(level).packed(group(measured())):
        stored.update(data)
        blob.write(data)
        table.append((len(data), members))
        done += sum(length for _, length in members)
        progress(done)
    if not size:
        raise UpdatedError("bad-image", "the image", "is empty", "Name the image file of the component.")
    built = Index.build(table)
    index = built.format()
    if len(index) > MAX_INDEX_LENGTH:
        raise UpdatedError("bad-image", "the image", f"has {built.chunk_count} chunks", "Make the image smaller.")
    return Component(
        size=size,
        sha256=whole.hexdigest(),
        index=Blob(hashlib.sha256(index).hexdigest(), len(index)),
        blob=Blob(stored.hexdigest(), built.blob_length),
    ), index


def decode(index: Index, blob: Readable) -> Iterator[tuple[Frame, bytes]]:
    """Every frame of `index` with its decoded bytes, each chunk checked against its digest.

    `blob` is read once from its beginning to its end. Raises `UpdatedError` ("wrong-digest") and OSError.
    """
    decompressor = zstandard.ZstdDecompressor()
    for frame in index.frames:
        data = bytes(frame.length) if frame.stored == 0 else _unpack(decompressor, frame, blob.read(frame.stored))
        for chunk in frame.chunks:
            start = chunk.offset - frame.offset
            if hashlib.sha256(data[start : start + chunk.length]).digest() != chunk.sha256:
                raise _damaged(chunk)
        yield frame, data
    if blob.read(1):
        raise UpdatedError("wrong-digest", "the blob", "has more bytes than its index says", _MEND)


def _unpack(decompressor: zstandard.ZstdDecompressor, frame: Frame, data: bytes) -> bytes:
    try:
        # A frame whose header promises another size is refused before memory is taken for it.
        if zstandard.frame_content_size(data) == frame.length:
            return decompressor.decompress(data, max_output_size=frame.length, allow_extra_data=False)
    except zstandard.ZstdError:
        pass
    raise _damaged(frame.chunks[0])


_MEND = "Put the file back from a copy of the repository, or publish the release again."


def _damaged(chunk: Chunk) -> UpdatedError:
    return UpdatedError(
        "wrong-digest", "the blob", f"its content for byte {chunk.offset} of the image is damaged", _MEND
    )


def check(component: Component, index_data: bytes, blob: Readable, *, progress: Progress = lambda done: None) -> None:
    """Decodes the whole image and checks it against `component`.

    Raises `UpdatedError` ("wrong-digest", "index-invalid") and OSError.
    """
    _expect("the chunk index", Blob(hashlib.sha256(index_data).hexdigest(), len(index_data)), component.index)
    index = Index.parse(index_data)
    stored = _Hashed(blob)
    whole = hashlib.sha256()
    for frame, data in decode(index, stored):
        whole.update(data)
        progress(frame.offset + frame.length)
    _expect("the blob", Blob(stored.sha256.hexdigest(), index.blob_length), component.blob)
    _expect("the image", Blob(whole.hexdigest(), index.image_size), Blob(component.sha256, component.size))


class _Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _expect(what: str, found: Blob, signed: Blob) -> None:
    if found != signed:
        raise UpdatedError("wrong-digest", what, "is not as its digest says", _MEND)
