"""Waits for the lock of an open file or disk (flock(2)), which other programs respect as well."""

from __future__ import annotations

import fcntl
import time


def lock(fd: int, seconds: float) -> bool:
    """Whether it is ours now; it is not when another program has kept it for so long. Its end comes with that of `fd`.

    Raises OSError.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
