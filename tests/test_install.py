"""The streaming installer: whatever the slot held, and wherever it is cut or lied to, it writes only what is signed."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updated.core.errors import UpdatedError
from updated.core.index import Index
from updated.directory import DirectorySource
from updated.install import Installed, install
from updated.publish import blob
from updated.readback import digest
from updated.region import Region
from updated.seed import Seed

SIZE = 400_000
MARGIN = 10_000
EDGE = b"\xee" * MARGIN


def image_of(seed: int) -> bytes:
    """Random content with a run of zeros in it, and some text that compresses."""
    chance = random.Random(seed)
    return chance.randbytes(SIZE // 2) + bytes(SIZE // 4) + b"the same words " * (SIZE // 60) + chance.randbytes(500)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Index, Path]:
    """An image, its index, and the folder of its blob."""
    folder = tmp_path_factory.mktemp("blobs")
    image = image_of(1)
    with io.BytesIO(image) as file, (folder / "blob").open("wb") as target:
        _, index = blob.build(file, target, level=3)
    return image, Index.parse(index), folder


class Slot:
    """A window in a file, with an edge on each side that must stay."""

    def __init__(self, content: bytes, size: int) -> None:
        descriptor, self.path = tempfile.mkstemp()
        os.write(descriptor, EDGE + content[:size].ljust(size, b"\xaa") + EDGE)
        self.region = Region(descriptor, MARGIN, size)

    def content(self, size: int) -> bytes:
        assert os.pread(self.region.fd, MARGIN, 0) == EDGE, "bytes before the slot were written"
        assert os.pread(self.region.fd, MARGIN, MARGIN + self.region.size) == EDGE, "bytes behind the slot were written"
        return os.pread(self.region.fd, size, MARGIN)

    def close(self) -> None:
        os.close(self.region.fd)
        os.unlink(self.path)


def run(folder: Path, index: Index, slot: Slot, seed: Seed | None = None) -> Installed:
    return install(DirectorySource(str(folder)), "blob", index, slot.region, lambda step, done, total: None, seed)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, SIZE), st.integers(1, 30_000), st.booleans()), max_size=6))
def test_whatever_the_slot_held_it_holds_the_image_then(
    published: tuple[bytes, Index, Path], cuts: list[tuple[int, int, bool]]
) -> None:
    image, index, folder = published
    before = bytearray(image)
    for start, length, zeros in cuts:
        end = min(start + length, len(before))
        before[start:end] = bytes(end - start) if zeros else random.Random(start).randbytes(end - start)
    slot = Slot(bytes(before), len(image) + 1000)
    try:
        done = run(folder, index, slot)
        assert slot.content(len(image)) == image
        assert done.image == len(image)
        changed = sum(
            chunk.length for frame in index.frames for chunk in frame.chunks
            if before[chunk.offset : chunk.offset + chunk.length] != image[chunk.offset : chunk.offset + chunk.length]
        )
        assert done.written == changed, "a chunk that was in place was written, or one that was not was left"
    finally:
        slot.close()


def test_an_image_that_is_in_place_is_neither_downloaded_nor_written(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    slot = Slot(image, len(image))
    try:
        done = run(folder, index, slot)
        assert (done.downloaded, done.written, done.in_place) == (0, 0, len(image))
    finally:
        slot.close()


@settings(max_examples=25, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_blob_leaves_nothing_in_the_slot_that_is_not_signed(
    published: tuple[bytes, Index, Path], at: float, change: int, cut: bool
) -> None:
    image, index, folder = published
    data = bytearray((folder / "blob").read_bytes())
    place = int(at * len(data))
    data[place] ^= change
    if cut:
        del data[place:]
    old = image_of(2)
    slot = Slot(old, len(image))
    with tempfile.TemporaryDirectory() as damaged:
        (Path(damaged) / "blob").write_bytes(data)
        try:
            with pytest.raises(UpdatedError) as caught:
                run(Path(damaged), index, slot)
            assert caught.value.code in ("wrong-digest", "truncated", "not-found")
            now = slot.content(len(image))
            for frame in index.frames:
                for chunk in frame.chunks:
                    piece = slice(chunk.offset, chunk.offset + chunk.length)
                    assert now[piece] in (image[piece], old[: len(image)].ljust(len(image), b"\xaa")[piece])
            run(folder, index, slot)
            assert slot.content(len(image)) == image
        finally:
            slot.close()


def other_release(image: bytes) -> tuple[bytes, Index]:
    """An older release: the same content, moved, with something else in front."""
    older = random.Random(7).randbytes(30_000) + image
    with io.BytesIO(older) as file:
        _, index = blob.build(file, io.BytesIO(), level=1)
    return older, Index.parse(index)


def test_what_the_running_slot_has_is_copied_also_when_it_moved(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    older, older_index = other_release(image)
    running, slot = Slot(older, len(older)), Slot(b"", len(image))
    try:
        done = run(folder, index, slot, Seed(older_index, running.region))
        assert slot.content(len(image)) == image
        assert done.copied > len(image) // 3
        assert done.downloaded < (folder / "blob").stat().st_size
        assert running.content(len(older)) == older
    finally:
        running.close()
        slot.close()


def test_a_damaged_seed_costs_only_the_chunks_concerned(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    running, slot = Slot(image, len(image)), Slot(b"", len(image))
    try:
        running.region.write(100_000, memoryview(b"damage"))
        done = run(folder, index, slot, Seed(index, running.region))
        assert slot.content(len(image)) == image
        assert 0 < done.downloaded < (folder / "blob").stat().st_size
    finally:
        running.close()
        slot.close()


def test_a_seed_that_is_something_else_costs_a_download_and_nothing_more(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    running, slot = Slot(image_of(3), 1000), Slot(b"", len(image))
    try:
        done = run(folder, index, slot, Seed(index, running.region))
        assert slot.content(len(image)) == image
        assert done.copied == 0
    finally:
        running.close()
        slot.close()


class Cut:
    """A source that ends in the middle, as a network does."""

    def __init__(self, folder: Path, after: int) -> None:
        self._inner = DirectorySource(str(folder))
        self._after = after

    def read(self, name: str, most: int) -> bytes:
        return self._inner.read(name, most)

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        whole = b"".join(self._inner.stream(name, start, length))
        for at in range(0, len(whole), 1000):
            if self._after <= 0:
                raise UpdatedError("unreachable", "the server", "is gone", "Wait.")
            self._after -= 1000
            yield whole[at : at + 1000]


def test_after_a_cut_it_goes_on_from_what_is_verified(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    slot = Slot(b"", len(image))
    try:
        with pytest.raises(UpdatedError, match="is gone"):
            install(Cut(folder, 170_000), "blob", index, slot.region, lambda step, done, total: None)
        done = run(folder, index, slot)
        assert done.in_place > 0
        assert slot.content(len(image)) == image
    finally:
        slot.close()


def test_an_image_that_does_not_fit_is_refused_before_a_byte_is_written(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    slot = Slot(b"old", len(image) - 1)
    try:
        with pytest.raises(UpdatedError) as caught:
            run(folder, index, slot)
        assert caught.value.code == "image-too-large"
        assert slot.content(3) == b"old"
    finally:
        slot.close()


def test_what_is_read_back_is_what_lies_on_the_medium(published: tuple[bytes, Index, Path]) -> None:
    image, index, folder = published
    slot = Slot(b"", len(image))
    try:
        run(folder, index, slot)
        assert digest(slot.region, len(image), lambda step, done, total: None) == hashlib.sha256(image).hexdigest()
    finally:
        slot.close()


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (SIZE, 1), (0, SIZE + 1)])
def test_no_access_leaves_the_window(start: int, length: int) -> None:
    slot = Slot(b"", SIZE)
    try:
        with pytest.raises(UpdatedError, match="leaves it"):
            slot.region.read(start, length)
        with pytest.raises(UpdatedError, match="leaves it"):
            slot.region.write(start, memoryview(bytes(length)))
        slot.content(0)
    finally:
        slot.close()
