"""The format of what the slots share on the state partition, as a number, and the programs that change it.

An image says which state it reads with UPDATED_STATE_EPOCH=N in its os-release (0 without it), the state partition
says which it holds. Newer than the state: the image brings `migrate.d`, run as `PROGRAM forward FROM TO`. Older: only
the newer image knew the way back, so its programs were copied to the state partition before they changed anything, and
the older image runs those, as `PROGRAM backward FROM TO`, in the opposite order.

The epoch is written after success alone. What was begun is noted before, so that a cut leads to another run: the
programs must bear that.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bootctl import durable
from bootctl.errors import in_words
from health import system
from health.check import CheckResult
from health.folders import in_effect, names_in
from health.rootdir import below

if TYPE_CHECKING:
    from health.sequence import Outcome

EPOCH = "/var/lib/updated/state-epoch"
COPIES = "/var/lib/updated/migrations"
BEGUN = f"{COPIES}/begun"
PROGRAMS = "/usr/lib/updated/migrate.d"
FIELD = "UPDATED_STATE_EPOCH"
PROGRAM_LIMIT = 1024 * 1024
EACH_SECONDS = 300.0
ALL_SECONDS = 600.0

Direction = Literal["forward", "backward"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the state, from an epoch to another."""

    direction: Direction
    start: int
    end: int

    def __str__(self) -> str:
        return f"the state's migration {self.direction} from epoch {self.start} to {self.end}"


def step(image: int, state: int, begun: int | None) -> Step | None:
    """What has to be done so that the image can read the state; `begun`: the epoch to which a migration did not end."""
    reached = max(state, begun or 0)
    if image < reached:
        return Step("backward", reached, image)
    if state < image:
        return Step("forward", state, image)
    return None


def migrate(root: str, *, most_seconds: float = ALL_SECONDS) -> CheckResult | None:
    """Makes the state one that this image reads, within `most_seconds` if that is less than the programs have anyway; a
    failed required check if that can't be, None when all is well."""
    seconds = min(ALL_SECONDS, most_seconds)
    try:
        todo = step(image_epoch(root), _number(root, EPOCH) or 0, _number(root, BEGUN))
        if todo is None:
            return None
        outcomes = (_forward if todo.direction == "forward" else _backward)(root, todo, seconds)
    except (OSError, ValueError) as error:
        return _failure(in_words(error))
    return _result(root, todo, outcomes)


def go_back(root: str) -> CheckResult | None:
    """Undoes the migration to this image's epoch, for the slot that it leaves; a failure is told, and the other slot
    tries again. None when there is nothing to undo."""
    try:
        reached = max(_number(root, EPOCH) or 0, _number(root, BEGUN) or 0)
        start = _number(root, f"{COPIES}/{reached}.from")
        if reached != image_epoch(root) or start is None:
            return None
        todo = Step("backward", reached, start)
        outcomes = _backward(root, todo, ALL_SECONDS)
    except (OSError, ValueError) as error:
        return _failure(in_words(error))
    return _result(root, todo, outcomes)


def image_epoch(root: str) -> int:
    """Raises ValueError when os-release holds something else than a number."""
    text = system.os_release(root).get(FIELD, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"os-release: {FIELD}={text!r} is no number")
    return int(text)


def _forward(root: str, todo: Step, seconds: float) -> "tuple[Outcome, ...]":
    programs = [entry.path for entry in in_effect(root, PROGRAMS, "/etc/updated/migrate.d")]
    copies = f"{COPIES}/{todo.end}"
    for name in names_in(root, copies):
        durable.remove(os.path.join(below(root, copies), name))
    for path in programs:
        with open(below(root, path), "rb") as file:
            program = file.read(PROGRAM_LIMIT + 1)
        if len(program) > PROGRAM_LIMIT:
            raise ValueError(f"{path} is larger than {PROGRAM_LIMIT} bytes, and is not copied for the way back")
        system.store(root, f"{copies}/{os.path.basename(path)}", program, mode=0o755)
    system.store(root, f"{COPIES}/{todo.end}.from", f"{todo.start}\n".encode())
    system.store(root, BEGUN, f"{todo.end}\n".encode())
    return _run(root, todo, programs, seconds)


def _backward(root: str, todo: Step, seconds: float) -> "tuple[Outcome, ...]":
    copies = f"{COPIES}/{todo.start}"
    if not os.path.isdir(below(root, copies)) and _number(root, f"{copies}.from") is None:
        raise ValueError(f"the state is of epoch {todo.start}, and the way back to {todo.end} was not kept")
    names = sorted(names_in(root, copies), key=os.fsencode, reverse=True)
    return _run(root, todo, [f"{copies}/{name}" for name in names], seconds)


def _run(root: str, todo: Step, programs: Sequence[str], seconds: float) -> "tuple[Outcome, ...]":
    from health.sequence import run_in_order

    commands = [(path, todo.direction, str(todo.start), str(todo.end)) for path in programs]
    outcomes = run_in_order(
        root, commands, {}, each_seconds=EACH_SECONDS, all_seconds=seconds, stop_at_failure=True
    )
    if all(outcome.passed for outcome in outcomes):
        system.store(root, EPOCH, f"{todo.end}\n".encode())
        durable.remove(below(root, BEGUN))
    return outcomes


def _result(root: str, todo: Step, outcomes: "Sequence[Outcome]") -> CheckResult | None:
    from health import journal

    failed = next((outcome for outcome in outcomes if not outcome.passed), None)
    message = f"{todo} is done" if failed is None else f"{todo}: {failed.program}: {failed.result}; {failed.output}"
    journal.send(
        journal.MIGRATION, journal.NOTICE if failed is None else journal.ERROR, message,
        {"UPDATED_FROM_EPOCH": str(todo.start), "UPDATED_TO_EPOCH": str(todo.end)}, root,
    )  # fmt: skip
    return None if failed is None else _failure(message)


def _failure(cause: str) -> CheckResult:
    return CheckResult("state-epoch", "required", "state-epoch", "fail", output=cause)


def _number(root: str, path: str) -> int | None:
    """The number in a file; None without one. Raises ValueError for anything else in it, OSError."""
    with contextlib.suppress(FileNotFoundError), open(below(root, path), encoding="ascii") as file:
        text = file.read(64).strip()
        if not (text.isdigit() and len(text) <= 9):
            raise ValueError(f"{path} holds {text!r} instead of an epoch; write the right one")
        return int(text)
    return None
