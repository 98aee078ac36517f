"""Which bytes of the blob to ask for: a pure function of the index and of what the slot holds already."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from updated.core.index import Frame, Index

# A gap shorter than this is cheaper to read through than to skip with another request.
GAP_LENGTH = 128 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One request: the bytes [start, start + length) of the blob, and the frames in them that are wanted."""

    start: int
    length: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`runs` to ask for in order; `zeros`: frames that need no bytes; lengths in bytes.

    `download` counts the bytes of all runs; `image` those of the image that have to be written or compared again.
    """

    runs: tuple[Run, ...]
    zeros: tuple[Frame, ...]
    download: int
    image: int


def make_plan(index: Index, in_place: Container[int]) -> Plan:
    """The plan for what is missing. `in_place` holds the offsets of the chunks that the slot holds already."""
    runs: list[Run] = []
    zeros: list[Frame] = []
    image = 0
    for frame in index.frames:
        missing = sum(chunk.length for chunk in frame.chunks if chunk.offset not in in_place)
        if not missing:
            continue
        image += missing
        if frame.stored == 0:
            zeros.append(frame)
            continue
        if runs and frame.position - (runs[-1].start + runs[-1].length) <= GAP_LENGTH:
            last = runs[-1]
            runs[-1] = Run(last.start, frame.position + frame.stored - last.start, (*last.frames, frame))
        else:
            runs.append(Run(frame.position, frame.stored, (frame,)))
    return Plan(tuple(runs), tuple(zeros), sum(run.length for run in runs), image)
