"""What it costs to come to the first check: loaded modules, and CPU time beside that of a bare interpreter."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from health.checkfile import TYPES
from tests.bootctl.grub_emulator import grubenv
from tests.health.conftest import Machine, Put

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
    loaded = modules("-c", "import sys, health.__main__, health.verbs, health.judging; print(*sys.modules)")
    assert {"health.verbs", "health.judging"} <= loaded
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


TO_THE_FIRST_CHECK = """
import os, runpy, sys
import health.runner, health.usage
def ready(*checks, **_):
    os.write(1, " ".join(sys.modules).encode())
    os._exit(0)
health.runner.run_checks = ready
health.usage.Options.root = sys.argv.pop()
runpy.run_module("health", run_name="__main__", alter_sys=True)
"""
"""What the unit runs, `python3 -m health` without any argument, but for the root; it ends before the first check."""


def test_a_boot_loads_nothing_before_its_checks_that_is_for_afterwards_or_for_a_person(machine: Machine) -> None:
    loaded = modules("-c", TO_THE_FIRST_CHECK, str(machine.required(passes=True).root))
    assert {"health.judging", "health.probes.storage", "bootctl.gptprio", "tomllib"} <= loaded
    assert not {"argparse", "gettext", "locale", "shutil", "subprocess"} & loaded
    assert not {"json", "health.baseline", "health.comparison", "health.judgement", "health.record"} & loaded


def test_what_only_a_boot_after_a_fallback_needs_is_not_loaded_for_others() -> None:
    loaded = modules("-c", "import sys, health.judging, health.aftermath; print(*sys.modules)")
    assert not {"health.ending", "calendar", "datetime", "locale"} & loaded


def test_where_no_file_is_toml_nothing_that_reads_it_is_loaded(tmp_path: Path, put: Put) -> None:
    put("boot/grub/grubenv", grubenv({"ORDER": "B A", "A_OK": "1", "B_OK": "1"}))
    put("proc/cmdline", "updated.slot=b\n")
    put("etc/updated/health.d/required.d/it", "#!/bin/sh\n", mode=0o755)
    assert "tomllib" not in modules("-c", TO_THE_FIRST_CHECK, str(tmp_path))


def cpu_seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """The least CPU time of several runs: noise only ever adds."""
    least = float("inf")
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def compiled_below(folder: Path) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return environment | {"PYTHONPATH": str(REPOSITORY), "PYTHONPYCACHEPREFIX": str(folder)}


def test_a_boot_comes_to_its_first_check_for_less_than_eight_bare_interpreters(
    machine: Machine, tmp_path: Path
) -> None:
    """Which is under 60 ms of CPU where a bare one takes 7.5 ms; about six were measured."""
    environment = compiled_below(tmp_path / "compiled")
    python = (sys.executable, "-sS", "-c")
    start = [*python, TO_THE_FIRST_CHECK, str(machine.required(passes=True).root)]
    subprocess.run(start, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    bare = cpu_seconds([*python, "pass"], environment)
    assert cpu_seconds(start, environment) < 8 * bare


def test_the_checks_themselves_cost_less_to_load_than_five_bare_interpreters(tmp_path: Path) -> None:
    """Beside bootctl's back-ends, which are the larger part of the start and have tests of their own.

    Compiled once before, as in an image: without it the compiler is what would be measured.
    """
    environment = compiled_below(tmp_path)
    python = (sys.executable, "-sS", "-c")
    reference = "import bootctl.active, bootctl.backend, bootctl.settings"
    whole = f"{reference}, health.verbs, health.judging, health.probes.units"
    subprocess.run([*python, whole], cwd=REPOSITORY, env=environment, check=True)
    bare = cpu_seconds([*python, "pass"], environment)
    ours = cpu_seconds([*python, whole], environment) - cpu_seconds([*python, reference], environment)
    assert ours < 5 * bare
