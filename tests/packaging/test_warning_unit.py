"""The unit that warns people of a reboot, tried with the real wall(1) and terminals."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.shipped import UNITS, settings
from updated.reboot import WARNING_UNIT

UNIT = UNITS / WARNING_UNIT
USER_PROCESS = 7
TEXT = "This machine reboots in 10 minutes, to start 1.1.0.\n'updatectl hold' stops that.\n"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes to the terminals of others")


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A terminal of another user: the end where its user looks, and its name. No other user may write to it."""
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    os.chown(name, 1, 1)
    os.chmod(name, 0o600)
    yield ours, name
    os.close(theirs)
    os.close(ours)


def logged_in(name: str, pid: int) -> bytes:
    """The record of utmp(5) for a user at the terminal `name`."""
    line = name.removeprefix("/dev/").encode()
    layout = "hi32s4s32s256shhiii16s20s"
    return struct.pack(layout, USER_PROCESS, pid, line, b"p9", b"daemon", b"", 0, 0, 0, 0, 0, b"", b"")


def shown(ours: int) -> str:
    """What comes on a terminal, until nothing more does."""
    text, end = b"", time.monotonic() + 30
    while time.monotonic() < end and (not text or select.select([ours], [], [], 1)[0]):
        if select.select([ours], [], [], 1)[0]:
            text += os.read(ours, 4096)
    return text.decode(errors="replace")


@needs_root
def test_whoever_is_logged_in_reads_the_warning_on_the_terminal(tmp_path: Path, terminal: tuple[int, str]) -> None:
    ours, name = terminal
    (tmp_path / "warning").write_text(TEXT)
    (tmp_path / "utmp").write_bytes(logged_in(name, os.getpid()))
    command = settings(UNIT, "ExecStart")[0]
    assert "/run/updated/warning" in command
    script = f"""
set -e
mount -t tmpfs tmpfs /run
mkdir /run/updated
cp '{tmp_path}/warning' /run/updated/
cp '{tmp_path}/utmp' /run/utmp
exec setpriv --bounding-set=-all,+dac_override --inh-caps=-all --no-new-privs {command}
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown(ours)))
    assert "This machine reboots in 10 minutes, to start 1.1.0." in words
    assert "'updatectl hold' stops that." in words


def test_the_capability_of_the_trial_is_that_of_the_unit() -> None:
    assert settings(UNIT, "CapabilityBoundingSet") == ["CAP_DAC_OVERRIDE"]


def test_the_unit_may_run_as_often_as_it_is_asked_for() -> None:
    assert settings(UNIT, "StartLimitIntervalSec") == ["0"]
