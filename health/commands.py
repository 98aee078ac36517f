"""Runs a command in a process group of its own, bounded in time and memory, and leaves nothing of it behind."""

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from health.check import OUTPUT_LIMIT

if TYPE_CHECKING:
    import subprocess

_REAP_SECONDS = 0.5
"""SIGKILL works at once, except on a process that waits for a device in the kernel; nobody should wait for that one."""
_START_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finished:
    """`status` is the exit status, negative for a signal; None when the time was over and the group was killed."""

    status: int | None
    output: str


class _Tail:
    """The last characters of an output. One of UTF-8 has at most four bytes."""

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._bytes = bytearray()

    def add(self, block: bytes) -> None:
        self._bytes += block
        del self._bytes[: -4 * self._characters]

    def text(self) -> str:
        return self._bytes.decode(errors="replace")[-self._characters :]


class Commands:
    """Starts commands and knows which ones run, so that an interrupted run can end them all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._groups: set[int] = set()
        self._starting = 0
        self._closed = False

    def run(self, argv: tuple[str, ...], *, timeout_seconds: float, keep: int = OUTPUT_LIMIT) -> Finished:
        """Runs `argv` to its end or to the time-out, then kills what is left of its process group.

        Standard output and error are taken together; of them the last `keep` characters are kept. Raises OSError when
        the command can't be started.
        """
        deadline = time.monotonic() + timeout_seconds
        process = self._start(argv)
        assert process.stdout is not None  # noqa: S101 - for the type checker: stdout=PIPE
        with process.stdout as stream:
            kept = _Tail(keep)
            in_time = False
            try:
                in_time = _watch(process.pid, stream, deadline, kept)
            finally:
                self._end(process.pid)
            _drain(stream.fileno(), kept)
        status = _reap(process)
        return Finished(status if in_time else None, kept.text())

    def kill_all(self) -> None:
        """Kills every group that runs, waits for those about to start, and refuses further ones."""
        with self._changed:
            self._closed = True
            for group in self._groups:
                _kill_group(group)
            # A program on a dead disk may never come to its start.
            self._changed.wait_for(lambda: self._starting == 0, _START_SECONDS)

    def _start(self, argv: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        import subprocess

        with self._changed:
            if self._closed:
                raise InterruptedError(errno.EINTR, "the run was interrupted")
            self._starting += 1
        process = None
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
            return process
        finally:
            self._started(process.pid if process else None)

    def _started(self, group: int | None) -> None:
        with self._changed:
            self._starting -= 1
            if group is not None:
                self._groups.add(group)
                if self._closed:
                    _kill_group(group)
            self._changed.notify_all()

    def _end(self, group: int) -> None:
        # Before the leader is reaped, so that its number still means this group and no other.
        with self._changed:
            _kill_group(group)
            self._groups.discard(group)


def _watch(pid: int, stream: IO[bytes], deadline: float, kept: "_Tail") -> bool:
    """Gathers output in `kept` until the leader ends (True) or the deadline passes (False).

    The end of the output is not waited for: a process that left the group may hold the pipe for ever.
    """
    import selectors

    os.set_blocking(stream.fileno(), False)
    leader = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            selector.register(leader, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                ready = [key.fileobj for key, _ in selector.select(left)]
                if stream in ready and not _read_once(stream.fileno(), kept):
                    selector.unregister(stream)
                if leader in ready:
                    return True
        return False
    finally:
        os.close(leader)


def _drain(fd: int, kept: "_Tail") -> None:
    """Takes what the pipe holds now; at most its capacity, or a process outside the group could keep this busy."""
    for _ in range(64):
        if not _read_once(fd, kept):
            return


def _read_once(fd: int, kept: "_Tail") -> bool:
    try:
        block = os.read(fd, 65536)
    except BlockingIOError:
        return False
    kept.add(block)
    return bool(block)


def _reap(process: "subprocess.Popen[bytes]") -> int | None:
    import subprocess

    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(_REAP_SECONDS)
    return None


def _kill_group(group: int) -> None:
    import signal

    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
