"""Which process it is, beyond its id, which the kernel gives out again; and which boot."""

from __future__ import annotations

import os


def process_start(pid: object) -> int | None:
    """When the process started, in clock ticks since the boot (proc(5), field 22 of stat); None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def boot_id(root: str) -> str:
    """The id that the kernel draws at each boot (random(4)); empty when it can't be read."""
    try:
        with open(os.path.join(root, "proc/sys/kernel/random/boot_id"), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
