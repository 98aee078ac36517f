"""What an idle daemon costs: no polling, no threads, no libraries that only its children need, little memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.bus import private_bus
from tests.fakes.machine import Machine
from updated.core.policy import Policy
from updated.core.state import Phase
from updated.daemon import _tick_seconds

MOST_RESIDENT_KIB = 32 * 1024
WATCHED_SECONDS = 8
ONLY_IN_CHILDREN = {"tuf", "securesystemslib", "cryptography", "requests", "urllib3", "zstandard", "parted", "numpy"}
# Python imports this before the program; it leaves the names of all modules behind at the end.
TELL_MODULES = """\
import atexit, os, sys
folder = os.path.dirname(__file__)
atexit.register(lambda: open(os.path.join(folder, str(os.getpid())), "w").write("\\n".join(sys.modules)))
"""


@pytest.fixture
def idle(machine: Machine, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose daemon has looked for a release, serves metrics, and has nothing to do."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(TELL_MODULES)
    place = f"127.0.0.1:{20000 + os.getpid() % 20000}"
    machine.write_config(machine.config.replace('listen = "off"', f'listen = "{place}"'))
    with private_bus() as bus:
        machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus, "PYTHONPATH": str(modules)}
        machine.start_daemon()
        machine.wait_until(lambda: at_rest(machine))
        yield machine
        machine.stop_daemon()


def at_rest(machine: Machine) -> bool:
    path = machine.root / "run/updated/status.json"
    if not path.exists():
        return False
    status = json.loads(path.read_text())
    return bool(status["phase"] == "idle" and status["last_check"] is not None)


def process(machine: Machine) -> Path:
    assert machine.daemon is not None
    return Path(f"/proc/{machine.daemon.pid}")


def figure(status: Path, name: str) -> int:
    """A number of proc_pid_status(5)."""
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[name].split()[0])


def test_the_idle_daemon_sleeps_in_one_thread_and_in_little_memory(idle: Machine) -> None:
    status = process(idle) / "status"
    wakes = figure(status, "voluntary_ctxt_switches")
    time.sleep(WATCHED_SECONDS)
    # A loop that looks for something each second or more often would be seen.
    assert figure(status, "voluntary_ctxt_switches") - wakes < WATCHED_SECONDS
    assert figure(status, "Threads") == 1
    assert figure(status, "VmRSS") <= MOST_RESIDENT_KIB


def test_the_daemon_never_loads_what_its_children_need(idle: Machine, tmp_path: Path) -> None:
    names = tmp_path / "modules" / process(idle).name
    idle.stop_daemon()
    loaded = set(names.read_text().split())
    assert "prometheus_client" in loaded
    assert not loaded & ONLY_IN_CHILDREN
    assert "fractions" not in loaded


@pytest.mark.parametrize(
    ("phase", "until_check", "interval", "watchdog", "seconds"),
    [
        (Phase.IDLE, 3000, 3600, None, 30),
        (Phase.STAGED, 12, 3600, None, 12),
        (Phase.STAGED, -3000, 3600, None, 5),
        (Phase.FAILED, 1, 3600, None, 5),
        (Phase.IDLE, 3000, 3600, 4, 4),
        (Phase.IDLE, 3000, 8, None, 2),
        (Phase.TRIAL, 3000, 3600, None, 5),
        (Phase.FETCHING, 3000, 3600, 4, 4),
    ],
)
def test_the_clock_ticks_as_rarely_as_it_may(
    monkeypatch: pytest.MonkeyPatch, phase: Phase, until_check: int, interval: int, watchdog: float | None,
    seconds: float,
) -> None:
    monkeypatch.setattr("updated.daemon.watchdog_seconds", lambda: watchdog)
    engine: Any = SimpleNamespace(
        state=SimpleNamespace(grace=None, phase=phase, next_check=1000 + until_check), now=lambda: 1000,
        settings=SimpleNamespace(policy=Policy(interval=interval)),
    )
    assert _tick_seconds(engine) == seconds
