"""What the core and the engine need of the world, as small protocols. Each has one adapter, and a fake in the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Source(Protocol):
    """Where the files of a repository come from: a web server, a directory or a bundle.

    Names are relative paths with `/`; in those of metadata, the name of a role is percent-encoded.
    """

    def read(self, name: str, most: int) -> bytes:
        """The whole file `name`, at most `most` bytes.

        Raises `UpdatedError`: "not-found", "unreachable", "http-status", "truncated", "too-slow", "too-long",
        "bad-redirect", "encoded", "disk-error".
        """
        ...

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """The bytes [start, start + length) of `name`, in pieces; never more, and never fewer without an error.

        Raises as `read`, and "no-ranges" when it can only begin at byte 0, and `start` is another.
        """
        ...

    def blame(self, name: str, position: int = 0) -> bool:
        """Says that what came of `name` at byte `position` differs from its digest, once for each time that it did.

        Whether asking again makes sense, because it may come from another place then.
        """
        ...
