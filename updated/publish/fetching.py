"""Fetches files of `blobs/` into a folder: each verified, several at once, and each going on where it once stopped."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.release import Blob
from updated.ports import Source
from updated.publish.repository import UNFINISHED

_READ_LENGTH: Final = 1024 * 1024

Progress = Callable[[int, int], None]
"""Is told how many bytes are there, and how many there will be."""


class _Stopped(Exception):
    """Another thread has failed, or a person interrupts."""


class Fetching:
    """Fills `folder` from `source`, over `connections` at once. The folder is nobody else's to write meanwhile.

    `reread`: what is there already is read and checked as well; else its length has to do, since no file has its name
    before it was verified. Attributes: `files` and `downloaded`, what was fetched, the latter in bytes.
    """

    def __init__(
        self, source: Source, folder: str, *, connections: int, reread: bool,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._source = source
        self._folder = folder
        self._connections = connections
        self._reread = reread
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = False
        self._error: BaseException | None = None
        self._done = self._total = 0
        self.files = 0
        self.downloaded = 0

    def take(self, parts: Collection[Blob]) -> None:
        """Returns when all `parts` are there, durably. Raises `UpdatedError` as `Source` does, "wrong-digest"; OSError.

        After an error what came of a file stays, for the next run.
        """
        self._total += sum(part.length for part in parts)
        # The longest first: the shorter ones are done meanwhile.
        ordered = sorted(parts, key=lambda part: (-part.length, part.sha256))
        with ThreadPoolExecutor(self._connections, thread_name_prefix="mirror") as pool:
            try:
                wait([pool.submit(self._try, part) for part in ordered])
            finally:
                # What is left to do when a person interrupts.
                self._stopped = True
        if self._error is not None:
            raise self._error
        self._stopped = False

    def _try(self, part: Blob) -> None:
        """Keeps the first error of all threads, and ends the others."""
        try:
            if not self._stopped:
                self._take(part)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stopped = True

    def path(self, part: Blob) -> str:
        """Where a file lies."""
        return os.path.join(self._folder, part.sha256)

    def _take(self, part: Blob) -> None:
        final, unfinished = self.path(part), os.path.join(self._folder, f"{UNFINISHED}{part.sha256}")
        if self._is_there(final, part):
            self._advance(part.length)
            return
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._fill(fd, part)
            os.fchmod(fd, 0o644)
            durable.sync_fd(fd)
            durable.rename(unfinished, final)
        finally:
            os.close(fd)
        self.files += 1

    def _is_there(self, path: str, part: Blob) -> bool:
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size != part.length:
                    return False
                return not self._reread or hashlib.file_digest(file, "sha256").hexdigest() == part.sha256
        except FileNotFoundError:
            return False

    def _fill(self, fd: int, part: Blob) -> None:
        name = f"blobs/{part.sha256}"
        while True:
            digest, begun = self._kept(fd, part)
            position = begun
            self._advance(begun)
            try:
                for piece in self._source.stream(name, begun, part.length - begun):
                    if self._stopped:
                        raise _Stopped
                    self._write(fd, piece, position)
                    digest.update(piece)
                    position += len(piece)
                    self._advance(len(piece), downloaded=True)
            except UpdatedError as error:
                if error.code != "no-ranges" or not begun:
                    raise
            if position == part.length and digest.hexdigest() == part.sha256:
                return
            # What was kept may be what is wrong: a power cut can leave anything in a file that was not synced.
            os.ftruncate(fd, 0)
            self._advance(-position)
            if not begun and not self._source.blame(name):
                raise UpdatedError(
                    "wrong-digest", f"the file {name}", "differs from its signed digest",
                    "It is not kept. The publisher must mend the repository.",
                )

    def _kept(self, fd: int, part: Blob) -> tuple[hashlib._Hash, int]:
        """The digest and the length of what an earlier run left of a file."""
        if os.fstat(fd).st_size > part.length:
            os.ftruncate(fd, 0)
        digest = hashlib.sha256()
        position = 0
        while piece := os.pread(fd, _READ_LENGTH, position):
            digest.update(piece)
            position += len(piece)
        return digest, position

    @staticmethod
    def _write(fd: int, data: bytes, position: int) -> None:
        while data:
            written = os.pwrite(fd, data, position)
            data, position = data[written:], position + written

    def _advance(self, count: int, *, downloaded: bool = False) -> None:
        with self._lock:
            self._done += count
            if downloaded:
                self.downloaded += count
            self._progress(self._done, self._total)
