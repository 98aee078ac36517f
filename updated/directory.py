"""A repository in a directory: a mounted stick, a mirror, or what another process exported."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from urllib.parse import unquote

from updated.core.errors import UpdatedError
from updated.record import storage_error

PIECE = 256 * 1024
# Without O_NONBLOCK, the open of a pipe would wait for a writer.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MEND_COPY = "Copy the repository there again."
# Of the first header of a tar file (IEEE Std 1003.1, pax).
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257


class DirectorySource:
    """Implements `updated.ports.Source` over the files below `directory`.

    The directory may belong to somebody less trusted: what is not a regular file is refused, and never waited for.
    With `fd`, an open directory, `directory` is only its name in messages.
    """

    def __init__(self, directory: str, fd: int | None = None) -> None:
        self._directory = directory
        self._fd = fd

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        path, fd = self._open(name)
        with open(fd, "rb") as file:
            try:
                data = file.read(most + 1)
            except OSError as error:
                raise storage_error(path, error) from None
        if len(data) > most:
            raise too_long(path, most)
        return data

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`."""
        path, fd = self._open(name)
        with open(fd, "rb", buffering=0) as file:
            position, end = start, start + length
            while position < end:
                try:
                    piece = os.pread(file.fileno(), min(PIECE, end - position), position)
                except OSError as error:
                    raise storage_error(path, error) from None
                if not piece:
                    raise UpdatedError(
                        "truncated", path, f"ends after {position} bytes, and {end} are needed", _MEND_COPY
                    )
                position += len(piece)
                yield piece

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`: there is only this directory."""
        return False

    def _open(self, name: str) -> tuple[str, int]:
        path = os.path.join(self._directory, checked_name(name))
        place = path if self._fd is None else name
        try:
            # A device is not even opened: with some, that alone has effects.
            if not stat.S_ISREG(os.stat(place, dir_fd=self._fd).st_mode):
                raise _no_file(path)
            fd = os.open(place, _OPEN_FLAGS, dir_fd=self._fd)
        except (FileNotFoundError, NotADirectoryError):
            raise UpdatedError("not-found", path, "is not there", self._mend()) from None
        except PermissionError:
            raise _not_readable(path) from None
        except OSError as error:
            raise storage_error(path, error) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _no_file(path)
        return path, fd

    def _mend(self) -> str:
        """What helps where a file is missing: perhaps there is no repository at all."""
        if self._fd is None and not os.path.isdir(self._directory):
            return f"There is no folder {self._directory}: mount or copy the repository there, or correct its path."
        if not _holds_metadata(self._directory, self._fd):
            return f"{self._directory} holds no repository (no folder metadata): copy it there, or correct its path."
        return _MEND_COPY


def folder_of(url: str) -> str | None:
    """The directory that an absolute path, or a `file:` URL (RFC 8089) of this machine, names; None for others."""
    if url.startswith("/"):
        return url
    for prefix in ("file:///", "file://localhost/"):
        if url.startswith(prefix):
            return "/" + unquote(url.removeprefix(prefix))
    return None


def checked_name(name: str) -> str:
    """`name`, when it is a relative path that stays within the repository.

    Raises `UpdatedError` ("not-found"): names come from signed metadata, and still never lead elsewhere.
    """
    if "\0" in name or any(segment in ("", ".", "..") for segment in name.split("/")):
        raise UpdatedError(
            "not-found", f"the name {name[:200]!r}", "leads out of the repository",
            "The publisher must rename it.",
        )
    return name


def open_place(path: str) -> int:
    """The open directory or regular file `path`, which is not waited for.

    Raises `UpdatedError`: "not-found", "bad-repository", "disk-error".
    """
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise UpdatedError(
            "not-found", path, "is not there", "Mount the medium, or copy a repository or a bundle there."
        ) from None
    except PermissionError:
        raise _not_readable(path) from None
    except OSError as error:
        raise storage_error(path, error) from None
    if not stat.S_ISREG(mode := os.fstat(fd).st_mode) and not stat.S_ISDIR(mode):
        os.close(fd)
        raise UpdatedError(
            "bad-repository", path, "is neither a directory nor a regular file", "Name a repository or a bundle."
        )
    return fd


def open_import(path: str) -> int:
    """As `open_place`, for what a person names: only what looks like a repository or a bundle.

    Raises `UpdatedError`: "not-found", "bad-repository", "disk-error".
    """
    fd = open_place(path)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            if not _holds_metadata(path, fd):
                raise UpdatedError(
                    "bad-repository", path, "is a directory without a repository: there is no folder metadata in it",
                    "Name the directory that has metadata, targets and blobs in it.",
                )
        elif os.pread(fd, len(_TAR_MAGIC), _TAR_MAGIC_AT) != _TAR_MAGIC:
            raise UpdatedError(
                "bad-repository", path, "is no bundle", "Name a file that 'releasectl bundle' made, as it made it."
            )
    except OSError as error:
        os.close(fd)
        raise storage_error(path, error) from None
    except UpdatedError:
        os.close(fd)
        raise
    return fd


def _holds_metadata(directory: str, fd: int | None) -> bool:
    try:
        found = os.stat("metadata" if fd is not None else os.path.join(directory, "metadata"), dir_fd=fd)
    except PermissionError:
        return True  # that says who reads it
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode)


def _no_file(path: str) -> UpdatedError:
    return UpdatedError("not-found", path, "is not a regular file", _MEND_COPY)


def _not_readable(path: str) -> UpdatedError:
    return UpdatedError(
        "bad-repository", path, "may not be read by the user that looks into it",
        "Let all users read it (chmod -R a+rX, or umask=0022 where it is mounted); or, as root, give a bundle to "
        "'updatectl import': that needs no other rights.",
    )


def too_long(what: str, most: int) -> UpdatedError:
    """The error for a file of more than `most` bytes."""
    return UpdatedError(
        "too-long", what, f"has more than the {most} bytes that are accepted",
        "Check whether this is the right repository; the publisher must publish it again.",
    )
