"""Whether processes live, and waiting for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

Found = TypeVar("Found")

# Before a command: what a shell starts in the background ignores SIGINT, and so does all that it starts.
INTERRUPTIBLE: Final = ("env", "--default-signal=INT")


def lives(pid: int) -> bool:
    """Whether there is such a process that still does something: a dead one waits for who started it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # proc(5): the name is in parentheses, and may have some in it. Nobody may collect an orphan in a container.
    return stat.rpartition(") ")[2][0] not in "ZX"


def wait_for(found: Callable[[], Found], seconds: float = 30) -> Found:
    """The first answer of `found` that is true; its last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer
