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
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bootctl.errors import in_words
from bootctl.settings import ConfigError, below
from updated.config import LOCK, STATE_DIRECTORY, Settings, read_settings
from updated.core import events
from updated.core.errors import UpdatedError
from updated.core.selection import NOTHING_TO_INSTALL
from updated.core.state import Phase
from updated.directory import open_import
from updated.engine import TICK_SECONDS, Engine
from updated.last_word import leave_word
from updated.notify import notify, set_up_log, watchdog_seconds
from updated.record import storage_error
from updated.surroundings import Lookout

if TYPE_CHECKING:
    from updated.bus.service import Bus
    from updated.metrics import Metrics

log = logging.getLogger("updated")

# How late a change by hand may be noticed while nothing goes on.
REST_SECONDS = 30.0
AT_REST = (Phase.IDLE, Phase.WAITING, Phase.STAGED, Phase.FALLEN_BACK, Phase.FAILED)
# Exit statuses; packaging/doc documents them.
DONE, FAILED, USAGE, WAITING = 0, 1, 2, 4


@contextlib.contextmanager
def only_one(root: str) -> Iterator[None]:
    """Holds the lock of the node below `root`. Raises `UpdatedError` ("already-running") and OSError."""
    path = os.path.join(below(root, STATE_DIRECTORY), LOCK)
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


def main(root: str, *, once: bool, bundle: str | None = None) -> int:
    """Runs the daemon, or one cycle, which imports `bundle` if there is one. The exit status is one of those above.

    Raises KeyboardInterrupt when a person, or SIGTERM with `once`, ends it.
    """
    try:
        settings = read_settings(root)
        set_up_log(settings.log_level)
        with only_one(root):
            return asyncio.run(_once(settings, bundle) if once else _serve(settings))
    except ConfigError as error:
        place = error.file if error.line is None else f"{error.file}:{error.line}"
        what = place if error.key is None else f"{place}: {error.key}"
        fault = UpdatedError("bad-config", what, error.cause, error.mend)
    except UpdatedError as error:
        fault = error
    except OSError as error:
        fault = storage_error(error.filename or "the state directory", error)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except Exception as error:
        log.exception("the daemon")
        text = f"{type(error).__name__}: {in_words(error)}"
        fault = UpdatedError("internal", "the daemon", text, "Report it, with the log.")
    sys.stderr.write(f"updated: {fault}\n")
    if fault.code != "already-running":
        _leave_word(root, fault)
    return USAGE if fault.code == "bad-config" else FAILED


def _leave_word(root: str, fault: UpdatedError) -> None:
    """Lets `updatectl status` say why nothing runs. A process that does run keeps its own status file."""
    if not os.path.isdir(root):
        return
    with contextlib.suppress(OSError, UpdatedError), only_one(root):
        leave_word(root, fault, int(time.time()))


async def _once(settings: Settings, bundle: str | None) -> int:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    by_hand = dataclasses.replace(settings.policy, reboot_automatically=False)
    engine = Engine(dataclasses.replace(settings, policy=by_hand))
    if bundle is None:
        return await one_cycle(engine)
    try:
        descriptor = open_import(bundle)
    except UpdatedError as error:
        # Not raised: it is the request that failed, and nothing that a start needs.
        sys.stderr.write(f"updated: {error}\n")
        leave_word(settings.root, error, int(time.time()), "could not import")
        return FAILED
    try:
        return await one_cycle(engine, descriptor)
    finally:
        os.close(descriptor)


