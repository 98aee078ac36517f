"""Calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# linux/prctl.h.
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

Argument = int | bytes | ctypes.Array[ctypes.c_char]


def prctl(option: int, *arguments: Argument) -> int:
    """prctl(2). Raises OSError, with `prctl` and the option as its file name."""
    return _checked(f"prctl {option}", _libc.prctl(option, *map(_whole, arguments)))


def syscall(name: str, number: int, *arguments: Argument) -> int:
    """syscall(2): the system call `number`. Raises OSError, with `name` as its file name."""
    return _checked(name, _libc.syscall(ctypes.c_long(number), *map(_whole, arguments)))


def capget(header: bytes, data: ctypes.Array[ctypes.c_char]) -> None:
    """capget(2). Raises OSError."""
    _checked("capget", _libc.capget(header, data))


def capset(header: bytes, data: bytes) -> None:
    """capset(2). Raises OSError."""
    _checked("capset", _libc.capset(header, data))


def _whole(argument: Argument) -> Argument | ctypes.c_ulong:
    """An integer as the kernel takes it from a variadic call; ctypes would fill but half of the register."""
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result
