"""The boot reference in GPT attributes, judged by cgpt."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl import durable, gptprio, model
from bootctl.errors import BootError
from bootctl.gptprio import GptPrio
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from tests.bootctl import disks

states = st.one_of(
    st.just(EMPTY),
    st.just(REJECTED),
    st.builds(SlotState, st.integers(1, 15), st.just(0), st.just(True)),
    st.builds(SlotState, st.integers(1, 15), st.integers(0, 15), st.just(False)),
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return disks.make_disk(tmp_path / "disk.img")


def code_of(path: Path | str) -> str:
    with pytest.raises(BootError) as caught:
        GptPrio(str(path)).read()
    return caught.value.code


@pytest.mark.parametrize(
    ("bits", "state"),
    [
        (0x0012000000000000, SlotState(2, 1, False)),  # cgpt add -P2 -T1 -S0
        (0x0101000000000000, SlotState(1, 0, True)),
        (0x00FF000000000000, SlotState(15, 15, False)),
        (0, SlotState()),
    ],
)
def test_the_bits_are_those_of_cgpt(bits: int, state: SlotState) -> None:
    assert gptprio.decode(bits) == state
    assert gptprio.encode(0, state) == bits


def test_bits_that_decide_nothing_are_not_read() -> None:
    assert gptprio.decode(0x01FF000000000000) == SlotState(15, 0, True)  # cgpt add -P15 -T15 -S1
    assert gptprio.decode(0x01F0000000000000) == REJECTED


def test_bits_that_decide_nothing_stay(disk: Path) -> None:
    disks.run("cgpt", "add", "-i", "2", "-P", "2", "-T", "3", "-S", "1", disk)
    GptPrio(str(disk)).commit(model.invalidate(GptPrio(str(disk)).read(), "b", active="a"))
    assert disks.cgpt_state(disk, "a") == (2, 3, True)


@given(st.integers(0, 2**64 - 1), states)
def test_other_bits_stay(attributes: int, state: SlotState) -> None:
    encoded = gptprio.encode(attributes, state)
    assert gptprio.decode(encoded) == state
    assert encoded & ~(0x1FF << 48) == attributes & ~(0x1FF << 48)


@settings(max_examples=10)
@given(states, states)
def test_any_state_is_read_alike_by_cgpt_and_by_us(a: SlotState, b: SlotState) -> None:
    with disks.scratch_disk() as path:
        view = BootView((("a", a), ("b", b)))
        GptPrio(str(path)).commit(view)
        assert GptPrio(str(path)).read() == view
        for slot, state in view.slots:
            expected = (state.priority, state.tries_left, state.confirmed)
            assert disks.cgpt_state(path, slot) == expected


def test_what_cgpt_writes_is_what_we_read(disk: Path) -> None:
    disks.run("cgpt", "add", "-i", "3", "-P", "2", "-T", "3", "-S", "0", disk)
    assert GptPrio(str(disk)).read() == BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 3, False))))


def test_an_update_in_bits_step_by_step(disk: Path) -> None:
    backend = GptPrio(str(disk))
    steps: list[Any] = [
        (lambda view: model.invalidate(view, "b", active="a"), (1, 0, True), (0, 0, False)),
        (lambda view: model.arm_trial(view, "b", active="a"), (1, 0, True), (2, 3, False)),
        (lambda view: model.confirm(view, "b"), (1, 0, True), (2, 0, True)),
        (lambda view: model.roll_back(view, active="b"), (2, 0, True), (1, 0, True)),
        (lambda view: model.reject(view, "b"), (2, 0, True), (0, 1, False)),
    ]
    for transition, a, b in steps:
        backend.commit(transition(backend.read()))
        assert (disks.cgpt_state(disk, "a"), disks.cgpt_state(disk, "b")) == (a, b)
        assert disks.sgdisk_finds_no_problem(disk)


def test_other_partitions_and_bits_stay(disk: Path) -> None:
    disks.run("sgdisk", "-A", "1:set:2", "-A", "3:set:60", "-A", "4:set:63", disk)
    GptPrio(str(disk)).commit(model.arm_trial(GptPrio(str(disk)).read(), "b", active="a"))
    assert disks.sgdisk_attributes(disk, 1) == 1 << 2
    assert disks.sgdisk_attributes(disk, 3) == 1 << 60 | 0x0032000000000000
    assert disks.sgdisk_attributes(disk, 4) == 1 << 63


def test_a_disk_that_holds_the_view_already_is_not_even_opened_for_writing(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[int] = []
    real_open = os.open

    def record(path: str, flag: int, *rest: int) -> int:
        flags.append(flag)
        return real_open(path, flag, *rest)

    monkeypatch.setattr(os, "open", record)
    GptPrio(str(disk)).commit(GptPrio(str(disk)).read())
    assert flags
    assert all(flag & os.O_ACCMODE == os.O_RDONLY for flag in flags)


def test_a_commit_mends_a_damaged_copy_even_when_nothing_else_changes(disk: Path) -> None:
    disks.damage_backup(disk)
    GptPrio(str(disk)).commit(GptPrio(str(disk)).read())
    assert disks.sgdisk_finds_no_problem(disk)


def test_a_damaged_copy_is_told_until_it_is_mended(disk: Path) -> None:
    assert GptPrio(str(disk)).problems() == ()
    disks.damage_primary(disk)
    (problem,) = GptPrio(str(disk)).problems()
    assert "primary" in problem
    GptPrio(str(disk)).commit(GptPrio(str(disk)).read())
    assert GptPrio(str(disk)).problems() == ()


def test_the_errors_of_reading(tmp_path: Path, disk: Path) -> None:
    assert code_of(tmp_path / "missing") == "disk-unreadable"
    assert code_of("/dev/null") == "gpt-unreadable"
    (tmp_path / "empty").write_bytes(b"")
    assert code_of(tmp_path / "empty") == "gpt-damaged"
    disks.run("sfdisk", "-q", "--part-type", disk, "3", "0FC63DAF-8483-4772-8E79-3D69D8477DE4")
    assert code_of(disk) == "slot-type"
    for number in (2, 3):
        disks.rename_partition(disk, number, f"other{number}")
    assert code_of(disk) == "no-slots"


def test_errors_name_the_disk(tmp_path: Path) -> None:
    with pytest.raises(BootError, match=f"disk {tmp_path}/missing: it can't be read"):
        GptPrio(f"{tmp_path}/missing").read()


def test_slots_that_the_disk_does_not_have_are_refused(disk: Path) -> None:
    view = GptPrio(str(disk)).read()
    for wrong in (BootView(view.slots[:1]), BootView((*view.slots, ("c", SlotState())))):
        with pytest.raises(BootError) as caught:
            GptPrio(str(disk)).commit(wrong)
        assert caught.value.code == "unknown-slot"


def test_a_failed_write_is_an_error(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(durable, "overwrite_pieces", fail)
    with pytest.raises(BootError, match="Input/output error") as caught:
        GptPrio(str(disk)).commit(model.arm_trial(GptPrio(str(disk)).read(), "b", active="a"))
    assert caught.value.code == "disk-not-writable"


def test_a_disk_that_forgets_is_found_out(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "overwrite_pieces", lambda *_: None)
    with pytest.raises(BootError) as caught:
        GptPrio(str(disk)).commit(model.arm_trial(GptPrio(str(disk)).read(), "b", active="a"))
    assert caught.value.code == "read-back-differs"


def test_a_disk_that_another_program_keeps_locked_is_an_error(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gptprio, "_LOCK_SECONDS", 0.1)
    before = disk.read_bytes()
    with disk.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BootError) as caught:
            GptPrio(str(disk)).commit(model.arm_trial(GptPrio(str(disk)).read(), "b", active="a"))
    assert caught.value.code == "disk-busy"
    assert disk.read_bytes() == before
