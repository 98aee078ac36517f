"""What is mounted where: mountinfo of proc(5), bytes -> values, and which of its lines concern a root directory."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from health.rootdir import below

MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. `options` are those in effect: the mount's own and the file system's, where read-only wins."""

    point: str
    fstype: str
    options: frozenset[str]


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts in order; a line that is not of the format of proc(5) is left out."""
    mounts: list[Mount] = []
    for line in text.split("\n"):
        own, separator, rest = line.partition(" - ")
        fields, about = own.split(" "), rest.split(" ")
        if not separator or len(fields) < 6 or len(about) < 3:
            continue
        options = {*fields[5].split(","), *about[2].split(",")}
        if "ro" in options:
            options.discard("rw")
        mounts.append(Mount(_unescape(fields[4]), about[0], frozenset(options)))
    return tuple(mounts)


def _unescape(field: str) -> str:
    """Space, tab, newline and backslash stand there as \\ and three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def read_mounts(root: str) -> Mapping[str, Mount]:
    """The mounts as seen inside `root`, by mount point; of several on one point the last, which hides the others.

    `root`'s own /proc is read if it has one. The kernel writes mount points as this process sees them, not as one
    inside `root` does: where any lies below `root`, only those count. Raises OSError when neither can be read.
    """
    inside = below(root, MOUNTINFO)
    with open(inside if os.path.exists(inside) else MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        mounts = parse_mountinfo(file.read())
    if root == "/":
        return {mount.point: mount for mount in mounts}
    seen_from_outside = inside != file.name or any(f"{mount.point}/".startswith(f"{root}/") for mount in mounts)
    if not seen_from_outside:
        return {mount.point: mount for mount in mounts}
    return {mount.point[len(root) :] or "/": mount for mount in mounts if f"{mount.point}/".startswith(f"{root}/")}
