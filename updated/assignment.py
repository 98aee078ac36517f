"""What the daemon hands to its children: their task, the account that they run as, and the slot to copy from."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping

from updated import record
from updated.children import account
from updated.config import Settings
from updated.core.errors import UpdatedError
from updated.core.state import State, Target
from updated.core.windows import rate_changes
from updated.disk import Disk
from updated.node import build_time
from updated.region import Region
from updated.task import Connection, Task

log = logging.getLogger("updated")


def make_task(
    settings: Settings, state: State, disk: Disk, system_time: float, store: str, *, any_wave: bool = False,
    target: Target | None = None, regions: Mapping[str, Region] | None = None,
    seeds: Mapping[str, Region] | None = None, imported: int | None = None, connected: bool = True,
) -> Task:
    """The work of a child that keeps its own things in the folder `store`. Raises `UpdatedError`."""
    connection = Connection(
        settings.url, settings.ca_bundle, settings.client_certificate, settings.proxy, settings.lowest_rate,
        settings.mirrors, settings.connections, settings.bandwidth_limit, settings.path,
        rate_changes(settings.bandwidth_limit, settings.rates, int(system_time)),
    )
    return Task(
        store=os.path.join(store, "store"),
        export=settings.state("fetch", "export"),
        root_of_trust=_root_of_trust(settings.root_of_trust),
        root_path=settings.root_of_trust,
        system_time=system_time,
        built=build_time(settings.root),
        channel=settings.policy.followed(state),
        running=state.facts.version,
        floor=state.highest,
        compatible=settings.compatible,
        seed=state.seed,
        wave=settings.policy.wave,
        any_wave=any_wave,
        allow_downgrade=settings.policy.allow_downgrade,
        denied=state.denials,
        held=tuple(sorted({state.facts.version, *state.versions.values()})),
        sizes=disk.component_sizes(state.passive),
        rooms=disk.rooms(state.passive),
        connection=connection if connected else None,
        target=target,
        regions=regions or {},
        seeds=seeds or {},
        grace=settings.grace,
        imported=imported,
        pin=settings.policy.pin.only,
        newest=settings.policy.pin.newest,
    )


def _root_of_trust(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UpdatedError(
            "no-root-of-trust", f"the pinned root metadata {path}", getattr(error, "strerror", None) or str(error),
            "Put the publisher's root.json into the image (releasectl export-root writes it).",
        ) from None


def downloader(settings: Settings) -> tuple[int, int] | None:
    """The downloader's account; its folder is made to belong to it. Raises `UpdatedError`."""
    user = account(settings.fetch_user)
    folder = settings.state("fetch")
    try:
        os.makedirs(folder, mode=0o750, exist_ok=True)
        if user is not None and os.stat(folder).st_uid != user[0]:
            shutil.chown(folder, *user)
    except OSError as error:
        raise record.storage_error(folder, error) from None
    return user


@contextlib.contextmanager
def running_slot(disk: Disk) -> Iterator[Mapping[str, Region]]:
    """The running slot to copy from; without it the update costs more bytes, and is not hindered."""
    with contextlib.ExitStack() as opened:
        try:
            regions: Mapping[str, Region] = opened.enter_context(disk.open_running())
        except UpdatedError as error:
            log.warning("nothing can be copied from the running slot: %s", error)
            regions = {}
        yield regions
