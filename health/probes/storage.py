"""File systems: their room, and how they are mounted."""

import os
from dataclasses import dataclass
from typing import ClassVar

from health import keys
from health.check import Attempt
from health.mounts import read_mounts
from health.probes import Surroundings, cause
from health.rootdir import below

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def _size(count: int, *, up: bool = False) -> str:
    """Such as "38.1 MB", rounded down or else `up`: so what is there never looks like what is wanted, which is more."""
    unit, name = next(((each, name) for each, name in _UNITS if count >= each), (0, ""))
    if not unit:
        return f"{count} bytes"
    tenths = -(-10 * count // unit) if up else 10 * count // unit
    return f"{tenths // 10}.{tenths % 10} {name}"


@dataclass(frozen=True, slots=True)
class DiskSpaceProbe:
    """The file system of `path` must have at least this much room for unprivileged processes."""

    type: ClassVar[str] = "disk-space"
    path: str
    free_bytes: int | None = None
    free_percent: float | None = None
    free_inodes_percent: float | None = None

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        try:
            status = os.statvfs(below(around.root, self.path))
        except OSError as error:
            return Attempt("fail", f"{self.path}: {cause(error)}")
        free = status.f_bavail * status.f_frsize
        percent = 100 * status.f_bavail / status.f_blocks if status.f_blocks else 100.0
        # File systems that make inodes as they need them (btrfs, FAT) report none at all.
        inodes = 100 * status.f_favail / status.f_files if status.f_files else 100.0
        told = f"{self.path} has {_size(free)} ({percent:.1f} %) and {inodes:.1f} % of the inodes free"
        short = []
        if self.free_bytes is not None and free < self.free_bytes:
            short.append(f"{_size(self.free_bytes, up=True)} wanted")
        short += [
            f"{wanted:g} {unit} wanted"
            for has, wanted, unit in (
                (percent, self.free_percent, "%"),
                (inodes, self.free_inodes_percent, "% of the inodes"),
            )
            if wanted is not None and has < wanted
        ]
        return Attempt("fail", f"{told}; {', '.join(short)}") if short else Attempt("pass", told)


@dataclass(frozen=True, slots=True)
class MountProbe:
    """`path` must be a mount point, with all of `options` in effect and, if given, of type `fstype`."""

    type: ClassVar[str] = "mount"
    path: str
    options: tuple[str, ...] = ()
    fstype: str | None = None

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        mount = read_mounts(around.root).get(os.path.normpath(self.path))
        if mount is None:
            return Attempt("fail", f"nothing is mounted on {self.path}")
        told = f"{self.path} is mounted as {mount.fstype} ({','.join(sorted(mount.options))})"
        missing = [option for option in self.options if option not in mount.options]
        if missing:
            return Attempt("fail", f"{told}, without {', '.join(missing)}")
        if self.fstype not in (None, mount.fstype):
            return Attempt("fail", f"{told}, not as {self.fstype}")
        return Attempt("pass", told)


_ROOM = {
    "free_bytes": keys.whole(0, 2**63 - 1),
    "free_percent": keys.number(0, 100),
    "free_inodes_percent": keys.number(0, 100),
}

TYPES = {
    DiskSpaceProbe.type: keys.Type(
        DiskSpaceProbe, {"path": keys.path, **_ROOM}, needed=("path",), one_of=tuple(_ROOM)
    ),
    MountProbe.type: keys.Type(
        MountProbe, {"path": keys.path, "options": keys.texts, "fstype": keys.text}, needed=("path",)
    ),
}
