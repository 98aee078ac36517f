"""Where images are cut: judged by a slow restatement of the rule, one byte at a time."""

from __future__ import annotations

import hashlib
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updated.publish.chunker import (
    AVERAGE_CHUNK,
    MAX_CHUNK,
    MIN_CHUNK,
    ZERO_CHUNK,
    boundaries,
    chunks,
    gear_table,
)

GEAR = [
    int.from_bytes(hashlib.sha256(b"updated gear table, version 1, byte " + bytes([n])).digest()[:4], "little")
    for n in range(256)
]


def reference(data: bytes) -> list[int]:
    """The rule in the docstring of the module, as a person would write it down."""
    ends = []
    start = 0
    while start < len(data):
        zeros = 0
        while start + zeros < len(data) and zeros < ZERO_CHUNK and data[start + zeros] == 0:
            zeros += 1
        if zeros >= MIN_CHUNK:
            start += zeros
            ends.append(start)
            continue
        gear_hash = 0
        end = start
        while end < len(data) and end - start < MAX_CHUNK:
            gear_hash = ((gear_hash << 1) + GEAR[data[end]]) % 2**32
            end += 1
            if end - start >= MIN_CHUNK and gear_hash < 2**32 // (AVERAGE_CHUNK - MIN_CHUNK):
                break
        start = end
        ends.append(end)
    return ends


def random_bytes(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


def stretch(kind: str, length: int, seed: int) -> bytes:
    if kind == "zeros":
        return bytes(length)
    if kind == "text":
        words = random.Random(seed)
        return b" ".join(words.choice([b"slot", b"trial", b"confirm", b"a\0\0b"]) for _ in range(length))[:length]
    return random_bytes(length, seed)


images = st.lists(
    st.tuples(st.sampled_from(["zeros", "text", "random"]), st.integers(0, 90_000), st.integers(0, 1000)), max_size=5
).map(lambda parts: b"".join(stretch(*part) for part in parts))


class Trickle(io.BytesIO):
    """A file that returns fewer bytes than it was asked for, as pipes do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(50_001, size if size is not None and size >= 0 else 50_001))


@settings(max_examples=40, deadline=None)
@given(images)
def test_cuts_are_where_the_plain_rule_puts_them(image: bytes) -> None:
    assert boundaries(image) == reference(image)


@settings(max_examples=40, deadline=None)
@given(images, st.integers(1, 200_000))
def test_streaming_cuts_as_one_look_at_the_whole_does(image: bytes, window: int) -> None:
    pieces = list(chunks(Trickle(image), window=window))

    ends = [sum(len(piece) for piece in pieces[: number + 1]) for number in range(len(pieces))]
    assert ends == boundaries(image)
    assert b"".join(pieces) == image


def test_the_gear_table_can_be_recomputed_by_anyone() -> None:
    assert gear_table().tolist() == GEAR


def test_zeros_are_no_cut_by_themselves() -> None:
    gear_hash = 0
    for _ in range(32):
        gear_hash = ((gear_hash << 1) + GEAR[0]) % 2**32
    assert gear_hash >= 2**32 // (AVERAGE_CHUNK - MIN_CHUNK)


def test_chunks_of_random_data_have_the_stated_average() -> None:
    lengths = [len(piece) for piece in chunks(io.BytesIO(random_bytes(16 * 1024 * 1024, 1)))]
    assert sum(lengths[:-1]) / len(lengths[:-1]) == pytest.approx(AVERAGE_CHUNK, rel=0.1)


def test_a_change_of_a_byte_changes_few_chunks_and_an_insertion_moves_the_rest() -> None:
    image = random_bytes(2 * 1024 * 1024, 2)
    before = {hashlib.sha256(piece).digest() for piece in chunks(io.BytesIO(image))}
    changed = image[:1_000_000] + b"!" + image[1_000_000:]

    after = [hashlib.sha256(piece).digest() for piece in chunks(io.BytesIO(changed))]

    assert len([digest for digest in after if digest not in before]) <= 3


def test_a_run_of_zeros_costs_one_chunk_for_each_stretch_of_the_longest_length() -> None:
    image = random_bytes(100_000, 3) + bytes(4 * 1024 * 1024) + random_bytes(100_000, 4)
    lengths = [len(piece) for piece in chunks(io.BytesIO(image)) if piece.count(0) == len(piece)]
    assert lengths.count(ZERO_CHUNK) >= 15
    assert len(lengths) <= 17


def test_an_empty_image_has_no_chunks() -> None:
    assert list(chunks(io.BytesIO(b""))) == []
    assert boundaries(b"") == []
