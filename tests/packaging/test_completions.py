"""The completions, asked for in real shells: with the tab key, or by the command that a shell has for that."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.states import PHASES
from tests.commands import PROGRAMS
from tests.completions import FOLDER, SHELLS
from tests.completions.values import NAMES
from tests.packaging.shipped import REPOSITORY
from updated.core.errors import CODES

DENIED = ["1.3.0", "1.4.0-rc.1"]
EVERY_SHELL = pytest.mark.parametrize("shell", SHELLS)

# Runs the function that is registered for a program, as bash does; what it leaves to readline is told.
ASK_BASH = r"""
compopt() { echo "($2)"; }
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
asked=$(complete -p "$1" 2>/dev/null) || exit 0
asked=${asked#*-F }
"${asked%% *}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""

# What would be offered is printed, each between brackets, and then the end.
IN_ZSH = r"""
PROMPT=
fpath=(%s $fpath)
autoload -U compinit && compinit -u -D
bindkey '^I' complete-word
zstyle ':completion:*' insert-tab false
compadd() {
    [[ ${@[1,(i)(-|--)]} == *-(O|A|D)* ]] && { builtin compadd "$@"; return }
    local -a offered
    builtin compadd -A offered "$@"
    local each
    for each in $offered; do print -r -- "<$each>"; done
    builtin compadd "$@"
}
comppostfuncs=(told)
told() { print -r -- '<>' }
print 'rea''dy'
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with both programs; updatectl is that of a node which denies two releases."""
    status = {**PHASES["idle"], "denied": [{"version": each, "reason": "sick", "at": "x"} for each in DENIED]}
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps(status))
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, module in (("updatectl", f"updated.cli --root {tmp_path}"), ("releasectl", "updated.publish")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def environment(programs: Path) -> dict[str, str]:
    path = f"{programs}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(programs), "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def run(command: list[str], programs: Path) -> list[str]:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment(programs), cwd=programs.parent
    )
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


