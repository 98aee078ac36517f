"""A private message bus: a real dbus-daemon for as long as a block lasts."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def private_bus() -> Iterator[str]:
    """The address of the bus, for DBUS_SYSTEM_BUS_ADDRESS. As on a system bus, every user may connect."""
    with tempfile.TemporaryDirectory(prefix="bus-") as folder:
        os.chmod(folder, 0o755)
        config = os.path.join(folder, "bus.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write(_CONFIG.format(folder=folder))
        command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address=1"]
        # What it says of its limits on open files is of no interest here.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                if not address:
                    raise RuntimeError("dbus-daemon does not start; packaging/install-system-packages installs it")
                yield address
            finally:
                process.terminate()
                process.wait(10)
