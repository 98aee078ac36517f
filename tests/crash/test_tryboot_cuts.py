"""A cut while autoboot.txt of the Raspberry Pi is changed: the firmware sees the old reference or the new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootctl import durable, model
from bootctl.errors import BootError
from bootctl.model import BootView, SlotState
from bootctl.tryboot import Tryboot
from tests.crash import recorder
from tests.crash.conftest import Tally
from tests.crash.recorder import Folder, Log, Sync, Write, lay_out, recorded
from tests.fakes.raspberry_pi import RaspberryPi, effective

Transition = Callable[[BootView], BootView]

PARTITIONS = (("a", 2), ("b", 3))
SLOTS = {2: "a", 3: "b", None: None}
INITIAL = b"# of the image\n[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=2\n"
FOREIGN = b"# of the image\n"
GOOD, SPARE, TRIAL = SlotState(2, 0, True), SlotState(1, 0, True), SlotState(2, 1, False)
# The states before, and whether the trial runs already. A cut is followed by another boot, in which a trial that has
# begun is used up.
TRANSITIONS: dict[str, tuple[SlotState, SlotState, bool, Transition]] = {
    "invalidate": (GOOD, SPARE, False, lambda view: model.invalidate(view, "b", active="a")),
    "arm": (GOOD, model.EMPTY, False, lambda view: model.arm_trial(view, "b", active="a", tries=1)),
    "begin": (SPARE, TRIAL, False, lambda view: model.next_boot(view)[1]),
    "withdraw": (SPARE, TRIAL, False, lambda view: model.reject(view, "b")),
    "confirm": (SPARE, TRIAL, True, lambda view: model.confirm(view, "b")),
    "reject": (SPARE, TRIAL, True, lambda view: model.reject(view, "b")),
    "roll back": (SPARE, GOOD, False, lambda view: model.roll_back(view, active="b")),
}
DAMAGES: dict[str, bytes | None] = {
    "none": None, "no second copy": None, "older second copy": INITIAL, "empty first copy": b"",
    "garbage in the first copy": b"\xff" * 512,
}  # fmt: skip


@pytest.fixture(params=["rename", "FAT"])
def fat(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "FAT":
        monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    return bool(request.param == "FAT")


class Scene:
    """The folder of the first partition; /proc of the system that runs, and of that which is started after a cut."""

    def __init__(self, folder: Path, elsewhere: Path) -> None:
        self.folder = folder
        self.root = elsewhere / "running"
        self.started = elsewhere / "started"

    def backend(self, root: Path | None = None) -> Tryboot:
        return Tryboot(str(self.folder / "autoboot.txt"), PARTITIONS, str(root or self.root))

    def boots(self, argument: str) -> str | None:
        """The slot that the firmware starts; it writes nothing in the folder."""
        return SLOTS[RaspberryPi(self.folder, self.started, partition_walk=True).reboot(argument)]

    def prepare(self, name: str, damage: str = "none") -> tuple[BootView, BootView]:
        """Bring the folder to where the operation `name` begins: the references before and after it."""
        a, b, runs, transition = TRANSITIONS[name]
        lay_out(self.folder, {"autoboot.txt": INITIAL})
        RaspberryPi(self.folder, self.root).power_on()
        self.backend().commit(BootView((("a", a), ("b", b))))
        if runs:
            RaspberryPi(self.folder, self.root).reboot(self.backend().begin_reboot())
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        content = DAMAGES[damage]
        if damage == "no second copy":
            del files["autoboot.txt.backup"]
        elif content is not None:
            files["autoboot.txt.backup" if damage == "older second copy" else "autoboot.txt"] = content
        lay_out(self.folder, files)
        old = self.backend().read()
        return old, normal(transition(old))

    def perform(self, name: str, new: BootView) -> Log:
        """The operation that leads to `new`, in the boot that runs before any cut."""
        with recorded(self.folder) as log:
            if name == "begin":
                assert self.backend().begin_reboot() == "0 tryboot"
            else:
                self.backend().commit(new)
        return log

    def commit_after_cut(self, view: BootView) -> Log:
        self.boots("")
        with recorded(self.folder) as log:
            self.backend(self.started).commit(view)
        return log

    def after_cut(self) -> BootView:
        """The reference in the boot that follows when the power comes back."""
        self.boots("")
        return self.backend(self.started).read()

    def fault(self, state: Folder, old: BootView, new: BootView, *, first_was_damaged: bool = False) -> str:
        """What is wrong with the state that a cut left; "" when nothing is."""
        lay_out(self.folder, state)
        started = self.boots("")  # a loss of power keeps no argument
        backend = self.backend(self.started)
        view = backend.read()
        if view not in (old, new):
            return f"reads as {view}"
        if first_was_damaged and not has_reference(state):
            return "" if started is not None and view == old else "nothing starts"
        if started not in [slot for slot, one in view.slots if one.condition == "good"]:
            return "starts what is not good after a loss of power"
        expected, after = model.next_boot(view)
        if self.boots(backend.begin_reboot()) != expected:
            return f"does not start {expected}"
        if backend.read() != after:
            return f"is {backend.read()} after the boot"
        self.boots("")
        return "" if backend.read() == after else f"is {backend.read()} after another boot"


def normal(view: BootView) -> BootView:
    """The priorities as they are read back: 2 for the first and 1 for the other one, if they have any."""
    order = [name for name, _ in sorted(view.slots, key=lambda slot: -slot[1].priority)]
    return BootView(
        tuple(
            (name, replace(state, priority=2 - order.index(name)) if state.priority else state)
            for name, state in view.slots
        )
    )


def has_reference(state: Folder) -> bool:
    """Whether the firmware finds something in its copy."""
    return "boot_partition" in effective(state.get("autoboot.txt", b""), tryboot=False, requested=0)


@pytest.fixture
def scene(folder: Path, tmp_path: Path) -> Scene:
    return Scene(folder, tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TRANSITIONS)
def test_at_each_cut_the_firmware_and_we_see_the_old_reference_or_the_new_one(
    scene: Scene, tally: Tally, fat: bool, name: str, damage: str
) -> None:
    old, new = scene.prepare(name, damage)
    damaged = "first copy" in damage
    seen = set()
    states = list(scene.perform(name, new).cuts(torn_renames=fat and not damaged))
    for state in states:
        lay_out(scene.folder, state)
        seen.add(scene.after_cut())
        assert scene.fault(state, old, new, first_was_damaged=damaged) == ""
    assert seen == {old, new}
    if damage == "none":
        tally(f"tryboot, {'on FAT' if fat else 'by rename'}", "a model of the firmware", name, len(states))


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_boot_that_begins_a_trial_can_still_start_it_whatever_was_written(
    scene: Scene, fat: bool, damage: str
) -> None:
    """The daemon that dies amid it, without a cut, begins once more."""
    old, new = scene.prepare("begin", damage)
    for state in list(scene.perform("begin", new).cuts(torn_renames=fat and "first copy" not in damage)):
        lay_out(scene.folder, state)
        assert scene.backend().read() == old
        assert scene.boots(scene.backend().begin_reboot()) == "b"
        assert scene.after_cut() == new


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_commit_after_any_cut_makes_both_copies_whole(scene: Scene, fat: bool, name: str) -> None:
    old, new = scene.prepare(name)
    for state in list(scene.perform(name, new).cuts(torn_renames=fat)):
        lay_out(scene.folder, state)
        # A second cut while the first one is made good.
        for again in list(scene.commit_after_cut(new).cuts(torn_renames=fat)):
            assert scene.fault(again, old, new) == ""
        lay_out(scene.folder, state)
        scene.commit_after_cut(new)
        assert scene.after_cut() == new
        assert scene.backend().problems() == ()
        copies = [(scene.folder / copy).read_bytes() for copy in ("autoboot.txt", "autoboot.txt.backup")]
        assert copies[0].rstrip(b"\n") == copies[1].rstrip(b"\n")
        assert copies[0].startswith(FOREIGN)


@pytest.mark.parametrize("name", ["begin", "confirm"])
def test_one_write_of_one_sector_is_the_change(scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    _, new = scene.prepare(name)
    log = scene.perform(name, new)
    first = log.names["autoboot.txt"]
    (write, sync) = (effect for effect in log.effects if isinstance(effect, Write | Sync) and effect.file == first)
    assert isinstance(write, Write)
    assert (write.offset, len(write.data), sync) == (0, 511, Sync(first))
    assert log.effects[-2:] == [write, sync]  # the other copy comes before
    assert {type(effect) for effect in log.effects} == {Write, Sync}


# ------------------------------------------------------------------------------------------- what would not pass


def faults(scene: Scene, name: str, *, fat: bool) -> set[str]:
    old, new = scene.prepare(name)
    found = set()
    for state in list(scene.perform(name, new).cuts(torn_renames=fat)):
        try:
            found.add(scene.fault(state, old, new))
        except BootError as error:
            found.add(error.code)
    return found


def test_a_rename_on_fat_would_not_pass(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(scene, "confirm", fat=True) != {""}
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    assert faults(scene, "confirm", fat=True) == {""}


@pytest.mark.parametrize("name", ["begin", "confirm"])
def test_the_same_writes_without_flushes_would_not_pass(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert faults(scene, name, fat=False) == {""}
    monkeypatch.setattr(recorder._Os, "fsync", lambda self, fd: None)
    assert faults(scene, name, fat=False) != {""}


def test_a_trial_that_begins_without_a_mark_would_not_pass(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs would be started again for ever."""
    assert faults(scene, "arm", fat=False) == {""}
    monkeypatch.setattr(Tryboot, "begin_reboot", lambda self: "0 tryboot")
    assert faults(scene, "arm", fat=False) != {""}


