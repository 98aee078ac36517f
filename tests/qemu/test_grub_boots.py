"""GRUB 2.06 itself, under a BIOS and under UEFI, with updated.cfg and the environment block on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootctl import grub
from bootctl.model import BootView, SlotState
from tests.bootctl import grub_emulator
from tests.bootctl.grub_emulator import grubenv, listed
from tests.qemu.disks import Files, replace_on_esp
from tests.qemu.loaders import GrubLoader, Node, boot_each, boot_states
from tests.qemu.promises import CountingPromises, armed, confirmed

GOOD = SlotState(1, 0, True)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(GrubLoader(), tmp_path)


class TestGrub(CountingPromises):
    """Under a BIOS, with the block on ext4."""


def block(a: SlotState, b: SlotState) -> bytes:
    return grub.format_block(grub.EnvBlock(grub.encode({}, BootView((("a", a), ("b", b))))))


def test_under_uefi_with_the_block_on_fat_a_trial_falls_back_and_another_one_is_confirmed(tmp_path: Path) -> None:
    node = Node(GrubLoader(uefi=True, place="esp"), tmp_path)
    node.change(armed(2))
    assert node.boots(3) == "bba"
    node.change(armed(2))
    assert node.boot() == "b"
    node.change(confirmed("b"))
    assert node.boots(2) == "bb"


def test_the_last_resort_is_the_confirmed_slot_even_if_it_never_came_up(node: Node) -> None:
    node.change(confirmed("a", counted=1))
    node.change(armed(1))
    assert node.boots(4) == "baaa"


def test_grub_editenv_reads_what_grub_counted(node: Node) -> None:
    node.change(armed(3))
    before = listed(node.files()["grubenv"])
    assert node.boot() == "b"
    assert listed(node.files()["grubenv"]) == {**before, "B_TRIES": "2"}


def test_grub_leaves_the_second_copy_alone_while_the_first_one_is_whole(node: Node) -> None:
    node.change(armed(3))
    before = node.files()["grubenv.backup"]
    assert node.boot() == "b"
    assert node.files()["grubenv.backup"] == before


def test_a_trial_whose_kernel_cannot_even_be_loaded_falls_back_in_the_same_boot(node: Node) -> None:
    node.change(armed(3))
    replace_on_esp(node.disk, "slots", {"a.cfg": b'echo "slot a has started."\nhalt\n'})
    assert node.start().slot == "a"
    assert node.view().state("b").tries_left == 2


WHOLE = block(GOOD, SlotState(2, 3, False))
STATES: dict[str, Files] = {
    "a trial": {"grubenv": WHOLE, "grubenv.backup": WHOLE},
    "fifteen tries": {"grubenv": block(GOOD, SlotState(2, 15, False))},
    "a trial that is used up": {"grubenv": block(GOOD, SlotState(2, 0, False))},
    "the last boot of a counted slot": {"grubenv": block(SlotState(), SlotState(1, 1, True))},
    "all is used up": {"grubenv": block(SlotState(2, 0, False), SlotState(0, 0, True))},
    "no slot may boot": {"grubenv": block(SlotState(), SlotState())},
    "rejected, with the other one empty": {"grubenv": block(SlotState(1, 0, False), SlotState())},
    "the first copy is empty": {"grubenv": b"", "grubenv.backup": WHOLE},
    "the first copy is garbage": {"grubenv": b"\0" * 1024, "grubenv.backup": WHOLE},
    "the block can't be saved": {"grubenv": WHOLE[:-1] + b"x"},
    "both copies are empty": {"grubenv": b"", "grubenv.backup": b""},
    "tries that are no number": {"grubenv": grubenv({"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "x"})},
}


def test_the_emulator_tells_the_truth() -> None:
    emulated, real = {}, {}
    for name, (booted, files) in zip(STATES, boot_each(GrubLoader(), STATES.values()), strict=True):
        real[name] = (booted.slot, files)
        shown = grub_emulator.boot(STATES[name])
        emulated[name] = (shown.slot, shown.files)
    assert real == emulated


def test_the_states_that_a_cut_left_can_be_booted() -> None:
    assert boot_states("grub", [{"grubenv": block(GOOD, SlotState(2, tries, False))} for tries in (0, 1)]) == ["a", "b"]
