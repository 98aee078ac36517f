"""That a machine stays up is told on its terminals by the real wall(1), and to who logs in.

It runs in a mount namespace of its own, whose /run says that one person is logged in, at a terminal of the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.packaging.shipped import REPOSITORY

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may write to the terminals of others"),
    pytest.mark.skipif(shutil.which("wall", path="/usr/bin") is None, reason="wall(1) is not installed"),
]

# struct utmp of glibc (utmp(5)): type 7 is USER_PROCESS, and wall looks at the lines of these alone.
ANNOUNCE = r"""
import os, select, struct, sys, time
terminal, line = os.openpty()
name = os.ttyname(line)
with open("/run/utmp", "wb") as file:
    file.write(struct.pack("<hxxi32s4s32s256shhiii4i20x", 7, os.getpid(), name.removeprefix("/dev/").encode(), b"t1",
                           b"root", b"", 0, 0, 0, int(time.time()), 0, 0, 0, 0, 0))
from health import reboots
message = reboots.announce("/", "slot b (1.2.0)", "asks for a reboot", "too many", rejected=True)
told = b""
while select.select([terminal], [], [], 5)[0]:
    told += os.read(terminal, 65536)
    # It folds the lines, anywhere.
    if "".join(message.split()) in "".join(told.decode(errors="replace").split()):
        break
else:
    raise SystemExit(told)
with open("/run/motd.d/updated-reboots") as file:
    assert file.read() == message + "\n"
print("told")
"""


def test_who_is_logged_in_reads_on_the_terminal_that_the_machine_stays_up() -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh",
         sys.executable, "-c", ANNOUNCE],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
