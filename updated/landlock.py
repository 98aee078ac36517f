"""Landlock (linux/landlock.h): a process gives up all files but those below places that it names."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable

from updated.libc import syscall

# The second version (Linux 5.19) is the first that lets a file be renamed from one folder into another, as python-tuf
# does it.
LEAST_VERSION = 2

# The numbers are the same on all architectures of Python's wheels.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(1, 6))
_MAKE_DIR, _MAKE_REG, _MAKE_SYM, _REFER, _TRUNCATE = (1 << bit for bit in (7, 8, 12, 13, 14))
READ = _READ_FILE | _READ_DIR
# Not among them: to run a program, and to make sockets, pipes and device nodes.
WRITE = (
    READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER | _TRUNCATE
)  # fmt: skip
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
# How many rights there are, by version: all are given up that the kernel knows.
_RIGHTS = {2: 14, 3: 15, 4: 15}
_MOST_RIGHTS = 16
_SCOPES_VERSION = 6
_ABSTRACT_UNIX_SOCKET, _SIGNAL = 1, 2

Place = str | int
"""A path, or an open descriptor of a file or folder."""


def version() -> int:
    """The version of the kernel's Landlock; 0 when it has none, or it is off. Raises OSError."""
    try:
        return syscall("landlock_create_ruleset", _CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def restrict(readable: Iterable[Place], writable: Iterable[Place]) -> None:
    """Leaves this thread, and those that it starts, the files in and below `readable` and `writable`, for good.

    What is open stays open. A path that is not there, or not for this user, is left out. With version 6, processes
    outside can't be signalled any more, nor reached by abstract sockets. Needs `LEAST_VERSION`, and no_new_privs.
    Raises OSError, with the system call as its file name.
    """
    found = version()
    handled = (1 << _RIGHTS.get(found, _MOST_RIGHTS)) - 1
    rules = struct.pack("=Q", handled)
    if found >= _SCOPES_VERSION:
        rules += struct.pack("=QQ", 0, _ABSTRACT_UNIX_SOCKET | _SIGNAL)
    ruleset = syscall("landlock_create_ruleset", _CREATE_RULESET, rules, len(rules), 0)
    try:
        for rights, places in ((READ, readable), (WRITE & handled, writable)):
            for place in places:
                _allow(ruleset, place, rights)
        syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, place: Place, rights: int) -> None:
    if isinstance(place, int):
        _allow_open(ruleset, place, rights)
        return
    try:
        fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # nothing can be done there anyway
    try:
        _allow_open(ruleset, fd, rights)
    finally:
        os.close(fd)


def _allow_open(ruleset: int, fd: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        rights &= _OF_FILES
    syscall("landlock_add_rule", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
