"""What it costs to come to the first check: loaded modules, and CPU time beside that of a bare interpreter."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from health.checkfile import TYPES

REPOSITORY = Path(__file__).parent.parent.parent
CHECK = """
import sys
from health.checkfile import parse_check
parse_check(sys.argv[1].encode(), "x.toml", "required", "x")
print(*sys.modules)
"""


def modules(*arguments: str) -> set[str]:
    # Without site, as on a node: what is installed for development loads modules of its own.
    command = [sys.executable, "-sS", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_nothing_that_only_some_checks_need_is_loaded_at_the_start() -> None:
    loaded = modules("-c", "import sys, health.__main__, health.judging; print(*sys.modules)")
    assert {"health.__main__", "health.judging"} <= loaded
    assert not {"health.aftermath", "health.hooks", "health.probation", "health.deadline"} & loaded
    heavy = {"http.client", "ssl", "socket", "email", "asyncio", "logging", "shlex", "base64", "urllib.parse"}
    assert not heavy & loaded
    assert not [name for name in loaded if name.startswith("health.probes.")]


KEYS = {
    "exec": 'command = ["/bin/true"]', "unit": 'unit = "x.service"', "http": 'url = "http://localhost/"',
    "tcp": 'host = "localhost"\nport = 1', "disk-space": 'path = "/"\nfree_bytes = 1', "mount": 'path = "/"',
    "dbus-name": 'name = "a.b"', "unix-socket": 'path = "/x"', "pressure": "cpu_percent = 1",
    "container-runtime": 'runtime = "crio"',
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_a_check_loads_the_modules_of_its_own_type_alone(name: str) -> None:
    loaded = modules("-c", CHECK, f'type = "{name}"\n{KEYS.get(name, "")}')
    families = {each for each in loaded if each.startswith("health.probes.")}
    assert 1 <= len(families) <= 2  # containers and the kubelet build on what speaks HTTP
    assert not {"ssl", "asyncio", "logging"} & loaded


def cpu_seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """The least CPU time of several runs: noise only ever adds."""
    least = float("inf")
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def test_the_checks_themselves_cost_less_to_load_than_five_bare_interpreters(tmp_path: Path) -> None:
    """Beside bootctl's back-ends, which are the larger part of the start and have tests of their own.

    Compiled once before, as in an image: without it the compiler is what would be measured.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    python = (sys.executable, "-sS", "-c")
    reference = "import bootctl.active, bootctl.backend, bootctl.settings"
    whole = f"{reference}, health.__main__, health.judging, health.probes.units"
    subprocess.run([*python, whole], cwd=REPOSITORY, env=environment, check=True)
    bare = cpu_seconds([*python, "pass"], environment)
    ours = cpu_seconds([*python, whole], environment) - cpu_seconds([*python, reference], environment)
    assert ours < 5 * bare
