"""What the releases of a repository have already: which one a chunk came with, and frames that can be used again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Final

from updated.core.errors import UpdatedError
from updated.core.index import IndexRoot
from updated.core.release import Component
from updated.stored import StoredIndex

MEND: Final = (
    "Run `releasectl add` again as it was run for that release, with the same image: it makes such files anew. Or put "
    "the file back from a copy of the repository."
)
"""What to do about a file of `blobs/` that is damaged or missing."""
LATEST: Final = 8
"""How many releases are looked at: it bounds the memory, about 20 MB for each GB of an image."""
_KEY: Final = 16


def frame_key(digests: Iterable[bytes]) -> bytes:
    """What tells frames apart: a digest of the digests of their chunks."""
    return hashlib.sha256(b"".join(digests)).digest()[:_KEY]


class Known:
    """What some releases hold, added from the oldest to the newest."""

    def __init__(self) -> None:
        self._births: dict[bytes, int] = {}
        self._frames: dict[bytes, tuple[str, int, int]] = {}
        self._releases = 0

    def add(self, index: StoredIndex, blob: str) -> None:
        """Adds a release of which `index` lists the blob in the file `blob`. Raises `UpdatedError`."""
        self._releases += 1
        for frame in index.frames():
            for chunk in frame.chunks:
                self._births.setdefault(chunk.sha256[:_KEY], self._releases)
            if frame.stored:
                key = frame_key(chunk.sha256 for chunk in frame.chunks)
                self._frames[key] = blob, frame.position, frame.stored

    def birth(self, sha256: bytes) -> int:
        """The number of the release in which a chunk came first; 0 when it is new."""
        return self._births.get(sha256[:_KEY], 0)

    def frame(self, key: bytes) -> bytes | None:
        """The bytes of a frame with these chunks, as they lie in a blob; they may be damaged."""
        place = self._frames.get(key)
        if place is None:
            return None
        path, position, stored = place
        try:
            with open(path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), stored, position)
        except OSError:
            return None


def stored_index(blobs: str, component: Component) -> StoredIndex:
    """The index of a published component, from the folder `blobs`.

    Raises `UpdatedError` ("wrong-digest", "index-invalid") and OSError.
    """
    root = IndexRoot.parse(_stored_root(blobs, component))
    return StoredIndex(root, os.path.join(blobs, root.pages_sha256))


def whole_index(blobs: str, component: Component) -> bytes:
    """Root and pages of the index of a published component, one after the other. Raises as `stored_index`."""
    root = _stored_root(blobs, component)
    with open(os.path.join(blobs, IndexRoot.parse(root).pages_sha256), "rb") as file:
        return root + file.read()


def _stored_root(blobs: str, component: Component) -> bytes:
    with open(os.path.join(blobs, component.index.sha256), "rb") as file:
        root = file.read()
    if hashlib.sha256(root).hexdigest() != component.index.sha256:
        raise UpdatedError(
            "wrong-digest", "the chunk index", "is not as its digest says",
            MEND,
        )  # fmt: skip
    return root


def known(blobs: str, components: Iterable[Component]) -> Known:
    """What these components hold, the oldest first; one that is damaged or not there is left out."""
    found = Known()
    for component in list(components)[-LATEST:]:
        try:
            found.add(stored_index(blobs, component), os.path.join(blobs, component.blob.sha256))
        except (UpdatedError, OSError):
            continue
    return found
