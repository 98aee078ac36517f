"""The commands of the manual's page about keys, run one after the other as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import FOLDER, ROOT
from tests.publish.test_hsm import MODULE, Tokens
from updated.publish.keys import KeyFolder
from updated.publish.repository import Repository

pytestmark = pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not os.path.exists(MODULE), reason="softhsm2 is not installed"
)


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (FOLDER / "keys.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    tokens = Tokens(tmp_path)
    tokens.token("root", "P-256")
    program = tmp_path / "bin" / "releasectl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m updated.publish "$@"\n')
    program.chmod(0o755)
    environment = {
        **tokens.environment, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    del environment["PYKCS11LIB"], environment["RELEASECTL_PIN"]
    done = subprocess.run(
        ["sh", "-euxc", "".join(blocks)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=150, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "releasectl: " not in done.stderr
    roles, online = Repository(str(tmp_path / "repository")).roles, KeyFolder(str(tmp_path / "online"))
    for role in ("releases", "stable", "snapshot", "timestamp"):
        assert online.signers(roles.keyids(role)).signers, f"{role} can't be signed where it shall be"
