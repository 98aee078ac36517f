"""The child that talks to the network: refreshes the metadata, chooses, downloads, checks, and writes.

It runs as an unprivileged user, and gets the passive slot as open file descriptors. Nothing that it says can make a
slot bootable: `seal` verifies all of it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from updated.core.errors import UpdatedError
from updated.core.index import Index
from updated.core.release import Component
from updated.http import HttpSettings, open_source
from updated.install import install
from updated.ports import Source
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
    installed: dict[str, Any] = {}
    for name, component in release.components.items():
        index = _read_index(source, component)
        done = install(source, f"blobs/{component.blob.sha256}", index, task.regions[name], ProgressReport(name))
        installed[name] = dataclasses.asdict(done)
    return {"installed": installed}


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


def _read_index(source: Source, component: Component) -> Index:
    data = source.read(f"blobs/{component.index.sha256}", component.index.length)
    if len(data) != component.index.length or hashlib.sha256(data).hexdigest() != component.index.sha256:
        raise UpdatedError(
            "wrong-digest", "the chunk index", "differs from its signed digest",
            "It is not used. If it stays so, the mirror is damaged: the publisher must mend it.",
        )
    index = Index.parse(data)
    if index.image_size != component.size or index.blob_length != component.blob.length:
        raise UpdatedError(
            "index-invalid", "the chunk index", "does not belong to the image of its release manifest",
            "The publisher must publish the release again.",
        )
    return index


def main(arguments: list[str]) -> int:
    """`updated fetch check|install`, with the task on stdin."""
    works = {"check": check, "install": fetch}
    if len(arguments) != 1 or arguments[0] not in works:
        sys.stderr.write("usage: updated fetch check|install  (the daemon starts it, with the task on stdin)\n")
        return 2
    return run(works[arguments[0]])
