"""The folder of cached metadata: its lock, what is left over in it, and files below it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.directory import checked_name

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # of bootctl.durable


def locked(store: str) -> int:
    """An open file that holds the lock of `store`, which is made when it is missing."""
    os.makedirs(store, mode=0o700, exist_ok=True)
    fd = os.open(os.path.join(store, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UpdatedError(
            "already-running", f"the metadata store {store}", "is in use by another process",
            "Wait until that one has ended.",
        ) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def holds(path: str, data: bytes) -> bool:
    """Whether there is a file `path` with exactly this content."""
    try:
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except FileNotFoundError:
        return False


def tidy(store: str) -> None:
    """Removes what a process that was killed while it wrote a file has left of it."""
    for folder in (store, os.path.join(store, "root_history")):
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if _TEMPORARY.fullmatch(name):
                    durable.remove(os.path.join(folder, name))


def write(directory: str, name: str, data: bytes) -> None:
    """Writes the file `name` below `directory`, with its folders. It is not synced: who reads it verifies it."""
    path = os.path.join(directory, checked_name(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
