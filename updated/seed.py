"""What a node has already: the chunks of the release that runs, in the slot that runs.

The index of that release says where each chunk lies; each is hashed before it is used, so that a slot that changed, or
an index of something else, costs a download and nothing more.
"""

from __future__ import annotations

from array import array

from updated.region import Region
from updated.stored import StoredIndex

_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1


class Seed:
    """The chunks of `index`, in `region`, which holds that image.

    A hash table of 8 bytes an entry, at most half full: 24 bits that tell chunks apart, and 40 of the place. What it
    takes for the same by chance (once in a million) fails its digest like any damaged chunk.
    """

    def __init__(self, index: StoredIndex, region: Region) -> None:
        self.region = region
        bits = max(10, (2 * index.root.chunk_count).bit_length())
        self._mask = (1 << bits) - 1
        self._table = array("Q", bytes(8 << bits))
        for frame in index.frames():
            for offset, _, sha256 in frame.chunks:
                self._put(sha256, offset)

    def find(self, sha256: bytes) -> int | None:
        """Where in the region the chunk of this digest should lie, in bytes."""
        key = int.from_bytes(sha256[:8], "little")
        tag = key >> _OFFSET_BITS
        slot = key & self._mask
        table = self._table
        while entry := table[slot]:
            if entry >> _OFFSET_BITS == tag:
                return (entry & _OFFSET_MASK) - 1
            slot = (slot + 1) & self._mask
        return None

    def _put(self, sha256: bytes, offset: int) -> None:
        key = int.from_bytes(sha256[:8], "little")
        tag = key >> _OFFSET_BITS
        slot = key & self._mask
        table = self._table
        while entry := table[slot]:
            if entry >> _OFFSET_BITS == tag:
                return
            slot = (slot + 1) & self._mask
        table[slot] = tag << _OFFSET_BITS | (offset + 1)
