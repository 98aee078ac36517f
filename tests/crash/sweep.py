"""Cuts each operation on a boot reference at each write, and looks what boots then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bootctl import durable, model
from bootctl.backend import Backend
from bootctl.model import BootView, SlotState
from health.judgement import changed, judge
from tests.crash.recorder import Folder, Log, lay_out, recorded

Transition = Callable[[BootView], BootView]

GOOD: Final = SlotState(2, 0, True)
SPARE: Final = SlotState(1, 0, True)


@dataclass(frozen=True, slots=True)
class Operation:
    """A change of the boot reference of the slots a and b, and what they are before it."""

    a: SlotState
    b: SlotState
    transition: Transition

    @property
    def before(self) -> BootView:
        return BootView((("a", self.a), ("b", self.b)))


OPERATIONS: Final[Mapping[str, Operation]] = {
    "invalidate": Operation(GOOD, SPARE, lambda view: model.invalidate(view, "b", active="a")),
    "arm": Operation(GOOD, model.EMPTY, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "confirm": Operation(SPARE, SlotState(2, 1, False), lambda view: model.confirm(view, "b")),
    "reject": Operation(SPARE, SlotState(2, 1, False), lambda view: model.reject(view, "b")),
    "roll back": Operation(SPARE, GOOD, lambda view: model.roll_back(view, active="b")),
    "recount": Operation(SPARE, SlotState(2, 1, True), lambda view: model.recount(view, "b", counted=3)),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A back-end in a folder.

    `lay_out` puts a whole boot reference there in which slot a is confirmed; `open` gives the back-end; `boots` lets
    the loader, or a model of it, choose, which may count in the folder, and gives the slot that starts, or None. With
    `fat` the folder is taken for one on FAT.
    """

    name: str
    lay_out: Callable[[Path], None]
    open: Callable[[Path], Backend]
    boots: Callable[[Path], str | None]
    fat: bool = False

    def prepared(self, folder: Path, operation: Operation) -> tuple[BootView, BootView]:
        """Bring `folder` to where `operation` begins; the references before and after it, as they are read back."""
        views = []
        for view in (operation.transition(operation.before), operation.before):
            lay_out(folder, {})
            self.lay_out(folder)
            backend = self.open(folder)
            if view != operation.before:
                backend.commit(operation.before)
            backend.commit(view)
            views.append(self.open(folder).read())
        after, before = views
        return before, after

    @contextmanager
    def on_its_file_system(self) -> Iterator[None]:
        """What is done meanwhile takes the folder for one on the file system of this subject."""
        with pytest.MonkeyPatch.context() as patch:
            if self.fat:
                patch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
            yield

    def committed(self, folder: Path, view: BootView) -> Log:
        """What a commit of `view` does."""
        with recorded(folder) as log:
            self.open(folder).commit(view)
        return log


def cuts(subject: Subject, folder: Path, operation: Operation) -> Iterator[Folder]:
    """What each cut of `operation` leaves. What is done with a state happens on the same file system."""
    with subject.on_its_file_system():
        _, new = subject.prepared(folder, operation)
        yield from subject.committed(folder, new).cuts(torn_renames=subject.fat)


def converges(subject: Subject, folder: Path, state: Folder) -> bool:
    """Whether a machine that starts from `state` goes on by itself until slot b is confirmed and boots, and its health,
    with all checks passed, never gives it up.
    """
    lay_out(folder, state)
    for _ in range(8):
        slot = subject.boots(folder)
        view = subject.open(folder).read()
        if slot == "b" and view.state("b").condition == "good":
            return True
        if slot == "b":
            judgement = judge(view, "b", [])
            if judgement.verdict != "confirmed":
                return False
            subject.open(folder).commit(changed(view, "b", judgement))
        elif slot == "a":
            # The daemon begins anew, or goes on.
            if view.state("b").condition != "trial":
                subject.open(folder).commit(model.invalidate(subject.open(folder).read(), "b", active="a"))
            tries = min(2, subject.open(folder).most_tries)
            subject.open(folder).commit(
                model.arm_trial(subject.open(folder).read(), "b", active="a", tries=tries)
            )
        else:
            return False
    return False
