"""Runs programs one after the other, each bounded in time and all together, as hooks and migrations need it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bootctl.errors import in_words
from health.commands import Commands
from health.interruption import interruptible
from health.rootdir import inside


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one program ended; `seconds` is how long it took, `output` the end of what it wrote."""

    program: str
    result: Literal["pass", "fail", "timeout"]
    seconds: float = 0.0
    output: str = ""

    @property
    def passed(self) -> bool:
        return self.result == "pass"

    @property
    def document(self) -> dict[str, Any]:
        return {"program": self.program, "result": self.result, "seconds": self.seconds, "output": self.output}


def run_in_order(
    root: str,
    commands: Sequence[tuple[str, ...]],
    environment: Mapping[str, str],
    *,
    each_seconds: float,
    all_seconds: float,
    stop_at_failure: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Outcome, ...]:
    """Runs each command inside `root`; an exit status other than 0 is a failure. A signal raises `Interrupted`."""
    runner = Commands()
    outcomes: list[Outcome] = []
    began = clock()
    with interruptible():
        try:
            for command in commands:
                left = all_seconds - (clock() - began)
                if left <= 0:
                    outcome = Outcome(_name(command), "timeout", output=f"not begun: {all_seconds:g} s are over")
                else:
                    outcome = _run(runner, root, command, environment, min(each_seconds, left), clock)
                outcomes.append(outcome)
                if stop_at_failure and not outcome.passed:
                    break
        finally:
            runner.kill_all()
    return tuple(outcomes)


def _run(
    runner: Commands, root: str, command: tuple[str, ...], environment: Mapping[str, str], seconds: float,
    clock: Callable[[], float],
) -> Outcome:  # fmt: skip
    began = clock()
    variables = [f"{name}={value}" for name, value in environment.items()]
    try:
        finished = runner.run(("env", *variables, *inside(root, command)), timeout_seconds=seconds)
    except (OSError, ValueError) as error:
        return Outcome(_name(command), "fail", output=f"it can't be started: {in_words(error)}")
    took = round(clock() - began, 3)
    if finished.status is None:
        return Outcome(_name(command), "timeout", took, f"{finished.output}\nkilled after {seconds:g} s".strip())
    if finished.status != 0:
        return Outcome(_name(command), "fail", took, f"{finished.output}\nexit status {finished.status}".strip())
    return Outcome(_name(command), "pass", took, finished.output)


def _name(command: tuple[str, ...]) -> str:
    """The program itself, also behind the shell that runs it."""
    return next((word for word in command if word.startswith("/")), command[0])
