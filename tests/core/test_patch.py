"""The table of a patch: what is formatted is parsed back; what does not fit to the last byte is one typed error."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.patch import MAGIC, MAX_PREFIX_LENGTH, MAX_STORED_LENGTH, PatchTable, Range
from updated.stored import parse_table

Built = tuple[int, list[Range], list[Range]]
BLOCK = 65536
CHUNKS = 1000


@st.composite
def tables(draw: st.DrawFn) -> PatchTable:
    """Tables for an image of `CHUNKS` chunks, whose frames have them in order."""
    ends = sorted(draw(st.sets(st.integers(1, CHUNKS), max_size=12)))
    runs = [(first, draw(st.integers(1, end - first))) for first, end in itertools.pairwise([0, *ends])]
    frames = []
    while runs:
        taken, runs = runs[: (count := draw(st.integers(1, 4)))], runs[count:]
        windows = draw(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 20)), max_size=4))
        frames.append((draw(st.integers(1, MAX_STORED_LENGTH)), windows, taken))
    return PatchTable.build(BLOCK, frames)


@given(tables())
def test_a_table_is_parsed_back(table: PatchTable) -> None:
    assert PatchTable.parse(table.format(), CHUNKS) == table


@given(tables())
def test_a_table_is_read_back_from_its_compressed_form(table: PatchTable) -> None:
    assert parse_table(prefixed.compress(table.format(), b"", 3), CHUNKS) == table


@given(tables())
def test_frames_lie_one_after_the_other(table: PatchTable) -> None:
    stored = [frame.stored for frame in table.frames]
    assert [frame.position for frame in table.frames] == [sum(stored[:at]) for at in range(len(stored))]
    assert table.length == sum(stored)


def test_the_bytes_are_those_of_the_table_in_the_module() -> None:
    table = PatchTable.build(BLOCK, [(9, [(5, 2)], [(0, 3), (7, 1)]), (4, [], [(8, 1)])])
    data = (
        b"UPDPAT\0\1" + struct.pack("<II", BLOCK, 2)
        + struct.pack("<IHH", 9, 1, 2) + struct.pack("<IH", 5, 2) + struct.pack("<IHIH", 0, 3, 7, 1)
        + struct.pack("<IHH", 4, 0, 1) + struct.pack("<IH", 8, 1)
    )  # fmt: skip
    assert table.format() == data
    assert PatchTable.parse(data, 9) == table


def cause(data: bytes, chunks: int = CHUNKS) -> str:
    with pytest.raises(UpdatedError) as caught:
        PatchTable.parse(data, chunks)
    assert caught.value.code == "patch-invalid"
    return caught.value.cause


@given(st.binary(max_size=300))
def test_garbage_is_one_typed_error(data: bytes) -> None:
    cause(data.removeprefix(MAGIC))
    with pytest.raises(UpdatedError) as caught:
        parse_table(data, CHUNKS)
    assert caught.value.code == "patch-invalid"


@given(st.integers(0, 3), st.binary(max_size=120))
def test_garbage_behind_the_magic_is_one_typed_error_or_a_sound_table(count: int, rest: bytes) -> None:
    data = MAGIC + struct.pack("<II", BLOCK, count) + rest
    try:
        table = PatchTable.parse(data, CHUNKS)
    except UpdatedError as error:
        if error.code != "patch-invalid":
            raise
    else:
        assert table.format() == data


@given(tables(), st.data())
def test_each_cut_and_each_addition_is_noticed(table: PatchTable, data: st.DataObject) -> None:
    whole = table.format()
    cause(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert "more bytes" in cause(whole + b"\0")


@pytest.mark.parametrize(
    ("block", "frames", "words"),
    [
        (256, [], "blocks of an impossible length"),
        (2 * MAX_PREFIX_LENGTH, [], "blocks of an impossible length"),
        (BLOCK, [(0, [], [(0, 1)])], "too large, or empty"),
        (BLOCK, [(MAX_STORED_LENGTH + 1, [], [(0, 1)])], "too large, or empty"),
        (BLOCK, [(1, [], [])], "too large, or empty"),
        (BLOCK, [(1, [(0, 100), (500, 29)], [(0, 1)])], "needs too much of the base"),
        (BLOCK, [(1, [], [(0, 0)])], "out of order"),
        (BLOCK, [(1, [], [(3, 2), (4, 1)])], "out of order"),
        (BLOCK, [(1, [], [(3, 2)]), (1, [], [(2, 1)])], "out of order"),
        (BLOCK, [(1, [], [(CHUNKS - 1, 2)])], "that the image doesn't have"),
    ],
)
def test_a_table_is_bounded_and_in_order(block: int, frames: list[Built], words: str) -> None:
    assert words in cause(PatchTable.build(block, frames).format())


def test_a_header_that_promises_too_many_frames_costs_nothing() -> None:
    assert cause(MAGIC + struct.pack("<II", BLOCK, 2**32 - 1)) == "ends early"


def test_a_compressed_table_that_promises_too_much_is_refused_before_memory_is_taken() -> None:
    # zstd: magic number, descriptor of a single segment with 8 bytes of content size, that size.
    bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + bytes(100)
    with pytest.raises(UpdatedError, match="instead of") as caught:
        parse_table(bomb, CHUNKS)
    assert caught.value.code == "patch-invalid"
