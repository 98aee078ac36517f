"""A root shell behind a serial line: what is typed, what comes back, and everything else that is said there meanwhile.

The kernel, systemd and programs write to the same line whenever they like. So the output of a command is kept in a file
of the machine and is sent as lines of base64 that carry the number of the command, with the length at the end: a line
into which somebody else wrote is noticed, and the file is sent again.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>c78])")
# The firmware and its programs place the cursor instead of ending a line.
_NEW_PLACE: Final = re.compile(r"\x1b\[(?:[0-9;]*H|2J)")
_PROMPT: Final = re.compile(r"root@\S+# |sh-[0-9.]+# |^# $")
_DATA: Final = re.compile(r"=(\d+)=([A-Za-z0-9+/=]*)")
_END: Final = re.compile(r"=(\d+):(\d+):(\d+)=")
_ATTEMPTS: Final = 5
_SHOWN: Final = 40
# No echo, no line editing with its bracketed paste, no limit on the length of a line, no prompt.
_SET_UP: Final = (
    b" stty -echo -icanon; dmesg -n 3 2>/dev/null; PS1= PS2= PROMPT_COMMAND= exec bash --noediting --norc --noprofile\n"
)
_RUN: Final = (
    " ( eval \"$(echo {code} | base64 -d)\" ) </dev/null >{file} 2>&1; status=$?;"
    " e2e() {{ echo; base64 -w 76 {file} | sed 's/^/={number}=/';"
    " for _ in 1 2; do echo; echo \"={number}:$status:$(wc -c <{file})=\"; done; }}; e2e\n"
)


class ConsoleLost(Exception):
    """The shell went away: the machine was reset, or switched off."""


class TooLong(AssertionError):
    """What was waited for did not happen in time."""


class Console:
    """The end of a serial line on our side. Each line that is no answer to a command goes to `heard`.

    Reads in a thread, so that the machine never has to wait for a reader.
    """

    def __init__(self, line: socket.socket, heard: Callable[[str], None], *, folder: str = "/run") -> None:
        self._line = line
        self._heard = heard
        self._folder = folder
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._partial = ""
        self._since = 0
        self._lost: str | None = "nobody has logged in"
        self._ended = False
        self._number = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Gives the line up, after all that was said was read."""
        self._reader.join(5)
        self._line.close()

    def lose(self, reason: str) -> None:
        """Whoever waits for an answer of the shell is told that it can't come; a new shell may log in later."""
        with self._changed:
            self._lost = reason
            self._since = len(self._lines) + 1
            self._changed.notify_all()

    def log_in(self, limit: float) -> None:
        """Wait for the prompt of a root shell, up to `limit` seconds, and make it ready for commands.

        Raises TooLong, ConsoleLost.
        """
        deadline = time.monotonic() + limit
        with self._changed:
            while not any(_PROMPT.search(line) for line in [*self._lines[self._since :], self._partial]):
                if self._ended:
                    raise ConsoleLost("the machine is off")
                self._wait(deadline, "a root shell on the console")
            self._lost = None
            self._since = len(self._lines)
        self._line.sendall(_SET_UP)
        # The old shell may read ahead what is sent before the new one runs.
        time.sleep(0.5)
        self.run("true", max(deadline - time.monotonic(), 10))

    def run(self, command: str, limit: float) -> tuple[int, str]:
        """Its exit status and what it printed. Raises TooLong after `limit` seconds, ConsoleLost."""
        deadline = time.monotonic() + limit
        with self._changed:
            self._number += 1
            number = self._number
            begin = len(self._lines)
            file = f"{self._folder}/e2e-output"
            code = base64.b64encode(command.encode()).decode()
            self._send(_RUN.format(code=code, file=file, number=number))
            for _ in range(_ATTEMPTS):
                status, length = self._end(number, begin, deadline, command)
                output = self._output(number, begin)
                if output is not None and len(output) == length:
                    return status, output.decode(errors="replace").replace("\r\n", "\n")
                # The end is said twice; the second one must not be taken for the end of the next attempt.
                self._changed.wait(1)
                begin = len(self._lines)
                self._send("e2e\n")
        raise TooLong(f"{command!r}: its output was disturbed {_ATTEMPTS} times\n{self.tail()}")

    def tail(self) -> str:
        """What was said last."""
        with self._changed:
            return "\n".join([*self._lines[-_SHOWN:], self._partial])

    def _send(self, text: str) -> None:
        if self._lost is not None:
            raise ConsoleLost(self._lost)
        try:
            self._line.sendall(text.encode())
        except OSError as error:
            raise ConsoleLost(str(error)) from error

    def _end(self, number: int, begin: int, deadline: float, command: str) -> tuple[int, int]:
        while True:
            for line in self._lines[begin:]:
                found = _END.fullmatch(line)
                if found and int(found[1]) == number:
                    return int(found[2]), int(found[3])
            if self._lost is not None:
                raise ConsoleLost(self._lost)
            try:
                self._wait(deadline, f"the end of {command!r}")
            except TooLong:
                self._line.sendall(b"\x03")
                raise

    def _output(self, number: int, begin: int) -> bytes | None:
        found = [match for line in self._lines[begin:] if (match := _DATA.fullmatch(line)) and int(match[1]) == number]
        try:
            return base64.b64decode("".join(match[2] for match in found), validate=True)
        except binascii.Error:
            return None

    def _wait(self, deadline: float, what: str) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TooLong(f"{what} did not come in time; the console says:\n{self.tail()}")
        self._changed.wait(min(left, 1))

    def _read(self) -> None:
        pending = b""
        while data := self._receive():
            *ended, pending = (pending + data).split(b"\n")
            for raw in ended:
                self._add(_cleaned(raw))
            with self._changed:
                self._partial = _cleaned(pending)[-1]
                self._changed.notify_all()
        self._add(_cleaned(pending))
        self._ended = True
        self.lose("the machine is off")

    def _receive(self) -> bytes:
        try:
            return self._line.recv(65536)
        except OSError:
            return b""

    def _add(self, lines: list[str]) -> None:
        with self._changed:
            self._lines += lines
            self._partial = ""
            self._changed.notify_all()
        for line in lines:
            if not (_DATA.fullmatch(line) or _END.fullmatch(line)):
                self._heard(line)


def _cleaned(raw: bytes) -> list[str]:
    """The lines of `raw` as a person sees them; at least one."""
    text = _NEW_PLACE.sub("\n", raw.decode(errors="replace"))
    return [_ESCAPE.sub("", line).replace("\r", "").replace("\0", "") for line in text.split("\n")]
