"""What it costs to load the boot reference: health does that in the middle of each boot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootctl.settings import BACKENDS
from tests.bootctl import disks
from tests.bootctl.grub_emulator import grubenv

REPOSITORY = Path(__file__).parents[2]
HEALTH = "import sys, bootctl.active, bootctl.backend, bootctl.durable, bootctl.settings, health.__main__ as health\n"
JUDGE = HEALTH + "health.main(['--no-act', '--root', sys.argv[1]])\nprint(*sys.modules)"
# What only single operations need, and takes long to load.
HEAVY = {"asyncio", "ctypes", "email", "logging", "platform", "socket", "ssl", "subprocess", "tempfile", "uuid"}


def modules(code: str, *arguments: str) -> set[str]:
    # Without site, as on a node: what is installed for development loads modules of its own.
    done = subprocess.run(
        [sys.executable, "-sS", "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


def test_loading_the_boot_reference_loads_no_loader_of_it_and_nothing_heavy() -> None:
    loaded = modules(HEALTH + "print(*sys.modules)")
    assert "bootctl.backend" in loaded
    assert not {f"bootctl.{name}" for name in (*BACKENDS, "bls", "efivars", "systemd_boot_plan")} & loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("name", ["gptprio", "grub"])
def test_judging_a_boot_loads_the_one_loader_that_is_there(tmp_path: Path, name: str) -> None:
    disk = disks.make_disk(tmp_path / "disk.img")
    files = {
        "etc/updated/updated.toml": f'[disk]\nimage = "/disk.img"\n[boot]\nbackend = "{name}"\n',
        "etc/os-release": "IMAGE_VERSION=1.2.0\n", "proc/cmdline": "updated.slot=a\n",
        "boot/grub/grubenv": grubenv({"ORDER": "A B", "A_OK": "1"}).decode(),
    }  # fmt: skip
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert disk.exists()
    loaded = modules(JUDGE, str(tmp_path))
    assert {each for each in BACKENDS if f"bootctl.{each}" in loaded} == {name}
    assert not HEAVY & loaded
