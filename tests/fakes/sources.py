"""A repository in a directory that notes what it is asked for, and is as wrong as a test needs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from updated.core.errors import UpdatedError
from updated.directory import DirectorySource

Fault = Callable[[str, int, Iterator[bytes]], Iterator[bytes]]
"""Is given the name, the first byte and the pieces of a stream, and returns the pieces that come instead."""


class WatchedSource:
    """Implements `updated.ports.Source` over `directory`.

    Attributes: `asked`, the streams as (name, start, length); `reads`, the names of whole files; `blamed`, what was
    said to be damaged as (name, position); `patience`, how often `blame` says that asking again makes sense.
    """

    def __init__(self, directory: str | os.PathLike[str], fault: Fault | None = None, *, patience: int = 0) -> None:
        self._inner = DirectorySource(os.fspath(directory))
        self._fault = fault
        self._lock = threading.Lock()
        self.patience = patience
        self.asked: list[tuple[str, int, int]] = []
        self.reads: list[str] = []
        self.blamed: list[tuple[str, int]] = []

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`; a fault sees it as a stream."""
        self.reads.append(name)
        data = self._inner.read(name, most)
        return data if self._fault is None else b"".join(self._fault(name, 0, iter([data])))

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`; the pieces are short, so that a fault can be anywhere."""
        with self._lock:
            self.asked.append((name, start, length))
        pieces = _short(self._inner.stream(name, start, length))
        yield from pieces if self._fault is None else self._fault(name, start, pieces)

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`."""
        with self._lock:
            self.blamed.append((name, position))
            self.patience -= 1
            return self.patience >= 0


def _short(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), 1000):
            yield piece[at : at + 1000]


def cut(name: str, after: int) -> Fault:
    """The file `name` breaks off after so many bytes of all its streams together."""
    left = after

    def fault(asked: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal left
        for piece in pieces:
            if asked == name and left < len(piece):
                rest, left = piece[: max(0, left)], 0
                if rest:
                    yield rest
                raise UpdatedError("unreachable", "the server", "is gone", "Wait.")
            left -= len(piece) if asked == name else 0
            yield piece

    return fault


def flipped(name: str, position: int, times: int = 1_000_000) -> Fault:
    """The byte at `position` of the file `name` is another one, the first `times` it is sent."""
    left = times

    def fault(asked: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal left
        for piece in pieces:
            if asked == name and left and start <= position < start + len(piece):
                left -= 1
                spoiled = bytearray(piece)
                spoiled[position - start] ^= 0x55
                yield bytes(spoiled)
            else:
                yield piece
            start += len(piece)

    return fault


def without_ranges(name: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A server that sends files from their beginning only."""
    if start:
        raise UpdatedError("no-ranges", "the server", "begins at byte 0 only", "Mend it.")
    yield from pieces
