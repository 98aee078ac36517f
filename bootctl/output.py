"""The end of a program whose standard output could not be written: one clear line, and the status of a failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

FAILED = 1


def written(program: str, run: Callable[[], int]) -> int:
    """The status that `run` gives, or `FAILED` where not all that it printed could be written.

    The reason is told on standard error, but for a reader that went away: who closes a pipe knows it.
    """
    try:
        status = run()
    except SystemExit:
        if _flushed(program):
            raise
        return FAILED
    except OSError as error:
        # An output that is not buffered fails at once; an error of a file would name it.
        if error.filename is not None and _flushed(program):
            raise
        return _lost(program, error)
    return status if _flushed(program) else FAILED


def _flushed(program: str) -> bool:
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        _lost(program, error)
        return False
    return True


def _lost(program: str, error: OSError) -> int:
    # What is left in the buffer would fail once more at the end of the process.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        from bootctl.errors import mend_of

        print(f"{program}: the output: {error.strerror or error}. {mend_of(error)}", file=sys.stderr)
    return FAILED
