"""A cut while the boot reference in a partition table is changed: the loader sees the old one or the new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootctl import gpt, model
from bootctl.gptprio import GptPrio, decode
from bootctl.model import BootView, SlotState
from tests.bootctl import disks
from tests.crash.conftest import Tally
from tests.crash.recorder import Log, Write, lay_out, recorded
from tests.fakes.firmware import kernel_finds_partitions, next_boot

Transition = Callable[[BootView], BootView]

GOOD = SlotState(2, 0, True)
SPARE = SlotState(1, 0, True)
BAD = SlotState()
TRIED = SlotState(2, 2, False)

TRANSITIONS: dict[str, tuple[SlotState, SlotState, Transition]] = {
    "invalidate": (GOOD, SPARE, lambda view: model.invalidate(view, "b", active="a")),
    "arm": (GOOD, BAD, lambda view: model.arm_trial(view, "b", active="a")),
    "confirm": (SPARE, TRIED, lambda view: model.confirm(view, "b")),
    "reject": (SPARE, TRIED, lambda view: model.reject(view, "b")),
    "roll back": (SPARE, GOOD, lambda view: model.roll_back(view, active="b")),
}


def undamaged(disk: Path) -> None:
    pass


def stale_backup(disk: Path) -> None:
    """As a cut between the two copies leaves it: the backup still has what was before."""
    now = disk.read_bytes()
    GptPrio(str(disk)).commit(BootView((("a", SlotState(3, 0, True)), ("b", SlotState(4, 4, False)))))
    earlier = disk.read_bytes()
    disk.write_bytes(now[: len(now) // 2] + earlier[len(now) // 2 :])


def damaged_entries(disk: Path) -> None:
    disks.overwrite(disk, 1024 + 3 * 128 + 48, b"\xff")


DAMAGES = [undamaged, disks.damage_primary, disks.damage_backup, damaged_entries, stale_backup]


def prepare(folder: Path, name: str, damage: Callable[[Path], None]) -> tuple[BootView, BootView]:
    """The disk before the transition, and the views before and after it."""
    disks.make_disk(folder / "disk.img")
    a, b, transition = TRANSITIONS[name]
    old = BootView((("a", a), ("b", b)))
    GptPrio(str(folder / "disk.img")).commit(old)
    damage(folder / "disk.img")
    return old, transition(old)


def commit(folder: Path, view: BootView) -> Log:
    with recorded(folder) as log:
        GptPrio(str(folder / "disk.img")).commit(view)
    return log


def started(folder: Path) -> str:
    """What the loader starts; it counts on the disk."""
    partition = next_boot(folder / "disk.img")
    assert partition is not None
    return partition.name.removeprefix("rootfs-")


def cgpt_view(disk: Path) -> BootView:
    """cgpt prints bits 48-63 of the attributes."""
    return BootView(
        tuple(
            (slot, decode(int(disks.run("cgpt", "show", "-i", str(number), "-A", disk), 16) << 48))
            for slot, number in disks.NUMBERS.items()
        )
    )


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TRANSITIONS)
def test_at_each_cut_all_readers_see_the_old_reference_or_the_new_one(
    folder: Path, tally: Tally, name: str, damage: Callable[[Path], None]
) -> None:
    disk = folder / "disk.img"
    old, new = prepare(folder, name, damage)
    log = commit(folder, new)
    seen = set()
    states = list(log.cuts())
    for state in states:
        lay_out(folder, state)
        view = GptPrio(str(disk)).read()
        assert view in (old, new)
        assert cgpt_view(disk) == view
        assert started(folder) == model.next_boot(view)[0]
        assert GptPrio(str(disk)).read() == model.next_boot(view)[1]
        seen.add(view)
    assert seen == {old, new}
    lay_out(folder, log.final())
    assert disks.sgdisk_finds_no_problem(disk)
    if damage is undamaged:
        tally("gptprio", "a model of gptprio.next, cgpt", name, len(states))


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_second_cut_while_the_first_one_is_made_good_changes_nothing_about_that(folder: Path, name: str) -> None:
    old, new = prepare(folder, name, undamaged)
    for after_first in list(commit(folder, new).cuts()):
        lay_out(folder, after_first)
        for after_second in list(commit(folder, new).cuts()):
            lay_out(folder, after_second)
            view = GptPrio(str(folder / "disk.img")).read()
            assert view in (old, new)
            assert started(folder) == model.next_boot(view)[0]
        lay_out(folder, after_first)
        GptPrio(str(folder / "disk.img")).commit(new)
        assert GptPrio(str(folder / "disk.img")).read() == new
        assert disks.sgdisk_finds_no_problem(folder / "disk.img")


@pytest.mark.parametrize("name", TRANSITIONS)
def test_linux_finds_the_partitions_at_each_cut_if_it_may_use_the_backup(folder: Path, name: str) -> None:
    """Its argument `gpt` permits that. Without it a cut between entries and header would cost the root partition."""
    _, new = prepare(folder, name, undamaged)
    needs_the_argument = 0
    for state in commit(folder, new).cuts():
        lay_out(folder, state)
        with (folder / "disk.img").open("rb") as file:
            table = gpt.read_table(file.fileno())
        assert kernel_finds_partitions(folder / "disk.img") or table.source == "backup"
        needs_the_argument += table.source == "backup"
    assert needs_the_argument


def boots_nothing_at_some_cut(folder: Path, log: Log) -> bool:
    for state in log.cuts():
        lay_out(folder, state)
        if next_boot(folder / "disk.img") is None:
            return True
    return False


def test_the_header_before_the_entries_as_cgpt_writes_them_would_not_pass(folder: Path) -> None:
    """Flatcar's GRUB then refuses both copies: the reason for the order in write_table."""
    _, new = prepare(folder, "arm", undamaged)
    log = commit(folder, new)
    entries, flush, header, _, *backup = log.effects
    as_cgpt = Log(log.before, log.names, [header, entries, flush, *backup])
    assert boots_nothing_at_some_cut(folder, as_cgpt)
    assert not boots_nothing_at_some_cut(folder, log)


def test_the_same_writes_without_flushes_would_not_pass(folder: Path) -> None:
    _, new = prepare(folder, "arm", undamaged)
    log = commit(folder, new)
    without = Log(log.before, log.names, [effect for effect in log.effects if isinstance(effect, Write)])
    assert boots_nothing_at_some_cut(folder, without)


def test_only_the_sectors_that_differ_are_written(folder: Path) -> None:
    _, new = prepare(folder, "arm", undamaged)
    written = [effect for effect in commit(folder, new).effects if isinstance(effect, Write)]
    assert [len(write.data) for write in written] == [512] * 4  # entries and header, of two copies