async def one_cycle(engine: Engine, descriptor: int | None = None) -> int:
    """Check, fetch, seal, arm; no bus. Ends when the node is at rest, with the exit status.

    With `descriptor`, an open bundle or directory, the release comes from there.
    """
    work = asyncio.create_task(engine.run())
    try:
        engine.start()
        await _rest(engine, work)
        refusal = engine.storage_fault or _ask(engine, descriptor)
        if refusal is not None:
            # Not raised: that would tell in the status that the daemon could not start.
            sys.stderr.write(f"updated: {refusal}\n")
            return FAILED
        await _rest(engine, work)
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    sys.stdout.write(engine.summary() + "\n")
    state = engine.state
    if state.phase is Phase.FAILED or state.error is not None or engine.storage_fault is not None:
        return FAILED
    if state.phase is Phase.STAGED:
        return DONE
    stopped = [reason for reason in state.reasons if reason.code not in NOTHING_TO_INSTALL]
    sys.stdout.writelines(f"  {reason.code}: {reason.text}\n" for reason in stopped)
    refused = stopped and descriptor is not None
    return WAITING if refused or state.phase in (Phase.WAITING, Phase.TRIAL) else DONE


def _ask(engine: Engine, descriptor: int | None) -> UpdatedError | None:
    if descriptor is not None:
        return engine.request(events.ImportRequested, by="updated --once", descriptor=descriptor)
    if engine.state.phase is Phase.TRIAL:
        return None
    return engine.request(events.CheckRequested, by="updated --once")


async def _rest(engine: Engine, work: asyncio.Task[None]) -> None:
    """Returns when nothing is left to do; raises what ended the work before."""
    rest = asyncio.create_task(engine.rest())
    try:
        await asyncio.wait({rest, work}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        rest.cancel()


async def _serve(settings: Settings) -> int:
    # Only the daemon needs them, and `updated --once` must work without a bus.
    from updated.bus.service import Bus
    from updated.metrics import Metrics
    from updated.metrics_server import serve

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    metrics = Metrics()
    asked = asyncio.Event()

    def request(kind: type[events.Event], **fields: Any) -> UpdatedError | None:
        asked.set()
        return engine.request(kind, **fields)

    bus = Bus(request)
    engine = Engine(settings, lookout=Lookout(settings.root, bus))
    engine.audience.listeners += [metrics, bus]
    stop_metrics = serve(metrics, settings.metrics_listen)
    loop.add_signal_handler(signal.SIGHUP, _reload, engine, metrics)
    engine.start()
    await _join(bus, engine)
    notify(f"READY=1\nSTATUS={engine.summary()}")
    tasks = [
        asyncio.create_task(engine.run(), name="engine"),
        asyncio.create_task(bus.keep(), name="bus"),
        asyncio.create_task(_keep_time(engine, asked), name="time"),
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
        await bus.leave()
        stop_metrics()
    return DONE


async def _keep_time(engine: Engine, asked: asyncio.Event) -> None:
    """Ticks as rarely as it may, and at once after a person's word: much of that is acted upon at the next tick."""
    while True:
        asked.clear()
        await engine.look()
        engine.tick()
        notify(f"WATCHDOG=1\nSTATUS={engine.summary()}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), _tick_seconds(engine))


def _tick_seconds(engine: Engine) -> float:
    """How long the engine may go without a tick, in seconds."""
    most = max(engine.settings.policy.interval / 4, 0.2)
    manager = watchdog_seconds()
    if manager is not None:
        most = min(most, manager)
    if engine.state.phase not in AT_REST or engine.state.grace is not None:
        return min(most, TICK_SECONDS)
    if not engine.settings.policy.repository:
        return min(most, REST_SECONDS)
    return min(most, REST_SECONDS, max(engine.state.next_check - engine.now(), TICK_SECONDS))


async def _join(bus: Bus, engine: Engine) -> None:
    """Takes our name on the bus, if there is one: the node is looked after without it as well."""
    try:
        await bus.connect(engine.document())
    except UpdatedError as error:
        if error.code != "unreachable":
            raise
        log.warning("%s", error)


def _reload(engine: Engine, metrics: Metrics) -> None:
    notify("RELOADING=1")
    try:
        engine.reload(read_settings(engine.settings.root))
        log.info("the configuration was read again")
        metrics.reloaded(successful=True)
    except (ConfigError, UpdatedError) as error:
        engine.refused(str(error))
        log.error("the configuration stays as it was: %s", error)
        metrics.reloaded(successful=False)
    notify("READY=1")
