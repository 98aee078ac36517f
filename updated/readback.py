"""Reads a slot back from the medium, ahead of the hash that checks it."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bootctl import durable
from updated.record import storage_error
from updated.region import BLOCK, Buffer, Region

READ_LENGTH = 1024 * 1024
_AHEAD = 4
Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Called with (step, bytes done, bytes in all); step is "compare", "download" or "verify"."""


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterator[Item], most: int
) -> Iterator[Result]:
    """The results of `work` for `items`, in their order, with at most `most` of them begun ahead."""
    waiting: list[Future[Result]] = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def digest(region: Region, size: int, progress: Progress) -> str:
    """The SHA-256 of the first `size` bytes of `region`, read back from the medium, as lower-case hexadecimal.

    The page cache is dropped first, so that what is read is what a boot will read.
    Raises `UpdatedError` ("disk-error").
    """
    try:
        durable.sync_fd(region.fd)
        os.posix_fadvise(region.fd, region.offset, size, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise storage_error("the passive slot", error) from None
    region.open_direct()
    whole = hashlib.sha256()
    done = 0
    # One more than are read ahead: the oldest is still being hashed.
    buffers = itertools.cycle([Buffer(READ_LENGTH + 2 * BLOCK) for _ in range(_AHEAD + 1)])

    def load(task: tuple[int, Buffer]) -> memoryview:
        at, buffer = task
        return region.load(at, min(READ_LENGTH, size - at), buffer)

    # Two reads at a time keep the disk busy: a sixth less time than one after the other.
    with ThreadPoolExecutor(2, thread_name_prefix="read") as pool:
        for data in in_order(pool, load, zip(range(0, size, READ_LENGTH), buffers, strict=False), _AHEAD):
            whole.update(data)
            done += len(data)
            progress("verify", done, size)
    return whole.hexdigest()
