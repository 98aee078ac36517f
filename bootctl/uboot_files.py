"""Reads, writes and locks the copies of U-Boot's environment on disks and in files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bootctl import durable, uboot_env
from bootctl.errors import BootError, mend_of, naming
from bootctl.file_pair import BACKUP_SUFFIX
from bootctl.lock import lock
from bootctl.uboot_copies import Copy, Kind
from bootctl.uboot_env import Environment

_LOCK_SECONDS: Final = 10.0


def content_of(copy: Copy, *, redundant: bool) -> Environment | BootError:
    """The environment, or what is wrong with it."""
    try:
        with open(copy.path, "rb") as file:
            file.seek(copy.offset)
            data = file.read(copy.size)
    except FileNotFoundError:
        return BootError(
            "uboot-env-missing",
            str(copy),
            "there is no such file",
            "Run saveenv at U-Boot's prompt, or correct fw_env.config.",
        )
    except OSError as error:
        return unreadable(str(copy), error)
    try:
        with naming(str(copy), uboot_env.ENVIRONMENT):
            return uboot_env.parse(data, copy.size, redundant=redundant)
    except BootError as error:
        return error


def is_whole_file(copy: Copy) -> bool:
    """Whether nothing else is in the file; so it is with one that is missing."""
    if copy.offset:
        return False
    try:
        status = os.stat(copy.path)
    except OSError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size <= copy.size


def write(copy: Copy, data: bytes, kind: Kind) -> None:
    """Durable when it returns. Raises BootError `uboot-env-not-writable`."""
    try:
        if not _overwritten(copy, data, kind):
            durable.write_file(copy.path, data, mode=_mode(copy.path))
        if stat.S_ISREG(os.stat(copy.path).st_mode):
            durable.sync_filesystem_of(copy.path)
    except OSError as error:
        raise BootError(
            "uboot-env-not-writable",
            str(copy),
            f"it can't be written ({error.strerror})",
            f"{mend_of(error)} The boot partition of an eMMC needs a 0 in its force_ro "
            "(/sys/class/block/mmcblk0boot0/force_ro).",
        ) from error


def size_of(path: str) -> int:
    """Of a file or a disk, in bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """No tool changes the environment meanwhile. Raises BootError `uboot-busy`."""
    # They go on when they can't have the lock, and so do we.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        fd = -1
    try:
        if fd >= 0 and not lock(fd, _LOCK_SECONDS):
            raise BootError(
                "uboot-busy",
                path,
                f"another program has kept U-Boot's environment locked for {_LOCK_SECONDS:.0f} seconds",
                "See which one (lslocks), and try again.",
            )
        yield
    finally:
        if fd >= 0:
            os.close(fd)


def unreadable(what: str, error: OSError) -> BootError:
    return BootError("uboot-env-unreadable", what, f"it can't be read ({error.strerror})", mend_of(error))


def _mode(path: str) -> int:
    """That of the file, or of the one that it is a second copy of: there may be passwords in it."""
    for known in (path, path.removesuffix(BACKUP_SUFFIX)):
        if os.path.exists(known):
            return stat.S_IMODE(os.stat(known).st_mode)
    return 0o600


def _overwritten(copy: Copy, data: bytes, kind: Kind) -> bool:
    """Write in place, where a cut can't do harm: a copy that does not count, or within a sector. On FAT always, since a
    cut during a rename can lose both names there; the second copy is whole then.

    The first sector, with the checksum and normally with all that changes, comes last.
    """
    try:
        fd = os.open(copy.path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if kind == "file" and durable.filesystem_magic(fd) != durable.FAT_MAGIC:
            return False
        status = os.fstat(fd)
        if copy.offset == 0 and stat.S_ISREG(status.st_mode) and status.st_size < len(data):
            return False
        head, rest = data[: copy.first_sector], data[copy.first_sector :]
        behind = copy.offset + len(head)
        if rest and os.pread(fd, len(rest), behind) != rest:
            durable.overwrite(fd, behind, rest)
        durable.overwrite(fd, copy.offset, head)
    finally:
        os.close(fd)
    return True
