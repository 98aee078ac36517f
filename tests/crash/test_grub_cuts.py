"""A cut while the boot reference in GRUB's environment block is changed: GRUB sees the old one or the new one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bootctl import durable, grub, model
from bootctl.grub import Grub
from bootctl.model import BootView
from tests.bootctl.grub_emulator import Booted, boot, grubenv, listed
from tests.crash.conftest import Tally
from tests.crash.recorder import Folder, Log, Sync, Truncate, Write, lay_out, recorded

Transition = Callable[[BootView], BootView]

FOREIGN = {"saved_entry": "x" * 40, "kernelopts": "quiet splash"}
TRANSITIONS: dict[str, tuple[dict[str, str], Transition]] = {
    "invalidate": (
        {"ORDER": "A B", "A_OK": "1", "B_OK": "1"},
        lambda view: model.invalidate(view, "b", active="a"),
    ),
    "arm": ({"ORDER": "A B", "A_OK": "1", "B_OK": "0"}, lambda view: model.arm_trial(view, "b", active="a")),
    "confirm": (
        {"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "2"},
        lambda view: model.confirm(view, "b"),
    ),
    "reject": (
        {"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "2"},
        lambda view: model.reject(view, "b"),
    ),
    "roll back": (
        {"ORDER": "B A", "A_OK": "1", "B_OK": "1"},
        lambda view: model.roll_back(view, active="b"),
    ),
    "recount": (
        {"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "1", "B_GOOD": "1"},
        lambda view: model.recount(view, "b", counted=3),
    ),
}


@pytest.fixture(params=["rename", "FAT"])
def fat(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "FAT":
        monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    return bool(request.param == "FAT")


@cache
def _booted(files: tuple[tuple[str, bytes], ...]) -> Booted:
    return boot(dict(files))


def grub_boots(state: Folder) -> Booted:
    return _booted(tuple(sorted((name, data) for name, data in state.items() if name.startswith("grubenv"))))


def prepare(folder: Path, name: str, damage: str) -> tuple[BootView, BootView]:
    variables, transition = TRANSITIONS[name]
    whole = grub.format_block(grub.parse(grubenv({**variables, **FOREIGN})))
    files = {"grubenv": whole, "grubenv.backup": whole}
    match damage:
        case "no second copy":
            del files["grubenv.backup"]
        case "older second copy":
            files["grubenv.backup"] = grubenv({"ORDER": "B A", "A_OK": "0", "B_OK": "1", **FOREIGN})
        case "empty first copy":
            files["grubenv"] = b""
        case "garbage in the first copy":
            files["grubenv"] = b"\0" * 1024
    lay_out(folder, files)
    old = Grub(str(folder / "grubenv")).read()
    return old, grub.decode(grub.encode({}, transition(old)))


def commit(folder: Path, view: BootView) -> Log:
    with recorded(folder) as log:
        Grub(str(folder / "grubenv")).commit(view)
    return log


DAMAGES = ["none", "no second copy", "older second copy", "empty first copy", "garbage in the first copy"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TRANSITIONS)
def test_at_each_cut_grub_and_we_see_the_old_reference_or_the_new_one(
    folder: Path, tally: Tally, fat: bool, name: str, damage: str
) -> None:
    old, new = prepare(folder, name, damage)
    log = commit(folder, new)
    seen = set()
    states = list(log.cuts(torn_renames=fat))
    for state in states:
        lay_out(folder, state)
        view = Grub(str(folder / "grubenv")).read()
        assert view in (old, new)
        booted = grub_boots(state)
        slot, after = model.next_boot(view)
        assert booted.slot == slot
        lay_out(folder, booted.files)
        assert Grub(str(folder / "grubenv")).read() == after
        seen.add(view)
    assert seen == {old, new}
    if damage == "none":
        tally("grub, on FAT" if fat else "grub, by rename", "GRUB 2.06, as a program", name, len(states))


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_commit_after_any_cut_makes_both_copies_whole(folder: Path, fat: bool, name: str) -> None:
    _, new = prepare(folder, name, "none")
    for state in list(commit(folder, new).cuts(torn_renames=fat)):
        lay_out(folder, state)
        Grub(str(folder / "grubenv")).commit(new)
        for copy in ("grubenv", "grubenv.backup"):
            variables = listed((folder / copy).read_bytes())
            assert grub.decode(variables) == new
            assert {name: variables[name] for name in FOREIGN} == FOREIGN


def test_what_grub_editenv_does_would_not_pass(folder: Path) -> None:
    """It empties the file and writes it anew (https://github.com/home-assistant/operating-system/issues/2031)."""
    _, new = prepare(folder, "arm", "no second copy")
    block = (folder / "grubenv").read_bytes()
    changed = grub.format_block(grub.EnvBlock(grub.encode(grub.parse(block).variables, new)))
    log = Log({"grubenv": block}, {"grubenv": 1}, [Truncate(1, 0), Write(1, 0, changed), Sync(1)])
    assert b"" in {state["grubenv"] for state in log.cuts()}
