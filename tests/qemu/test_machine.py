"""No machine outlives its time limit, or the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.qemu.machine import Machine, children

Found = TypeVar("Found")

NOTHING_BOOTS = """
import sys
from pathlib import Path
from tests.qemu.machine import Machine
Machine(Path(sys.argv[1]), "seabios").boot()
"""


def lives(process: int) -> bool:
    try:
        stat = Path("/proc", str(process), "stat").read_text()
    except FileNotFoundError:
        return False
    # Nobody may collect an orphan in a container.
    return stat.rpartition(") ")[2][0] != "Z"


def wait_for(found: Callable[[], Found]) -> Found:
    """The first answer of `found` that is true."""
    deadline = time.monotonic() + 30
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def test_a_machine_that_hangs_is_ended_at_its_time_limit(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    begin = time.monotonic()
    booted = Machine(tmp_path, "seabios", limit=2).boot()
    assert (booted.slot, booted.ending) == (None, "time limit")
    assert time.monotonic() - begin < 30
    assert children(os.getpid()) == set()


def test_a_machine_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    starter = subprocess.Popen(
        [sys.executable, "-c", NOTHING_BOOTS, tmp_path], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        machines = wait_for(lambda: children(starter.pid))
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    assert wait_for(lambda: not any(lives(machine) for machine in machines))
