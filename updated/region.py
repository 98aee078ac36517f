"""A slot's component as an open file descriptor and a window into it, read and written in whole blocks.

A partition device is its own window. In a disk image file the window is what keeps a write inside the slot. Direct I/O
spares the copy to the page cache and leaves the machine's own files in it; it is twice as fast where that is slow.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
from dataclasses import dataclass, replace

from updated.core.errors import UpdatedError
from updated.record import storage_error

BLOCK = 4096
"""What direct I/O is aligned to, in bytes: no common device has larger sectors."""

# linux/falloc.h: a hole reads as zeros; on a block device it is discarded where that gives zeros (fallocate(2)).
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Buffer:
    """Memory that begins at a page, as direct I/O needs it: `size` bytes, all zeros at first."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(mmap.mmap(-1, size))


@dataclass(frozen=True, slots=True)
class Room:
    """What the files of `components`, which lie on one file system, can have together: `size` bytes."""

    components: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Region:
    """`size` bytes at `offset` of the open file `fd`; `whole`: the file, of which `size` is the most that it can be."""

    fd: int
    offset: int
    size: int
    whole: bool = False

    def sized(self, length: int) -> Region:
        """The region for an image of `length` bytes: a whole file gets this length. Raises `UpdatedError`.

        What a file gets that it did not have reads as zeros. FAT writes them, and may find no room in the middle.
        """
        if not self.whole:
            return self
        try:
            before = os.fstat(self.fd).st_size
            try:
                os.ftruncate(self.fd, length)
            except OSError:
                os.ftruncate(self.fd, before)
                raise
        except OSError as error:
            raise storage_error("the slot", error) from None
        return replace(self, size=length)

    def growth(self, length: int) -> int:
        """By how many bytes an image of `length` bytes makes a whole file longer; negative when it becomes shorter.

        Raises `UpdatedError` ("disk-error").
        """
        try:
            return length - os.fstat(self.fd).st_size if self.whole else 0
        except OSError as error:
            raise storage_error("the slot", error) from None

    def fits(self, length: int) -> bool:
        """Whether an image of `length` bytes can be what is here: a whole file has to be just as long."""
        try:
            return os.fstat(self.fd).st_size == length if self.whole else length <= self.size
        except OSError as error:
            raise storage_error("the slot", error) from None

    def open_direct(self) -> bool:
        """Lets reads and writes pass the page cache by, where the window and the file allow it; whether they do.

        Not those of a whole file: FAT makes it longer with zeros in the page cache; these would go to the disk first.
        """
        if self.whole or self.offset % BLOCK or self.size % BLOCK or not self.size:
            return False
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_DIRECT)
            os.preadv(self.fd, [Buffer(BLOCK).view], self.offset)
            return True
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)
        return False

    def load(self, start: int, length: int, buffer: Buffer, at: int = 0) -> memoryview:
        """The bytes [start, start + length) of the region, in `buffer` as from `at`, a whole number of blocks.

        It needs room for two blocks more, unless they begin and end with a block.
        Raises `UpdatedError` ("disk-error").
        """
        self._check(start, length)
        base = start // BLOCK * BLOCK
        end = min(self.size, -(-(start + length) // BLOCK) * BLOCK)
        view = buffer.view[at:]
        done = 0
        try:
            while done < end - base:
                count = os.preadv(self.fd, [view[done : end - base]], self.offset + base + done)
                if not count:
                    raise UpdatedError(
                        "disk-error", "the slot", f"ends at byte {base + done}, before its partition does",
                        "The partition table does not fit the disk: look at it with sgdisk -v.",
                    )
                done += count
        except OSError as error:
            raise storage_error("the slot", error) from None
        return view[start - base : start - base + length]

    def write(self, start: int, data: memoryview) -> None:
        """Writes `data` at `start` of the region; not durable before a sync. Raises `UpdatedError` ("disk-error").

        Direct I/O needs whole blocks, in a `Buffer`.
        """
        self._check(start, len(data))
        try:
            while data:
                written = os.pwrite(self.fd, data, self.offset + start)
                start += written
                data = data[written:]
        except OSError as error:
            raise storage_error("the slot", error) from None

    def punch(self, start: int, length: int) -> bool:
        """Makes the bytes [start, start + length) zeros without writing them; False where the device can't do that.

        Raises `UpdatedError` ("disk-error").
        """
        self._check(start, length)
        if _libc.fallocate(self.fd, _KEEP_SIZE_AND_PUNCH_HOLE, self.offset + start, length) == 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV):
            return False
        raise storage_error("the slot", OSError(number, os.strerror(number)))

    def _check(self, start: int, length: int) -> None:
        if start < 0 or length < 0 or start + length > self.size:
            raise UpdatedError(
                "internal", "an access to the slot", f"leaves it: bytes {start} to {start + length} of {self.size}",
                "Report it.",
            )
