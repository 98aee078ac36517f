"""Indexes and tables of patches as they lie in files: what node and publisher both read."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator

from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.index import Frame, IndexRoot, PageEntry, parse_page
from updated.core.patch import MAX_TABLE_LENGTH, PatchTable
from updated.record import storage_error


class StoredIndex:
    """An index whose pages lie in the file `path`, and are read when they are needed. Safe to use from threads."""

    def __init__(self, root: IndexRoot, path: str) -> None:
        self.root = root
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # Several threads read it, and none of them knows to be the last.
        weakref.finalize(self, os.close, self._fd)

    def pages(self) -> Iterator[tuple[Frame, ...]]:
        """The frames of each page. Raises `UpdatedError`: "wrong-digest", "index-invalid", "disk-error"."""
        return (self.page(entry) for entry in self.root.entries)

    def frames(self) -> Iterator[Frame]:
        """All frames. Raises as `pages`."""
        return (frame for page in self.pages() for frame in page)

    def page(self, entry: PageEntry) -> tuple[Frame, ...]:
        """The frames of the page of `entry`. Raises as `pages`."""
        try:
            data = os.pread(self._fd, entry.length, entry.start)
        except OSError as error:
            raise storage_error("the chunk index", error) from None
        return parse_page(entry, data)


def parse_table(data: bytes, chunk_count: int) -> PatchTable:
    """The compressed table in `data`, for an image of `chunk_count` chunks. Raises `UpdatedError` ("patch-invalid")."""
    try:
        length = min(MAX_TABLE_LENGTH, max(0, prefixed.promised(data)))
        table = prefixed.decompress(prefixed.decompressor(b"", length), data, length)
    except prefixed.DamagedError as error:
        raise UpdatedError(
            "patch-invalid", "the table of a patch", f"does not decompress ({error})",
            "The update goes on without it. The publisher should know.",
        ) from None
    return PatchTable.parse(table, chunk_count)
