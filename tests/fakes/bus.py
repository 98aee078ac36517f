"""A private message bus: a real dbus-daemon for as long as a block lasts."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_type="method_return"/>
    <allow send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="signal"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    """A bus with its socket below `folder`, which can end and come back. As on a system bus, every user may connect."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "bus.conf"
        self._config.write_text(_CONFIG.format(folder=folder))
        self.address = f"unix:path={folder}/bus"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        command = ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nopidfile", "--print-address=1"]
        # What it says of its limits on open files is of no interest here.
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        if not self._process.stdout.readline().strip():
            raise RuntimeError("dbus-daemon does not start; packaging/install-system-packages installs it")

    def signal(self, number: int) -> None:
        """Sends it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it without a word to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
        self._process = None


@contextmanager
def killable_bus() -> Iterator[PrivateBus]:
    """A bus that runs."""
    with tempfile.TemporaryDirectory(prefix="bus-") as folder:
        os.chmod(folder, 0o755)
        bus = PrivateBus(Path(folder))
        try:
            bus.start()
            yield bus
        finally:
            bus.kill()


@contextmanager
def private_bus() -> Iterator[str]:
    """The address of a bus that runs, for DBUS_SYSTEM_BUS_ADDRESS."""
    with killable_bus() as bus:
        yield bus.address