class Terminal:
    """A shell at a terminal, in which a person types."""

    def __init__(self, command: list[str], programs: Path) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:  # nothing of ours happens here but this
            os.chdir(programs.parent)
            os.execvpe(command[0], command, environment(programs))

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def read_until(self, wanted: str) -> str:
        seen = b""
        deadline = time.monotonic() + 60
        while wanted.encode() not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self.terminal], [], [], 1)[0]:
                seen += os.read(self.terminal, 65536)
        return seen.decode()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def offered(shell: str, line: str, programs: Path) -> list[str]:
    """What a shell offers for a line that a person has begun to type."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    name = line.split()[0]
    program = next(each for each, names in NAMES.items() if name in names)
    script = FOLDER / f"{program}.{shell}"
    if shell == "bash":
        words = re.sub("(?<=[^ ])=", " = ", line).split(" ")
        asked = ["bash", "--norc", "--noprofile", "-c", ASK_BASH, "bash", str(script), *words]
        return [each for each in run(asked, programs) if each]
    if shell == "fish":
        lines = run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"], programs)
        return [each.split("\t")[0] for each in lines]
    folder = programs.parent / "zsh"
    folder.mkdir(exist_ok=True)
    (folder / f"_{NAMES[program][0]}").write_text(script.read_text())
    (folder / "start").write_text(IN_ZSH % folder)
    with Terminal(["zsh", "-f", "-i"], programs) as terminal:
        terminal.type(f"source {folder}/start\n")
        terminal.read_until("ready")
        terminal.type(line + "\t")
        return [each for each in re.findall(r"<(.*?)>", terminal.read_until("<>")) if each]


@pytest.mark.parametrize("name", NAMES)
@EVERY_SHELL
def test_the_completions_are_those_of_the_program(name: str, shell: str) -> None:
    written = (FOLDER / f"{name}.{shell}").read_text()
    assert SHELLS[shell](name) == written, "it is out of date: run 'make docs'"


@EVERY_SHELL
def test_verbs_are_offered(shell: str, programs: Path) -> None:
    assert set(offered(shell, "updatectl ch", programs)) == {"check", "channel"}
    assert set(offered(shell, "updatectl ", programs)) == {verb.words[-1] for verb in PROGRAMS["updatectl"].verbs}
    assert set(offered(shell, "releasectl re", programs)) == {"refresh", "request", "recall"}


@EVERY_SHELL
def test_verbs_of_verbs_are_offered(shell: str, programs: Path) -> None:
    assert set(offered(shell, "releasectl key r", programs)) == {"rotate", "revoke"}
    assert set(offered(shell, "releasectl request ", programs)) == {"show", "sign", "publish"}


@EVERY_SHELL
def test_options_are_offered_of_the_verb(shell: str, programs: Path) -> None:
    assert set(offered(shell, "updatectl check --w", programs)) == {"--wait"}
    assert set(offered(shell, "updatectl --r", programs)) in ({"--root"}, {"--root="})
    assert not offered(shell, "updatectl status --w", programs)
    assert set(offered(shell, "releasectl key add --thr", programs)) == {"--threshold"}


@EVERY_SHELL
@pytest.mark.parametrize("joint", [" ", "="])
def test_values_of_an_option_are_offered(shell: str, joint: str, programs: Path) -> None:
    found = offered(shell, f"updatectl --color{joint}a", programs)
    assert {each.removeprefix("--color=") for each in found} == {"auto", "always"}


@EVERY_SHELL
def test_an_option_and_its_value_are_no_verb(shell: str, programs: Path) -> None:
    assert set(offered(shell, "updatectl --root check unh", programs)) == {"unhold"}
    assert set(offered(shell, "updatectl --color=never unh", programs)) == {"unhold"}


@EVERY_SHELL
def test_channels_are_offered(shell: str, programs: Path) -> None:
    assert set(offered(shell, "updatectl channel b", programs)) == {"beta"}
    assert set(offered(shell, "releasectl promote x --channel s", programs)) == {"stable"}
    assert not offered(shell, "updatectl channel beta b", programs)


@EVERY_SHELL
def test_the_releases_that_the_node_denies_are_offered_to_be_allowed(shell: str, programs: Path) -> None:
    assert set(offered(shell, "updatectl allow ", programs)) == set(DENIED)
    assert set(offered(shell, "updatectl allow 1.4", programs)) == {"1.4.0-rc.1"}


@EVERY_SHELL
def test_without_a_status_nothing_is_offered_and_nothing_is_said(shell: str, programs: Path) -> None:
    (programs.parent / "run/updated/status.json").unlink()
    assert not offered(shell, "updatectl allow ", programs)


@EVERY_SHELL
def test_codes_are_offered_to_be_explained(shell: str, programs: Path) -> None:
    disk = {each for each in CODES if each.startswith("disk")}
    assert set(offered(shell, "updatectl explain disk", programs)) == disk


@EVERY_SHELL
def test_the_name_that_is_always_ours_is_completed_too(shell: str, programs: Path) -> None:
    (programs / "updated-ctl").symlink_to("updatectl")
    assert set(offered(shell, "updated-ctl unh", programs)) == {"unhold"}
    assert set(offered(shell, "updatectl unh", programs)) == {"unhold"}


@EVERY_SHELL
def test_a_program_of_others_with_the_other_name_is_left_alone(shell: str, programs: Path) -> None:
    (programs / "updatectl").rename(programs / "updated-ctl")
    (programs / "updatectl").write_text("#!/bin/sh\n")
    (programs / "updatectl").chmod(0o755)
    assert "unhold" not in offered(shell, "updatectl unh", programs)
    assert set(offered(shell, "updated-ctl unh", programs)) == {"unhold"}
    assert set(offered(shell, "updated-ctl allow ", programs)) == set(DENIED)


@pytest.mark.parametrize("line", ["updatectl import {}", "releasectl status {}", "updatectl --root={}"])
def test_files_and_folders_are_completed_at_a_terminal(line: str, programs: Path) -> None:
    library = Path("/usr/share/bash-completion/bash_completion")
    if not library.is_file():
        pytest.skip("bash-completion is not installed")
    folder = programs.parent / "bash/completions"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).symlink_to(FOLDER / f"{name}.bash")
    with Terminal(["bash", "--norc", "--noprofile", "-i"], programs) as terminal:
        terminal.type(f"BASH_COMPLETION_USER_DIR={folder.parent}; source {library}; echo rea''dy\n")
        terminal.read_until("ready")
        terminal.type(line.format("run/up") + "\t")
        terminal.read_until(line.format("run/updated/"))


@EVERY_SHELL
def test_files_are_offered(shell: str, programs: Path) -> None:
    found = offered(shell, "updatectl provision --image run/up", programs)
    assert found == {"bash": ["(default)"], "zsh": ["updated"], "fish": ["run/updated/"]}[shell]
