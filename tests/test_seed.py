"""The seed: every chunk of the running image is found, and what looks like one by chance fails its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.releases import Made, Repository
from updated.region import Region
from updated.seed import Seed

NOWHERE = Region(-1, 0, 0)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def listing(repository: Repository, digests: list[bytes]) -> Made:
    """An index of chunks of 10 bytes, 4 in a frame, 8 in a page, with zeros between the pages."""
    frames = [(1, [(digest, 10) for digest in digests[at : at + 4]]) for at in range(0, len(digests), 4)]
    return repository.listed([[*frames[at : at + 2], (0, 100)] for at in range(0, len(frames), 2)])


def number(value: int) -> bytes:
    return hashlib.sha256(value.to_bytes(8, "big")).digest()


@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_each_chunk_is_found_in_its_place(repository: Repository, count: int) -> None:
    made = listing(repository, [number(value) for value in range(count)])
    seed = Seed(made.index, NOWHERE)
    for frame in made.index.frames():
        for chunk in frame.chunks:
            assert seed.find(chunk.sha256) == chunk.offset


def test_what_the_image_does_not_have_is_not_found(repository: Repository) -> None:
    seed = Seed(listing(repository, [number(value) for value in range(5000)]).index, NOWHERE)
    # One in some millions is mistaken for another.
    assert sum(seed.find(number(value)) is not None for value in range(5000, 15000)) <= 1


def test_a_chunk_that_is_there_twice_is_found_where_it_is_first(repository: Repository) -> None:
    seed = Seed(listing(repository, [number(1), number(2), number(1)]).index, NOWHERE)
    assert seed.find(number(1)) == 0


keys = st.builds(
    # All bits that the table looks at are alike or nearly so: everything collides.
    lambda slot, tag, rest: (tag << 40 | slot).to_bytes(8, "little") + bytes([rest]) * 24,
    st.sampled_from((0, 1, 1023)), st.integers(0, 2), st.integers(0, 255),
)


@settings(max_examples=50)
@given(digests=st.lists(keys, max_size=20, unique_by=lambda key: key[:8]), others=st.lists(keys, max_size=10))
def test_chunks_that_collide_are_told_apart_by_their_tags(
    tmp_path_factory: pytest.TempPathFactory, digests: list[bytes], others: list[bytes]
) -> None:
    made = listing(Repository(tmp_path_factory.mktemp("seed")), digests)
    seed = Seed(made.index, NOWHERE)
    chunks = [chunk for frame in made.index.frames() for chunk in frame.chunks]
    offsets = {chunk.offset for chunk in chunks}
    tags: dict[bytes, list[int]] = {}
    for chunk in chunks:
        tags.setdefault(chunk.sha256[5:8], []).append(chunk.offset)
        assert seed.find(chunk.sha256) in tags[chunk.sha256[5:8]]
    for other in others:
        assert seed.find(other) in (None, *offsets)
