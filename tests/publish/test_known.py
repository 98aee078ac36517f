"""What the releases of a repository have already."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.publish.synthetic import Shelf, edited, index_of, noise, packed
from updated.core.errors import UpdatedError
from updated.core.release import Component
from updated.publish.known import LATEST, Known, frame_key, known, stored_index, whole_index

IMAGE = noise(1, 600_000)


def published(folder: Path, image: bytes) -> Component:
    """The component of `image`, with its files in `folder`, named as in a repository."""
    built, stored = packed(image)
    for data in (built.root, built.pages, stored):
        (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)
    return built.component


def keys(folder: Path, component: Component) -> list[bytes]:
    frames = stored_index(str(folder), component).frames()
    return [frame_key(chunk.sha256 for chunk in frame.chunks) for frame in frames if frame.stored]


def test_a_chunk_came_with_the_first_release_that_has_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    first = {chunk.sha256 for frame in index_of(shelf.put(IMAGE)[0]).frames() for chunk in frame.chunks}
    second = {
        chunk.sha256 for frame in index_of(shelf.put(edited(IMAGE, 300_000))[0]).frames() for chunk in frame.chunks
    }
    assert {shelf.known.birth(digest) for digest in first} == {1}
    assert {shelf.known.birth(digest) for digest in second - first} == {2}
    assert shelf.known.birth(hashlib.sha256(b"new").digest()) == 0


def test_a_frame_is_found_by_its_chunks(tmp_path: Path) -> None:
    component = published(tmp_path, IMAGE)
    blob = (tmp_path / component.blob.sha256).read_bytes()
    there = known(str(tmp_path), [component])
    assert b"".join(there.frame(key) or b"" for key in keys(tmp_path, component)) == blob
    assert there.frame(frame_key([b"another"])) is None


def test_frames_of_a_blob_that_is_gone_are_not_there(tmp_path: Path) -> None:
    component = published(tmp_path, IMAGE)
    there = known(str(tmp_path), [component])
    (tmp_path / component.blob.sha256).unlink()
    assert there.frame(keys(tmp_path, component)[0]) is None


@pytest.mark.parametrize("damage", ["missing root", "missing pages", "damaged root", "damaged pages"])
def test_a_release_with_a_damaged_index_is_left_out_and_the_others_count(tmp_path: Path, damage: str) -> None:
    broken, whole = published(tmp_path, IMAGE), published(tmp_path, noise(2, 600_000))
    root = tmp_path / broken.index.sha256
    file = tmp_path / stored_index(str(tmp_path), broken).root.pages_sha256 if "pages" in damage else root
    if damage.startswith("missing"):
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[40] ^= 1
        file.write_bytes(data)
    there = known(str(tmp_path), [broken, whole])
    assert all(there.frame(key) for key in keys(tmp_path, whole))
    with pytest.raises((UpdatedError, OSError)):
        list(stored_index(str(tmp_path), broken).frames())
    if damage != "damaged pages":  # of which each is judged by itself, where it is read
        with pytest.raises((UpdatedError, OSError)):
            whole_index(str(tmp_path), broken)


def test_only_the_latest_releases_are_looked_at(tmp_path: Path) -> None:
    components = [published(tmp_path, noise(seed, 50_000)) for seed in range(LATEST + 2)]
    there = known(str(tmp_path), components)
    found = [there.frame(keys(tmp_path, component)[0]) is not None for component in components]
    assert found == [False] * 2 + [True] * LATEST


def test_the_whole_index_is_root_and_pages(tmp_path: Path) -> None:
    built, _ = packed(IMAGE)
    assert whole_index(str(tmp_path), published(tmp_path, IMAGE)) == built.root + built.pages


def test_what_nobody_published_is_new() -> None:
    assert Known().birth(bytes(32)) == 0
    assert Known().frame(bytes(16)) is None
