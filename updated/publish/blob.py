"""An image as a chunk index and a blob of zstd frames, and back.

Chunks that lie side by side are compressed together in frames of at most `FRAME_LENGTH` bytes, each decodable alone. A
frame never mixes chunks that came with different releases: so a node that has the older ones downloads no byte of them.
The same image, history, level and version of zstd always give the same bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.index import Draft, Frame, build_index
from updated.core.release import Blob, Component
from updated.publish.chunker import Readable, chunks
from updated.publish.known import MEND, Known, frame_key
from updated.stored import StoredIndex

# Measured on a Debian image of 2 GiB with 1.7 GB of content: frames of 256 KiB at level 15 make 494.6 MB of it, frames
# of 1 MiB at level 17 474.1 MB. As one stream it would be 443 MB, of which nothing could be had without all of it.
FRAME_LENGTH: Final = 1024 * 1024
"""The most bytes of the image in one frame."""
_LEAST_FRAME: Final = 256 * 1024
_FRAME_CUT: Final = 32
"""A frame ends, when it is long enough, behind one of so many chunks: where its content says, to be used again."""
_PAGE_CUT: Final = 2
"""A page of the index ends behind one of so many frames, again by content."""
_LONGEST_PAGE: Final = 16
LEVEL: Final = 17
"""The zstd level when none is asked for."""
WORKERS: Final = 2
_AHEAD: Final = 4 * WORKERS

Progress = Callable[[int], None]
"""Is told how many bytes of the image are done."""


class Writable(Protocol):
    """A binary file, as far as it is needed here."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class _Group:
    """Chunks of a frame, with their digests; or `zeros`, the length of a run of them."""

    chunks: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    zeros: int

    @property
    def length(self) -> int:
        return self.zeros or sum(map(len, self.chunks))


def _grouped(pieces: Iterable[bytes | int], known: Known) -> Iterator[_Group]:
    """Neighbouring chunks grouped into frames."""
    members: list[bytes] = []
    digests: list[bytes] = []
    length = 0
    birth = -1

    def ended() -> Iterator[_Group]:
        nonlocal members, digests, length
        if members:
            yield _Group(tuple(members), tuple(digests), 0)
        members, digests, length = [], [], 0

    for piece in pieces:
        if isinstance(piece, int):
            yield from ended()
            yield _Group((), (), piece)
            continue
        digest = hashlib.sha256(piece).digest()
        came = known.birth(digest)
        if came != birth or length + len(piece) > FRAME_LENGTH:
            yield from ended()
        birth = came
        members.append(piece)
        digests.append(digest)
        length += len(piece)
        if length >= _LEAST_FRAME and digest[0] % _FRAME_CUT == 0:
            yield from ended()
    yield from ended()


class _Packer:
    """Compresses frames in worker threads (zstd releases the GIL), in order, few at a time."""

    def __init__(self, level: int, known: Known) -> None:
        self._known = known
        self._local = threading.local()

        def prepare() -> None:
            # A compressor must not be shared by threads.
            self._local.compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
            self._local.decompressor = zstandard.ZstdDecompressor()

        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="zstd", initializer=prepare)

    def _pack(self, group: _Group) -> tuple[bytes, bool]:
        if group.zeros:
            return b"", False
        data = b"".join(group.chunks)
        kept = self._known.frame(frame_key(group.digests))
        if kept is not None and _unpack(self._local.decompressor, kept, len(data)) == data:
            return kept, False
        return self._local.compressor.compress(data), True

    def packed(self, groups: Iterable[_Group]) -> Iterator[tuple[_Group, bytes, bool]]:
        """Each group with its compressed bytes, and whether they are new."""
        with self._pool:
            waiting: deque[tuple[_Group, Future[tuple[bytes, bool]]]] = deque()
            for group in groups:
                waiting.append((group, self._pool.submit(self._pack, group)))
                if len(waiting) > _AHEAD:
                    done, future = waiting.popleft()
                    yield done, *future.result()
            for done, future in waiting:
                yield done, *future.result()


