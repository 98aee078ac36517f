"""Images that are made from numbers, and what the publisher makes of them."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from updated.core.index import Frame, IndexRoot
from updated.publish import blob
from updated.publish.known import Known
from updated.stored import StoredIndex

BLOCK = 4096


def noise(seed: int, length: int) -> bytes:
    """Bytes that can't be compressed."""
    return random.Random(seed).randbytes(length)


def text(seed: int, length: int) -> bytes:
    """Bytes that can be compressed, without repeating each other exactly."""
    chance = random.Random(seed)
    words = [chance.randbytes(6).hex().encode() for _ in range(200)]
    return b" ".join(chance.choices(words, k=length // 12 + 1))[:length]


def system(seed: int, length: int = 3_000_000) -> bytes:
    """Noise, text and zeros, each a third: an image of at least 300,000 bytes."""
    part = length // 3 // BLOCK * BLOCK
    return noise(seed, part) + text(seed, part) + bytes(part) + noise(seed + 1000, length - 3 * part)


def edited(image: bytes, *places: int, length: int = 100) -> bytes:
    """`image` with other bytes at `places`, as many as were there."""
    changed = bytearray(image)
    for number, place in enumerate(places):
        changed[place : place + length] = noise(9000 + number + place, length)
    return bytes(changed)


class Counted(io.BytesIO):
    """A file that says how much of it was read, in `given`."""

    given = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.given += len(data)
        return data


def packed(
    image: bytes, *, known: Known | None = None, level: int = 1, progress: Callable[[int], None] = lambda done: None
) -> tuple[blob.Built, bytes]:
    """What is built of `image`, and the blob."""
    stored = io.BytesIO()
    return blob.build(io.BytesIO(image), stored, known=known, level=level, progress=progress), stored.getvalue()


def index_of(built: blob.Built) -> StoredIndex:
    """The index of what was built."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(built.pages)
        file.flush()
        return StoredIndex(IndexRoot.parse(built.root), file.name)


class Shelf:
    """Blobs in the folder `folder`, and what is known of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = Known()

    def put(self, image: bytes, *, level: int = 1) -> tuple[blob.Built, Path]:
        """Builds `image` after those that are here, and adds it; the blob lies in the file."""
        built, stored = packed(image, known=self.known, level=level)
        file = self.folder / f"{built.component.blob.sha256}.blob"
        file.write_bytes(stored)
        self.known.add(index_of(built), str(file))
        return built, file


def frames_of(built: blob.Built, stored: bytes) -> list[tuple[Frame, bytes]]:
    """Each frame with its bytes in the blob."""
    return [(frame, stored[frame.position : frame.position + frame.stored]) for frame in index_of(built).frames()]
