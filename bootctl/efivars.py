"""EFI variables, as the files of efivarfs.

A file NAME-GUID holds four bytes of attributes, little endian, and then the data (Linux,
Documentation/filesystems/efivarfs.rst and fs/efivarfs; what the attributes mean: UEFI Specification, section 8.2). The
kernel wants all of it in one write, protects variables that a machine may not start without by the immutable flag, and
ends reads with EINTR when somebody else than root reads too often. efibootmgr accepts an ordinary folder of such files
as well (EFIVARFS_PATH), and so does this module.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from bootctl import durable
from bootctl.errors import BootError, mend_of

# UEFI Specification, section 3.3; systemd, Boot Loader Interface.
GLOBAL_GUID: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOADER_GUID: Final = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

# Kept without power, and to be seen before and after the start of the system.
NON_VOLATILE: Final = 7

# statfs(2), f_type.
EFIVARFS_MAGIC: Final = 0xDE5E81E4
SYSFS_MAGIC: Final = 0x62656572

# linux/fs.h: _IOR('f', 1, long), _IOW('f', 2, long), FS_IMMUTABLE_FL.
_LONG: Final = struct.calcsize("l")
_GET_FLAGS: Final = 2 << 30 | _LONG << 16 | ord("f") << 8 | 1
_SET_FLAGS: Final = 1 << 30 | _LONG << 16 | ord("f") << 8 | 2
_IMMUTABLE: Final = 0x10

_ATTRIBUTES: Final = 4
_MOST_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"(.+)-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Variable:
    """The content of an EFI variable."""

    attributes: int
    data: bytes


class EfiVariables:
    """The variables in `folder`. A change is durable when its method returns, and whole or not there after a cut."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, name: str, guid: str) -> Variable | None:
        """The variable, or None when there is none of this name.

        Raises BootError `efi-variables-missing`, `efi-unreadable`, `efi-corrupt`.
        """
        path = self._path(name, guid)
        try:
            content = _content(path)
        except (FileNotFoundError, NotADirectoryError):
            self._magic()
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(content) < _ATTRIBUTES:
            raise BootError(
                "efi-corrupt",
                path,
                f"it has {len(content)} bytes, which are not even its attributes",
                "Delete this variable, and set it anew.",
            )
        return Variable(int.from_bytes(content[:_ATTRIBUTES], "little"), content[_ATTRIBUTES:])

    def write(self, name: str, guid: str, data: bytes, attributes: int = NON_VOLATILE) -> None:
        """Set the variable to `data`, which may not be empty: to the firmware that would mean to delete it.

        Nothing is written when it is the same already, since the firmware's memory wears out. Raises BootError
        `efi-variables-missing`, `efi-unreadable`, `efi-not-writable`.
        """
        if self._holds(name, guid, Variable(attributes, data)):
            return
        path = self._path(name, guid)
        content = attributes.to_bytes(_ATTRIBUTES, "little") + data
        efivarfs = self._magic() == EFIVARFS_MAGIC
        try:
            with _changeable(path):
                if efivarfs:
                    durable.write_variable(path, content)
                else:
                    durable.write_file(path, content)
        except OSError as error:
            raise _not_writable(path, error) from error

    def delete(self, name: str, guid: str) -> None:
        """Remove the variable; it is no error when it is missing.

        Raises BootError `efi-variables-missing`, `efi-not-writable`.
        """
        self._magic()
        path = self._path(name, guid)
        try:
            with _changeable(path):
                durable.remove(path)
        except OSError as error:
            raise _not_writable(path, error) from error

    def names(self) -> list[tuple[str, str]]:
        """(name, GUID) of each variable, sorted. Raises BootError `efi-variables-missing`, `efi-unreadable`."""
        self._magic()
        try:
            files = os.listdir(self._folder)
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        return sorted((match[1], match[2]) for match in map(_NAME.fullmatch, files) if match)

    def _path(self, name: str, guid: str) -> str:
        return os.path.join(self._folder, f"{name}-{guid}")

    def _holds(self, name: str, guid: str, variable: Variable) -> bool:
        try:
            return self.read(name, guid) == variable
        except BootError as error:
            if error.code == "efi-corrupt":
                return False
            raise

    def _magic(self) -> int:
        """The type of the folder's file system."""
        try:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                magic = durable.filesystem_magic(fd)
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BootError(
                "efi-variables-missing",
                self._folder,
                "there is no such folder: this system was not started by EFI firmware",
                "Start it in EFI mode, or use another backend (backend in the table [boot]).",
            ) from error
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        if magic == SYSFS_MAGIC:
            raise BootError(
                "efi-variables-missing",
                self._folder,
                "efivarfs is not mounted there",
                f"Mount it (mount -t efivarfs efivarfs {self._folder}).",
            )
        return magic


def decode_text(data: bytes) -> str:
    """The text of a variable: UTF-16LE with a NUL at its end, which may be missing. A NUL within it is kept, since it
    separates the items of a list. Raises BootError `efi-corrupt`.
    """
    try:
        return data.decode("utf-16-le").removesuffix("\0")
    except UnicodeDecodeError as error:
        raise BootError(
            "efi-corrupt", "the text of an EFI variable", f"it is no UTF-16 ({error.reason})", "Set the variable anew."
        ) from error


def encode_text(text: str) -> bytes:
    """`text` as the data of a variable: UTF-16LE with a NUL at its end."""
    return f"{text}\0".encode("utf-16-le")


def _content(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # One read, so that it is one state of the variable; after EINTR Python repeats it (PEP 475).
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)


@contextmanager
def _changeable(path: str) -> Iterator[None]:
    """The file has no immutable flag meanwhile, and has it again afterwards."""
    flags = _flags(path)
    if not flags & _IMMUTABLE:
        yield
        return
    _set_flags(path, flags & ~_IMMUTABLE)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            _set_flags(path, flags)


def _flags(path: str) -> int:
    """0 for a file that is missing, or whose file system has no flags."""
    buffer = bytearray(_LONG)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _GET_FLAGS, buffer)
        finally:
            os.close(fd)
    except OSError:
        return 0
    # The kernel fills in an int, whatever the number of the call says.
    return int(struct.unpack_from("I", buffer)[0])


def _set_flags(path: str, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("I", flags))
    finally:
        os.close(fd)


def _unreadable(path: str, error: OSError) -> BootError:
    return BootError("efi-unreadable", path, f"it can't be read ({error.strerror})", mend_of(error))


def _not_writable(path: str, error: OSError) -> BootError:
    return BootError(
        "efi-not-writable",
        path,
        f"it can't be written ({error.strerror})",
        f"{mend_of(error, 'Mount efivarfs for writing.')} When the firmware has no room, delete variables that nobody "
        "needs (such as dump-*).",
    )
