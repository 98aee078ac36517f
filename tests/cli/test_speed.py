"""`status` answers at once: it starts in little more time than Python itself, and loads only what it shows."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.states import PHASES

# The processor time of Python alone, so often, is what `status` may take; it is about twice as much.
MOST_RATIO = 4.0
RUNS = 9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps(PHASES["fallen-back"]))
    return tmp_path


def spent(*words: str) -> float:
    """The processor time of a run, in seconds, as the kernel counts it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_status_takes_little_more_than_python_itself(root: Path) -> None:
    least_status = least_python = float("inf")
    for _ in range(RUNS):
        least_status = min(least_status, spent("-m", "updated.cli", "--root", str(root), "status"))
        least_python = min(least_python, spent("-c", "pass"))
    assert least_status <= MOST_RATIO * max(least_python, 0.005)


def loaded(root: Path, *verb: str) -> set[str]:
    code = "import sys; from updated.cli.__main__ import main; main(sys.argv[1:]); "
    code += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--root", str(root), *verb], capture_output=True, text=True, check=True,
        env={**os.environ, "NO_COLOR": "1"}, timeout=60,
    )  # fmt: skip
    return set(done.stderr.split())


@pytest.mark.parametrize("verb", [["status"], ["status", "--json"], ["channel"]])
def test_the_status_loads_neither_the_core_nor_the_configuration(root: Path, verb: list[str]) -> None:
    ours = {name for name in loaded(root, *verb) if name.startswith(("updated.", "bootctl", "health"))}
    shown = {"updated.cli.show", "updated.cli.why", "updated.cli.mends", "updated.cli.when", "updated.core.probation",
             "updated.cli.denied", "updated.core.version", "bootctl.precedence"}  # fmt: skip
    needed = {"updated.cli", "updated.core", "updated.core.errors", "updated.processes", "updated.cli.arguments",
              "updated.cli.exits", "updated.cli.paper", "updated.cli.statusfile", "updated.cli.__main__",
              "bootctl", "bootctl.output", "bootctl.usage", "bootctl.version"}  # fmt: skip
    assert ours <= needed | shown
    assert ours & shown == (shown if verb == ["status"] else set())


def test_the_status_loads_no_library_that_takes_long(root: Path) -> None:
    heavy = {"asyncio", "dbus_next", "tuf", "requests", "cryptography", "logging", "parted", "tomllib", "subprocess"}
    assert not loaded(root, "status") & heavy
