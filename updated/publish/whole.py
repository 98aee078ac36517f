"""Whether the files of a release are in `blobs/` as its manifest says; each is read and hashed as a whole."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from updated.core.errors import UpdatedError
from updated.core.index import IndexRoot
from updated.core.release import Blob, Component, Release
from updated.publish.known import MEND
from updated.publish.repository import Repository


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the file `sha256` of `blobs/`; `code` is that of the error."""

    sha256: str
    code: str
    cause: str

    def __str__(self) -> str:
        """For people: "blobs/SHA256 is missing"."""
        return f"blobs/{self.sha256} {self.cause}"


def faults(folder: str, component: Component) -> list[Fault]:
    """What is wrong with the files of `component` in the folder `folder`. Raises `UpdatedError` ("index-invalid")."""
    found = (_fault(folder, part) for part in _named(folder, component))
    return list(dict.fromkeys(fault for fault in found if fault is not None))


def require_whole(repository: Repository, release: Release, *, mend: str = MEND) -> None:
    """Raises `UpdatedError` ("bad-repository", "wrong-digest") when a file of `release` is missing or damaged."""
    for name, component in release.components.items():
        found = faults(repository.file("blobs"), component)
        if found:
            others = f", and {len(found) - 1} more of its files are damaged or missing" if len(found) > 1 else ""
            raise UpdatedError(
                found[0].code, f"release {release.version}, {name}: blobs/{found[0].sha256}",
                f"{found[0].cause}{others}", mend,
            )  # fmt: skip


def _named(folder: str, component: Component) -> Iterator[Blob]:
    """The files that the manifest names, and the pages that the index names, if that is whole."""
    yield component.index
    if _fault(folder, component.index) is None:
        with open(os.path.join(folder, component.index.sha256), "rb") as file:
            root = IndexRoot.parse(file.read())
        yield Blob(root.pages_sha256, root.pages_length)
    yield component.blob
    for patch in component.patches:
        yield from patch.parts


def _fault(folder: str, part: Blob) -> Fault | None:
    path = os.path.join(folder, part.sha256)
    try:
        # The open of a pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Fault(part.sha256, "bad-repository", "is no file")
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length != part.length:
                return Fault(part.sha256, "wrong-digest", f"has {length} bytes of {part.length}")
            whole = hashlib.file_digest(file, "sha256").hexdigest() == part.sha256
    except (FileNotFoundError, NotADirectoryError):
        return Fault(part.sha256, "bad-repository", "is missing")
    except OSError as error:
        return Fault(part.sha256, "bad-repository", f"can't be read: {error.strerror or error}")
    return None if whole else Fault(part.sha256, "wrong-digest", "is not as its digest says")
