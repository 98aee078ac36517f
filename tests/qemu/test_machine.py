"""No machine outlives its time limit, or the process that started it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.qemu.machine import Machine, children
from tests.qemu.orphans import ends_with_its_starter

NOTHING_BOOTS = """
import sys
from pathlib import Path
from tests.qemu.machine import Machine
Machine(Path(sys.argv[1]), "seabios").boot()
"""


def test_a_machine_that_hangs_is_ended_at_its_time_limit(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    begin = time.monotonic()
    booted = Machine(tmp_path, "seabios", limit=2).boot()
    assert (booted.slot, booted.ending) == (None, "time limit")
    assert time.monotonic() - begin < 30
    assert children(os.getpid()) == set()


def test_a_machine_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    assert ends_with_its_starter(NOTHING_BOOTS, tmp_path)
