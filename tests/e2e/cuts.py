"""The instants at which a log of writes is cut: each write, and within a flush what may be lost and what may survive.

Where a few writes lie between two flushes, each set of survivors is taken; among many: none, all, each one alone,
each one missing, and some at random. Bulk data counts as one write: neighbours of 64 KiB or more, and what goes to the
partition that an update fills (`bulk`). Nobody looks at it before a flush, and a download has thousands of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tests.e2e.writelog import Replay

_FEW: Final = 4  # up to so many writes between two flushes, all their subsets are tried
_AT_RANDOM: Final = 4
_LARGE: Final = 64 * 1024


def cuts(replay: Replay, chance: random.Random, *, bulk: Collection[str] = (), sample: int = 24) -> Iterator[str]:
    """Take `replay` from cut to cut, from where it stands to the end; says at each one what it is.

    Of more than `sample` writes between two flushes, so many are missing or alone.
    """
    for epoch in list(replay.epochs()):
        if epoch[-1] < replay.position:
            continue
        replay.forward(max(epoch[0], replay.position))
        yield f"before write {epoch[0]}, all before it is there"
        groups = _groups(replay, epoch, bulk)
        for kept in _survivors(groups, chance, sample):
            numbers = [number for group in kept for number in group]
            with replay.applied(numbers):
                yield f"in {epoch[0]} to {epoch[-1]}, of which survived: {_told(kept)}"
        for group in groups:
            replay.forward(group[-1] + 1)
            yield f"after write {group[-1]}, nothing is lost"
    replay.forward(len(replay.entries))
    yield "at the end"


def _groups(replay: Replay, epoch: Sequence[int], bulk: Collection[str]) -> list[list[int]]:
    """The writes that go together, in order: neighbours of the bulk, and each other one alone."""
    groups: list[list[int]] = []
    before = False
    for number in epoch:
        names = replay.touches(number)
        of_bulk = bool(names) and (names <= set(bulk) or replay.entries[number].length >= _LARGE)
        if of_bulk and before:
            groups[-1].append(number)
        else:
            groups.append([number])
        before = of_bulk
    return groups


def _survivors(groups: Sequence[list[int]], chance: random.Random, sample: int) -> Iterator[Sequence[list[int]]]:
    """Sets of groups; without those that a cut after a write leaves, with nothing lost."""
    if len(groups) <= _FEW:
        sizes = range(1, len(groups) + 1)
        sets: Iterator[Sequence[list[int]]] = itertools.chain.from_iterable(
            itertools.combinations(groups, size) for size in sizes
        )
        yield from (kept for kept in sets if list(kept) != list(groups[: len(kept)]))
        return
    for number in sorted(chance.sample(range(len(groups)), min(sample, len(groups)))):
        if number:
            yield [groups[number]]
        if number < len(groups) - 1:
            yield [*groups[:number], *groups[number + 1 :]]
    for _ in range(_AT_RANDOM):
        yield [group for group in groups if chance.random() < 0.5]


def _told(kept: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{group[0]}" if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in kept) or "nothing"
