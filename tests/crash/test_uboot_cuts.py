"""A cut while the boot reference in U-Boot's environment is changed: U-Boot sees the old one or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import pytest

from bootctl import durable, model
from bootctl.errors import BootError
from bootctl.model import EMPTY, BootView, SlotState
from bootctl.uboot import UBoot
from bootctl.uboot_copies import Copy, Found
from bootctl.uboot_env import Environment, format_environment
from bootctl.uboot_variables import decode, encode
from tests.bootctl.test_uboot_env import config_of, printed
from tests.crash.conftest import Tally
from tests.crash.recorder import SECTOR, Folder, Log, Sync, _possible_data, lay_out, recorded

SIZE = 0x800
OFFSET = 0x400
FOREIGN = {"arch": "arm", "bootcmd": "run a; run b", "long": "x" * 700}
GOOD, SPARE = SlotState(2, 0, True), SlotState(1, 0, True)
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

Kind = Literal["two on a disk", "two files", "file", "file on FAT", "one on a disk"]
Layout = Literal["ours first", "ours last", "as RAUC left it"]
Damage = Literal["none", "no other copy", "other copy spoiled", "first copy empty"]
Transition = Callable[[BootView], BootView]
KINDS: tuple[Kind, ...] = get_args(Kind)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
FILES: tuple[Kind, ...] = ("file", "file on FAT")


def two(a: SlotState, b: SlotState) -> BootView:
    return BootView((("a", a), ("b", b)))


OPERATIONS: Mapping[str, tuple[BootView, Transition]] = {
    "invalidate": (two(GOOD, SPARE), lambda view: model.invalidate(view, "b", active="a")),
    "arm": (two(GOOD, EMPTY), lambda view: model.arm_trial(view, "b", active="a")),
    "confirm": (two(SPARE, SlotState(2, 1, False)), lambda view: model.confirm(view, "b")),
    "reject": (two(SPARE, SlotState(2, 1, False)), lambda view: model.reject(view, "b")),
    "roll back": (two(SPARE, GOOD), lambda view: model.roll_back(view, active="b")),
    "recount": (two(SPARE, SlotState(2, 1, True)), lambda view: model.recount(view, "b", counted=3)),
}
# What the copy says that does not count. No operation comes from it or leads to it, so that it must never be seen.
OLDER = {**encode(two(SlotState(1, 7, False), SlotState(2, 7, False))), **FOREIGN, "long": "y" * 700}


@dataclass(frozen=True, slots=True)
class Machine:
    """An environment in `folder`, which nothing else is in; the configuration is elsewhere."""

    kind: Kind
    folder: Path
    config: Path

    @property
    def backend(self) -> UBoot:
        return UBoot(str(self.config), str(self.folder))

    def prepare(self, name: str, layout: Layout, damage: Damage = "none") -> tuple[BootView, BootView]:
        """Lay out what the operation begins with; the references before and after it."""
        before, transition = OPERATIONS[name]
        variables = {**encode(before), **FOREIGN}
        if layout == "ours last":
            variables = {**FOREIGN, **encode(before)}
        elif layout == "as RAUC left it":
            raucs = {name: value.rstrip() for name, value in encode(before).items() if not name.endswith("_OK")}
            variables = {**FOREIGN, **raucs}
        lay_out(self.folder, self._files(variables, damage))
        old = self.backend.read()
        return old, decode(encode(transition(old)))

    def _files(self, variables: Mapping[str, str], damage: Damage) -> Folder:
        spoiled = b"\0" * SIZE
        match self.kind:
            case "two on a disk" | "two files":
                other = spoiled if damage == "other copy spoiled" else environment(OLDER, 6)
                if self.kind == "two files":
                    return {"env0": other, "env1": environment(variables, 7)}
                return {"disk": other + b"between".ljust(SECTOR) + environment(variables, 7)}
            case "file" | "file on FAT":
                files = {"env": environment(variables), "env.backup": environment(OLDER)}
                if damage == "first copy empty":
                    files = {"env": b"", "env.backup": environment(variables)}
                elif damage == "other copy spoiled":
                    files["env.backup"] = spoiled
                elif damage == "no other copy":
                    del files["env.backup"]
                return files
            case "one on a disk":
                return {"disk": b"before".ljust(OFFSET) + environment(variables) + b"behind"}

    def commit(self, view: BootView) -> Log:
        with recorded(self.folder) as log:
            self.backend.commit(view)
        return log

    def cuts(self, log: Log) -> list[Folder]:
        return list(log.cuts(torn_renames=self.kind == "file on FAT"))

    def fault(self, state: Folder, *views: BootView) -> str:
        """What is wrong with `state`: "" if nothing is."""
        lay_out(self.folder, state)
        try:
            view = self.backend.read()
        except BootError as error:
            return str(error)
        if view not in views:
            return f"{view} is neither the old reference nor the new one"
        variables = seen(self.kind, state)
        if variables is None or decode(variables) != view:
            return f"fw_printenv sees {variables}, and the back-end {view}"
        if any(variables.get(name) != value for name, value in FOREIGN.items()):
            return "variables of others were changed"
        if model.next_boot(view)[0] is None:
            return "no slot boots"
        return ""


def environment(variables: Mapping[str, str], flag: int | None = None) -> bytes:
    entries = tuple(f"{name}={value}".encode() for name, value in variables.items())
    return format_environment(Environment(entries, flag), SIZE)


def lines(kind: Kind, folder: str) -> list[str]:
    match kind:
        case "two on a disk":
            return [f"{folder}/disk 0x0 {SIZE:#x}", f"{folder}/disk {SIZE + SECTOR:#x} {SIZE:#x}"]
        case "two files":
            return [f"{folder}/env0 0x0 {SIZE:#x}", f"{folder}/env1 0x0 {SIZE:#x}"]
        case "file" | "file on FAT":
            return [f"{folder}/env 0x0 {SIZE:#x}"]
        case "one on a disk":
            return [f"{folder}/disk {OFFSET:#x} {SIZE:#x}"]


def seen(kind: Kind, state: Folder) -> dict[str, str] | None:
    """The variables that U-Boot has when boot.cmd chooses: if it finds none by itself, those of the second copy."""
    firsts = tuple((name, data) for name, data in sorted(state.items()) if name in ("disk", "env", "env0", "env1"))
    variables = fw_printenv(kind, firsts)
    if variables is None and "env.backup" in state:
        return fw_printenv(kind, (("env", state["env.backup"]),))
    return variables


@cache
def fw_printenv(kind: Kind, files: tuple[tuple[str, bytes], ...]) -> dict[str, str] | None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        lay_out(Path(folder), dict(files))
        return printed(config_of(Path(folder), *lines(kind, folder)))


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    monkeypatch.setattr(durable, "sync_filesystem", lambda fd: None)
    if request.param == "file on FAT":
        monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    return Machine(request.param, folder, config_of(tmp_path, *lines(request.param, "")))


# One copy on a disk is safe in the layout that every change of ours leaves behind; limits() tells of the others.
SAFE = [(kind, layout) for kind in KINDS for layout in LAYOUTS if kind != "one on a disk" or layout == "ours first"]
DAMAGED: list[tuple[Kind, Damage]] = [
    ("two on a disk", "other copy spoiled"),
    ("two files", "other copy spoiled"),
    *((kind, damage) for kind in FILES for damage in get_args(Damage)[1:]),
]


@pytest.mark.parametrize(("machine", "layout"), SAFE, indirect=["machine"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_at_each_cut_fw_printenv_and_we_see_the_old_reference_or_the_new_one(
    machine: Machine, tally: Tally, name: str, layout: Layout
) -> None:
    old, new = machine.prepare(name, layout)
    views, states = set(), machine.cuts(machine.commit(new))
    for state in states:
        assert machine.fault(state, old, new) == ""
        views.add(machine.backend.read())
    assert views == {old, new}
    if layout == "ours first":
        tally(f"uboot, {machine.kind}", "fw_printenv", name, len(states))


@pytest.mark.parametrize(("machine", "damage"), DAMAGED, indirect=["machine"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_this_holds_with_a_damaged_copy_too(machine: Machine, name: str, damage: Damage) -> None:
    old, new = machine.prepare(name, "ours last", damage)
    for state in machine.cuts(machine.commit(new)):
        assert machine.fault(state, old, new) == ""


@pytest.mark.parametrize(("machine", "layout"), SAFE, indirect=["machine"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_it_is_durable_when_commit_returns(machine: Machine, name: str, layout: Layout) -> None:
    _, new = machine.prepare(name, layout)
    log = machine.commit(new)
    states = list(left_behind(log))
    assert all(state == states[0] for state in states)
    assert machine.fault(states[0], new) == ""


def left_behind(log: Log) -> list[Folder]:
    """What a cut after all effects can leave."""
    return [
        log._folder(names, effects)
        for names in log._possible_names(log.effects, False)
        for effects in _possible_data(log.effects, SECTOR)
    ]


@pytest.mark.parametrize("machine", KINDS, indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_commit_after_any_cut_makes_everything_whole(machine: Machine, name: str) -> None:
    _, new = machine.prepare(name, "ours first")
    for state in machine.cuts(machine.commit(new)):
        lay_out(machine.folder, state)
        machine.backend.commit(new)
        assert machine.backend.problems() == ()
        assert machine.fault({path.name: path.read_bytes() for path in machine.folder.iterdir()}, new) == ""


@pytest.mark.parametrize("machine", ["one on a disk"], indirect=True)
@pytest.mark.parametrize("layout", ["ours last", "as RAUC left it"])
def test_where_one_copy_on_a_disk_is_not_safe_the_limits_say_so(machine: Machine, layout: Layout) -> None:
    old, new = machine.prepare("arm", layout)
    assert any("a power cut during it" in limit for limit in machine.backend.limits())
    log = machine.commit(new)
    assert any(machine.fault(state, old, new) for state in machine.cuts(log))
    lay_out(machine.folder, log.final())
    assert not any("a power cut during it" in limit for limit in machine.backend.limits())


# --- the sweep finds what it is for ---


def faults(machine: Machine, name: str, layout: Layout, change: Callable[[Log], Log] = lambda log: log) -> set[str]:
    old, new = machine.prepare(name, layout)
    return {machine.fault(state, old, new) for state in machine.cuts(change(machine.commit(new)))} - {""}


@pytest.mark.parametrize("machine", ["file"], indirect=True)
def test_a_rename_before_the_data_is_durable_would_be_found(machine: Machine) -> None:
    assert faults(
        machine,
        "arm",
        "ours first",
        lambda log: replace(log, effects=[effect for effect in log.effects if not isinstance(effect, Sync)]),
    )


@pytest.mark.parametrize("machine", ["two on a disk", "two files"], indirect=True)
def test_a_missing_fsync_would_be_found(machine: Machine) -> None:
    _, new = machine.prepare("arm", "ours first")
    log = machine.commit(new)
    log = replace(log, effects=[effect for effect in log.effects if not isinstance(effect, Sync)])
    assert any(machine.fault(state, new) for state in left_behind(log))


@pytest.mark.parametrize("machine", ["two on a disk", "two files"], indirect=True)
def test_writing_over_the_copy_that_counts_would_be_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Found.writes

    def wrong(found: Found, wanted: Environment) -> list[tuple[Copy, bytes]]:
        return [(found.copy, data) for _, data in right(found, wanted)]

    monkeypatch.setattr(Found, "writes", wrong)
    assert any("neither" in fault for fault in faults(machine, "arm", "ours last"))


@pytest.mark.parametrize("machine", ["file on FAT"], indirect=True)
def test_writing_the_copy_that_counts_first_would_be_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Found.writes
    monkeypatch.setattr(Found, "writes", lambda found, wanted: right(found, wanted)[::-1])
    assert any("neither" in fault for fault in faults(machine, "arm", "ours last"))


@pytest.mark.parametrize("machine", ["one on a disk"], indirect=True)
def test_variables_of_ours_behind_the_first_sector_would_be_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(self: Environment, values: Mapping[str, str], *, room: int) -> Environment:
        others = [entry for entry in self.entries if entry.partition(b"=")[0].decode() not in values]
        return replace(self, entries=(*others, *(f"{name}={value}".encode() for name, value in values.items())))

    monkeypatch.setattr(Environment, "with_values", last)
    assert faults(machine, "arm", "ours first")
