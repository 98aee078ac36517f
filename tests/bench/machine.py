"""What the figures were taken on; nothing that names the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe() -> dict[str, str]:
    """Processor, memory, kernel and distribution."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_field(Path('/proc/meminfo'), 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "kernel": ".".join(platform.release().split("-")[0].split(".")[:3]),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
    }


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"
