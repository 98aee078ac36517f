"""Folders of the vendor (/usr/lib) and of the administrator (/etc), where the latter can replace and mask files."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from health.rootdir import below

NULL_DEVICE = os.makedev(1, 3)
"""null(4)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in such a folder: `path` inside the root, `outside` where it really lies."""

    path: str
    outside: str
    maskable: bool


def names_in(root: str, path: str) -> list[str]:
    """The names in a folder, but for hidden ones; none when it is not there. Raises OSError."""
    try:
        return [name for name in os.listdir(below(root, path)) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def is_mask(root: str, entry: Entry) -> bool:
    """Whether it is empty, or a symbolic link to /dev/null, as with systemd's drop-ins."""
    try:
        if os.path.islink(entry.outside) and os.readlink(entry.outside) == "/dev/null":
            return True
        status = os.stat(below(root, entry.path))
    except OSError:
        return False
    empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return empty or (stat.S_ISCHR(status.st_mode) and status.st_rdev == NULL_DEVICE)


def in_effect(root: str, vendor: str, administrator: str) -> Iterator[Entry]:
    """What is in both, in order of file name (by bytes), without what is masked. Raises OSError."""
    entries: dict[str, Entry] = {}
    for base in (vendor, administrator):
        for name in names_in(root, base):
            entries[name] = Entry(f"{base}/{name}", os.path.join(below(root, base), name), base == administrator)
    for name in sorted(entries, key=os.fsencode):
        if not (entries[name].maskable and is_mask(root, entries[name])):
            yield entries[name]
