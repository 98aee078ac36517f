"""Durable effects on files: the only module of the tree that calls fsync, fdatasync, rename or replace.

What POSIX does not promise, and this module therefore does by itself: a new name is durable only after the fsync of
its directory; a rename may reach the disk before the data of the file; a write may be short; and a closed file may
still be lost. Every function raises OSError, and leaves the old content whole when it does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

PathLike = str | os.PathLike[str]

# statfs(2), f_type.
FAT_MAGIC: Final = 0x4D44
EXT_MAGIC: Final = 0xEF53
XFS_MAGIC: Final = 0x58465342

# linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int); fs/ext4/ext4.h: _IOW('f', 43, __u32), since Linux 5.14.
_FIFREEZE: Final = 0xC0045877
_FITHAW: Final = 0xC0045878
_EXT4_IOC_CHECKPOINT: Final = 0x4004662B

# Runs apart, so that the death of the caller between the two calls can't leave the file system frozen.
_FREEZE_AND_THAW: Final = (
    f"import fcntl, sys\nfd = int(sys.argv[1])\nfcntl.ioctl(fd, {_FIFREEZE}, 0)\nfcntl.ioctl(fd, {_FITHAW}, 0)\n"
)


def write_file(path: PathLike, data: bytes, *, mode: int = 0o644) -> None:
    """Replace or create `path` as a whole: after any cut it holds the old bytes or the new ones."""
    path = os.fspath(path)
    folder, name = os.path.split(path)
    # Unique among live writers; a leftover of a dead one has no owner and is taken over.
    temporary = os.path.join(folder, f".{name}.{threading.get_native_id()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            _pwrite_all(fd, 0, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(folder)


def append_line(path: PathLike, data: bytes, *, mode: int = 0o644) -> None:
    """Append `data` (a line with its newline) in one write; the file is created with `mode` when it is missing.

    A tail without newline, which a power cut can leave, is closed first, so that it spoils only its own line.
    """
    path = os.fspath(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    created = False
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, mode)
        created = True
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data
        written = os.write(fd, data)
        if written != len(data):
            os.ftruncate(fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.fsync(fd)
    finally:
        os.close(fd)
    if created:
        sync_directory(os.path.dirname(path))


def sync_fd(fd: int) -> None:
    """Return when the data of the open file or device is on the medium."""
    os.fsync(fd)


def sync_directory(path: PathLike) -> None:
    """Return when the names in the directory `path` ("" is the current one) are on the medium."""
    fd = os.open(os.fspath(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(fd: int) -> None:
    """Bring the file system of `fd` to a state that a reader sees who doesn't replay its journal, as GRUB doesn't.

    syncfs leaves the last changes in the journal of ext4 and XFS. ext4 has a call that empties it; elsewhere a freeze
    does. Where neither is permitted, syncfs has to do.
    """
    _syncfs(fd)
    magic = filesystem_magic(fd)
    if magic == EXT_MAGIC:
        try:
            fcntl.ioctl(fd, _EXT4_IOC_CHECKPOINT, b"\0\0\0\0")
            return
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # it has no journal
    if magic in (EXT_MAGIC, XFS_MAGIC):
        import subprocess

        with contextlib.suppress(OSError):
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", _FREEZE_AND_THAW, str(fd)],
                pass_fds=(fd,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=False,
            )


def sync_filesystem_of(path: PathLike) -> None:
    """`sync_filesystem` of the file system that the file or folder `path` is on."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)


def overwrite(fd: int, offset: int, data: bytes) -> None:
    """Write `data` in place at byte `offset`, and wait until it is on the medium. Not atomic."""
    overwrite_pieces(fd, [(offset, data)])


def overwrite_pieces(fd: int, pieces: Sequence[tuple[int, bytes]]) -> None:
    """Write each (byte offset, data) in place, and wait once until all are on the medium. Not atomic."""
    for offset, data in pieces:
        _pwrite_all(fd, offset, data)
    os.fsync(fd)
    for offset, data in pieces:
        # What is read back next shall come from the medium, not from memory.
        os.posix_fadvise(fd, offset, len(data), os.POSIX_FADV_DONTNEED)


def rename(src: PathLike, dst: PathLike) -> None:
    """Rename `src` to `dst`, replacing it. The data of `src` must be durable already."""
    os.rename(src, dst)
    target, source = os.path.dirname(os.fspath(dst)), os.path.dirname(os.fspath(src))
    sync_directory(target)
    if source != target:
        sync_directory(source)


def write_variable(path: PathLike, data: bytes) -> None:
    """Set a variable of efivarfs in one write, which its kernel passes on as a whole: the firmware has it on return.

    efivarfs has no rename and no fsync. A variable that the firmware refuses is what it was before.
    """
    path = os.fspath(path)
    new = not os.path.exists(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    except OSError:
        if new:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    finally:
        os.close(fd)


def remove(path: PathLike) -> None:
    """Remove a file; it is no error when it is missing."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_directory(os.path.dirname(os.fspath(path)))


def filesystem_magic(fd: int) -> int:
    """The type of the file system of `fd`, as statfs(2) gives it in `f_type`."""
    import ctypes

    buffer = ctypes.create_string_buffer(512)
    if _c_library().fstatfs(fd, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # The first member of struct statfs is f_type, a long.
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


def _c_library() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _syncfs(fd: int) -> None:
    import ctypes

    if _c_library().syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _pwrite_all(fd: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
