"""The console against a real shell on a line where others speak as well."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.console import Console, ConsoleLost, TooLong

NOISE = b"\r\n[   12.345678] nvme nvme0: somebody else speaks\r\n"


class Line:
    """A serial line to bash. The first of the `noisy` pieces that bash says are cut in two by a line of the kernel."""

    def __init__(self, noisy: int = 0) -> None:
        self.ours, far = socket.socketpair()
        near, theirs = socket.socketpair()
        self.noisy = noisy
        environment = {"PATH": os.environ["PATH"], "PS1": "root@machine:~# "}
        with theirs:
            end = theirs.fileno()
            self.shell = subprocess.Popen(
                ["bash", "--norc", "--noprofile", "-i"], stdin=end, stdout=end, stderr=end, env=environment
            )
        self.far, self.near = far, near
        self.threads = [threading.Thread(target=self.pass_on, args=way) for way in ((near, far), (far, near))]
        for thread in self.threads:
            thread.start()

    def pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.pass_pieces(source, target)
            target.shutdown(socket.SHUT_WR)

    def pass_pieces(self, source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(300):
            if source is self.near:
                data = data.replace(b"\n", b"\r\n")
                if self.noisy and data.count(b"="):
                    self.noisy -= 1
                    data = data[: len(data) // 2] + NOISE + data[len(data) // 2 :]
            target.sendall(data)

    def hang_up(self) -> None:
        self.shell.kill()
        self.shell.wait()
        for thread in self.threads:
            thread.join(0.2)
        for each in (self.far, self.near):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.hang_up()


@pytest.fixture
def console(line: Line, heard: list[str], tmp_path: Path) -> Iterator[Console]:
    console = Console(line.ours, heard.append, folder=str(tmp_path))
    console.log_in(30)
    yield console
    line.shell.kill()
    console.close()


def test_a_command_gives_its_status_and_all_that_it_printed(console: Console) -> None:
    assert console.run("echo one; echo two >&2; printf 'three\\tü'", 30) == (0, "one\ntwo\nthree\tü")
    assert console.run("exit 7", 30) == (7, "")
    assert console.run("seq 5000", 30) == (0, "".join(f"{number}\n" for number in range(1, 5001)))


def test_what_looks_like_an_answer_is_none(console: Console) -> None:
    text = "=1:0:0=\n=2=aGVsbG8K\n=3:0:6=\n'\"$HOME\\`"
    assert console.run(f"cat <<'END'\n{text}\nEND", 30) == (0, text + "\n")


def test_answers_are_whole_though_the_kernel_writes_into_them(console: Console, line: Line, heard: list[str]) -> None:
    line.noisy = 2
    assert console.run("seq 200", 60) == (0, "".join(f"{number}\n" for number in range(1, 201)))
    assert any("somebody else speaks" in each for each in heard)


def test_answers_are_not_in_the_story_as_the_line_carries_them(console: Console, heard: list[str]) -> None:
    console.run("seq 100", 30)
    assert not [each for each in heard if each.startswith("=")]


def test_a_command_that_takes_too_long_says_what_the_console_said(console: Console) -> None:
    with pytest.raises(TooLong, match="sleep 60"):
        console.run("sleep 60", 0.5)


def test_a_shell_that_goes_away_is_noticed_at_once(console: Console, line: Line) -> None:
    begin = time.monotonic()
    threading.Timer(0.5, line.shell.kill).start()
    with pytest.raises(ConsoleLost):
        console.run("sleep 60", 60)
    assert time.monotonic() - begin < 30


def test_after_a_loss_there_is_no_shell_until_somebody_logs_in(console: Console) -> None:
    console.lose("the machine was reset")
    with pytest.raises(ConsoleLost, match="was reset"):
        console.run("true", 30)


def test_no_prompt_is_too_long(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"BdsDxe: starting Boot0001\r\n\x1b[2J\x1b[01;01H# of slots: 2\r\n")
    console = Console(ours, lambda line: None, folder=str(tmp_path))
    with pytest.raises(TooLong, match="of slots"):
        console.log_in(1.5)
    theirs.close()
    console.close()
