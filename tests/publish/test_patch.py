"""Patches: judged by applying them as nodes do, with the windows of the base read from its image."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.publish.synthetic import edited, index_of, noise, packed, system, text
from updated import prefixed
from updated.core import patch as limits
from updated.core.errors import UpdatedError
from updated.core.index import Chunk
from updated.core.patch import PatchTable
from updated.publish import patch
from updated.publish.blob import WORKERS
from updated.stored import StoredIndex


@dataclass
class Pair:
    """A patch between two images, and all that it was made of."""

    old: bytes
    new: bytes
    base: StoredIndex
    index: StoredIndex
    table: PatchTable
    stored: bytes
    instead_of: int

    def new_chunks(self) -> dict[int, Chunk]:
        """The chunks that the base doesn't have, by number."""
        present = {chunk.sha256 for frame in self.base.frames() for chunk in frame.chunks}
        chunks = (chunk for frame in self.index.frames() for chunk in frame.chunks)
        return {number: chunk for number, chunk in enumerate(chunks) if chunk.sha256 not in present}

    def applied(self) -> dict[int, bytes]:
        """What the patch gives by the number of the chunk, as a node decodes it."""
        chunks = [chunk for frame in self.index.frames() for chunk in frame.chunks]
        given: dict[int, bytes] = {}
        for frame in self.table.frames:
            prefix = b"".join(
                self.old[first * self.table.block : (first + count) * self.table.block]
                for first, count in frame.windows
            )
            numbers = [number for first, count in frame.runs for number in range(first, first + count)]
            length = sum(chunks[number].length for number in numbers)
            assert len(prefix) <= min(patch.PREFIX_LENGTH, limits.MAX_PREFIX_LENGTH)
            assert length <= min(patch.CONTENT_LENGTH, limits.MAX_CONTENT_LENGTH)
            assert frame.stored <= limits.MAX_STORED_LENGTH
            stored = self.stored[frame.position : frame.position + frame.stored]
            data = prefixed.decompress(prefixed.decompressor(prefix, length), stored, length)
            for number in numbers:
                assert number not in given
                given[number], data = data[: chunks[number].length], data[chunks[number].length :]
        return given


def made(old: bytes, new: bytes, *, level: int = 3, known: patch.Made | None = None) -> Pair:
    """The patch from `old` to `new`."""
    built, blob = packed(old)
    base, index = index_of(built), index_of(packed(new)[0])
    stored = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as room:
        Path(folder, "blob").write_bytes(blob)
        Path(folder, "image").write_bytes(new)
        table, instead_of = patch.make(
            base, os.path.join(folder, "blob"), index, os.path.join(folder, "image"), stored, room=room, level=level,
            made=known,
        )  # fmt: skip
    return Pair(old, new, base, index, table, stored.getvalue(), instead_of)


def gives_the_new_chunks(pair: Pair) -> bool:
    """Whether the patch gives each chunk that the base doesn't have, and no other."""
    wanted = {
        number: pair.new[chunk.offset : chunk.offset + chunk.length] for number, chunk in pair.new_chunks().items()
    }
    assert PatchTable.parse(pair.table.format(), pair.index.root.chunk_count) == pair.table
    assert pair.table.length == len(pair.stored)
    return pair.applied() == wanted


OLD = noise(1, 2_500_000) + text(2, 1_500_000) + bytes(200_000) + noise(3, 300_000)


def test_a_patch_of_edited_data_is_far_smaller_than_the_frames_that_hold_it() -> None:
    pair = made(OLD, edited(OLD, *range(50_000, 4_000_000, 150_000)), level=15)
    assert gives_the_new_chunks(pair)
    assert len(pair.stored) < pair.instead_of / 100


def test_a_patch_of_moved_and_edited_data_finds_it_where_it_was() -> None:
    moved = noise(4, 777) + OLD[2_000_000:] + OLD[:1_000_003] + noise(5, 5000) + OLD[1_000_003:2_000_000]
    pair = made(OLD, edited(moved, *range(100_000, 4_000_000, 100_000)), level=15)
    assert gives_the_new_chunks(pair)
    assert len(pair.stored) < pair.instead_of / 50


def test_bytes_that_are_like_nothing_are_in_the_patch_as_they_are() -> None:
    pair = made(OLD, OLD[:1_000_000] + noise(6, 500_000) + OLD[1_000_000:])
    assert gives_the_new_chunks(pair)
    assert len(pair.stored) > 500_000
    assert not any(frame.windows for frame in made(OLD, noise(6, 500_000)).table.frames)


