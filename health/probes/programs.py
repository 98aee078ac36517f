"""Programs as checks: our own exit statuses, and those of greenboot and of openSUSE's health-checker."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from health import keys
from health.check import Attempt
from health.commands import Finished
from health.probes import Surroundings, cause, headed
from health.rootdir import inside

EXIT_RETRY = 75
"""EX_TEMPFAIL of sysexits.h."""
EXIT_SKIP = 77
"""What a skipped test of GNU Automake exits with."""


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """A command; exit status 0 passes, 75 (EX_TEMPFAIL) asks for another attempt, 77 skips, all others fail."""

    type: ClassVar[str] = "exec"
    command: tuple[str, ...]

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        made = _run(self.command, timeout, around)
        if isinstance(made, Attempt):
            return made
        if made.status == EXIT_SKIP:
            return Attempt("skip", made.output)
        if made.status == EXIT_RETRY:
            return Attempt("fail", headed("asks to be tried again later (exit status 75)", made.output))
        return _failed(made)


@dataclass(frozen=True, slots=True)
class PluginProbe:
    """A check of another health checker; exit status 0 passes, all others fail."""

    type: Literal["greenboot", "health-checker"]
    command: tuple[str, ...]

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        made = _run(self.command, timeout, around)
        return made if isinstance(made, Attempt) else _failed(made)


def _run(command: tuple[str, ...], timeout: float, around: Surroundings) -> Attempt | Finished:
    """What any checker takes alike, else how the command ended."""
    argv = inside(around.root, command)
    try:
        finished = around.commands.run(argv, timeout_seconds=timeout)
    except (OSError, ValueError) as error:
        return Attempt("fail", f"{argv[0]} can't be started: {cause(error)}", final=True)
    if finished.status is None:
        return Attempt("timeout", headed(f"killed after {timeout:g} s", finished.output))
    return Attempt("pass", finished.output) if finished.status == 0 else finished


def _failed(finished: Finished) -> Attempt:
    status = finished.status or 0
    ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return Attempt("fail", headed(ending, finished.output), final=True)


TYPES = {ExecProbe.type: keys.Type(ExecProbe, {"command": keys.command}, needed=("command",))}
