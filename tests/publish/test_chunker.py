"""Where images are cut: judged by a slow restatement of the rule, one byte at a time."""

from __future__ import annotations

import hashlib
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.publish.synthetic import Counted, noise
from updated.publish import chunker
from updated.publish.chunker import (
    AVERAGE_CHUNK,
    BLOCK,
    MAX_CHUNK,
    MIN_CHUNK,
    MIN_ZEROS,
    WINDOW,
    Readable,
    chunks,
    gear_table,
)

GEAR = [
    int.from_bytes(hashlib.sha256(b"updated gear table, version 1, byte " + bytes([n])).digest()[:4], "little")
    for n in range(256)
]


def stretches(data: bytes) -> list[tuple[bool, bytes]]:
    """Runs of zeros, and what lies between them."""
    found: list[tuple[bool, bytes]] = []
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        zero = not any(block)
        if found and found[-1][0] == zero:
            found[-1] = zero, found[-1][1] + block
        else:
            found.append((zero, block))
    merged: list[tuple[bool, bytes]] = []
    for zero, part in found:
        run = zero and len(part) >= MIN_ZEROS
        if merged and not merged[-1][0] and not run:
            merged[-1] = False, merged[-1][1] + part
        else:
            merged.append((run, part))
    return merged


def cut(data: bytes) -> list[int]:
    """The lengths of the chunks of a stretch."""
    lengths = []
    start = 0
    while start < len(data):
        gear_hash = 0
        end = start
        while end < len(data) and end - start < MAX_CHUNK:
            gear_hash = ((gear_hash << 1) + GEAR[data[end]]) % 2**32
            end += 1
            if end - start >= MIN_CHUNK and gear_hash < 2**32 // (AVERAGE_CHUNK - MIN_CHUNK):
                break
        lengths.append(end - start)
        start = end
    return lengths


def reference(data: bytes) -> list[tuple[bool, int]]:
    """The rule in the docstring of the module, as a person would write it down: (zeros, length) of each piece."""
    found = []
    for run, part in stretches(data):
        found += [(True, len(part))] if run else [(False, length) for length in cut(part)]
    return found


def shape(file: Readable) -> list[tuple[bool, int]]:
    return [(True, piece) if isinstance(piece, int) else (False, len(piece)) for piece in chunks(file)]


def joined(file: Readable) -> bytes:
    return b"".join(bytes(piece) for piece in chunks(file))