def test_a_base_of_any_length_is_read_to_its_end() -> None:
    old = noise(7, 3 * patch.BLOCK + 12_345)
    pair = made(old, edited(old, len(old) - 5_000))
    assert gives_the_new_chunks(pair)
    assert sum(pair.table.frames[-1].windows[-1]) == 4
    assert len(pair.stored) < 1_000


def test_windows_with_zeros_in_the_base_are_read_as_zeros() -> None:
    old = noise(8, 40_000) + bytes(24 * 1024) + noise(9, 40_000) + bytes(5 * patch.BLOCK)
    pair = made(old, edited(old, 20_000, 80_000))
    assert gives_the_new_chunks(pair)
    assert len(pair.stored) < 1_000


@pytest.mark.parametrize("new", [OLD, bytes(100 * 4096) + OLD, bytes(5_000_000)])
def test_there_is_nothing_in_a_patch_to_an_image_without_new_chunks(new: bytes, tmp_path: Path) -> None:
    # The blob is not even looked at.
    (tmp_path / "image").write_bytes(new)
    base, index = index_of(packed(OLD)[0]), index_of(packed(new)[0])
    with tempfile.TemporaryFile() as room:
        table, instead_of = patch.make(
            base, "/nonexistent", index, str(tmp_path / "image"), io.BytesIO(), room=room, level=1
        )
    assert (table.frames, instead_of) == ((), 0)


def test_an_image_of_zeros_is_a_base_like_any_other() -> None:
    assert gives_the_new_chunks(made(bytes(300_000), noise(10, 100_000)))


def test_the_same_images_give_the_same_patch() -> None:
    new = edited(OLD, 70_000, 3_000_000)
    assert made(OLD, new).stored == made(OLD, new).stored


pieces = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200_000), st.integers(0, 200_000)), max_size=4)


@settings(max_examples=15)
@given(st.integers(0, 20), pieces, st.lists(st.integers(0, 400_000), max_size=4))
def test_any_image_is_made_of_any_other(seed: int, parts: list[tuple[int, int, int]], edits: list[int]) -> None:
    old = system(seed, 400_000)
    new = b"".join(noise(other, length // 10) + old[start : start + length] for other, start, length in parts) + b"."
    assert gives_the_new_chunks(made(old, edited(new, *(place for place in edits if place + 100 < len(new)))))


def test_frames_of_another_patch_to_the_same_image_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    new = edited(OLD, *range(50_000, 4_000_000, 100_000))
    known: patch.Made = {}
    first = made(OLD, new, known=known)
    monkeypatch.setattr(prefixed, "compress", lambda *arguments: pytest.fail("nothing is left to compress"))
    assert made(OLD, new, known=known).stored == first.stored


def test_what_is_kept_for_other_patches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch, "_MOST_MADE", 2)
    known: patch.Made = {}
    pair = made(OLD, noise(11, 8_000_000), level=1, known=known)
    assert gives_the_new_chunks(pair)
    assert len(known) <= 2 + WORKERS < len(pair.table.frames)


def test_progress_ends_at_the_length_of_the_new_chunks(tmp_path: Path) -> None:
    new = edited(OLD, 100_000, 2_000_000)
    built, blob = packed(OLD)
    (tmp_path / "blob").write_bytes(blob)
    (tmp_path / "image").write_bytes(new)
    told: list[tuple[int, int]] = []
    with tempfile.TemporaryFile() as room:
        patch.make(
            index_of(built), str(tmp_path / "blob"), index_of(packed(new)[0]), str(tmp_path / "image"), io.BytesIO(),
            room=room, level=1, progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
    assert told[-1][0] == told[-1][1] == sum(chunk.length for chunk in made(OLD, new).new_chunks().values())


@pytest.mark.parametrize(("damaged", "code"), [("blob", "wrong-digest"), ("image", "bad-image")])
def test_a_patch_is_never_made_of_damaged_bytes(tmp_path: Path, damaged: str, code: str) -> None:
    new = edited(OLD, *range(0, 4_000_000, 50_000))
    built, blob = packed(OLD)
    (tmp_path / "blob").write_bytes(edited(blob, 1_000_000) if damaged == "blob" else blob)
    (tmp_path / "image").write_bytes(edited(new, 1_000_000) if damaged == "image" else new)
    with pytest.raises(UpdatedError) as caught, tempfile.TemporaryFile() as room:
        patch.make(
            index_of(built), str(tmp_path / "blob"), index_of(packed(new)[0]), str(tmp_path / "image"), io.BytesIO(),
            room=room, level=1,
        )  # fmt: skip
    assert caught.value.code == code
