"""The one exception of this package, and what a person is told of those of the operating system."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class BootError(Exception):
    """A boot reference that can't be read, changed or trusted.

    `code` is a stable kebab-case id for programs; `what` names the thing (a slot, a file, a device), `cause` says what
    is wrong with it, and `mend` what a person can do. `str()` is the message for an operator.
    """

    def __init__(self, code: str, what: str, cause: str, mend: str) -> None:
        super().__init__(code, what, cause, mend)
        self.code = code
        self.what = what
        self.cause = cause
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}. {self.mend}"


def in_words(error: BaseException) -> str:
    """What `str` gives, but for an error of the operating system: the path and the cause, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def mend_of(error: OSError, otherwise: str = "Look at the kernel log for disk errors.") -> str:
    """What a person can do about a failed system call on a file or a disk; `otherwise` where its number tells nothing.

    Whom a file belongs to is looked up.
    """
    match error.errno:
        case errno.EACCES | errno.EPERM:
            if os.geteuid() == 0:
                return "Even root may not do this: look for an attribute (lsattr), a sandbox or a security policy."
            owner = _owner(error.filename)
            return f"Run this as root, or as {owner}, whose file it is." if owner else "Run this as root."
        case errno.ENOSPC | errno.EDQUOT:
            return "Free some space on its file system."
        case errno.EROFS:
            return "Mount its file system for writing."
        case errno.EIO:
            return "Look at the kernel log for disk errors."
        case _:
            return otherwise


def _owner(path: object) -> str | None:
    """The name of somebody else than root and this user."""
    import pwd

    try:
        owner = os.stat(path).st_uid if isinstance(path, str | bytes) else 0
        return pwd.getpwuid(owner).pw_name if owner not in (0, os.geteuid()) else None
    except (OSError, ValueError, KeyError):
        return None


@contextmanager
def naming(what: str, *formats: str) -> Iterator[None]:
    """Errors that name one of `formats` name `what` instead, which has that format."""
    try:
        yield
    except BootError as error:
        if error.what in formats:
            raise BootError(error.code, what, error.cause, error.mend) from error
        raise
