"""Index and blob of an image; the `zstd` command judges the blob."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.publish.synthetic import Counted, Shelf, edited, frames_of, index_of, noise, packed, system, text
from updated.core.errors import UpdatedError
from updated.core.index import Frame, IndexRoot
from updated.publish import blob
from updated.publish.chunker import MAX_CHUNK, WINDOW
from updated.publish.known import Known
from updated.stored import StoredIndex


def unpacked_by_zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def checked(built: blob.Built, stored: bytes, index: StoredIndex | None = None, root: bytes | None = None) -> None:
    blob.check(built.component, root or built.root, index or index_of(built), io.BytesIO(stored))


def test_the_zstd_command_finds_the_blob_whole_and_decodes_the_image_from_it(tmp_path: Path) -> None:
    image = system(1)[:2_000_000]
    file = tmp_path / "blob.zst"
    file.write_bytes(packed(image)[1])

    subprocess.run(["zstd", "-q", "-t", str(file)], check=True)

    decoded = unpacked_by_zstd(file.read_bytes())
    assert decoded == image


def test_each_frame_decodes_alone_and_states_its_size() -> None:
    image = system(2)
    built, stored = packed(image)
    for frame, data in frames_of(built, stored):
        decoded = unpacked_by_zstd(data) if frame.stored else bytes(frame.length)
        assert decoded == image[frame.offset : frame.offset + frame.length]
        assert frame.length <= blob.FRAME_LENGTH or not frame.stored
    root = IndexRoot.parse(built.root)
    assert root.image_size == built.component.size == len(image)
    assert root.blob_length == built.component.blob.length == len(stored)


def test_zeros_take_no_bytes_in_the_blob() -> None:
    built, stored = packed(noise(3, 100_000) + bytes(8 * 1024 * 1024))
    zeros = sum(frame.length for frame in index_of(built).frames() if not frame.stored)
    assert zeros >= 8 * 1024 * 1024 - 4096
    assert len(stored) < 110_000


def test_an_image_of_zeros_has_an_empty_blob() -> None:
    built, stored = packed(bytes(1_000_000))
    assert stored == b""
    assert index_of(built).root.chunk_count == 0
    checked(built, stored)


def test_the_component_states_the_digests_of_image_index_and_blob() -> None:
    image = system(4)
    built, stored = packed(image)
    assert built.component.sha256 == hashlib.sha256(image).hexdigest()
    assert built.component.index.sha256 == hashlib.sha256(built.root).hexdigest()
    assert built.component.blob.sha256 == hashlib.sha256(stored).hexdigest()
    assert IndexRoot.parse(built.root).pages_sha256 == hashlib.sha256(built.pages).hexdigest()
    for chunk in (chunk for frame in index_of(built).frames() for chunk in frame.chunks):
        assert hashlib.sha256(image[chunk.offset : chunk.offset + chunk.length]).digest() == chunk.sha256


def test_the_same_image_gives_the_same_bytes() -> None:
    image = system(5, 900_000)
    assert packed(image, level=15) == packed(image, level=15)


def test_the_same_image_and_history_give_the_same_bytes(tmp_path: Path) -> None:
    images = [system(5), edited(system(5), 50_000), edited(system(5), 50_000, 1_500_000)]
    built = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        shelf = Shelf(tmp_path / name)
        built.append([shelf.put(image)[0] for image in images])
    assert built[0] == built[1]


# ---------------------------------------------------------------------------------------------- after other releases


def chunk_set(frames: Sequence[Frame]) -> set[bytes]:
    return {chunk.sha256 for frame in frames for chunk in frame.chunks}


def test_a_frame_never_mixes_chunks_that_came_with_different_releases(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    image = noise(1, 2_000_000)
    seen: list[set[bytes]] = []
    for number in range(4):
        image = edited(image, *range(number * 30_000, 2_000_000, 200_000))
        frames = list(index_of(shelf.put(image)[0]).frames())
        mixed = 0
        for frame in frames:
            births = {
                next((at for at, chunks in enumerate(seen) if chunk.sha256 in chunks), number)
                for chunk in frame.chunks
            }
            assert len(births) == 1
            mixed += min(births) != number
        assert bool(mixed) == bool(number)
        seen.append(chunk_set(frames))


def test_frames_of_an_older_blob_are_used_again_byte_for_byte(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    image = noise(2, 6_000_000)
    old, file = shelf.put(image, level=1)
    again = file.read_bytes()

    # Another level would give other bytes: what is the same was not compressed again.
    built, stored = packed(edited(text(2, 200_000) + image, 3_500_000), known=shelf.known, level=9)

    kept = [(frame, data) for frame, data in frames_of(built, stored) if frame.stored and data in again]
    assert sum(frame.length for frame, _ in kept) > len(image) / 3
    assert built.new == len(stored) - sum(frame.stored for frame, _ in kept)
    assert chunk_set([frame for frame, _ in kept]) <= chunk_set(list(index_of(old).frames()))
    checked(built, stored)


def test_the_very_same_image_has_nothing_new(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    old, _ = shelf.put(system(3))
    built, _ = packed(system(3), known=shelf.known)
    assert old.new == old.component.blob.length
    assert (built.new, built.component) == (0, old.component)


@pytest.mark.parametrize("damage", ["bits", "truncated", "missing"])
def test_a_damaged_older_blob_is_compressed_anew(tmp_path: Path, damage: str) -> None:
    shelf = Shelf(tmp_path)
    old, file = shelf.put(system(4))
    whole = file.read_bytes()
    if damage == "bits":
        file.write_bytes(bytes(byte ^ 1 if not at % 5000 else byte for at, byte in enumerate(whole)))
    elif damage == "truncated":
        os.truncate(file, len(whole) // 3)
    else:
        file.unlink()
    built, stored = packed(system(4), known=shelf.known)
    assert stored == whole
    assert built.new > len(whole) / 2
    assert built.component == old.component


def test_pages_of_an_unchanged_part_are_the_same_pages(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    image = noise(6, 12_000_000)
    before = {entry.sha256 for entry in index_of(shelf.put(image)[0]).root.entries}
    changed = edited(noise(7, 3000) + image, 4_000_000)
    after = index_of(shelf.put(changed)[0]).root.entries
    kept = [entry for entry in after if entry.sha256 in before]
    # All but those with the changes, and some behind them until the cuts meet again; also behind them.
    assert kept[-1] == after[-1]
    assert sum(entry.size for entry in kept) > len(changed) / 3


def test_a_node_with_the_older_releases_downloads_the_new_chunks_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    image = noise(8, 3_000_000)
    there: set[bytes] = set()
    for number in range(5):
        image = edited(image, 400_000 * number + 200_000)
        frames = list(index_of(shelf.put(image)[0]).frames())
        needed = [frame for frame in frames if any(chunk.sha256 not in there for chunk in frame.chunks)]
        new = sum(chunk.length for frame in frames for chunk in frame.chunks if chunk.sha256 not in there)
        assert sum(frame.length for frame in needed) == new
        there |= chunk_set(frames)
    assert new <= 2 * MAX_CHUNK


# --------------------------------------------------------------------------------------------- progress, memory, faults


def test_progress_ends_at_the_size_of_the_image() -> None:
    told: list[int] = []
    packed(system(6), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(system(6))


def test_the_image_is_read_only_a_little_ahead_of_what_is_written() -> None:
    image = text(7, 6_000_000) * 3
    file = Counted(image)
    ahead = []
    blob.build(file, io.BytesIO(), level=1, progress=lambda done: ahead.append(file.given - done))
    assert max(ahead) <= WINDOW + MAX_CHUNK + (blob._AHEAD + 2) * blob.FRAME_LENGTH
    assert max(ahead) < len(image) / 2


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(UpdatedError, match="is empty"):
        packed(b"")


parts = st.tuples(st.booleans(), st.integers(0, 300_000), st.integers(0, 99))


@settings(max_examples=25)
@given(st.lists(parts, min_size=1, max_size=4))
def test_what_was_built_is_found_whole(parts: list[tuple[bool, int, int]]) -> None:
    image = b"x" + b"".join(bytes(length) if zero else noise(seed, length) for zero, length, seed in parts)
    built, stored = packed(image)
    assert IndexRoot.parse(built.root).format() == built.root
    checked(built, stored)


@settings(max_examples=25)
@given(st.data())
def test_one_changed_bit_of_the_blob_is_found(data: st.DataObject) -> None:
    built, stored = packed(b"a slot " * 9_000 + noise(7, 50_000))
    at = data.draw(st.integers(0, len(stored) - 1))
    damaged = bytearray(stored)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(UpdatedError) as caught:
        checked(built, bytes(damaged))

    assert caught.value.code == "wrong-digest"


@pytest.mark.parametrize("length", [-1, +1])
def test_a_blob_that_is_too_short_or_too_long_is_found(length: int) -> None:
    built, stored = packed(system(8, 400_000))
    with pytest.raises(UpdatedError) as caught:
        checked(built, stored[:length] if length < 0 else stored + b"x")
    assert caught.value.code == "wrong-digest"


def test_an_index_that_is_not_the_signed_one_is_found() -> None:
    built, stored = packed(system(9, 400_000))
    other, _ = packed(system(10, 400_000))
    with pytest.raises(UpdatedError, match="chunk index"):
        checked(built, stored, index_of(other), other.root)


def test_pages_that_are_not_those_of_the_root_are_found(tmp_path: Path) -> None:
    built, stored = packed(system(11, 400_000))
    damaged = bytearray(built.pages)
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "pages").write_bytes(damaged)
    with pytest.raises(UpdatedError, match="page of the chunk index"):
        checked(built, stored, StoredIndex(IndexRoot.parse(built.root), str(tmp_path / "pages")))


def test_nothing_known_is_the_same_as_knowing_nothing() -> None:
    assert packed(system(12, 400_000), known=Known()) == packed(system(12, 400_000))
