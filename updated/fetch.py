"""The child that talks to the network: refreshes the metadata, chooses, downloads, checks, and writes.

It runs as an unprivileged user, and gets the passive slot as open file descriptors. Nothing that it says can make a
slot bootable: `seal` verifies all of it again.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any

from updated.core.errors import UpdatedError
from updated.core.release import MAX_MANIFEST_LENGTH, Component, Release, release_target
from updated.http import HttpSettings, open_source
from updated.indexes import Indexes
from updated.install import install
from updated.ports import Source
from updated.region import Region
from updated.seed import Seed
from updated.task import ProgressReport, Task, run
from updated.trust import Clock, Trust
from updated.verified import check_target, choose_release, read_release, withdrawn


def check(task: Task) -> Mapping[str, Any]:
    """Refreshes the metadata, and says what the channel has for this node."""
    trust, _ = _begin(task)
    choice = choose_release(trust, task)
    offer = None
    if choice.entry is not None:
        release = read_release(trust, choice.entry, task)
        size = sum(component.blob.length for component in release.components.values())
        offer = {"version": release.version.text, "manifest": choice.entry.manifest, "size": size}
    return {
        "offer": offer,
        "withdrawn": withdrawn(trust, task),
        "reasons": [dataclasses.asdict(reason) for reason in choice.reasons],
        "expiries": trust.expiries(),
        "notes": list(trust.notes),
    }


def fetch(task: Task) -> Mapping[str, Any]:
    """Writes the target into the open regions, and leaves the metadata for `seal` in the export folder."""
    if task.target is None:
        raise UpdatedError("internal", "the task", "names no release", "Report it.")
    trust, source = _begin(task)
    release = check_target(trust, task, task.target)
    os.makedirs(task.export, exist_ok=True)
    trust.export(task.export)
    indexes = Indexes(source, os.path.join(os.path.dirname(task.store), "indexes"))
    running = _running_release(trust, task)
    installed: dict[str, Any] = {}
    for name, component in release.components.items():
        index = indexes.read(component)
        seed = None
        if running is not None and name in running.components and name in task.seeds:
            seed = _seed(indexes, running.components[name], task.seeds[name])
        blob = f"blobs/{component.blob.sha256}"
        done = install(source, blob, index, task.regions[name], ProgressReport(name), seed)
        installed[name] = dataclasses.asdict(done)
    wanted = [release] if running is None else [release, running]
    indexes.keep({part.index.sha256 for each in wanted for part in each.components.values()})
    return {"installed": installed}


def _running_release(trust: Trust, task: Task) -> Release | None:
    """The manifest of the release that runs, if the repository still has it: its chunks need no download."""
    try:
        return Release.parse(trust.target(release_target(task.running), MAX_MANIFEST_LENGTH))
    except UpdatedError:
        return None


def _seed(indexes: Indexes, component: Component, region: Region) -> Seed | None:
    try:
        return Seed(indexes.read(component), region)
    except UpdatedError:
        return None  # without it the update costs more bytes, and is not hindered


def _begin(task: Task) -> tuple[Trust, Source]:
    if task.connection is None:
        raise UpdatedError("internal", "the task", "names no repository", "Report it.")
    connection = task.connection
    source = open_source(
        connection.url,
        HttpSettings(
            lowest_rate=connection.lowest_rate,
            proxy=connection.proxy or None,
            ca_bundle=connection.ca_bundle or None,
            client_certificate=connection.client_certificate or None,
        ),
    )
    trust = Trust(source, task.store, task.root_of_trust.encode(), Clock(task.system_time, task.built))
    if task.confirmed:
        trust.raise_release_floor(task.running)
    trust.refresh()
    return trust, source


def main(arguments: list[str]) -> int:
    """`updated fetch check|install`, with the task on stdin."""
    works = {"check": check, "install": fetch}
    if len(arguments) != 1 or arguments[0] not in works:
        sys.stderr.write("usage: updated fetch check|install  (the daemon starts it, with the task on stdin)\n")
        return 2
    return run(works[arguments[0]])
