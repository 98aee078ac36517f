"""A component of a slot that is a file, such as a kernel on the EFI system partition, where the loader finds it.

It is written in place, since the boot reference does not lead to it meanwhile, and FAT has no safe rename. It must be a
plain file in the very folder that is configured: no link leads a write elsewhere. A file has no O_EXCL as a block
device has; a lease (fcntl(2), F_SETLEASE) is refused while any process has it open for writing, and tells as much.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.record import storage_error
from updated.region import Region, Room

ROOM_FOR_OTHERS = 256 * 1024
"""Bytes of the file system that are left to others: the loader's entries and environment are written there anew."""


@dataclass(frozen=True, slots=True)
class Space:
    """Of a file: its file system, its length and what it takes there, and what is free there, in bytes."""

    device: int
    length: int
    taken: int
    free: int


class SlotFile:
    """The file `path`, below `root`, of one slot; `running` are the paths of the files of the slot that runs."""

    def __init__(self, root: str, path: str, running: Collection[str] = ()) -> None:
        self._root = root
        self._path = path
        self._running = running
        self._name = os.path.basename(path)

    def space(self) -> Space:
        """What it has, and what is free. Raises `UpdatedError`."""
        with self._folder() as folder:
            system = os.fstatvfs(folder)
            length = taken = 0
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self._name, dir_fd=folder, follow_symlinks=False)
                length, taken = found.st_size, found.st_blocks * 512
            return Space(os.fstat(folder).st_dev, length, taken, system.f_bavail * system.f_frsize)

    def open_running(self) -> Region:
        """For reading. Raises `UpdatedError` ("slot-missing", "disk-error")."""
        with self._folder() as folder:
            return self._region(self._open(folder, os.O_RDONLY))

    def open_passive(self, *, most: int | None = None) -> Region:
        """For this program alone; with `most`, for writing: it is made when it is missing, and may have so many bytes.

        Raises `UpdatedError`: "slot-missing", "slot-running", "slot-in-use", "disk-full", "disk-error".
        """
        with self._folder() as folder:
            if most is not None:
                self._make(folder)
            self._refuse_other_users(folder)
            if most is None:
                return self._region(self._open(folder, os.O_RDONLY))
            return Region(self._open(folder, os.O_RDWR), 0, most, whole=True)

    def check(self) -> None:
        """Raises what `open_passive` would raise, and changes nothing."""
        with self._folder() as folder:
            if self._is_there(folder):
                self._refuse_other_users(folder)
                os.close(self._open(folder, os.O_RDWR))
            elif not os.access(".", os.W_OK, dir_fd=folder):
                raise self._not_writable()

    def settle(self) -> None:
        """Returns when the loader would find the file with all its bytes: it replays no journal, and the entry of a new
        file on FAT has its length only when the file system was synced. Raises `UpdatedError` ("disk-error")."""
        try:
            durable.sync_filesystem_of(self._path)
        except OSError as error:
            raise storage_error(f"the file {self._path}", error) from None

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        path = os.path.dirname(self._path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise UpdatedError("slot-missing", f"the folder {path}", "is not there", _MOUNT) from None
        except OSError as error:
            raise storage_error(f"the folder {path}", error) from None
        try:
            self._refuse_elsewhere(fd, path)
            yield fd
        except OSError as error:
            if error.errno == errno.EROFS:
                raise self._not_writable() from None
            raise storage_error(f"the file {self._path}", error) from None
        finally:
            os.close(fd)

    def _not_writable(self) -> UpdatedError:
        return UpdatedError(
            "disk-error", f"the folder {os.path.dirname(self._path)}", "can't be written here",
            "Mount it for writing, and name it as ReadWritePaths= of updated.service. With errors in it, a file system "
            "becomes read-only by itself: look at the kernel log.",
        )

    def _refuse_elsewhere(self, fd: int, path: str) -> None:
        real = os.path.realpath(path)
        if real != os.path.normpath(os.path.join(os.path.realpath(self._root), os.path.relpath(path, self._root))):
            raise UpdatedError(
                "slot-missing", f"the folder {path}", f"is a symbolic link, or lies behind one: it is {real}",
                "Name the folder itself in [disk] files.",
            )
        if self._root == os.sep and os.fstat(fd).st_dev == os.stat(os.sep).st_dev:
            raise UpdatedError(
                "slot-missing", f"the folder {path}", "lies in the running slot, which is never written", _MOUNT
            )

    def _is_there(self, folder: int) -> bool:
        try:
            os.stat(self._name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _make(self, folder: int) -> None:
        if not self._is_there(folder):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(self._name, flags, 0o600, dir_fd=folder))
            durable.sync_fd(folder)

    def _open(self, folder: int, flags: int) -> int:
        """The open file, a plain one."""
        try:
            # A pipe would let the opener wait.
            fd = os.open(self._name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            raise UpdatedError(
                "slot-missing", f"the file {self._path}", "is not there",
                "The next update writes that of the passive slot; put that of the running one there.",
            ) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._no_plain_file() from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._no_plain_file()
        return fd

    def _no_plain_file(self) -> UpdatedError:
        return UpdatedError("slot-missing", f"the file {self._path}", "is no plain file", "Remove it.")

    def _refuse_other_users(self, folder: int) -> None:
        fd = self._open(folder, os.O_RDONLY)
        try:
            for path in self._running:
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.stat(path)):
                        raise UpdatedError(
                            "slot-running", f"the file {self._path}", f"is that of the running slot, {path}",
                            "Remove this name of it: it is a link.",
                        )
            try:
                # Whoever opens it meanwhile has a signal sent to us: SIGIO would end this process, SIGURG does not.
                fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            except BlockingIOError:
                raise UpdatedError(
                    "slot-in-use", f"the file {self._path}", "is open for writing in another process",
                    "End it (fuser -v tells which one); then the update goes on by itself.",
                ) from None
            except OSError:
                pass  # a file system without leases, or a file of somebody else's
        finally:
            os.close(fd)

    def _region(self, fd: int) -> Region:
        return Region(fd, 0, os.fstat(fd).st_size, whole=True)


_MOUNT = "Mount the partition that it lies on, usually the EFI system partition, and make the folder there."


def rooms(files: Mapping[str, SlotFile]) -> tuple[Room, ...]:
    """What `files`, by component, can have: what they have, and what is free, once for each file system.

    Raises `UpdatedError`.
    """
    shared: dict[int, dict[str, Space]] = {}
    for name, file in files.items():
        space = file.space()
        shared.setdefault(space.device, {})[name] = space
    return tuple(Room(tuple(spaces), _most(list(spaces.values()))) for spaces in shared.values())


def _most(spaces: list[Space]) -> int:
    free = min(space.free for space in spaces) - ROOM_FOR_OTHERS
    return max(sum(space.length for space in spaces), sum(space.taken for space in spaces) + free, 0)
