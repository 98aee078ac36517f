"""What is printed, for whoever listens; it never changes what happens."""

import contextlib
import io
import os
import sys


def tell(text: str) -> None:
    """A reader that went away or a full disk must not change the exit status, which may mean a reboot."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """One line on standard error."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)
