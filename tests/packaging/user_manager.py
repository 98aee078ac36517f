"""A service manager of our own: the systemd of a user, in namespaces with their own control group and /run."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.packaging.shipped import REPOSITORY

_NAMESPACES = ["unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]

_MANAGER = r"""
set -eu
folder=$1; shift; cd "$folder"
umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system "$folder/run"
export XDG_RUNTIME_DIR="$folder/run" SYSTEMD_UNIT_PATH="$folder/units:/usr/lib/systemd/user"
/lib/systemd/systemd --user --unit=basic.target --log-target=console >"$folder/manager.log" 2>&1 &
until systemctl --user is-active --quiet basic.target 2>/dev/null; do sleep 0.05; done
PATH="$folder/bin:$PATH" exec "$@"
"""


def below_a_manager(folder: Path, command: Sequence[str], *, timeout: float = 60) -> str:
    """What `command` prints, which runs in `folder` and finds the manager by `systemctl --user`.

    The manager knows the units in `folder`/units, and programs of `folder`/bin come first.
    """
    group = _cgroup2() / f"updated-test-{os.getpid()}"
    enter = f"echo $$ >{group}/cgroup.procs && exec " + shlex.join(_NAMESPACES) + ' "$@"'
    group.mkdir()
    try:
        done = subprocess.run(
            ["sh", "-c", enter, "sh", "sh", "-c", _MANAGER, "sh", str(folder), *command],
            capture_output=True, text=True, check=False, timeout=timeout,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
    finally:
        for path, _, _ in os.walk(group, topdown=False):
            Path(path).rmdir()
    log = folder / "manager.log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    return done.stdout


def _cgroup2() -> Path:
    """Where this machine has its unified control groups."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    pytest.skip("a private systemd needs root and a writable cgroup2 mount; the script alone is tested everywhere")
