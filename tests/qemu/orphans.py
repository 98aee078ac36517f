"""What becomes of a machine when the process that started it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.processes import lives, wait_for
from tests.qemu.machine import children


def ends_with_its_starter(program: str, folder: Path) -> bool:
    """Whether no machine lives on that was started by `program`, a Python text, after that was killed.

    Its argument is `folder`, in which there is an empty disk. Raises AssertionError if it starts no machine.
    """
    (folder / "disk.img").write_bytes(bytes(1 << 20))
    starter = subprocess.Popen(
        [sys.executable, "-c", program, folder], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        machines = wait_for(lambda: children(starter.pid))
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    assert machines, "no machine was started"
    return wait_for(lambda: not any(lives(machine) for machine in machines))
