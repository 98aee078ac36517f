"""What the daemon tells the service manager: ready when it is, alive while it is, stopping when it stops."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.fakes.bus import private_bus
from tests.fakes.machine import Machine


def test_ready_watchdog_reload_and_stop_are_told(machine: Machine, tmp_path: Path) -> None:
    with private_bus() as bus, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        machine.environment = {
            "DBUS_SYSTEM_BUS_ADDRESS": bus, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000",
        }
        machine.start_daemon()
        first = manager.recv(4096).decode()
        assert first.startswith("READY=1\nSTATUS=runs 1.0.0 in slot a")
        assert machine.updatectl("status").returncode == 0
        begun = time.monotonic()
        beats = 0
        while beats < 3:
            beats += manager.recv(4096).decode().startswith("WATCHDOG=1")
        assert time.monotonic() - begun < 10
        machine.stop_daemon()
        last = ""
        while "STOPPING=1" not in last:
            last = manager.recv(4096).decode()
