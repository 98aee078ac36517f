"""A cut while the boot reference of EFI firmware is changed: the firmware sees the old one or the new one.

The variables are files of an ordinary folder here, which is harsher than efivarfs: there a variable is written at once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from bootctl import efi, model
from bootctl.efi import Efi
from bootctl.efi_situation import Situation
from bootctl.efivars import GLOBAL_GUID
from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from health.judgement import judge
from tests.bootctl import test_efi
from tests.bootctl.test_efi import GOOD, SPARE, TRIAL, USED_UP, WAITING, confirmed, view_of
from tests.crash import recorder
from tests.crash.conftest import Tally
from tests.crash.recorder import Folder, Log, contents, lay_out, recorded

Transition = Callable[[BootView], BootView]

# What the slots a and b are before, and what is done. Slot a runs.
TRANSITIONS: dict[str, tuple[SlotState, SlotState, Transition]] = {
    "invalidate": (GOOD, SPARE, lambda view: model.invalidate(view, "b", active="a")),
    "invalidate the first": (SPARE, GOOD, lambda view: model.invalidate(view, "b", active="a")),
    "invalidate an armed one": (SPARE, TRIAL, lambda view: model.invalidate(view, "b", active="a")),
    "invalidate a rejected one": (GOOD, REJECTED, lambda view: model.invalidate(view, "b", active="a")),
    "arm": (GOOD, EMPTY, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "arm a rejected one": (GOOD, REJECTED, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "arm a good one": (GOOD, SPARE, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "arm the first": (SPARE, GOOD, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "arm one that waits": (GOOD, WAITING, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "arm one that is used up": (SPARE, USED_UP, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "invalidate one that is used up": (SPARE, USED_UP, lambda view: model.invalidate(view, "b", active="a")),
    "confirm": (SPARE, USED_UP, lambda view: model.confirm(view, "b")),
    "confirm a rejected one": (GOOD, REJECTED, lambda view: model.confirm(view, "b")),
    "confirm before it was started": (SPARE, TRIAL, lambda view: model.confirm(view, "b")),
    "confirm the other one": (SPARE, TRIAL, lambda view: model.confirm(view, "a")),
    "reject": (SPARE, GOOD, lambda view: model.reject(view, "b")),
    "reject the spare": (GOOD, SPARE, lambda view: model.reject(view, "b")),
    "reject one that is used up": (SPARE, USED_UP, lambda view: model.reject(view, "b")),
    "reject an armed one": (SPARE, TRIAL, lambda view: model.reject(view, "b")),
    "roll back": (SPARE, GOOD, lambda view: model.roll_back(view, active="b")),
    "roll back an armed one": (SPARE, TRIAL, lambda view: model.roll_back(view, active="b")),
}
# What slot b does as the one that runs: it is on trial, or was confirmed.
IN_B = ["confirm", "confirm a rejected one", "reject", "reject the spare", "reject one that is used up", "roll back"]
RUNNING = [*((name, "a") for name in TRANSITIONS), *((name, "b") for name in IN_B)]
DAMAGES = ["none", "no copies", "garbage in a copy", "lost entry", "no notes", "no BootCurrent", "damaged BootCurrent"]
VARIABLE = re.compile(rf".*-{GLOBAL_GUID}")


def backend_of(folder: Path) -> Efi:
    return Efi(str(folder), str(folder))


def prepare(folder: Path, name: str, damage: str = "none", running: str = "a") -> tuple[BootView, BootView]:
    """The references before and after, as they are read."""
    a, b, transition = TRANSITIONS[name]
    lay_out(folder, {})
    test_efi.lay_out_firmware(folder, (1, 2, 3))
    test_efi.write_variable(folder, "BootCurrent", test_efi.numbers("ab".index(running) + 1))
    backend_of(folder).commit(view_of(a, b))
    match damage:
        case "no copies":
            for slot in "ab":
                (folder / f"{slot}.entry").unlink()
        case "garbage in a copy":
            (folder / "a.entry").write_bytes(b"garbage")
        case "lost entry":
            (folder / f"Boot0002-{GLOBAL_GUID}").unlink()
        case "no notes":
            (folder / "notes").unlink(missing_ok=True)
        case "no BootCurrent":
            (folder / f"BootCurrent-{GLOBAL_GUID}").unlink()
        case "damaged BootCurrent":
            (folder / f"BootCurrent-{GLOBAL_GUID}").write_bytes(b"\6\0\0\0\2")
    old = backend_of(folder).read()
    before = contents(folder)
    backend_of(folder).commit(transition(old))
    new = backend_of(folder).read()
    lay_out(folder, before)
    return old, new


def commit(folder: Path, view: BootView) -> Log:
    with recorded(folder) as log:
        backend_of(folder).commit(view)
    return log


@cache
def _booted(variables: tuple[tuple[str, bytes], ...], strict: bool) -> tuple[str | None, tuple[tuple[str, bytes], ...]]:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), dict(variables))
        description = test_efi.start(Path(folder), strict=strict)
        return description, tuple(contents(Path(folder)).items())


def firmware_boots(state: Folder, *, strict: bool = True) -> tuple[str | None, Folder]:
    """The slot that the firmware starts, and the state that it leaves. efivarfs has no files but variables."""
    variables = {name: data for name, data in state.items() if VARIABLE.fullmatch(name)}
    description, left = _booted(tuple(sorted(variables.items())), strict)
    rest = {name: data for name, data in state.items() if name not in variables}
    return description and description.removeprefix("updated-"), {**rest, **dict(left)}


def faults(folder: Path, log: Log, old: BootView, new: BootView) -> Iterator[str]:
    """What is wrong with the states that a cut leaves."""
    for state in log.cuts():
        lay_out(folder, state)
        try:
            view = backend_of(folder).read()
        except BootError as error:
            yield str(error)
            continue
        if view not in (old, new):
            yield f"{view} is neither the old reference nor the new one"
        slot, after = model.next_boot(view)
        for strict in (False, True):
            booted, variables = firmware_boots(state, strict=strict)
            if booted != slot:
                yield f"the firmware starts {booted}, and the backend says {slot}"
                continue
            lay_out(folder, variables)
            left = backend_of(folder).read()
            # What a trial is called after it ran, depends on where the cut was; what starts does not.
            if model.boot_sequence(left, 3) != model.boot_sequence(after, 3):
                yield f"the firmware leaves {left}, and the model says {after}"
            if not confirmed(left) <= confirmed(old) | confirmed(after):
                yield f"the firmware leaves {left} with a slot that was never confirmed"
            if slot and new.state(slot) != REJECTED and judge(left, slot, []).verdict not in ("healthy", "confirmed"):
                yield f"the firmware leaves {left}, in which health gives up slot {slot}"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "running"), RUNNING)
def test_at_each_cut_the_firmware_and_we_see_the_old_reference_or_the_new_one(
    folder: Path, tally: Tally, name: str, running: str, damage: str
) -> None:
    old, new = prepare(folder, name, damage, running)
    log = commit(folder, new)
    assert list(faults(folder, log, old, new)) == []
    if (damage, running) == ("none", "a"):
        tally("efi", "models of EDK2 and of U-Boot, efibootmgr", name, len(list(log.cuts())))


@pytest.mark.parametrize(("name", "running"), RUNNING)
def test_the_cuts_leave_both_references(folder: Path, name: str, running: str) -> None:
    old, new = prepare(folder, name, running=running)
    seen = set()
    for state in list(commit(folder, new).cuts()):
        lay_out(folder, state)
        seen.add(backend_of(folder).read())
    assert seen == {old, new}
    assert old != new


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["invalidate", "arm", "confirm", "confirm the other one", "reject", "roll back"])
def test_a_commit_after_any_cut_makes_all_whole(folder: Path, name: str, damage: str) -> None:
    _, new = prepare(folder, name, damage)
    for state in list(commit(folder, new).cuts()):
        lay_out(folder, state)
        backend_of(folder).commit(new)
        assert backend_of(folder).read() == new
        assert backend_of(folder).problems() == ()


def test_a_sweep_finds_a_missing_fsync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = prepare(folder, "roll back")
    monkeypatch.setattr(recorder._Os, "fsync", lambda self, fd: None)
    found = list(faults(folder, commit(folder, new), old, new))
    assert any("0 bytes, which are not even its attributes" in fault for fault in found)


@pytest.mark.parametrize(
    "name", ["arm", "arm a good one", "arm a rejected one", "invalidate", "reject an armed one", "roll back"]
)
def test_a_sweep_finds_a_wrong_order(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """First all that BootOrder says, then that of BootNext, then the entries and the notes."""

    def careless(found: Situation, wanted: Situation) -> list[Situation]:
        order = replace(found, order=wanted.order)
        once = replace(order, once=wanted.once)
        return [found, order, once, replace(once, entries=wanted.entries), wanted]

    old, new = prepare(folder, name)
    monkeypatch.setattr(efi, "way", careless)
    found = list(faults(folder, commit(folder, new), old, new))
    assert (found == []) == (name == "roll back")
