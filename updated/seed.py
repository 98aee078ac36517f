"""What a node has already: the chunks of the release that runs, in the slot that runs.

The index of that release says where each chunk lies; each is hashed before it is used, so that a slot that changed, or
an index of something else, costs a download and nothing more.
"""

from __future__ import annotations

import hashlib

from updated.core.errors import UpdatedError
from updated.core.index import Chunk, Index
from updated.region import Region


class Seed:
    """The chunks of `index`, in `region`, which holds that image."""

    def __init__(self, index: Index, region: Region) -> None:
        self._region = region
        self._places = {chunk.sha256: chunk.offset for frame in index.frames for chunk in frame.chunks}

    def read(self, chunk: Chunk) -> bytes | None:
        """The bytes of `chunk`; None when they are not here, or not what they were."""
        offset = self._places.get(chunk.sha256)
        if offset is None:
            return None
        try:
            data = self._region.read(offset, chunk.length)
        except UpdatedError:
            return None
        return data if hashlib.sha256(data).digest() == chunk.sha256 else None
