"""Runs the processes of a tool one after the other, bounded in time, and measures what they cost together."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.processes import Sampler

TIMEOUT = 900.0
_PR_SET_CHILD_SUBREAPER = 36


class RunFailed(Exception):
    """A process ended with another status than 0, or did not end in time."""


@dataclass(frozen=True, slots=True)
class Step:
    """One process of a run. `name` says what its time is, `fds` are open files that it gets.

    `infrastructure` are programs that it starts and that belong to the machine (see `Sampler`). `success` is what it
    prints when all is well, for programs whose exit status does not tell.
    """

    name: str
    argv: Sequence[str]
    stdin: bytes = b""
    fds: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    infrastructure: frozenset[str] = frozenset()
    success: str = ""


@dataclass(frozen=True, slots=True)
class StepUsage:
    """What one process and its descendants cost. Times in seconds, memory in bytes (see `Seen`)."""

    seconds: float
    cpu: float
    memory: int
    largest: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run cost, by the names of its steps."""

    steps: Mapping[str, StepUsage]
    cut: bool = False

    @property
    def seconds(self) -> float:
        """Wall time of all steps."""
        return sum(step.seconds for step in self.steps.values())

    @property
    def cpu(self) -> float:
        """Processor time of all steps."""
        return sum(step.cpu for step in self.steps.values())

    @property
    def memory(self) -> int:
        """The most that any step needed."""
        return max((step.memory for step in self.steps.values()), default=0)


def adopt_orphans() -> None:
    """prctl(2): a process whose parent ended becomes a child of this one, so that it is counted and ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def run(steps: Sequence[Step], *, cut: int | None = None, timeout: float = TIMEOUT) -> Usage:
    """Runs `steps` in their order. Raises `RunFailed`, with what the process said.

    `cut` is an open file: as soon as it can be read, all processes of the run are killed, and the run is over.
    """
    deadline = time.monotonic() + timeout
    used = {}
    for step in steps:
        used[step.name], was_cut = _measured(step, cut, deadline)
        if was_cut:
            return Usage(used, cut=True)
    return Usage(used)


def _measured(step: Step, cut: int | None, deadline: float) -> tuple[StepUsage, bool]:
    sampler = Sampler(step.infrastructure)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    try:
        was_cut = _run(step, cut, deadline)
    finally:
        seconds = time.monotonic() - begun
        seen = sampler.stop()
        sampler.end_all()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    reaped = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return StepUsage(seconds, max(reaped, seen.cpu), seen.memory, seen.largest), was_cut


def _run(step: Step, cut: int | None, deadline: float) -> bool:
    """Whether the step was cut short."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
        given.write(step.stdin)
        given.seek(0)
        process = subprocess.Popen(
            step.argv, stdin=given, stdout=output, stderr=output, pass_fds=step.fds, cwd=step.folder,
            env={**os.environ, **step.environment}, start_new_session=True,
        )  # fmt: skip
        pidfd = os.pidfd_open(process.pid)
        try:
            wanted = [pidfd] if cut is None else [pidfd, cut]
            ready, _, _ = select.select(wanted, [], [], max(0.0, deadline - time.monotonic()))
            if pidfd in ready:
                status = process.wait()
                output.seek(0)
                text = output.read().decode(errors="replace")
                if status != 0 and not (step.success and step.success in text):
                    raise RunFailed(f"{step.name} ended with status {status}:\n{text[-2000:]}")
                return False
            if not ready:
                raise RunFailed(f"{step.name} did not end in time")
            return True
        finally:
            os.close(pidfd)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
