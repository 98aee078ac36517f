"""The child that talks to the network: refreshes the metadata, chooses, downloads, checks, and writes.

It runs as an unprivileged user, and gets the passive slot as open file descriptors. Nothing that it says can make a
slot bootable: `seal` verifies all of it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from updated.bundle import open_source_at, open_source_in
from updated.core.errors import UpdatedError
from updated.core.release import MAX_MANIFEST_LENGTH, Component, Release, release_target
from updated.http import HttpSettings
from updated.indexes import Indexes
from updated.install import Line, Local, install
from updated.measured import MeasuredSource
from updated.mirrors import open_mirrors
from updated.patches import read_patch
from updated.ports import Source
from updated.record import storage_error
from updated.seed import Seed
from updated.stored import StoredIndex
from updated.task import Connection, PlanReport, ProgressReport, Task
from updated.trust import Clock, Trust
from updated.verified import check_target, choose_release, read_release, recalled_here, urgent, withdrawn

T = TypeVar("T")
# What a stale or lying place leads to, while it serves every file: only who verifies the files notices.
_FAULTS_OF_A_PLACE = ("metadata-expired", "metadata-rolled-back", "metadata-invalid", "wrong-digest")


def check(task: Task) -> Mapping[str, Any]:
    """Refreshes the metadata, and says what the channel has for this node."""
    # What was handed over need not be looked into again soon: the newest root in it counts now.
    trust, _, found = _look(task, _chosen, root_once_a_day=task.imported is None)
    trust.forget_other_targets()
    return {
        **found, "expiries": trust.expiries(), "lifetimes": trust.lifetimes(), "expired": trust.expired(),
        "notes": list(trust.notes),
    }  # fmt: skip


def _chosen(trust: Trust, task: Task) -> Mapping[str, Any]:
    choice = choose_release(trust, task)
    offer = None
    if choice.entry is not None:
        release = read_release(trust, choice.entry, task)
        size = sum(component.blob.length for component in release.components.values())
        offer = {"version": release.version.text, "manifest": choice.entry.manifest, "size": size}
        offer["urgent"] = urgent(trust, task, choice.entry.manifest)
    reasons = [dataclasses.asdict(reason) for reason in choice.reasons]
    return {
        "offer": offer, "withdrawn": withdrawn(trust, task), "reasons": reasons, "recalled": recalled_here(trust, task)
    }  # fmt: skip


def fetch(task: Task) -> Mapping[str, Any]:
    """Writes the target into the open regions, and leaves the metadata for `seal` in the export folder."""
    target = task.target
    if target is None:
        raise UpdatedError("internal", "the task", "names no release", "Report it.")
    trust, source, release = _look(task, lambda trust, task: check_target(trust, task, target))
    _make_anew(task.export)
    trust.export(task.export)
    line = MeasuredSource(source)
    connections = task.connection.connections if task.connection is not None else 1
    indexes = Indexes(line, os.path.join(os.path.dirname(task.store), "indexes"), connections)
    running = _running_release(trust, task)
    installed: dict[str, Any] = {}
    # What becomes shorter comes first: what becomes longer may need its room.
    growth = {name: task.regions[name].growth(component.size) for name, component in release.components.items()}
    for name, component in sorted(release.components.items(), key=lambda part: growth[part[0]]):
        before = indexes.downloaded
        here = running.components.get(name) if running is not None and name in task.seeds else None
        old = _read(indexes, here) if here is not None else None
        index = indexes.read(component, here, version=release.version.text)
        local = None
        if here is not None and old is not None:
            region = task.seeds[name]
            patch = read_patch(line, component, here, region, index.root.chunk_count)
            local = Local(task.running, Seed(old, region), patch)
        spent = indexes.downloaded - before
        done = install(
            line, f"blobs/{component.blob.sha256}", index, task.regions[name],
            Line(connections, line.latency, line.rate, spent), ProgressReport(name), PlanReport(name), local,
        )  # fmt: skip
        installed[name] = {**dataclasses.asdict(done), "index": spent, "downloaded": spent + done.blob + done.patch}
    wanted = [release] if running is None else [release, running]
    indexes.keep([part for each in wanted for part in each.components.values()])
    return {"installed": installed}


def _make_anew(folder: str) -> None:
    """Makes an empty folder, whatever is there: a downloader that was taken over may have left links and pipes."""
    try:
        if os.path.isdir(folder) and not os.path.islink(folder):
            shutil.rmtree(folder)
        elif os.path.lexists(folder):
            os.unlink(folder)
        os.makedirs(folder)
    except OSError as error:
        raise storage_error(f"the folder {folder}", error) from None


def _running_release(trust: Trust, task: Task) -> Release | None:
    """The manifest of the release that runs, if the repository still has it: its chunks need no download."""
    try:
        return Release.parse(trust.target(release_target(task.running), MAX_MANIFEST_LENGTH))
    except UpdatedError:
        return None


def _read(indexes: Indexes, component: Component) -> StoredIndex | None:
    try:
        return indexes.read(component)
    except UpdatedError:
        return None  # without it the update costs more bytes, and is not hindered


def _look(
    task: Task, read: Callable[[Trust, Task], T], *, root_once_a_day: bool = False
) -> tuple[Trust, Source, T]:
    """The refreshed trust, where images come from, and what `read` found in the manifests.

    When what the places show does not verify or is too old, each is asked alone: none of them keeps the node from what
    another has. Raises `UpdatedError`.
    """
    try:
        return _looked(task, read, root_once_a_day=root_once_a_day)
    except UpdatedError as error:
        if error.code not in _FAULTS_OF_A_PLACE:
            raise
        fault = error
    for connection in _each_first(task):
        alone = dataclasses.replace(task, connection=dataclasses.replace(connection, mirrors=()))
        with contextlib.suppress(UpdatedError):
            trust, _, found = _looked(alone, read)
            return trust, _open_source(dataclasses.replace(task, connection=connection)), found
    raise fault


def _each_first(task: Task) -> Iterator[Connection]:
    """The connection with each of its places as the first one, if there are several."""
    connection = task.connection
    if connection is None or not connection.mirrors or task.imported is not None:
        return
    places = (connection.url, *connection.mirrors)
    for turn in range(len(places)):
        first, *others = places[turn:] + places[:turn]
        yield dataclasses.replace(connection, url=first, mirrors=tuple(others))


def _looked(
    task: Task, read: Callable[[Trust, Task], T], *, root_once_a_day: bool = False
) -> tuple[Trust, Source, T]:
    source = _open_source(task)
    clock = Clock(task.system_time, task.built)
    pinned = task.root_of_trust.encode()
    trust = Trust(source, task.store, pinned, clock, grace=task.grace, root_path=task.root_path)
    try:
        if task.floor:
            trust.raise_release_floor(task.floor)
        trust.refresh(root_once_a_day=root_once_a_day)
        return trust, source, read(trust, task)
    except BaseException:
        trust.close()
        raise


def _open_source(task: Task) -> Source:
    connection = task.connection
    if connection is None:
        raise UpdatedError("internal", "the task", "names no repository", "Report it.")
    if task.imported is not None:
        return open_source_in(task.imported)
    if connection.path:
        return open_source_at(connection.path)
    return open_mirrors(
        (connection.url, *connection.mirrors),
        HttpSettings(
            lowest_rate=connection.lowest_rate,
            proxy=connection.proxy or None,
            ca_bundle=connection.ca_bundle or None,
            client_certificate=connection.client_certificate or None,
            bandwidth_limit=connection.bandwidth_limit,
            bandwidth_changes=connection.bandwidth_changes,
            connections=connection.connections,
        ),
    )
