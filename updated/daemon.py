"""The daemon: the engine with bus, metrics, service manager and signals; and one cycle of it without them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootctl.settings import ConfigError
from updated.config import Settings, read_settings
from updated.core import machine
from updated.core.errors import UpdatedError
from updated.core.state import Phase
from updated.core.status import summary
from updated.engine import TICK_SECONDS, Engine
from updated.notify import notify, set_up_log, watchdog_seconds

if TYPE_CHECKING:
    from updated.bus import Bus

log = logging.getLogger("updated")

BUS_RETRY_SECONDS = 30.0
# Exit statuses; packaging/doc documents them.
DONE, FAILED, USAGE, WAITING = 0, 1, 2, 4


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Holds the node's lock. Raises `UpdatedError` ("already-running")."""
    path = settings.state("lock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpdatedError(
                "already-running", "this node", "is looked after by another process",
                "Use updatectl, or end the other one: systemctl stop updated.",
            ) from None
        yield


def main(root: str, *, once: bool) -> int:
    """Runs the daemon, or one cycle. The exit status is one of those above."""
    try:
        settings = read_settings(root)
        set_up_log(settings.log_level)
        with only_one(settings):
            return asyncio.run(_once(settings) if once else _serve(settings))
    except (ConfigError, UpdatedError) as error:
        sys.stderr.write(f"updated: {error}\n")
        return USAGE if isinstance(error, ConfigError) or error.code == "bad-config" else FAILED
    except OSError as error:
        sys.stderr.write(f"updated: {error.filename or 'the state directory'}: {error.strerror}. Mend it.\n")
        return FAILED


async def _once(settings: Settings) -> int:
    """Check, fetch, seal, arm; no reboot, no bus. Ends when the node is at rest."""
    by_hand = dataclasses.replace(settings.policy, reboot_automatically=False)
    engine = Engine(dataclasses.replace(settings, policy=by_hand))
    work = asyncio.create_task(engine.run())
    try:
        engine.start()
        await engine.rest()
        if engine.state.phase is not Phase.TRIAL:
            refusal = engine.request(machine.CheckRequested, by="updated --once")
            if refusal is not None:
                raise refusal
        await engine.rest()
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    sys.stdout.write(summary(engine.state) + "\n")
    if engine.state.phase is Phase.FAILED or engine.state.error is not None:
        return FAILED
    return WAITING if engine.state.phase in (Phase.WAITING, Phase.TRIAL) else DONE


async def _serve(settings: Settings) -> int:
    # Only the daemon needs them, and `updated --once` must work without a bus.
    from updated.bus import Bus
    from updated.metrics import Metrics, serve

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    engine = Engine(settings)
    metrics = Metrics()
    bus = Bus(engine.request)
    engine.listeners += [metrics, bus]
    stop_metrics = serve(metrics, settings.metrics_listen)
    loop.add_signal_handler(signal.SIGHUP, _reload, engine)
    tasks = [
        asyncio.create_task(engine.run(), name="engine"),
        asyncio.create_task(_keep_bus(bus, engine), name="bus"),
        asyncio.create_task(_keep_time(engine), name="time"),
        asyncio.create_task(stopping.wait(), name="signal"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        notify("STOPPING=1")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        bus.disconnect()
        stop_metrics()
    return DONE


async def _keep_time(engine: Engine) -> None:
    engine.start()
    notify(f"READY=1\nSTATUS={summary(engine.state)}")
    interval = min(TICK_SECONDS, watchdog_seconds() or TICK_SECONDS, max(engine.settings.policy.interval / 4, 0.2))
    while True:
        engine.tick()
        notify(f"WATCHDOG=1\nSTATUS={summary(engine.state)}")
        await asyncio.sleep(interval)


async def _keep_bus(bus: Bus, engine: Engine) -> None:
    """The node is looked after without a bus as well; it is taken up when it comes."""
    told = False
    while True:
        try:
            await bus.connect(engine.document())
        except UpdatedError as error:
            if error.code != "unreachable":
                raise
            if not told:
                log.warning("%s", error)
                told = True
            await asyncio.sleep(BUS_RETRY_SECONDS)
            continue
        await bus.lost()
        raise UpdatedError("unreachable", "the system bus", "was lost", "systemd starts the daemon again.")


def _reload(engine: Engine) -> None:
    notify("RELOADING=1")
    try:
        engine.reload(read_settings(engine.settings.root))
        log.info("the configuration was read again")
    except (ConfigError, UpdatedError) as error:
        log.error("the configuration stays as it was: %s", error)
    notify("READY=1")
