"""A cut while the entries of systemd-boot are changed: the loader sees the old reference or the new one.

The folder that is cut holds both the entries and the EFI variables, so that their order counts too. Real firmware
writes a variable at once; here it is a file like the others, which is harsher.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootctl import bls, durable, model, systemd_boot, systemd_boot_files
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from bootctl.systemd_boot import SystemdBoot
from tests.crash.conftest import Tally
from tests.crash.recorder import Folder, Log, Rename, contents, lay_out, recorded
from tests.fakes.systemd_boot import Loader, set_variable, uki

Transition = Callable[[BootView], BootView]

DEFAULT = "LoaderEntryDefault"
GOOD, SPARE = SlotState(2, 0, True), SlotState(1, 0, True)
TRIAL, LAST_TRY, USED_UP = SlotState(2, 3, False), SlotState(2, 1, False), SlotState(2, 0, False)
COUNTED, COUNTED_BEHIND, LAST_RESORT = SlotState(2, 1, True), SlotState(1, 1, True), SlotState(0, 0, True)


def invalidate(view: BootView) -> BootView:
    return model.invalidate(view, "b", active="a")


def arm(tries: int) -> Transition:
    return lambda view: model.arm_trial(view, "b", active="a", tries=tries)


def confirm(slot: str, counted: int = 0) -> Transition:
    return lambda view: model.confirm(view, slot, counted=counted)


def recount(slot: str, counted: int) -> Transition:
    return lambda view: model.recount(view, slot, counted=counted)


def reject(view: BootView) -> BootView:
    return model.reject(view, "b")


def roll_back(view: BootView) -> BootView:
    return model.roll_back(view, active="b")


# What the slots a and b are before, and what is done; first what an order and one boot of a trial can express.
ONCE: Mapping[str, tuple[SlotState, SlotState, Transition]] = {
    "invalidate": (GOOD, SPARE, invalidate),
    "invalidate the first": (SPARE, GOOD, invalidate),
    "invalidate an armed one": (SPARE, LAST_TRY, invalidate),
    "invalidate a rejected one": (GOOD, REJECTED, invalidate),
    "arm": (GOOD, EMPTY, arm(1)),
    "arm a rejected one": (GOOD, REJECTED, arm(1)),
    "arm a good one": (GOOD, SPARE, arm(1)),
    "confirm": (SPARE, LAST_TRY, confirm("b")),
    "confirm a rejected one": (GOOD, REJECTED, confirm("b")),
    "confirm the other one": (SPARE, LAST_TRY, confirm("a")),
    "reject": (SPARE, GOOD, reject),
    "reject an armed one": (SPARE, LAST_TRY, reject),
    "roll back": (SPARE, GOOD, roll_back),
    "roll back an armed one": (SPARE, LAST_TRY, roll_back),
}
COUNTING: Mapping[str, tuple[SlotState, SlotState, Transition]] = {
    **ONCE,
    "invalidate one that is used up": (SPARE, USED_UP, invalidate),
    "invalidate beside a counted one": (COUNTED, SPARE, invalidate),
    "arm 3": (GOOD, EMPTY, arm(3)),
    "arm 10 beside a counted one": (COUNTED, EMPTY, arm(10)),
    "arm one that is used up": (SPARE, USED_UP, arm(2)),
    "confirm and count": (SPARE, TRIAL, confirm("b", 3)),
    "reject one of 3": (SPARE, TRIAL, reject),
    "reject one that is used up": (SPARE, USED_UP, reject),
    "reject the last resort": (GOOD, LAST_RESORT, reject),
    "recount": (SPARE, COUNTED, recount("b", 3)),
    "recount behind a trial": (COUNTED_BEHIND, TRIAL, recount("a", 3)),
    "recount the last resort": (LAST_RESORT, EMPTY, recount("a", 3)),
    "count less": (SPARE, SlotState(2, 3, True), recount("b", 2)),
    "count no longer": (SPARE, COUNTED, recount("b", 0)),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """systemd-boot of that version, with entries of type 1 that have the key `kind`, or with images of `versions`."""

    root: Path
    version: int = 252
    kind: str = "linux"
    versions: tuple[str, str] = ("1", "2")

    @property
    def folder(self) -> Path:
        """What is cut."""
        return self.root / "cut"

    @property
    def esp(self) -> Path:
        return self.root / "esp"

    def open(self) -> SystemdBoot:
        return SystemdBoot(str(self.esp), str(self.folder))

    def read(self) -> BootView:
        return self.open().read()

    def boots(self) -> str | None:
        return Loader(self.esp, self.folder, self.version).boots()

    def create(self) -> Machine:
        entries = self.esp / ("EFI/Linux" if self.kind == "image" else "loader/entries")
        entries.parent.mkdir(parents=True)
        self.folder.mkdir()
        entries.symlink_to(self.folder)
        for slot in "ab":
            (self.esp / slot).mkdir()
            (self.esp / slot / "linux").touch()
        return self

    def lay_out(self) -> None:
        """Slot a is confirmed. The entries are so long that each takes several sectors."""
        lay_out(self.folder, {})
        for slot, counter, version in (("a", "", self.versions[0]), ("b", "+0-0", self.versions[1])):
            name = f"updated-{slot}{counter}"
            if self.kind == "image":
                (self.folder / f"{name}.efi").write_bytes(uki(f"ID=x\nVERSION_ID={version}\n"))
            else:
                long, line = "x" * 600, f"sort-key x\nversion 000000000{version}\n{self.kind} /{slot}/linux"
                (self.folder / f"{name}.conf").write_text(f"title {long}\n{line}\noptions {long}\n")
        Loader(self.esp, self.folder, self.version).tell_features()

    def prepare(self, name: str, default: str | None = None, damage: str = "none") -> tuple[BootView, BootView]:
        """Bring the folder to where the transition begins; the references before and after it, as they are read."""
        a, b, transition = COUNTING[name]
        views = []
        for last in (True, False):
            self.lay_out()
            self.open().commit(BootView((("a", a), ("b", b))))
            if default is not None:
                set_variable(self.folder, DEFAULT, default)
            if damage == "second file":
                text = f"sort-key x\nversion 0000000000\n{self.kind} /b/linux\n"
                (self.folder / "updated-b+0-9.conf").write_text(text)
            elif damage == "leftover":
                (self.folder / ".updated-b+3-0.conf.7.tmp").write_text("linux")
            views.append(self.read())
            if last:
                self.open().commit(transition(self.read()))
                views.append(self.read())
        return views[0], views[1]

    def commit(self, view: BootView) -> Log:
        with recorded(self.folder) as log:
            self.open().commit(view)
        return log


def seen(machine: Machine, states: Iterator[Folder]) -> set[BootView]:
    views = set()
    for state in states:
        lay_out(machine.folder, state)
        views.add(machine.read())
    return views


def check(machine: Machine, state: Folder, old: BootView, new: BootView) -> None:
    """The loader and the back-end agree about the old reference or the new one, and a commit makes all whole."""
    lay_out(machine.folder, state)
    view = machine.read()
    assert view in (old, new)
    slot, after = model.next_boot(view)
    assert slot is not None
    assert machine.boots() == slot
    if any(state.bootable for _, state in view.slots):
        # Where a slot was good before its trial, both files may be left, and the old one counts when this is used up.
        assert machine.read() in (after, old)
    lay_out(machine.folder, state)
    machine.open().commit(new)
    assert machine.read() == new
    assert machine.open().problems() == ()
    assert len([name for name in contents(machine.folder) if name.startswith("updated-")]) == 2


@pytest.mark.parametrize("fat", [False, True], ids=["rename", "FAT"])
@pytest.mark.parametrize("version", [252, 259])
@pytest.mark.parametrize("damage", ["none", "second file", "leftover"])
@pytest.mark.parametrize("name", COUNTING)
def test_at_each_cut_the_loader_and_we_see_the_old_reference_or_the_new_one(
    folder: Path, tally: Tally, name: str, damage: str, version: int, fat: bool
) -> None:
    machine = Machine(folder, version).create()
    old, new = machine.prepare(name, damage=damage)
    log = machine.commit(new)
    states = list(log.cuts(torn_renames=fat))
    assert seen(machine, iter(states)) == {old, new}
    for state in states:
        check(machine, state, old, new)
    if damage == "none":
        where = "on FAT" if fat else "by rename"
        tally(f"systemd_boot {version}, {where}", "a model of systemd-boot", name, len(states))


# On FAT, Linux writes the new name of a file first, and without the place and the size of the file. These come when the
# inode is written, which a sync of the folder does not wait for. The old name may go before that, and also long after.


def on_fat(log: Log, syncs: list[int]) -> Iterator[Folder]:
    """What a cut leaves. `syncs` tells how many effects had happened at each sync of the file system."""
    for length in range(len(log.effects) + 1):
        since = max((sync for sync in syncs if sync <= length), default=0)
        renames = [effect for effect in log.effects[since:length] if isinstance(effect, Rename)]
        for state in Log(log.before, log.names, log.effects[:length]).cuts(torn_renames=True):
            yield state
            for rename in renames:
                if rename.target in state and rename.target not in log.before:
                    yield {**state, rename.target: b""}
                    yield {**state, rename.source: state[rename.target]}


def commit_on_fat(machine: Machine, view: BootView) -> Iterator[Folder]:
    syncs: list[int] = []
    with recorded(machine.folder) as log, pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "sync_filesystem", lambda fd: syncs.append(len(log.effects)))
        machine.open().commit(view)
    return on_fat(log, syncs)


@pytest.mark.parametrize("name", COUNTING)
def test_a_rename_as_linux_does_it_on_fat_loses_nothing(folder: Path, name: str) -> None:
    machine = Machine(folder).create()
    old, new = machine.prepare(name)
    for state in list(commit_on_fat(machine, new)):
        check(machine, state, old, new)


@pytest.mark.parametrize("name", [name for name in ONCE if name != "confirm a rejected one"])
def test_the_rename_of_an_image_loses_that_slot_at_the_worst(folder: Path, name: str) -> None:
    machine = Machine(folder, kind="image").create()
    old, new = machine.prepare(name)
    slots = {model.next_boot(view)[0] for view in (old, new)}
    for state in list(commit_on_fat(machine, new)):
        lay_out(machine.folder, state)
        slot, _ = model.next_boot(machine.read())
        assert machine.boots() == slot
        assert slot in slots or slot == "a"


# Explicit choices. The loader starts what it would start before or after, or the confirmed slot a where a choice of
# slot b is just being given up. The back-end may see a step in between, such as two confirmed slots.


def choice(machine: Machine, state: Folder) -> str | None:
    lay_out(machine.folder, state)
    return machine.boots()


def in_the_end(machine: Machine, state: Folder) -> str | None:
    """The slot that starts again and again when nobody confirms anything."""
    lay_out(machine.folder, state)
    return [machine.boots() for _ in range(8)][-1]


def check_choices(machine: Machine, log: Log, new: BootView, *, fat: bool = False) -> None:
    ends = (log.before, log.final())
    choices = {choice(machine, state) for state in ends} | {"a"}
    later = {in_the_end(machine, state) for state in ends} | {"a"}
    for state in log.cuts(torn_renames=fat):
        assert choice(machine, state) in choices
        assert in_the_end(machine, state) in later
        lay_out(machine.folder, state)
        machine.open().commit(new)
        assert machine.open().problems() == ()


def mixed(log: Log) -> list[Folder]:
    """The states in which an explicit choice stands beside a counter that was not there before."""

    def counted(name: str) -> bool:
        parsed = bls.parse_name(name)
        return parsed is not None and bool(parsed.left)

    return [
        state
        for state in log.cuts()
        if any(name.startswith(DEFAULT) for name in state) and any(map(counted, state.keys() - log.before.keys()))
    ]


@pytest.mark.parametrize("default", ["updated-a.conf", "updated-b.conf", "updated-b*", "other.conf"])
@pytest.mark.parametrize("name", [*ONCE, "arm 3", "confirm and count", "recount"])
def test_an_explicit_choice_is_given_up_before_anything_is_counted(folder: Path, name: str, default: str) -> None:
    machine = Machine(folder, 259).create()
    _, new = machine.prepare(name, default)
    log = machine.commit(new)
    check_choices(machine, log, new)
    assert not mixed(log)


@pytest.mark.parametrize(
    ("version", "kind", "versions"),
    [
        (239, "linux", ("1", "2")), (239, "image", ("1", "2")), (252, "efi", ("1", "2")), (259, "efi", ("1", "2")),
        (252, "image", ("1", "2")), (259, "image", ("1", "2")), (252, "image", ("2", "1")), (259, "image", ("2", "1")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ONCE)
def test_at_each_cut_of_a_one_shot_the_loader_starts_what_it_would_before_or_after(
    folder: Path, name: str, version: int, kind: str, versions: tuple[str, str]
) -> None:
    machine = Machine(folder, version, kind, versions).create()
    _, new = machine.prepare(name)
    check_choices(machine, machine.commit(new), new)


# Entries whose version is not one of ours get one at the first change, in a text of another length.


@pytest.mark.parametrize("fat", [False, True], ids=["rename", "FAT"])
@pytest.mark.parametrize("name", COUNTING)
def test_a_new_text_under_the_same_name_loses_no_slot_that_boots(folder: Path, name: str, fat: bool) -> None:
    machine = Machine(folder, 259).create()
    machine.prepare(name)
    for path in machine.folder.glob("updated-*"):
        path.write_bytes(path.read_bytes().replace(b"version 00000000", b"version 1."))
    new = COUNTING[name][2](machine.read())
    check_choices(machine, machine.commit(new), new, fat=fat)


# Mistakes that these tests would find.


@contextmanager
def mistaken(owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, replacement)
        yield


def remove_first(change: Any, folder: str) -> None:
    for file in change.files:
        durable.remove(file.path)
    durable.write_file(change.path, change.content)


def rename_and_write(change: Any, folder: str) -> None:
    durable.rename(change.files[0].path, change.path)
    durable.write_file(change.path, change.content)


def write_without_sync(path: str, data: bytes, *, mode: int = 0o644) -> None:
    recorder: Any = vars(durable)["os"]
    fd = recorder.open(path, os.O_WRONLY | os.O_CREAT, mode)
    recorder.pwrite(fd, data, 0)
    os.close(fd)
    durable.sync_directory(os.path.dirname(path))


def replace_at_once(change: Any, content: bytes, folder: str) -> None:
    durable.write_file(change.path, content)


def test_a_new_text_without_a_second_entry_meanwhile_is_found(folder: Path) -> None:
    machine = Machine(folder, 259).create()
    machine.prepare("arm")
    path = machine.folder / "updated-a.conf"
    path.write_text(path.read_text().replace("sort-key x", "sort-key y"))
    with mistaken(systemd_boot_files, "_replace", replace_at_once):
        log = machine.commit(reject(machine.read()))
    assert None in {model.next_boot(view)[0] for view in seen(machine, log.cuts(torn_renames=True))}


@pytest.mark.parametrize(
    ("owner", "name", "mistake", "fat"),
    [
        (systemd_boot, "carry_out", remove_first, False),
        (systemd_boot, "carry_out", rename_and_write, True),
        (durable, "write_file", write_without_sync, False),
    ],
    ids=["the old entry goes first", "a rename on FAT", "the new entry is not synced"],
)
def test_a_wrong_order_and_a_missing_sync_are_found(
    folder: Path, owner: Any, name: str, mistake: Callable[..., None], fat: bool
) -> None:
    machine = Machine(folder).create()
    old, new = machine.prepare("confirm")
    with mistaken(owner, name, mistake):
        log = machine.commit(new)
    assert seen(machine, log.cuts(torn_renames=fat)) - {old, new}


def test_a_missing_sync_of_the_file_system_is_found(folder: Path) -> None:
    machine = Machine(folder).create()
    old, new = machine.prepare("confirm")
    with mistaken(durable, "sync_filesystem_of", lambda _: None):
        states = list(commit_on_fat(machine, new))
    assert seen(machine, iter(states)) - {old, new}


def test_a_choice_that_is_given_up_only_after_the_arming_is_found(folder: Path) -> None:
    machine = Machine(folder, 259).create()
    _, new = machine.prepare("arm 3", "updated-a.conf")
    with mistaken(SystemdBoot, "_settle", lambda *_: (DEFAULT,)):
        log = machine.commit(new)
    assert mixed(log)
