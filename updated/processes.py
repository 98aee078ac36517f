"""Which process it is, beyond its id, which the kernel gives out again."""

from __future__ import annotations


def process_start(pid: object) -> int | None:
    """When the process started, in clock ticks since the boot (proc(5), field 22 of stat); None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
