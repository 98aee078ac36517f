"""RAUC itself: its service on a bus of its own, driving a boot reference of files."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.bus import private_bus


@dataclass(frozen=True, slots=True)
class Rauc:
    """RAUC with its service on a bus of its own, on a machine that runs slot A."""

    config: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["rauc", "-c", self.config, *arguments], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> tuple[str | None, dict[str, str]]:
        """The primary slot, and whether each is good or bad."""
        document = json.loads(self.run("status", "--output-format=json"))
        slots = {name: slot for each in document["slots"] for name, slot in each.items()}
        conditions = {slot["bootname"].lower(): slot["boot_status"] for slot in slots.values()}
        primary = slots.get(document["boot_primary"])
        return (primary["bootname"].lower() if primary else None), conditions


@contextmanager
def running_rauc(root: Path, bootloader: str, tools: Mapping[str, str]) -> Iterator[Rauc]:
    """RAUC for slots in files below `root`. `bootloader` are the lines of system.conf that tell of it; `tools` are
    shell commands by the names under which RAUC calls them."""
    folder = root / "tools"
    folder.mkdir()
    for name, program in tools.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (folder / name).chmod(0o755)
    for slot in ("a", "b"):
        (root / f"{slot}.img").write_bytes(bytes(4096))
    config = root / "system.conf"
    config.write_text(
        f"[system]\ncompatible=test\n{bootloader}mountprefix={root}/mnt\nstatusfile={root}/rauc.status\n"
        f"[slot.rootfs.0]\ndevice={root}/a.img\ntype=raw\nbootname=A\n"
        f"[slot.rootfs.1]\ndevice={root}/b.img\ntype=raw\nbootname=B\n"
    )
    with private_bus() as address:
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "DBUS_SYSTEM_BUS_ADDRESS": address, "LC_ALL": "C"}
        command = ["rauc", "-c", str(config), "--override-boot-slot=A", "service"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as service:
            try:
                _wait_for_rauc(address, service)
                yield Rauc(config, environment)
            finally:
                service.terminate()


def _wait_for_rauc(address: str, service: subprocess.Popen[bytes]) -> None:
    ask = ["dbus-send", f"--bus={address}", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and service.poll() is None:
        done = subprocess.run(
            [*ask, "org.freedesktop.DBus.NameHasOwner", "string:de.pengutronix.rauc"], capture_output=True, text=True
        )
        if "true" in done.stdout:
            return
        time.sleep(0.1)
    raise RuntimeError("rauc service does not start; the package rauc has it")
