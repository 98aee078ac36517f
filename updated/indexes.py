"""The chunk indexes that a node keeps: those of the release that runs, and of the one that was installed last."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.index import Index
from updated.core.release import Component
from updated.ports import Source


class Indexes:
    """Indexes by digest: from `folder`, or else from `source`, and then kept in `folder`."""

    def __init__(self, source: Source, folder: str) -> None:
        self._source = source
        self._folder = folder

    def read(self, component: Component) -> Index:
        """The index of `component`. Raises `UpdatedError`: "wrong-digest", "index-invalid", and those of `Source`."""
        data = self._kept(component)
        if data is None:
            data = self._source.read(f"blobs/{component.index.sha256}", component.index.length)
            if not _is(data, component):
                raise UpdatedError(
                    "wrong-digest", "the chunk index", "differs from its signed digest",
                    "It is not used. If it stays so, the mirror is damaged: the publisher must mend it.",
                )
            with contextlib.suppress(OSError):  # it is only kept to spare a download
                os.makedirs(self._folder, exist_ok=True)
                durable.write_file(self._path(component.index.sha256), data)
        index = Index.parse(data)
        if index.image_size != component.size or index.blob_length != component.blob.length:
            raise UpdatedError(
                "index-invalid", "the chunk index", "does not belong to the image of its release manifest",
                "The publisher must publish the release again.",
            )
        return index

    def keep(self, digests: Collection[str]) -> None:
        """Removes all others."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name not in digests:
                    durable.remove(self._path(name))

    def _kept(self, component: Component) -> bytes | None:
        try:
            with open(self._path(component.index.sha256), "rb") as file:
                data = file.read(component.index.length + 1)
        except OSError:
            return None
        return data if _is(data, component) else None

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _is(data: bytes, component: Component) -> bool:
    return len(data) == component.index.length and hashlib.sha256(data).hexdigest() == component.index.sha256
