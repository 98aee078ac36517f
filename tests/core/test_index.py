"""The chunk index: what is formatted is parsed back; what does not fit to the last byte is one typed error."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated.core.errors import UpdatedError
from updated.core.index import (
    MAGIC,
    MAX_CHUNK_LENGTH,
    MAX_FRAME_LENGTH,
    MAX_PAGE_LENGTH,
    MAX_PAGES,
    MAX_STORED_LENGTH,
    MAX_ZEROS,
    Chunk,
    Draft,
    Frame,
    IndexRoot,
    PageEntry,
    build_index,
    format_page,
    parse_page,
)

members = st.lists(
    st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, MAX_CHUNK_LENGTH)), min_size=1, max_size=5
)
drafts: st.SearchStrategy[Draft] = st.one_of(
    st.tuples(st.integers(1, MAX_STORED_LENGTH), members), st.tuples(st.just(0), st.integers(1, MAX_ZEROS))
)
indexes = st.lists(st.lists(drafts, max_size=4), max_size=4)
ONE: list[Draft] = [(10, [(b"\1" * 32, 100), (b"\2" * 32, 50)]), (0, 4096)]
TWO: list[Draft] = [(7, [(b"\3" * 32, 65536)])]


def lengths(draft: Draft) -> list[int]:
    """The lengths of the chunks; of zeros, their own."""
    return [draft[1]] if isinstance(draft[1], int) else [length for _, length in draft[1]]


@given(indexes)
def test_root_and_pages_are_parsed_back(pages: list[list[Draft]]) -> None:
    root, data = build_index(pages)
    assert IndexRoot.parse(root.format()) == root
    for entry, page in zip(root.entries, pages, strict=True):
        frames = parse_page(entry, data[entry.start : entry.start + entry.length])
        again = [
            (frame.stored, [(chunk.sha256, chunk.length) for chunk in frame.chunks] if frame.stored else frame.length)
            for frame in frames
        ]
        assert again == page


@given(indexes)
def test_chunks_and_frames_lie_one_after_the_other_through_all_pages(pages: list[list[Draft]]) -> None:
    root, data = build_index(pages)
    offset = position = number = 0
    for entry, page in zip(root.entries, pages, strict=True):
        for frame, draft in zip(parse_page(entry, data[entry.start :][: entry.length]), page, strict=True):
            assert (frame.offset, frame.position, frame.first) == (offset, position, number)
            assert frame.length == sum(lengths(draft))
            for chunk in frame.chunks:
                assert chunk.offset == offset
                offset, number = offset + chunk.length, number + 1
            offset += 0 if frame.chunks else frame.length
            position += frame.stored
    assert (root.image_size, root.blob_length, root.chunk_count) == (offset, position, number)
    assert root.pages_length == len(data)


PAGES_OF_ONE = (
    struct.pack("<I", 2) + struct.pack("<IIII", 10, 2, 0, 4096)
    + b"\1" * 32 + struct.pack("<H", 99) + b"\2" * 32 + struct.pack("<H", 49)
)  # fmt: skip
PAGES_OF_TWO = struct.pack("<III", 1, 7, 1) + b"\3" * 32 + struct.pack("<H", 65535)


def test_the_bytes_are_those_of_the_tables_in_the_module() -> None:
    root, pages = build_index([ONE, TWO])
    assert pages == PAGES_OF_ONE + PAGES_OF_TWO
    assert root.format() == (
        b"UPDIDX\0\2" + struct.pack("<QQ", 4246 + 65536, 17) + hashlib.sha256(pages).digest() + struct.pack("<I", 2)
        + hashlib.sha256(PAGES_OF_ONE).digest() + struct.pack("<IIIQ", len(PAGES_OF_ONE), 10, 2, 4246)
        + hashlib.sha256(PAGES_OF_TWO).digest() + struct.pack("<IIIQ", len(PAGES_OF_TWO), 7, 1, 65536)
    )  # fmt: skip
    assert parse_page(root.entries[0], PAGES_OF_ONE)[1] == Frame(10, 0, 150, 4096, 2, 0, memoryview(b""))
    assert parse_page(root.entries[1], PAGES_OF_TWO)[0].chunks == (Chunk(4246, 65536, b"\3" * 32),)


def cause(data: bytes) -> str:
    with pytest.raises(UpdatedError) as caught:
        IndexRoot.parse(data)
    assert caught.value.code == "index-invalid"
    return caught.value.cause


@given(st.binary(max_size=300))
def test_garbage_is_one_typed_error(data: bytes) -> None:
    cause(data.removeprefix(MAGIC))


@given(st.binary(max_size=200), st.integers(0, 4), st.integers(0, 500), st.integers(0, 500))
def test_garbage_behind_the_magic_is_one_typed_error_or_a_sound_root(
    rest: bytes, count: int, image: int, blob: int
) -> None:
    data = MAGIC + struct.pack("<QQ32sI", image, blob, bytes(32), count) + rest
    try:
        root = IndexRoot.parse(data)
    except UpdatedError as error:
        if error.code != "index-invalid":
            raise
    else:
        assert root.format() == data


@given(indexes, st.data())
def test_each_cut_and_each_addition_is_noticed(pages: list[list[Draft]], data: st.DataObject) -> None:
    whole = build_index(pages)[0].format()
    cause(whole[: data.draw(st.integers(0, len(whole) - 1))])
    cause(whole + b"\0")


def test_a_header_that_promises_too_much_costs_nothing() -> None:
    assert "where its header says" in cause(MAGIC + struct.pack("<QQ32sI", 1, 1, bytes(32), 2**32 - 1))


def root_of(*records: tuple[int, int, int, int], image: int, blob: int) -> bytes:
    """A root whose pages have these (length, blob bytes, chunks, image bytes)."""
    entries = [struct.pack("<32sIIIQ", bytes(32), *record) for record in records]
    return MAGIC + struct.pack("<QQ32sI", image, blob, bytes(32), len(records)) + b"".join(entries)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (root_of((0, 0, 0, 9), image=9, blob=0), "a page whose length is out of range"),
        (root_of((MAX_PAGE_LENGTH + 1, 0, 0, 9), image=9, blob=0), "a page whose length is out of range"),
        (root_of((50, 5, 1, 9), (50, 5, 1, 9), image=9, blob=10), "do not add up to the size of its image"),
        (root_of((50, 5, 1, 9), (50, 5, 1, 9), image=18, blob=5), "do not add up to the length of its blob"),
        (root_of(*[(4, 0, 0, 0)] * (MAX_PAGES + 1), image=0, blob=0), f"more than {MAX_PAGES}"),
    ],
)
def test_a_root_is_bounded_and_adds_up(data: bytes, words: str) -> None:
    assert words in cause(data)


def entry_for(data: bytes, *, stored: int = 10, chunks: int = 2, size: int = 4246) -> PageEntry:
    return PageEntry(hashlib.sha256(data).digest(), 0, len(data), stored, chunks, size, 0, 0, 0)


def page_cause(entry: PageEntry, data: bytes) -> str:
    with pytest.raises(UpdatedError) as caught:
        parse_page(entry, data)
    assert caught.value.code == "index-invalid"
    return caught.value.cause


def test_a_page_that_is_not_the_signed_one_is_never_looked_into() -> None:
    entry = entry_for(PAGES_OF_ONE)
    for data in (PAGES_OF_ONE[:-1], PAGES_OF_ONE + b"\0", PAGES_OF_ONE[:-1] + b"x", b""):
        with pytest.raises(UpdatedError) as caught:
            parse_page(entry, data)
        assert caught.value.code == "wrong-digest"


@given(st.integers(0, 3), st.binary(max_size=150), st.integers(0, 3), st.integers(0, 200), st.integers(0, 99999))
def test_a_signed_page_of_garbage_is_one_typed_error_or_sound(
    count: int, rest: bytes, chunks: int, stored: int, size: int
) -> None:
    data = struct.pack("<I", count) + rest
    try:
        frames = parse_page(entry_for(data, stored=stored, chunks=chunks, size=size), data)
    except UpdatedError as error:
        if error.code != "index-invalid":
            raise
    else:
        assert sum(frame.length for frame in frames) == size
        assert sum(frame.stored for frame in frames) == stored


@pytest.mark.parametrize("changes", [{"stored": 11}, {"size": 4245}])
def test_a_page_agrees_with_what_the_root_says_of_it(changes: dict[str, int]) -> None:
    assert "sums differ from the root" in page_cause(entry_for(PAGES_OF_ONE, **changes), PAGES_OF_ONE)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", PAGES_OF_ONE[:-34], struct.pack("<I", 2**32 - 1)])
def test_a_page_has_the_chunks_that_the_root_says(data: bytes) -> None:
    assert "as many chunks" in page_cause(entry_for(data), data)


CHUNK = (bytes(32), MAX_CHUNK_LENGTH)


@pytest.mark.parametrize(
    ("frames", "chunks", "words"),
    [
        ([(1, [CHUNK] * (MAX_FRAME_LENGTH // MAX_CHUNK_LENGTH + 1)), (0, 5)], 17, "too large, or empty"),
        ([(MAX_STORED_LENGTH + 1, [CHUNK])], 1, "too large, or empty"),
        ([(0, MAX_ZEROS + 1)], 0, "too large, or empty"),
        ([(0, 0)], 0, "too large, or empty"),
        ([(9, [])], 0, "do not match its chunks"),
    ],
)
def test_frames_are_bounded_and_never_empty(frames: Sequence[Draft], chunks: int, words: str) -> None:
    data = format_page(frames)
    assert words in page_cause(entry_for(data, chunks=chunks), data)


@pytest.mark.parametrize(("count", "words"), [(3, "do not match its chunks"), (1, "sums differ"), (0, "do not match")])
def test_each_chunk_belongs_to_one_frame(count: int, words: str) -> None:
    data = bytearray(PAGES_OF_ONE)
    data[8:12] = struct.pack("<I", count)  # chunks of the first frame
    assert words in page_cause(entry_for(bytes(data)), bytes(data))