def test_a_trial_that_is_marked_when_it_is_armed_would_not_pass(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut before its reboot would deny what was never tried."""
    commit = Tryboot.commit

    def arm_and_begin(self: Tryboot, view: BootView) -> None:
        commit(self, view)
        self.begin_reboot()

    monkeypatch.setattr(Tryboot, "commit", arm_and_begin)
    assert faults(scene, "arm", fat=False) != {""}


def test_a_longer_text_that_comes_before_its_size_would_not_pass(scene: Scene) -> None:
    """The size stands in the folder's sector: why the file grows by empty lines before its text is replaced."""
    scene.prepare("arm")
    before = b"boot_partition=3\n"
    lay_out(scene.folder, {"autoboot.txt": before})
    old = scene.backend().read()
    new = normal(model.arm_trial(old, "a", active="b", tries=1))
    after = scene.perform("arm", new).final()["autoboot.txt"]
    assert len(after) > len(before)
    cut = {"autoboot.txt": after[: len(before)], "autoboot.txt.backup": after}
    assert scene.fault(cut, old, new) != ""


def test_keys_and_conditions_in_two_files_would_not_pass(scene: Scene) -> None:
    """Why the conditions stand in the firmware's own file: a cut between two writes leaves neither reference."""
    old, new = scene.prepare("confirm")
    keys = (scene.folder / "autoboot.txt").read_bytes().split(b"# updated:")[0]
    final = scene.perform("confirm", new).final()["autoboot.txt"]
    torn = keys + b"# updated:" + final.split(b"# updated:")[1]
    assert scene.fault({"autoboot.txt": torn, "autoboot.txt.backup": final}, old, new) != ""
