"""Reads the patches that a release offers."""

from __future__ import annotations

from updated.core.errors import UpdatedError
from updated.core.patch import MAX_TABLE_LENGTH
from updated.core.release import Component
from updated.download import Patch
from updated.indexes import read_signed
from updated.ports import Source
from updated.region import Region
from updated.stored import parse_table


def read_patch(source: Source, new: Component, base: Component, region: Region, chunk_count: int) -> Patch | None:
    """The patch from `base`, which lies in `region`, to `new`, an image of `chunk_count` chunks; None without one.

    A patch that can't be had costs bytes and hinders nothing.
    """
    info = new.patch_from(base)
    if info is None:
        return None
    try:
        table = parse_table(read_signed(source, info.table, "the table of a patch", MAX_TABLE_LENGTH), chunk_count)
    except UpdatedError:
        return None
    if table.length != info.blob.length:
        return None
    return Patch(f"blobs/{info.blob.sha256}", table, region, base.size)
