"""The files of `packaging/` as they are shipped, and what the tests need to let the real tools judge them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGING = REPOSITORY / "packaging"
UNITS = PACKAGING / "systemd"

_ROOT_HERE = ["unshare", "--user", "--map-root-user", "--map-auto"]


def as_root(*command: str, mounts: bool = False) -> list[str]:
    """`command` for uid 0: of the machine when the tests run as root, else of a user namespace of their own.

    `mounts` gives it a mount table of its own too.
    """
    prefix = [] if os.geteuid() == 0 else _ROOT_HERE
    if mounts:
        prefix = [*(prefix or ["unshare"]), "--mount"]
    return [*prefix, *command]


def as_nobody_special(*command: str) -> list[str]:
    """`command` for a user other than root, in the same user namespace as `as_root`."""
    return as_root("setpriv", "--reuid=1", "--regid=1", "--clear-groups", *command)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment}
    )


def settings(unit: Path, key: str) -> list[str]:
    """The values of each `key=` line of a unit, in order."""
    lines = unit.read_text().splitlines()
    return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="updated-test-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(command: list[str], ready: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has written a line with `ready` in it; it ends with the block, and all it started."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        seen = ""
        for line in process.stdout:
            seen += line
            if ready in line:
                break
        else:
            raise AssertionError(f"{command} ended before it was ready:\n{seen}")
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=20)
