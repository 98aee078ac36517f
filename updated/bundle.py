"""A repository in one file, or handed over as an open descriptor: what is brought to a node by hand.

A bundle is an uncompressed POSIX tar (IEEE Std 1003.1, pax) of regular files with the names that they have in a
repository: `metadata/...`, `targets/...`, `blobs/...`. `releasectl bundle` makes it.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, cast

from updated.core.errors import UpdatedError
from updated.directory import PIECE, DirectorySource, checked_name, open_place, too_long
from updated.ports import Source
from updated.record import storage_error

MAX_MEMBERS = 10_000
# A header and its pax records are far below; the library would read what a header claims in one piece.
MAX_HEADER_READ = 4096
MAX_HEADERS = 16 * 1024 * 1024
_BLOCK = 512
_MEND_COPY = "Copy the bundle again, from where it was made."
_MEND_MAKE = "Make the bundle with 'releasectl bundle'."


def open_source_at(path: str) -> Source:
    """The repository that is the directory or the bundle `path`; it stays open as long as the process.

    Raises `UpdatedError`: "not-found", "bad-repository", "truncated", "disk-error".
    """
    return open_source_in(open_place(path), path)


def open_source_in(fd: int, name: str = "what was imported") -> Source:
    """The repository that is the open directory or bundle `fd`; `name` is for messages. Raises `UpdatedError`."""
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    except OSError as error:
        raise storage_error(name, error) from None
    return DirectorySource(name, fd) if is_directory else BundleSource(fd, name)


class BundleSource:
    """Implements `updated.ports.Source` over the bundle that is the open file `fd`; usable from several threads.

    Only where files begin and end is read here; what is in them is verified as from everywhere else. The position of
    `fd` is neither used nor changed. Raises `UpdatedError` ("bad-repository", "truncated", "disk-error").
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        try:
            found = os.fstat(fd)
        except OSError as error:
            raise storage_error(name, error) from None
        if not stat.S_ISREG(found.st_mode):
            # What is no file might never answer.
            raise self._unfit("it is neither a directory nor a regular file")
        self._size = found.st_size
        self._files = dict(self._members())

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        _, length = self._find(name)
        if length > most:
            raise too_long(f"{name} in {self._name}", most)
        return b"".join(self.stream(name, 0, length))

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`."""
        begin, size = self._find(name)
        if start + length > size:
            raise self._cut_off(f"{name} has {size} bytes, and {start + length} are needed")
        position, end = begin + start, begin + start + length
        while position < end:
            piece = self._pread(min(PIECE, end - position), position)
            if not piece:
                raise self._cut_off(f"it ends after {position} bytes, within {name}")
            position += len(piece)
            yield piece

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`: there is only this file."""
        return False

    def _find(self, name: str) -> tuple[int, int]:
        place = self._files.get(checked_name(name))
        if place is None:
            raise UpdatedError("not-found", f"{name} in {self._name}", "is not there", _MEND_MAKE)
        return place

    def _members(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name, first byte and length of each file."""
        seen: set[str] = set()
        headers = cast(IO[bytes], _Headers(self._fd))
        try:
            with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="strict") as tar:
                before = -1
                while (member := tar.next()) is not None:
                    # The library follows a negative length backwards, for ever.
                    if member.size < 0 or member.offset_data <= before:
                        raise self._damaged("a header leads backwards")
                    before = member.offset_data
                    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                        raise self._unfit(f"{member.name[:200]!r} in it is no regular file")
                    if member.offset_data + member.size > self._size:
                        raise self._cut_off(f"it ends after {self._size} bytes, within {member.name[:200]}")
                    if member.name in seen:
                        raise self._unfit(f"{member.name[:200]!r} is in it twice")
                    if len(seen) == MAX_MEMBERS:
                        raise self._unfit(f"it has more than {MAX_MEMBERS} files")
                    seen.add(member.name)
                    yield self._checked(member.name), (member.offset_data, member.size)
                end = tar.offset
        except UpdatedError:
            raise
        except OSError as error:
            raise storage_error(self._name, error) from None
        except Exception as error:
            # Whatever a hostile header makes the library raise, it means that this is no tar.
            raise self._damaged(str(error) or type(error).__name__) from None
        # The library takes any damage behind the first file for the end.
        mark = self._pread(_BLOCK, end)
        if len(mark) < _BLOCK:
            raise self._cut_off(f"it ends after {self._size} bytes, without the mark of its end")
        if mark.strip(b"\0"):
            raise self._damaged(f"there is no header at byte {end}")

    def _checked(self, name: str) -> str:
        try:
            return checked_name(name)
        except UpdatedError as error:
            raise self._unfit(f"{error.what} {error.cause}") from None

    def _pread(self, length: int, position: int) -> bytes:
        try:
            return os.pread(self._fd, length, position)
        except OSError as error:
            raise storage_error(self._name, error) from None

    def _unfit(self, cause: str) -> UpdatedError:
        return UpdatedError("bad-repository", self._name, cause, _MEND_MAKE)

    def _damaged(self, cause: str) -> UpdatedError:
        return UpdatedError("bad-repository", self._name, f"is no whole tar file: {cause}", _MEND_COPY)

    def _cut_off(self, cause: str) -> UpdatedError:
        return UpdatedError("truncated", self._name, cause, _MEND_COPY)


class _Headers:
    """An open file as the library for tar reads it, for headers alone: in bounded pieces, and so many.

    Raises ValueError when a header wants more, and OSError.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0
        self._left = MAX_HEADERS

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, length: int) -> bytes:
        if not 0 <= length <= min(MAX_HEADER_READ, self._left):
            raise ValueError("a header has no sensible length")
        data = os.pread(self._fd, length, self._position)
        self._left -= length
        self._position += len(data)
        return data
