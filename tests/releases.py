"""Small published releases and slots in files, for tests of how a node gets an image."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from updated import prefixed
from updated.core.index import Draft, IndexRoot, build_index
from updated.core.patch import PatchTable
from updated.core.release import Blob, Component, PatchInfo
from updated.publish import blob, patch
from updated.region import BLOCK, Region
from updated.stored import StoredIndex, parse_table

FRAME = 128 * 1024
CONTENT = 256 * 1024
"""The most bytes of the image in a frame of a blob and of a patch: small images have several of them then."""


@dataclass(frozen=True, slots=True)
class Made:
    """A published image: its bytes, what its manifest says, and its index."""

    image: bytes
    component: Component
    index: StoredIndex
    root: bytes
    pages: bytes

    @property
    def blob(self) -> str:
        """The name of its blob."""
        return f"blobs/{self.component.blob.sha256}"


class Repository:
    """The files of releases below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.blobs.mkdir()

    def put(self, data: bytes) -> Blob:
        """Stores a file under its digest."""
        part = Blob(hashlib.sha256(data).hexdigest(), len(data))
        self.path(part).write_bytes(data)
        return part

    def path(self, part: Blob) -> Path:
        """The path of a file."""
        return self.blobs / part.sha256

    def publish(self, image: bytes, base: Made | None = None) -> Made:
        """Publishes `image`, with a patch from `base`."""
        source, unnamed = self.folder / "image", self.folder / "unnamed"
        source.write_bytes(image)
        small = mock.patch.object(blob, "FRAME_LENGTH", FRAME)
        with small, source.open("rb") as file, unnamed.open("wb") as target:
            built = blob.build(file, target, level=1)
        unnamed.rename(self.path(built.component.blob))
        self.put(built.root)
        self.put(built.pages)
        made = self.made(image, built.component, built.root, built.pages)
        return made if base is None else replace(made, component=self._patched(made, base, source))

    def listed(self, pages: Sequence[Sequence[Draft]], base: Made | None = None) -> Made:
        """Publishes an index of these frames without an image; with `base`, also the difference to its index."""
        root, data = build_index(pages)
        packed = root.format()
        nothing = Blob(hashlib.sha256(b"nothing").hexdigest(), root.blob_length)
        digest = hashlib.sha256(packed).hexdigest()
        component = Component(root.image_size, digest, self.put(packed), nothing)
        self.put(data)
        made = self.made(b"", component, packed, data)
        if base is None:
            return made
        info = PatchInfo(base.component.sha256, nothing, nothing, self._difference(made, base))
        return replace(made, component=replace(component, patches=(info,)))

    def made(self, image: bytes, component: Component, root: bytes, pages: bytes) -> Made:
        """What was published, with its index read from the files."""
        parsed = IndexRoot.parse(root)
        return Made(image, component, StoredIndex(parsed, str(self.blobs / parsed.pages_sha256)), root, pages)

    def _patched(self, made: Made, base: Made, image: Path) -> Component:
        unnamed = self.folder / "unnamed"
        small = mock.patch.object(patch, "CONTENT_LENGTH", CONTENT)
        with small, unnamed.open("wb") as target, tempfile.TemporaryFile() as room:
            table, _ = patch.make(
                base.index, str(self.path(base.component.blob)), made.index, str(image), target, room=room, level=3
            )
        stored, packed = self.put(unnamed.read_bytes()), self.put(prefixed.compress(table.format(), b"", 3))
        info = PatchInfo(base.component.sha256, packed, stored, self._difference(made, base))
        return replace(made.component, patches=(info,))

    def _difference(self, made: Made, base: Made) -> Blob:
        return self.put(prefixed.compress(made.root + made.pages, base.root + base.pages, 3))


def patch_table(repository: Repository, made: Made) -> PatchTable:
    """The table of the patch of `made`."""
    return parse_table(repository.path(made.component.patches[0].table).read_bytes(), made.index.root.chunk_count)


class Window:
    """A slot of `size` bytes, `margin` bytes into a file, with edges that must stay."""

    def __init__(self, path: Path, content: bytes, size: int, margin: int = 2 * BLOCK) -> None:
        self._path = path
        self._edge = b"\xee" * margin
        path.write_bytes(self._edge + content[:size].ljust(size, b"\xaa") + self._edge)
        self.region = Region(os.open(path, os.O_RDWR | os.O_CLOEXEC), margin, size)

    def content(self, size: int | None = None) -> bytes:
        """The first `size` bytes of the slot."""
        data = self._path.read_bytes()
        margin = len(self._edge)
        assert data[:margin] == self._edge, "bytes before the slot were written"
        assert data[margin + self.region.size :] == self._edge, "bytes behind the slot were written"
        return data[margin : margin + (self.region.size if size is None else size)]

    def change(self, at: int, data: bytes) -> None:
        """Writes past the installer."""
        with self._path.open("r+b") as file:
            file.seek(self.region.offset + at)
            file.write(data)

    def close(self) -> None:
        """Closes the slot."""
        os.close(self.region.fd)


def noise(seed: int, length: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(length)