@dataclass(frozen=True, slots=True)
class Built:
    """What was made of an image: the component of a release manifest, and the bytes of root and pages of its index.

    `new` is how many bytes of the blob were compressed, and not used again.
    """

    component: Component
    root: bytes
    pages: bytes
    new: int


def build(
    image: Readable, blob: Writable, *, known: Known | None = None, level: int = LEVEL,
    progress: Progress = lambda done: None,
) -> Built:
    """Writes the blob of `image` to `blob`; what `known` has compressed already is used again.

    Raises `UpdatedError` ("bad-image") for an empty image, and OSError.
    """
    known = known or Known()
    whole = _Hashed(image)
    stored = hashlib.sha256()
    pages: list[list[Draft]] = [[]]
    done = new = 0
    for group, data, is_new in _Packer(level, known).packed(_grouped(chunks(whole), known)):
        stored.update(data)
        new += len(data) if is_new else 0
        blob.write(data)
        if group.zeros:
            pages[-1].append((0, group.zeros))
        else:
            members = zip(group.digests, map(len, group.chunks), strict=True)
            pages[-1].append((len(data), list(members)))
        if len(pages[-1]) >= _LONGEST_PAGE or (group.digests and group.digests[-1][1] % _PAGE_CUT == 0):
            pages.append([])
        done += group.length
        progress(done)
    if not done:
        raise UpdatedError("bad-image", "the image", "is empty", "Name the image file of the component.")
    root, data = build_index([page for page in pages if page])
    packed = root.format()
    component = Component(
        size=done,
        sha256=whole.sha256.hexdigest(),
        index=Blob(hashlib.sha256(packed).hexdigest(), len(packed)),
        blob=Blob(stored.hexdigest(), root.blob_length),
    )
    return Built(component, packed, data, new)


def decode(index: StoredIndex, blob: Readable) -> Iterator[tuple[Frame, bytes]]:
    """Every frame of `index` with its decoded bytes, each chunk checked against its digest.

    `blob` is read once from its beginning to its end. Raises `UpdatedError` ("wrong-digest") and OSError.
    """
    decompressor = zstandard.ZstdDecompressor()
    for frame in index.frames():
        if not frame.stored:
            for start in range(0, frame.length, FRAME_LENGTH):
                length = min(FRAME_LENGTH, frame.length - start)
                yield frame._replace(offset=frame.offset + start, length=length), bytes(length)
            continue
        data = _unpack(decompressor, blob.read(frame.stored), frame.length)
        for chunk in frame.chunks:
            start = chunk.offset - frame.offset
            if data is None or hashlib.sha256(data[start : start + chunk.length]).digest() != chunk.sha256:
                raise UpdatedError(
                    "wrong-digest", "the blob", f"its content for byte {chunk.offset} of the image is damaged", MEND
                )
        yield frame, data or b""
    if blob.read(1):
        raise UpdatedError("wrong-digest", "the blob", "has more bytes than its index says", MEND)


def _unpack(decompressor: zstandard.ZstdDecompressor, data: bytes, length: int) -> bytes | None:
    """The `length` bytes of a frame; None when it is damaged."""
    try:
        return prefixed.decompress(decompressor, data, length)
    except prefixed.DamagedError:
        return None


def check(
    component: Component, root: bytes, index: StoredIndex, blob: Readable, *, progress: Progress = lambda done: None
) -> None:
    """Decodes the whole image and checks it against `component`, whose index has the bytes `root`.

    Raises `UpdatedError` ("wrong-digest", "index-invalid") and OSError.
    """
    expect("the chunk index", Blob(hashlib.sha256(root).hexdigest(), len(root)), component.index)
    stored = _Hashed(blob)
    whole = hashlib.sha256()
    for frame, data in decode(index, stored):
        whole.update(data)
        progress(frame.offset + frame.length)
    expect("the blob", Blob(stored.sha256.hexdigest(), index.root.blob_length), component.blob)
    expect("the image", Blob(whole.hexdigest(), index.root.image_size), Blob(component.sha256, component.size))


class _Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def expect(what: str, found: Blob, signed: Blob) -> None:
    """Raises `UpdatedError` ("wrong-digest") when a file is not what was signed."""
    if found != signed:
        raise UpdatedError("wrong-digest", what, "is not as its digest says", MEND)
