"""Index and blob of an image; the `zstd` command judges the blob."""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updated.core.errors import UpdatedError
from updated.core.index import Frame, Index
from updated.core.release import Component
from updated.publish import blob


def packed(image: bytes, level: int = 3) -> tuple[Component, bytes, bytes]:
    stored = io.BytesIO()
    component, index = blob.build(io.BytesIO(image), stored, level=level)
    return component, index, stored.getvalue()


def image_of(seed: int, *, zeros: int = 0) -> bytes:
    chance = random.Random(seed)
    text = b" ".join(chance.choice([b"health", b"probation", b"baseline", b"verdict"]) for _ in range(60_000))
    return text + bytes(zeros) + chance.randbytes(700_000) + b"\0\0\0"


def unpacked_by_zstd(frame: Frame, stored: bytes) -> bytes:
    data = stored[frame.position : frame.position + frame.stored]
    return subprocess.run(["zstd", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def test_the_zstd_command_finds_the_blob_whole_and_decodes_the_image_from_it(tmp_path: Path) -> None:
    image = image_of(1)
    stored = packed(image)[2]
    file = tmp_path / "blob.zst"
    file.write_bytes(stored)

    subprocess.run(["zstd", "-q", "-t", str(file)], check=True)

    assert subprocess.run(["zstd", "-d", "-c", str(file)], stdout=subprocess.PIPE, check=True).stdout == image


def test_each_frame_decodes_alone_and_states_its_size() -> None:
    image = image_of(2, zeros=3_000_000)
    component, index_data, stored = packed(image)
    index = Index.parse(index_data)

    for frame in index.frames:
        data = unpacked_by_zstd(frame, stored) if frame.stored else bytes(frame.length)
        assert data == image[frame.offset : frame.offset + frame.length]
        assert frame.length <= blob.FRAME_LENGTH or not frame.stored
    assert index.image_size == component.size == len(image)
    assert index.blob_length == component.blob.length == len(stored)


def test_zeros_take_no_bytes_in_the_blob() -> None:
    index = Index.parse(packed(image_of(3, zeros=8 * 1024 * 1024))[1])
    zeros = sum(frame.length for frame in index.frames if frame.stored == 0)
    assert zeros > 8 * 1024 * 1024 - 200_000


def test_the_component_states_the_digests_of_image_index_and_blob() -> None:
    image = image_of(4, zeros=100_000)
    component, index, stored = packed(image)
    assert component.sha256 == hashlib.sha256(image).hexdigest()
    assert component.index.sha256 == hashlib.sha256(index).hexdigest()
    assert component.blob.sha256 == hashlib.sha256(stored).hexdigest()
    for chunk in (chunk for frame in Index.parse(index).frames for chunk in frame.chunks):
        assert hashlib.sha256(image[chunk.offset : chunk.offset + chunk.length]).digest() == chunk.sha256


def test_the_same_image_gives_the_same_bytes() -> None:
    assert packed(image_of(5), 15) == packed(image_of(5), 15)


def test_progress_ends_at_the_size_of_the_image() -> None:
    told: list[int] = []
    blob.build(io.BytesIO(image_of(6)), io.BytesIO(), level=1, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(image_of(6))


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(UpdatedError, match="is empty"):
        packed(b"")


parts = st.tuples(st.booleans(), st.integers(0, 300_000), st.integers(0, 99))


@settings(max_examples=25, deadline=None)
@given(st.lists(parts, min_size=1, max_size=4))
def test_what_was_built_is_found_whole(parts: list[tuple[bool, int, int]]) -> None:
    image = b"x" + b"".join(
        bytes(length) if zero else random.Random(seed).randbytes(length) for zero, length, seed in parts
    )
    component, index, stored = packed(image, 1)
    assert Index.parse(index).format() == index
    blob.check(component, index, io.BytesIO(stored))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_one_changed_bit_of_the_blob_is_found(data: st.DataObject) -> None:
    component, index, stored = packed(b"a slot " * 9_000 + random.Random(7).randbytes(50_000), 1)
    at = data.draw(st.integers(0, len(stored) - 1))
    damaged = bytearray(stored)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(UpdatedError) as caught:
        blob.check(component, index, io.BytesIO(bytes(damaged)))

    assert caught.value.code == "wrong-digest"


@pytest.mark.parametrize("length", [-1, +1])
def test_a_blob_that_is_too_short_or_too_long_is_found(length: int) -> None:
    component, index, stored = packed(image_of(8), 1)
    changed = stored[:length] if length < 0 else stored + b"x"
    with pytest.raises(UpdatedError) as caught:
        blob.check(component, index, io.BytesIO(changed))
    assert caught.value.code == "wrong-digest"


def test_an_index_that_is_not_the_signed_one_is_found() -> None:
    component, _, stored = packed(image_of(9), 1)
    other = packed(image_of(10), 1)[1]
    with pytest.raises(UpdatedError, match="chunk index"):
        blob.check(component, other, io.BytesIO(stored))
