"""The first repository of the manual's page about publishing: its commands run, and print what it quotes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import FOLDER, ROOT, section

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
PART = section((FOLDER / "publishing.md").read_text(), "A first repository")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PART, re.MULTILINE | re.DOTALL)
    return [text for each, text in found if each == language]


@pytest.mark.timeout(300)
def test_every_command_of_the_first_repository_works_and_prints_what_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "releasectl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m updated.publish "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = "".join(blocks("sh")).replace("/srv/", f"{tmp_path}/srv/")
    (tmp_path / "srv").mkdir()
    done = subprocess.run(
        ["sh", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=280, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    dates = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    for quoted in blocks(""):
        assert dates.sub("TIME", quoted) in dates.sub("TIME", done.stdout)
    [keys] = re.findall(r"it gets (\w+) private keys", PART)
    assert (keys, len(list((tmp_path / "keys").glob("*.pem")))) == ("ten", 10)
    assert (tmp_path / "root.json").is_file()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    [server] = blocks("nginx")
    server = server.replace("listen 80;", f"listen unix:{tmp_path}/socket;")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n"
        + "".join(f"{each}_temp_path {tmp_path}/{each};\n" for each in TEMPORARY) + server + "}\n"
    )  # fmt: skip
    done = subprocess.run(
        ["nginx", "-t", "-e", "stderr", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
