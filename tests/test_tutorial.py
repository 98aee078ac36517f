"""The commands of the tutorial, run one after the other as they stand there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import FOLDER, ROOT

PROGRAMS = {"updatectl": "updated.cli", "releasectl": "updated.publish", "updated": "updated"}
NEEDED = ("mkfs.erofs", "fsck.erofs", "dbus-daemon")

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in NEEDED), reason=f"needs {', '.join(NEEDED)}"
)


def installed(folder: Path) -> None:
    """What the tutorial finds where the packages are installed, with the programs of this clone.

    The system's Python has `bootctl` and `health` there, and nothing else of this project.
    """
    for name in ("bootctl", "health"):
        (folder / "lib").mkdir(exist_ok=True)
        (folder / "lib" / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    commands = {name: f"PYTHONPATH={ROOT} exec {sys.executable} -m {module}" for name, module in PROGRAMS.items()}
    commands["python3"] = f"PYTHONPATH={folder}/lib exec {os.path.realpath(sys.executable)}"
    for name, command in commands.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\n{command} "$@"\n')
        program.chmod(0o755)


@pytest.mark.timeout(420)
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (FOLDER / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 12
    installed(tmp_path)
    work = tmp_path / "tutorial"
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    with (tmp_path / "log").open("w+") as log:
        # The daemon that it starts is of its session, the bus is not.
        process = subprocess.Popen(
            ["bash", "-eu", "-c", "\n".join(blocks)], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
        try:
            status = process.wait(400)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((work / "bus.pid").read_text()), signal.SIGTERM)
        log.seek(0)
        said = log.read()
    assert status == 0, said[-3000:]
    booted = re.findall(r"power-on: the firmware starts slot (\w)", said)
    assert "".join(booted) == "a" + "b" + "ab" + "aaab" + "a" + "b"
    history = [json.loads(line) for line in (work / "node/var/lib/updated/history.jsonl").read_text().splitlines()]
    outcomes = [(each["kind"], each["version"]) for each in history if each["kind"] not in ("install", "staged")]
    assert [each for each in outcomes if "hold" not in each[0]] == [
        ("confirmed", "1.1.0"), ("fell-back", "1.2.0"), ("fell-back", "1.3.0"), ("confirmed", "1.4.0"),
        ("rolled-back", "1.4.0"),
    ]
    assert "recalled: 1.4.0 was recalled: loses the clock" in said
