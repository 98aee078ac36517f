"""The processes of one run, as /proc shows them: their memory and their processor time, sampled while they live."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass

PERIOD = 0.02
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the samples of a run showed.

    In bytes: the largest sum of the memory of all processes at one time (a page that several share counts once), and
    the largest that a single process ever was. In seconds: the processor time of the processes.
    """

    memory: int
    largest: int
    cpu: float


class Sampler:
    """Samples all descendants of this process that were not there before, until it is stopped.

    `infrastructure` are names of programs that belong to the machine and not to the tool, such as the message bus.
    """

    def __init__(self, infrastructure: frozenset[str] = frozenset()) -> None:
        self._infrastructure = infrastructure
        self._mine = os.getpid()
        self._command = _read(f"/proc/{self._mine}/cmdline")
        self._strangers = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._members: dict[int, int] = {}
        self._cpu: dict[int, float] = {}
        self._memory = 0
        self._largest = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> Seen:
        """Ends the sampling; what was seen."""
        self._stopped.set()
        self._thread.join()
        return Seen(self._memory, self._largest, sum(self._cpu.values()))

    def end_all(self) -> None:
        """Kills what is left of the processes that were seen, and collects those that this process adopted."""
        for pid, start in list(self._members.items()):
            status = _stat(pid)
            if status is None or status.start != start:
                continue
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)

    def _loop(self) -> None:
        while not self._stopped.wait(PERIOD):
            self._sample()

    def _sample(self) -> None:
        here = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._strangers &= here
        new = {}
        for pid in here - self._strangers - self._members.keys():
            if (status := _stat(pid)) is not None:
                new[pid] = status
        # A child can be listed before its parent, and an orphan is this process's own child.
        while found := {pid for pid, each in new.items() if each.parent == self._mine or each.parent in self._members}:
            self._members |= {pid: new.pop(pid).start for pid in found}
        self._strangers |= new.keys()
        total = 0
        for pid in self._members.keys() & here:
            status = _stat(pid)
            if status is None or status.name in self._infrastructure:
                continue
            # Until it runs its own program, a new process has the memory of this one.
            if _read(f"/proc/{pid}/cmdline") == self._command:
                continue
            self._cpu[pid] = max(self._cpu.get(pid, 0.0), status.cpu)
            total += _memory(pid)
            self._largest = max(self._largest, _largest(pid))
        self._memory = max(self._memory, total)


@dataclass(frozen=True, slots=True)
class _Stat:
    name: str
    parent: int
    cpu: float
    start: int


def _stat(pid: int) -> _Stat | None:
    """proc(5): the name is in parentheses and can hold any character."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return _Stat(name, int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICK, int(fields[19]))


def _memory(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def _largest(pid: int) -> int:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
