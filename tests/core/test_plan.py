"""What is asked of the server: all that is missing, each byte once, and no more than a short gap of what is not."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from updated.core.index import Index
from updated.core.plan import GAP_LENGTH, make_plan

frames = st.lists(
    st.tuples(
        st.sampled_from((0, 1, 1000, GAP_LENGTH - 1, GAP_LENGTH, GAP_LENGTH + 1)),
        st.lists(st.tuples(st.just(bytes(32)), st.integers(1, 5)), min_size=1, max_size=3),
    ),
    max_size=10,
)


@given(frames, st.data())
def test_the_runs_hold_just_the_frames_that_miss_something(
    parts: list[tuple[int, list[tuple[bytes, int]]]], data: st.DataObject
) -> None:
    index = Index.build(parts)
    offsets = [chunk.offset for frame in index.frames for chunk in frame.chunks]
    in_place = data.draw(st.sets(st.sampled_from(offsets))) if offsets else set()
    plan = make_plan(index, in_place)
    missing = [frame for frame in index.frames if any(chunk.offset not in in_place for chunk in frame.chunks)]

    asked = [frame for run in plan.runs for frame in run.frames]
    assert asked == [frame for frame in missing if frame.stored]
    assert list(plan.zeros) == [frame for frame in missing if not frame.stored]
    for run in plan.runs:
        first, last = run.frames[0], run.frames[-1]
        assert (run.start, run.start + run.length) == (first.position, last.position + last.stored)
        for one, two in itertools.pairwise(run.frames):
            assert two.position - (one.position + one.stored) <= GAP_LENGTH
    for before, after in itertools.pairwise(plan.runs):
        assert after.start - (before.start + before.length) > GAP_LENGTH
    assert plan.download == sum(run.length for run in plan.runs) <= index.blob_length
    assert plan.image == sum(
        chunk.length for frame in index.frames for chunk in frame.chunks if chunk.offset not in in_place
    )


@given(frames)
def test_a_slot_that_holds_all_asks_for_nothing(parts: list[tuple[int, list[tuple[bytes, int]]]]) -> None:
    index = Index.build(parts)
    plan = make_plan(index, {chunk.offset for frame in index.frames for chunk in frame.chunks})
    assert (plan.runs, plan.zeros, plan.download, plan.image) == ((), (), 0, 0)


def test_an_empty_slot_asks_for_the_whole_blob_at_once() -> None:
    index = Index.build([(10, [(bytes(32), 4)]), (0, [(bytes(32), 4)]), (20, [(bytes(32), 4)])])
    plan = make_plan(index, set())
    assert [(run.start, run.length) for run in plan.runs] == [(0, 30)]
    assert (plan.download, plan.image) == (30, 12)
