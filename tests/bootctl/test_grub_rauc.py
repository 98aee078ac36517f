"""RAUC and the GRUB back-end on the same environment block: each understands what the other one wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootctl import grub, model
from bootctl.grub import Grub
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from tests.bootctl.grub_emulator import grubenv
from tests.fakes.rauc import Rauc, running_rauc

GOOD, SPARE, TRIAL = SlotState(2, 0, True), SlotState(1, 0, True), SlotState(2, 3, False)
STATES = [EMPTY, REJECTED, GOOD, SPARE, TRIAL, SlotState(2, 3, True)]


@pytest.fixture
def block(tmp_path: Path) -> Path:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv({"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0"}))
    return path


@pytest.fixture
def rauc(tmp_path: Path, block: Path) -> Iterator[Rauc]:
    with running_rauc(tmp_path, f"bootloader=grub\ngrubenv={block}\n", {}) as rauc:
        yield rauc


def two(a: SlotState, b: SlotState) -> BootView:
    return BootView((("a", a), ("b", b)))


def test_rauc_sees_good_bad_and_primary_as_we_do(block: Path, rauc: Rauc) -> None:
    for a in STATES:
        for b in (EMPTY, SPARE, SlotState(1, 3, False)):
            view = two(a, b)
            block.write_bytes(grub.format_block(grub.EnvBlock(grub.encode({}, view))))
            primary, conditions = rauc.status()
            assert conditions == {name: "good" if state.bootable else "bad" for name, state in view.slots}
            assert primary == model.next_boot(view)[0]


def test_what_rauc_writes_is_what_we_read(block: Path, rauc: Rauc) -> None:
    backend = Grub(str(block))
    backend.commit(two(GOOD, SPARE))
    rauc.run("status", "mark-bad", "other")
    assert backend.read() == two(GOOD, EMPTY)
    rauc.run("status", "mark-active", "other")
    assert backend.read() == two(SPARE, GOOD)
    rauc.run("status", "mark-active", "booted")
    assert backend.read() == two(GOOD, SPARE)


def test_a_slot_that_we_rejected_is_good_when_rauc_has_a_new_image_in_it(block: Path, rauc: Rauc) -> None:
    backend = Grub(str(block))
    backend.commit(two(GOOD, REJECTED))
    rauc.run("status", "mark-active", "other")
    assert backend.read() == two(SPARE, GOOD)


def test_an_image_that_was_made_for_rauc_moves_over(block: Path, rauc: Rauc) -> None:
    backend = Grub(str(block))
    backend.commit(model.invalidate(backend.read(), "b", active="a"))
    assert rauc.status()[1] == {"a": "good", "b": "bad"}
    backend.commit(model.arm_trial(backend.read(), "b", active="a"))
    assert rauc.status() == ("b", {"a": "good", "b": "good"})
    backend.commit(model.confirm(backend.read(), "b"))
    assert rauc.status() == ("b", {"a": "good", "b": "good"})
