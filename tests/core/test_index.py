"""The chunk index: what is formatted is parsed back; what does not fit to the last byte is one typed error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.errors import UpdatedError
from updated.core.index import MAGIC, MAX_CHUNK_LENGTH, MAX_FRAME_LENGTH, Chunk, Frame, Index

digests = st.binary(min_size=32, max_size=32)
frames = st.lists(
    st.tuples(
        st.integers(0, 2 * MAX_FRAME_LENGTH),
        st.lists(st.tuples(digests, st.integers(1, MAX_CHUNK_LENGTH)), min_size=1, max_size=5),
    ),
    max_size=6,
)
ONE = [(10, [(b"\1" * 32, 100), (b"\2" * 32, 50)]), (0, [(b"\0" * 32, 4096)])]


@given(frames)
def test_an_index_is_parsed_back(parts: list[tuple[int, list[tuple[bytes, int]]]]) -> None:
    index = Index.build(parts)
    assert Index.parse(index.format()) == index
    assert index.image_size == sum(length for _, members in parts for _, length in members)
    assert index.blob_length == sum(stored for stored, _ in parts)


@given(frames)
def test_chunks_and_frames_lie_one_after_the_other(parts: list[tuple[int, list[tuple[bytes, int]]]]) -> None:
    offset = position = 0
    for frame in Index.build(parts).frames:
        assert frame.position == position
        assert frame.offset == offset
        for chunk in frame.chunks:
            assert chunk.offset == offset
            offset += chunk.length
        assert frame.length == offset - frame.offset
        position += frame.stored


def test_the_bytes_are_those_of_the_table_in_the_module() -> None:
    data = Index.build(ONE).format()
    assert data == (
        b"UPDIDX\0\1" + struct.pack("<QQII", 4246, 10, 2, 3) + struct.pack("<IIII", 10, 2, 0, 1)
        + b"\1" * 32 + struct.pack("<I", 100) + b"\2" * 32 + struct.pack("<I", 50) + bytes(32) + struct.pack("<I", 4096)
    )
    assert Index.parse(data).frames[1] == Frame(10, 0, (Chunk(150, 4096, bytes(32)),))


def cause(data: bytes) -> str:
    with pytest.raises(UpdatedError) as caught:
        Index.parse(data)
    assert caught.value.code == "index-invalid"
    return caught.value.cause


@given(st.binary(max_size=300))
def test_garbage_is_one_typed_error(data: bytes) -> None:
    if not data.startswith(MAGIC):
        cause(data)


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 3), st.integers(0, 500), st.integers(0, 500))
def test_garbage_behind_the_magic_is_one_typed_error_or_a_sound_index(
    rest: bytes, frame_count: int, chunk_count: int, image: int, blob: int
) -> None:
    data = MAGIC + struct.pack("<QQII", image, blob, frame_count, chunk_count) + rest
    try:
        index = Index.parse(data)
    except UpdatedError as error:
        if error.code != "index-invalid":
            raise
    else:
        assert index.format() == data


@given(frames, st.data())
def test_each_cut_and_each_addition_is_noticed(
    parts: list[tuple[int, list[tuple[bytes, int]]]], data: st.DataObject
) -> None:
    whole = Index.build(parts).format()
    cause(whole[: data.draw(st.integers(0, len(whole) - 1))])
    cause(whole + b"\0")


def test_a_header_that_promises_too_much_costs_nothing() -> None:
    assert "where its header says" in cause(MAGIC + struct.pack("<QQII", 1, 1, 2**32 - 1, 2**32 - 1))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([(1, [(bytes(32), 0)])], "a chunk whose length is out of range"),
        ([(1, [(bytes(32), MAX_CHUNK_LENGTH + 1)])], "a chunk whose length is out of range"),
        ([(1, [(bytes(32), MAX_CHUNK_LENGTH)] * 17)], "a frame that is too large"),
        ([(2 * MAX_FRAME_LENGTH + 1, [(bytes(32), 1)])], "a frame that is too large"),
    ],
)
def test_lengths_are_bounded(parts: list[tuple[int, list[tuple[bytes, int]]]], words: str) -> None:
    assert words in cause(Index.build(parts).format())


def test_sums_and_counts_must_agree() -> None:
    data = bytearray(Index.build(ONE).format())
    data[8] ^= 1  # image size
    assert cause(bytes(data)) == "has sums that differ from its header"
    data = bytearray(Index.build(ONE).format())
    data[16] ^= 1  # blob length
    assert cause(bytes(data)) == "has sums that differ from its header"
    for count, words in ((1, "belong to no frame"), (3, "do not match its chunks"), (0, "do not match its chunks")):
        data = bytearray(Index.build(ONE).format())
        data[36:40] = struct.pack("<I", count)  # chunks of the first frame
        assert words in cause(bytes(data))
