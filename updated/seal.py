"""The child that says yes or no: verifies the metadata again from disk, reads the slot back, and compares.

It has no network code. It trusts only the pinned root and its own store, and nothing that `fetch` said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from updated.core.errors import UpdatedError
from updated.core.state import Target
from updated.directory import DirectorySource
from updated.readback import digest
from updated.task import ProgressReport, Task
from updated.trust import Clock, Trust
from updated.verified import check_target, urgent


def seal(task: Task) -> Mapping[str, Any]:
    """Succeeds only when each region holds, byte for byte, what is signed for the target. Raises `UpdatedError`."""
    if task.target is None:
        raise UpdatedError("internal", "the task", "names no release", "Report it.")
    source = DirectorySource(task.export)
    clock = Clock(task.system_time, task.built)
    pinned = task.root_of_trust.encode()
    trust = Trust(source, task.store, pinned, clock, grace=task.grace, root_path=task.root_path)
    if task.floor:
        trust.raise_release_floor(task.floor)
    trust.refresh()
    release = check_target(trust, task, task.target)
    trust.forget_other_targets()
    for name, component in release.components.items():
        region = task.regions[name]
        if not region.fits(component.size):
            raise _differs(task.target, name, f"has another length than the {component.size} bytes that are signed")
        found = digest(region, component.size, ProgressReport(name))
        if found != component.sha256:
            cause = f"has the SHA-256 {found[:16]}… where {component.sha256[:16]}… is signed"
            raise _differs(task.target, name, cause)
    return {
        "notes": list(trust.notes), "expired": trust.expired(), "urgent": urgent(trust, task, task.target.manifest),
    }  # fmt: skip


def _differs(target: Target, name: str, cause: str) -> UpdatedError:
    return UpdatedError(
        "slot-differs", f"component {name} in slot {target.slot}", cause,
        "It is not booted; the next try compares and mends it. If it stays so, the disk is failing.",
    )