def stretch(kind: str, length: int, seed: int) -> bytes:
    if kind == "zeros":
        return bytes(length)
    if kind == "blocks":
        return bytes(length // BLOCK * BLOCK)
    if kind == "text":
        words = random.Random(seed)
        return b" ".join(words.choice([b"slot", b"trial", b"confirm", b"a\0\0b"]) for _ in range(length))[:length]
    return noise(seed, length)


images = st.lists(
    st.tuples(
        st.sampled_from(["zeros", "blocks", "text", "random"]), st.integers(0, 90_000), st.integers(0, 1000)
    ),
    max_size=5,
).map(lambda parts: b"".join(stretch(*part) for part in parts))  # fmt: skip


class Trickle(io.BytesIO):
    """A file that returns fewer bytes than it was asked for, as pipes do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(50_001, size if size is not None and size >= 0 else 50_001))


@settings(max_examples=40)
@given(images)
def test_cuts_are_where_the_plain_rule_puts_them(image: bytes) -> None:
    assert shape(io.BytesIO(image)) == reference(image)
    assert joined(io.BytesIO(image)) == image


@settings(max_examples=25)
@given(images, st.sampled_from([BLOCK, 3 * BLOCK, 64 * 1024]))
def test_streaming_cuts_as_one_look_at_the_whole_does(image: bytes, window: int) -> None:
    whole = shape(io.BytesIO(image))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunker, "WINDOW", window)
        assert shape(Trickle(image)) == whole


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 60_000), st.integers(0, 500_000))
def test_cuts_move_with_the_data(seed: int, moved: int, at: int) -> None:
    image = noise(seed, 500_000)
    before = {piece for piece in chunks(io.BytesIO(image)) if isinstance(piece, bytes)}
    longer = image[:at] + noise(seed + 1, moved) + image[at:]
    after = [piece for piece in chunks(io.BytesIO(longer)) if isinstance(piece, bytes)]
    # What was put in, and the chunk before and those behind it up to the next cut that both have.
    assert sum(len(piece) for piece in after if piece not in before) <= moved + 4 * MAX_CHUNK


@settings(max_examples=25)
@given(images)
def test_runs_of_zeros_begin_and_end_on_blocks(image: bytes) -> None:
    offset = 0
    for piece in chunks(io.BytesIO(image)):
        length = piece if isinstance(piece, int) else len(piece)
        if isinstance(piece, int):
            assert offset % BLOCK == 0
            assert length >= MIN_ZEROS
            assert (offset + length) % BLOCK == 0 or offset + length == len(image)
        offset += length


@settings(max_examples=25)
@given(images)
def test_no_long_run_of_zero_blocks_is_left_in_a_chunk(image: bytes) -> None:
    blocks = [not any(image[at : at + BLOCK]) for at in range(0, len(image) // BLOCK * BLOCK, BLOCK)]
    offset = 0
    for zero, length in shape(io.BytesIO(image)):
        inside = blocks[-(-offset // BLOCK) : (offset + length) // BLOCK]
        if not zero:
            run = MIN_ZEROS // BLOCK
            assert not any(all(inside[at : at + run]) for at in range(len(inside) - run + 1))
        offset += length


def test_a_run_of_zeros_is_one_piece_however_it_is_read() -> None:
    image = noise(3, 100_000) + bytes(4 * WINDOW) + noise(4, 100_000)
    assert sum(zero for zero, _ in shape(Trickle(image))) == 1


def test_a_very_long_run_of_zeros_is_told_in_parts_that_an_index_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunker, "MAX_ZEROS", 64 * 1024)
    assert shape(io.BytesIO(bytes(150_000))) == [(True, 65536), (True, 65536), (True, 150_000 - 2 * 65536)]


def test_few_zeros_stay_a_part_of_the_data() -> None:
    image = noise(5, BLOCK) + bytes(MIN_ZEROS - BLOCK) + noise(6, BLOCK)
    assert not any(zero for zero, _ in shape(io.BytesIO(image)))


def test_the_gear_table_can_be_recomputed_by_anyone() -> None:
    assert gear_table().tolist() == GEAR


def test_zeros_are_no_cut_by_themselves() -> None:
    gear_hash = 0
    for _ in range(32):
        gear_hash = ((gear_hash << 1) + GEAR[0]) % 2**32
    assert gear_hash >= 2**32 // (AVERAGE_CHUNK - MIN_CHUNK)


def test_chunks_of_random_data_have_the_stated_average() -> None:
    lengths = [length for _, length in shape(io.BytesIO(noise(1, 16 * 1024 * 1024)))]
    assert sum(lengths[:-1]) / len(lengths[:-1]) == pytest.approx(AVERAGE_CHUNK, rel=0.1)


def test_no_more_is_held_than_a_window_and_a_chunk() -> None:
    # Zeros are only counted, and told when they have ended.
    for zeros in (0, 3 * WINDOW):
        file = Counted(noise(7, 3 * WINDOW) + bytes(zeros) + noise(8, 3 * WINDOW))
        done = 0
        for piece in chunks(file):
            assert file.given - done <= WINDOW + MAX_CHUNK + zeros
            done += piece if isinstance(piece, int) else len(piece)


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_small_images_are_whole(length: int) -> None:
    assert joined(io.BytesIO(noise(9, length))) == noise(9, length)
    assert joined(io.BytesIO(bytes(length))) == bytes(length)
