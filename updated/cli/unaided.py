"""The status when no daemon wrote one that can be read: the slots, straight from the boot reference."""

from __future__ import annotations

import time
from typing import Any

from bootctl.active import running_slot
from bootctl.backend import open_backend
from bootctl.errors import BootError
from bootctl.model import next_boot
from bootctl.settings import BootSettings, ConfigError, boot_settings, load
from updated.core.errors import UpdatedError
from updated.core.status import fault_document


def boot_document(root: str, fault: UpdatedError) -> dict[str, Any] | None:
    """A status document with what the boot reference below `root` says; None when it can't be read.

    `fault` is why there is no status file that can be read.
    """
    try:
        settings = boot_settings(load(root), root)
        view = open_backend(settings).read()
    except (ConfigError, BootError, OSError):
        return None
    running = _running(settings)
    following, _ = next_boot(view)
    slots = [
        {
            "slot": name, "version": None, "state": slot.condition, "tries_left": slot.tries_left,
            "running": name == running, "next": name == following,
        }
        for name, slot in view.slots
    ]  # fmt: skip
    document = fault_document(fault, int(time.time()))
    runs = f"slot {running} runs" if running else "it is not known which slot runs"
    boots = f"slot {following} boots next" if following else "no slot can boot"
    why = "no daemon wrote a status" if fault.code == "daemon-not-running" else "the status file can't be read"
    return {
        **document, "alive": False, "slots": slots,
        "summary": f"{runs}, {boots}; the boot reference says so, since {why}",
    }


def _running(settings: BootSettings) -> str | None:
    try:
        return running_slot(settings)
    except BootError:
        return None
