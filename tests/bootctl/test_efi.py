"""The boot entries of EFI firmware: the formats, judged by efibootmgr and RAUC, and the backend."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootctl import durable, model
from bootctl.efi import Efi
from bootctl.efi_option import LoadOption, parse_option, slot_of
from bootctl.efi_situation import Entry, Situation, decode, encode, way
from bootctl.efivars import GLOBAL_GUID, EfiVariables
from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from health.judgement import changed, judge
from tests.bootctl.test_efivars import efibootmgr, set_boot_order
from tests.fakes.bus import private_bus

PARTITION_GUID = "8a8c8a64-0dbd-45a0-b7c4-6a3f5e5d0b01"
DESCRIPTIONS = {0: "UEFI Shell", 1: "updated-a", 2: "updated-b", 3: "debian"}
ORDER = (1, 3, 2)
GOOD, SPARE, TRIAL = SlotState(2, 0, True), SlotState(1, 0, True), SlotState(2, 1, False)
USED_UP = SlotState(2, 0, False)
WAITING = SlotState(1, 1, False)
COMMAND_LINE = "root=PARTLABEL=rootfs-a ro".encode("utf-16-le")


def device_path(loader: str) -> bytes:
    """HD()/File()/End (UEFI Specification, sections 10.3.5.1 and 10.3.5.4)."""
    groups = [bytes.fromhex(group) for group in PARTITION_GUID.split("-")]
    guid = b"".join([group[::-1] for group in groups[:3]] + groups[3:])
    disk = (1).to_bytes(4, "little") + (2048).to_bytes(8, "little") + (204800).to_bytes(8, "little") + guid + b"\2\2"
    file = f"{loader}\0".encode("utf-16-le")
    return _node(4, 1, disk) + _node(4, 4, file) + _node(0x7F, 0xFF, b"")


def _node(kind: int, subtype: int, content: bytes) -> bytes:
    return bytes((kind, subtype)) + (4 + len(content)).to_bytes(2, "little") + content


def option(description: str, *, active: bool = True) -> LoadOption:
    return LoadOption(int(active), description, device_path(f"\\EFI\\{description}.EFI"), COMMAND_LINE)


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)


def write_variable(folder: Path, name: str, data: bytes) -> None:
    (folder / f"{name}-{GLOBAL_GUID}").write_bytes(b"\7\0\0\0" + data)


def lay_out_firmware(
    folder: Path,
    order: Sequence[int] = ORDER,
    once: int | None = None,
    *,
    inactive: Sequence[int] = (),
    descriptions: Mapping[int, str] = DESCRIPTIONS,
) -> None:
    """The variables of a machine with two slots and two other entries."""
    for number, description in descriptions.items():
        write_variable(folder, f"Boot{number:04X}", option(description, active=number not in inactive).format())
    write_variable(folder, "BootOrder", numbers(*order))
    if once is not None:
        write_variable(folder, "BootNext", numbers(once))


@dataclass(frozen=True, slots=True)
class Shown:
    """What efibootmgr shows: BootOrder, BootNext, and (active, description) of each entry."""

    order: tuple[int, ...]
    once: int | None
    entries: Mapping[int, tuple[bool, str]]


def shown(folder: Path) -> Shown:
    text = efibootmgr(folder)
    order = re.search(r"^BootOrder: (\S+)$", text, re.MULTILINE)
    once = re.search(r"^BootNext: (\S+)$", text, re.MULTILINE)
    entries = re.findall(r"^Boot([0-9A-F]{4})([* ]) ([^\t\n]*)", text, re.MULTILINE)
    return Shown(
        tuple(int(number, 16) for number in order[1].split(",")) if order else (),
        int(once[1], 16) if once else None,
        {int(number, 16): (mark == "*", description) for number, mark, description in entries},
    )


def start(folder: Path, *, strict: bool = False) -> str | None:
    """What firmware starts that finds `folder`: the description of the entry. It deletes BootNext and sets BootCurrent.

    A strict one starts only an active entry (U-Boot, lib/efi_loader/efi_bootmgr.c), others start what BootNext names
    in any case (EDK2, MdeModulePkg/Universal/BdsDxe/BdsEntry.c).
    """
    found = shown(folder)
    wanted = [number for number in found.order if number in found.entries and found.entries[number][0]]
    if found.once is not None:
        efibootmgr(folder, "-N")
        if found.once in found.entries and (found.entries[found.once][0] or not strict):
            wanted.insert(0, found.once)
    current = folder / f"BootCurrent-{GLOBAL_GUID}"
    current.unlink(missing_ok=True)
    if not wanted:
        return None
    current.write_bytes(b"\6\0\0\0" + numbers(wanted[0]))
    return found.entries[wanted[0]][1]


def bare(states: BootView) -> tuple[dict[str, tuple[model.Condition, int]], list[str]]:
    """What any backend has to keep: the condition of each slot, and its tries and the order where it may boot."""
    kept = {name: (state.condition, state.tries_left * state.bootable) for name, state in states.slots}
    bootable = [(name, state) for name, state in states.slots if state.bootable]
    return kept, [name for name, _ in sorted(bootable, key=lambda slot: -slot[1].priority)]


def confirmed(view: BootView) -> set[str]:
    return {name for name, state in view.slots if state.confirmed}


def view_of(a: SlotState, b: SlotState) -> BootView:
    return BootView((("a", a), ("b", b)))


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    folder = tmp_path / "efivars"
    folder.mkdir()
    lay_out_firmware(folder)
    return folder


@pytest.fixture
def backend(firmware: Path, tmp_path: Path) -> Efi:
    return Efi(str(firmware), str(tmp_path / "state" / "efi"))


# The formats.


def test_a_load_option_is_read_and_written_byte_for_byte() -> None:
    parsed = parse_option(option("updated-ä").format())
    assert parsed == option("updated-ä")
    assert parsed.format() == option("updated-ä").format()
    assert not parsed.with_active(False).active
    assert parsed.with_active(False).with_active(True) == parsed
    hidden = replace(parsed, attributes=0x0000000B)
    assert hidden.with_active(False).attributes == 0x0000000A


def test_efibootmgr_sees_the_device_path_and_the_command_line_that_we_see(firmware: Path) -> None:
    (line,) = [line for line in efibootmgr(firmware, "-v").splitlines() if "updated-a" in line]
    assert f"HD(1,GPT,{PARTITION_GUID},0x800,0x32000)/File(\\EFI\\updated-a.EFI)" in line
    assert "r.o.o.t.=" in line


def test_an_entry_that_efibootmgr_has_changed_differs_in_its_mark_alone(firmware: Path) -> None:
    path = firmware / f"Boot0002-{GLOBAL_GUID}"
    before = path.read_bytes()
    efibootmgr(firmware, "-A", "-b", "0002")
    assert path.read_bytes() == b"\7\0\0\0" + option("updated-b").with_active(False).format()
    efibootmgr(firmware, "-a", "-b", "0002")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "no end"),
        (b"\1\0\0\0\4\0a\0b\0", "no end"),
        (b"\1\0\0\0\4\0\0\xd8\0\0", "no UTF-16"),
        (b"\1\0\0\0\4\0\0\0", "0 of the 4 bytes"),
        (b"\1\0\0\0\0\0\0\0", "has no end"),
        (b"\1\0\0\0\4\0\0\0\x7f\1\4\0", "has no end"),
        (b"\1\0\0\0\4\0\0\0\x7f\xff\3\0", "broken at byte 0"),
        (b"\1\0\0\0\6\0\0\0\x7f\xff\4\0\x7f\xff", "broken at byte 4"),
    ],
)
def test_a_corrupt_load_option_is_named_with_its_cause(data: bytes, cause: str) -> None:
    with pytest.raises(BootError, match=cause) as caught:
        parse_option(data)
    assert caught.value.code == "efi-corrupt"


@pytest.mark.parametrize(
    ("description", "slot"),
    [
        ("updated-a", "a"), ("updated-blue2", "blue2"), ("Updated-A", "a"), ("A", "a"), ("b", "b"),
        ("system1", "system1"), ("debian", None), ("ubuntu", None), ("updated-", None), ("updated-a b", None),
        ("UEFI Shell", None), ("", None), ("updated-ä", None), ("ſ", None), ("updated-0123456789abcdef0", None),
    ],
)  # fmt: skip
def test_a_slot_is_an_entry_with_our_description_or_with_that_of_rauc(description: str, slot: str | None) -> None:
    assert slot_of(description) == slot


# What the variables mean.


def situation(
    order: Sequence[int] = ORDER,
    once: int | None = None,
    *,
    inactive: Sequence[int] = (),
    notes: Mapping[str, str] | None = None,
    slots: str = "ab",
    current: int | None = None,
) -> Situation:
    entries = {
        slot: Entry(number, option(f"updated-{slot}", active=number not in inactive))
        for number, slot in enumerate(slots, start=1)
    }
    return Situation(entries, tuple(order), once, notes or {}, frozenset({0, *range(1, len(slots) + 1), 9}), current)


@pytest.mark.parametrize(
    ("found", "a", "b"),
    [
        (situation((1, 9, 2)), GOOD, SPARE),
        (situation((2, 1)), SPARE, GOOD),
        (situation((2, 1, 2)), SPARE, GOOD),
        (situation((1,)), SPARE, USED_UP),
        (situation((1,), 2), SPARE, TRIAL),
        (situation((1, 2), 2), SPARE, TRIAL),
        (situation((1, 2), 1), GOOD, SPARE),
        (situation((2, 1), 1), TRIAL, SPARE),
        (situation((1, 2), 9), GOOD, SPARE),
        (situation((1,), inactive=[2]), SPARE, EMPTY),
        (situation((1, 2), inactive=[2]), SPARE, EMPTY),
        (situation((1,), 2, inactive=[2]), SPARE, TRIAL),
        (situation((1,), notes={"b": "empty"}), SPARE, EMPTY),
        (situation((1,), notes={"b": "trial"}), GOOD, WAITING),
        (situation((1,), notes={"b": "trial"}, inactive=[2]), SPARE, EMPTY),
        (situation((1, 2), notes={"a": "trial", "b": "empty"}), GOOD, SPARE),
        (situation((9,), notes={"b": "trial"}), SlotState(1, 0, False), SlotState(1, 0, False)),
        (situation(()), SlotState(1, 0, False), SlotState(1, 0, False)),
        (situation((1,), notes={"b": "bad"}), SPARE, REJECTED),
        (situation((1,), notes={"b": "bad"}, inactive=[2]), SPARE, REJECTED),
        (situation((1,), notes={"b": "again"}), SPARE, REJECTED),
        (situation((1, 2), notes={"b": "bad"}), GOOD, SPARE),
        (situation((1,), 2, notes={"b": "bad"}), SPARE, TRIAL),
        (situation((1,), current=2), SPARE, USED_UP),
        (situation((1,), current=2, notes={"b": "bad"}), SPARE, REJECTED),
        (situation((1,), current=2, notes={"b": "again"}), SPARE, USED_UP),
        (situation((1,), current=2, notes={"b": "empty"}), SPARE, USED_UP),
        (situation((1,), current=2, notes={"b": "trial"}), SPARE, USED_UP),
        (situation((1,), current=2, inactive=[2]), SPARE, USED_UP),
        (situation((1,), 2, current=2), SPARE, TRIAL),
        (situation((1, 2), current=2), GOOD, SPARE),
    ],
)
def test_the_variables_mean(found: Situation, a: SlotState, b: SlotState) -> None:
    assert decode(found) == view_of(a, b)


def test_of_three_slots_the_one_that_is_used_up_was_before_all_others() -> None:
    found = situation((1,), 2, slots="abc")
    assert decode(found).state("c") == SlotState(3, 0, False)
    assert model.next_boot(decode(found))[0] == "b"


def test_so_many_slots_as_there_are_priorities_are_read() -> None:
    slots = "abcdefghijklmno"
    for listed in (15, 14):
        assert decode(situation(range(1, listed + 1), slots=slots)).state("o").confirmed == (listed == 15)


@pytest.mark.parametrize(
    ("order", "wanted", "expected"),
    [
        ((1, 9, 2), [2, 1], (2, 9, 1)),
        ((9, 1, 8), [2, 1], (9, 2, 1, 8)),
        ((9, 1, 8, 2), [2], (9, 2, 8)),
        ((9, 1, 8, 2), [], (9, 8)),
        ((9, 8), [2], (2, 9, 8)),
        ((), [1, 2], (1, 2)),
        ((1, 2, 1), [1, 2], (1, 2)),
        ((9, 1, 9), [1], (9, 1, 9)),
    ],
)
def test_entries_of_other_systems_keep_their_places(
    order: tuple[int, ...], wanted: list[int], expected: tuple[int, ...]
) -> None:
    found = situation(order)
    states = {number: SlotState(2 - place, 0, True) for place, number in enumerate(wanted)}
    view = view_of(states.get(1, REJECTED), states.get(2, REJECTED))
    assert encode(found, view).order == expected


def test_what_bootnext_says_of_other_systems_is_kept_until_a_trial_needs_it() -> None:
    found = situation((1, 2), 9)
    assert encode(found, model.confirm(decode(found), "b")).once == 9
    assert encode(found, model.arm_trial(decode(found), "b", active="a", tries=1)).once == 2


def transition(view: BootView, name: str, slot: str, active: str) -> BootView | None:
    """The view after the operation, or None when the model refuses it."""
    operations = {
        "invalidate": lambda: model.invalidate(view, slot, active=active),
        "arm": lambda: model.arm_trial(view, slot, active=active, tries=1),
        "confirm": lambda: model.confirm(view, slot),
        "recount": lambda: model.recount(view, active, counted=0),
        "reject": lambda: model.reject(view, slot),
        "roll back": lambda: model.roll_back(view, active=active),
    }
    try:
        return operations[name]()
    except BootError:
        return None


def started(found: Situation, *, strict: bool) -> tuple[str | None, Situation]:
    """As `start`, of a situation: the slot or "other", and the situation afterwards."""
    slots = {entry.number: slot for slot, entry in found.entries.items()}
    # The other entries in BootOrder are of things that are not plugged in.
    wanted = [number for number in found.order if number in slots and found.entries[slots[number]].option.active]
    if found.once is not None:
        slot = slots.get(found.once)
        if slot is None or found.entries[slot].option.active or not strict:
            wanted.insert(0, found.once)
    if not wanted:
        return None, replace(found, once=None, current=None)
    return slots.get(wanted[0], "other"), replace(found, once=None, current=wanted[0])


def active_of(found: Situation, otherwise: str) -> str:
    """The slot that runs."""
    return next((slot for slot in found.entries if found.runs(slot)), otherwise)


numbers_of_current = st.none() | st.sampled_from([1, 2, 9])
names = st.sampled_from(["invalidate", "arm", "confirm", "recount", "reject", "roll back", "boot"])


def histories(slots: str) -> st.SearchStrategy[list[tuple[str, str, str, float]]]:
    """Operations (name, slot, active slot), and how far each of them gets: 1 is to its end."""
    one = st.sampled_from(slots)
    return st.lists(st.tuples(names, one, one, st.just(1.0) | st.floats(0, 1)), max_size=12)


@given(histories("ab"), numbers_of_current)
@example([("arm", "b", "a", 1.0), ("confirm", "a", "a", 1.0), ("confirm", "b", "a", 1.0)], None)
@example([("arm", "b", "a", 1.0), ("boot", "", "", 1.0), ("reject", "b", "b", 1.0), ("arm", "b", "a", 0.9)], 1)
@example([("reject", "b", "a", 1.0), ("arm", "b", "a", 1.0)], None)
def test_each_operation_is_read_back_and_each_write_of_it_leaves_the_old_reference_or_the_new_one(
    history: list[tuple[str, str, str, float]], current: int | None
) -> None:
    found = situation(current=current)
    for name, slot, active, progress in history:
        old = decode(found)
        if name == "boot":
            _, found = started(found, strict=True)
            continue
        after = transition(old, name, slot, active_of(found, active))
        if after is None:
            continue
        wanted = encode(found, after)
        new = decode(wanted)
        assert bare(new) == bare(after)
        steps = way(found, wanted)
        assert (steps[0], steps[-1]) == (found, wanted)
        for step in steps:
            assert decode(step) in (old, new)
            for strict in (False, True):
                assert started(step, strict=strict)[0] == model.next_boot(decode(step))[0]
        for step in steps[1:]:
            assert_what_starts_is_rejected_only_if_wanted(step, new)
        assert all(_writes(before, after) <= 1 for before, after in pairwise(steps))
        found = steps[round(progress * (len(steps) - 1))]


def assert_what_starts_is_rejected_only_if_wanted(found: Situation, wanted: BootView) -> None:
    slot, left = started(found, strict=False)
    if slot is not None and wanted.state(slot) != REJECTED:
        verdict = judge(decode(left), slot, []).verdict
        assert verdict == "healthy" or (verdict == "confirmed" and not decode(found).state(slot).confirmed)


def _writes(before: Situation, after: Situation) -> int:
    fields = (before.order != after.order, before.once != after.once, before.notes != after.notes)
    return sum(fields) + sum(before.entries[slot] != entry for slot, entry in after.entries.items())


@given(histories("abc"))
@example([("arm", "b", "a", 1.0), ("confirm", "a", "a", 1.0), ("arm", "b", "a", 1.0)])
def test_with_more_slots_each_write_leaves_a_machine_that_starts_as_before_or_as_is_wanted(
    history: list[tuple[str, str, str, float]],
) -> None:
    found = situation((1, 9, 2, 3), slots="abc")
    for name, slot, active, progress in history:
        if name == "boot":
            _, found = started(found, strict=False)
            continue
        after = transition(decode(found), name, slot, active_of(found, active))
        if after is None:
            continue
        wanted = encode(found, after)
        assert model.next_boot(decode(wanted))[0] == model.next_boot(after)[0]
        steps = way(found, wanted)
        for strict in (False, True):
            expected = {started(end, strict=strict)[0] for end in (found, wanted)}
            assert {started(step, strict=strict)[0] for step in steps} <= expected
        found = steps[round(progress * (len(steps) - 1))]


@given(histories("ab"), st.booleans())
def test_the_firmware_leaves_what_the_model_leaves(history: list[tuple[str, str, str, float]], strict: bool) -> None:
    found = situation()
    for name, slot, active, _ in history:
        after = None if name == "boot" else transition(decode(found), name, slot, active)
        if after is not None:
            found = encode(found, after)
    expected, left = model.next_boot(decode(found))
    slot_started, booted = started(found, strict=strict)
    assert slot_started == expected
    assert bare(decode(booted)) == bare(left)
    assert {name: state.priority == 0 for name, state in decode(booted).slots} == {
        name: state.priority == 0 for name, state in left.slots
    }


situations = st.builds(
    situation,
    st.lists(st.sampled_from([1, 2, 9]), max_size=5),
    st.none() | st.sampled_from([1, 2, 9]),
    inactive=st.lists(st.sampled_from([1, 2]), max_size=2),
    notes=st.dictionaries(st.sampled_from("ab"), st.sampled_from(["empty", "trial", "bad", "again"])),
    current=numbers_of_current,
)


@given(situations, names.filter(lambda name: name != "boot"), st.sampled_from("ab"), st.sampled_from("ab"))
@example(situation((1, 2), inactive=[2]), "arm", "b", "a")
def test_whatever_others_left_no_write_confirms_a_slot_by_accident(
    found: Situation, name: str, slot: str, active: str
) -> None:
    old = decode(found)
    after = transition(old, name, slot, active_of(found, active))
    if after is not None:
        wanted = encode(found, after)
        for step in way(found, wanted):
            assert confirmed(decode(step)) <= confirmed(old) | confirmed(after)
            assert not confirmed(old) or decode(step) in (old, decode(wanted))


@given(situations)
def test_what_was_brought_in_order_is_in_order_and_means_the_same(found: Situation) -> None:
    mended = encode(found, decode(found))
    assert decode(mended) == decode(found)
    assert encode(mended, decode(mended)) == mended


# The backend.


def test_an_update_as_efibootmgr_shows_it(firmware: Path, backend: Efi) -> None:
    steps: list[Any] = [
        (lambda view: model.invalidate(view, "b", active="a"), (1, 3), None, False),
        (lambda view: model.arm_trial(view, "b", active="a", tries=1), (1, 3), 2, True),
        (lambda view: model.confirm(view, "b"), (2, 1, 3), None, True),
        (lambda view: model.roll_back(view, active="b"), (1, 2, 3), None, True),
        (lambda view: model.reject(view, "b"), (1, 3), None, True),
    ]
    for change, order, once, b_is_active in steps:
        after = change(backend.read())
        backend.commit(after)
        assert bare(backend.read()) == bare(after)
        assert backend.problems() == ()
        entries = {number: (True, text) for number, text in DESCRIPTIONS.items()}
        assert shown(firmware) == Shown(order, once, {**entries, 2: (b_is_active, "updated-b")})


def test_what_efibootmgr_writes_we_read(firmware: Path, backend: Efi) -> None:
    set_boot_order(firmware, "0002,0001")
    assert backend.read() == view_of(SPARE, GOOD)
    set_boot_order(firmware, "0003,0001")
    assert backend.read() == view_of(SPARE, USED_UP)
    for options, a, b in [
        (["-n", "0002"], SPARE, TRIAL),
        (["-N"], SPARE, USED_UP),
        (["-A", "-b", "0002"], SPARE, EMPTY),
        (["-n", "0003"], SPARE, EMPTY),
    ]:
        efibootmgr(firmware, *options)
        assert backend.read() == view_of(a, b)


def test_firmware_starts_a_trial_once(firmware: Path, backend: Efi) -> None:
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    assert [start(firmware, strict=True) for _ in range(3)] == ["updated-b", "updated-a", "updated-a"]
    assert backend.read() == view_of(SPARE, USED_UP)


def test_a_trial_that_runs_is_confirmed_by_its_health(firmware: Path, backend: Efi) -> None:
    armed = model.arm_trial(backend.read(), "b", active="a", tries=1)
    backend.commit(armed)
    assert start(firmware) == "updated-b"
    assert backend.read() == model.next_boot(armed)[1] == view_of(SPARE, USED_UP)
    judgement = judge(backend.read(), "b", [])
    assert judgement.verdict == "confirmed"
    backend.commit(changed(backend.read(), "b", judgement))
    assert backend.read() == view_of(SPARE, GOOD)
    assert [start(firmware) for _ in range(2)] == ["updated-b", "updated-b"]
    assert backend.read() == view_of(SPARE, GOOD)


def test_a_trial_that_failed_is_to_be_told_from_an_empty_slot_and_from_a_rejected_one(
    firmware: Path, backend: Efi
) -> None:
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    start(firmware)
    for failed, priority in ((lambda view: view, 2), (lambda view: model.reject(view, "b"), 0)):
        backend.commit(failed(backend.read()))
        assert start(firmware) == "updated-a"
        state = backend.read().state("b")
        assert (state.condition, state.bootable, state.priority) == ("bad", False, priority)
        assert backend.problems() == ()


def test_a_rejection_stands_while_the_slot_runs_and_afterwards(firmware: Path, backend: Efi) -> None:
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    start(firmware)
    backend.commit(model.reject(backend.read(), "b"))
    assert judge(backend.read(), "b", []).verdict == "rejected"
    for _ in range(2):
        assert backend.read() == view_of(SPARE, REJECTED)
        assert backend.problems() == ()
        assert start(firmware) == "updated-a"


def test_a_rejection_is_a_trial_that_is_used_up_without_the_notes(backend: Efi, tmp_path: Path) -> None:
    backend.commit(model.reject(backend.read(), "b"))
    assert backend.read() == view_of(SPARE, REJECTED)
    (tmp_path / "state" / "efi" / "notes").unlink()
    assert backend.read() == view_of(SPARE, USED_UP)
    assert backend.problems() == ()


def test_a_slot_that_runs_is_not_called_empty(firmware: Path, backend: Efi) -> None:
    """As when another kernel was started from slot b without the firmware. It counts from the next boot on."""
    write_variable(firmware, "BootCurrent", numbers(2))
    backend.commit(model.invalidate(backend.read(), "b", active="a"))
    assert backend.read() == view_of(SPARE, USED_UP)
    assert start(firmware) == "updated-a"
    assert backend.read() == view_of(SPARE, EMPTY)
    assert backend.problems() == ()


def test_after_kexec_bootcurrent_is_of_another_boot_and_says_nothing(firmware: Path, tmp_path: Path) -> None:
    """Slot a was started by the firmware, and slot b from there; then slot a is written."""
    backend = Efi(str(firmware), str(tmp_path / "state" / "efi"), by_firmware=False)
    write_variable(firmware, "BootCurrent", numbers(1))
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    backend.commit(model.confirm(backend.read(), "b"))
    backend.commit(model.invalidate(backend.read(), "a", active="b"))
    assert backend.read() == view_of(EMPTY, SPARE)
    assert backend.current_slot() is None
    assert backend.problems() == ()


@pytest.mark.parametrize("content", [b"", b"\6\0\0\0", b"\6\0\0\0\2", b"\6\0\0\0\2\0\0\0"])
def test_a_damaged_bootcurrent_is_as_none(firmware: Path, backend: Efi, content: bytes) -> None:
    backend.commit(model.invalidate(backend.read(), "b", active="a"))
    (firmware / f"BootCurrent-{GLOBAL_GUID}").write_bytes(content)
    assert backend.current_slot() is None
    assert backend.read() == view_of(SPARE, EMPTY)
    assert backend.problems() == ()


def test_a_rejected_slot_that_the_firmware_put_back_is_named_until_the_next_change(
    firmware: Path, backend: Efi
) -> None:
    backend.commit(model.reject(backend.read(), "b"))
    set_boot_order(firmware, "0001,0003,0002")
    assert backend.read() == view_of(GOOD, SPARE)
    assert backend.problems() == (
        "BootOrder: it lists slot b, which was rejected: reject it again, unless it was confirmed since then",
    )
    backend.commit(model.reject(backend.read(), "b"))
    assert backend.problems() == ()
    assert shown(firmware).order == (1, 3)


def test_a_trial_can_wait_behind_the_slot_that_is_confirmed_anew(firmware: Path, backend: Efi) -> None:
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    backend.commit(model.confirm(backend.read(), "a"))
    assert backend.read() == view_of(GOOD, WAITING)
    assert start(firmware) == "updated-a"


def test_all_else_stays_byte_for_byte(firmware: Path, backend: Efi) -> None:
    foreign = {f"Boot0000-{GLOBAL_GUID}", f"Boot0003-{GLOBAL_GUID}", f"Timeout-{GLOBAL_GUID}"}
    write_variable(firmware, "Timeout", b"\5\0")
    (firmware / f"Boot0003-{GLOBAL_GUID}").write_bytes(b"\7\0\0\0garbage")
    before = {name: (firmware / name).read_bytes() for name in foreign}
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    backend.commit(model.confirm(backend.read(), "b"))
    assert {name: (firmware / name).read_bytes() for name in foreign} == before
    assert {path.name for path in firmware.iterdir()} == {
        *foreign, *(f"{name}-{GLOBAL_GUID}" for name in ("Boot0001", "Boot0002", "BootOrder"))
    }  # fmt: skip


def test_nothing_is_written_when_nothing_changes(backend: Efi, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was written")

    views = [
        model.invalidate(backend.read(), "b", active="a"),
        model.arm_trial(backend.read(), "b", active="a", tries=1),
        model.confirm(backend.read(), "b"),
    ]
    for view in views:
        backend.commit(view)
        with monkeypatch.context() as patch:
            for name in ("write_file", "write_variable", "remove"):
                patch.setattr(durable, name, refuse)
            backend.commit(backend.read())


def test_what_an_entry_was_is_kept_and_it_comes_back_when_the_firmware_has_lost_it(
    firmware: Path, backend: Efi, tmp_path: Path
) -> None:
    backend.commit(backend.read())
    kept = (firmware / f"Boot0002-{GLOBAL_GUID}").read_bytes()
    assert (tmp_path / "state" / "efi" / "b.entry").read_bytes() == kept
    efibootmgr(firmware, "-B", "-b", "0002")
    set_boot_order(firmware, "0001,0003")
    assert backend.read() == view_of(SPARE, USED_UP)
    assert backend.problems() == ("slot b: the firmware has lost its boot entry",)
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
    assert (firmware / f"Boot0002-{GLOBAL_GUID}").read_bytes() == kept
    assert start(firmware, strict=True) == "updated-b"


def test_an_entry_that_was_lost_does_not_come_back_under_a_number_that_still_means_something(
    firmware: Path, backend: Efi
) -> None:
    backend.commit(backend.read())
    (firmware / f"Boot0002-{GLOBAL_GUID}").unlink()
    write_variable(firmware, "BootOrder", numbers(1, 2))
    write_variable(firmware, "BootNext", numbers(4))
    write_variable(firmware, "BootCurrent", numbers(5))
    backend.commit(backend.read())
    assert shown(firmware).entries[6] == (True, "updated-b")
    assert backend.read() == view_of(SPARE, USED_UP)


def test_an_empty_slot_is_empty_without_its_entry(firmware: Path, backend: Efi) -> None:
    backend.commit(model.invalidate(backend.read(), "b", active="a"))
    (firmware / f"Boot0002-{GLOBAL_GUID}").unlink()
    assert backend.read() == view_of(SPARE, EMPTY)
    backend.commit(backend.read())
    assert shown(firmware).entries[2] == (False, "updated-b")
    assert backend.problems() == ()


def test_an_empty_slot_is_empty_without_the_notes(backend: Efi, tmp_path: Path) -> None:
    backend.commit(model.invalidate(backend.read(), "b", active="a"))
    shutil.rmtree(tmp_path / "state")
    assert backend.read() == view_of(SPARE, EMPTY)
    assert len(backend.problems()) == 3
    backend.commit(backend.read())
    assert backend.problems() == ()


@pytest.mark.parametrize("content", [b"", b"\7\0\0\0", b"garbage" * 9, b"\7\0\0\0" + option("updated-a").format()])
def test_a_copy_that_is_damaged_is_mended_and_never_made_an_entry(
    firmware: Path, backend: Efi, tmp_path: Path, content: bytes
) -> None:
    backend.commit(backend.read())
    copy = tmp_path / "state" / "efi" / "b.entry"
    copy.write_bytes(content)
    (problem,) = backend.problems()
    assert problem.startswith(f"{copy}: ")
    backend.commit(backend.read())
    assert backend.problems() == ()
    copy.write_bytes(content)
    (firmware / f"Boot0002-{GLOBAL_GUID}").unlink()
    assert backend.read().names == ("a",)


@pytest.mark.parametrize(
    ("order", "once", "inactive", "problem"),
    [
        ((1, 2), 1, [], "BootNext: it names a slot that is the first one without it"),
        ((1, 2, 2), None, [], "BootOrder: it lists a slot that is not good, or one twice"),
        ((1,), 2, [2], "Boot0002: it is not active, and slot b is trial"),
    ],
)
def test_what_is_out_of_order_is_named_and_mended(
    firmware: Path, backend: Efi, order: Sequence[int], once: int | None, inactive: Sequence[int], problem: str
) -> None:
    backend.commit(backend.read())
    lay_out_firmware(firmware, order, once, inactive=inactive)
    view = backend.read()
    assert backend.problems() == (problem,)
    backend.commit(view)
    assert backend.problems() == ()
    assert backend.read() == view


def test_a_variable_keeps_its_attributes_as_far_as_the_kernel_knows_them(firmware: Path, backend: Efi) -> None:
    (firmware / f"BootOrder-{GLOBAL_GUID}").write_bytes(b"\3\0\0\x80" + numbers(1, 2))
    backend.commit(model.roll_back(backend.read(), active="a"))
    assert (firmware / f"BootOrder-{GLOBAL_GUID}").read_bytes() == b"\3\0\0\0" + numbers(2, 1)


def test_the_slot_that_runs_is_that_of_bootcurrent(firmware: Path, backend: Efi) -> None:
    assert backend.current_slot() is None
    backend.commit(backend.read())
    (firmware / f"Boot0001-{GLOBAL_GUID}").unlink()
    assert backend.current_slot() is None
    for number, slot in ((2, "b"), (3, None), (7, None)):
        write_variable(firmware, "BootCurrent", numbers(number))
        assert backend.current_slot() == slot


def test_the_operator_is_told_of_the_watchdog_and_of_bootnext(backend: Efi) -> None:
    text = "\n".join(backend.limits())
    assert "watchdog" in text
    assert "BootNext" in text
    assert all("\n" not in line for line in backend.limits())
    assert (backend.most_tries, backend.counts_confirmed, backend.begin_reboot()) == (1, False, "")


garbage = st.binary(max_size=40) | st.builds(
    lambda head, tail: head + tail,
    st.sampled_from([b"\7\0\0\0", b"\7\0\0\0" + option("updated-a").format()[:26]]),
    st.binary(max_size=40),
)


@given(st.sampled_from(["Boot0000", "Boot0001", "Boot0004", "BootOrder", "BootNext", "BootCurrent"]), garbage)
def test_garbage_in_a_variable_is_a_boot_reference_or_one_boot_error(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        lay_out_firmware(folder)
        (folder / f"{name}-{GLOBAL_GUID}").write_bytes(content)
        backend = Efi(work, work)
        for call in (backend.read, backend.problems, backend.current_slot, lambda: backend.commit(backend.read())):
            try:
                call()
            except BootError as error:
                assert error.code == "efi-corrupt"  # noqa: PT017
                assert error.what.startswith(work)  # noqa: PT017


@given(st.sampled_from(["notes", "a.entry", "b.entry"]), st.binary(max_size=60))
@example("notes", b"b=trial\nb=empty\n\xff=trial\nc=bad")
def test_garbage_in_the_backup_does_not_count_and_is_replaced(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        lay_out_firmware(folder)
        (folder / name).write_bytes(content)
        backend = Efi(work, work)
        assert backend.read() == view_of(GOOD, SPARE)
        backend.commit(backend.read())
        assert backend.problems() == ()


# What goes wrong.


def code_of(backend: Efi, view: BootView | None = None) -> str:
    with pytest.raises(BootError) as caught:
        backend.read() if view is None else backend.commit(view)
    return caught.value.code


def test_a_machine_without_our_entries_has_no_slots(tmp_path: Path) -> None:
    lay_out_firmware(tmp_path, descriptions={0: "UEFI Shell", 3: "debian"})
    with pytest.raises(BootError, match="efibootmgr -c -L updated-a") as caught:
        Efi(str(tmp_path), str(tmp_path)).read()
    assert caught.value.code == "no-slots"


def test_a_machine_without_efi_firmware_is_an_error(tmp_path: Path) -> None:
    assert code_of(Efi(str(tmp_path / "efivars"), str(tmp_path))) == "efi-variables-missing"


@pytest.mark.parametrize(
    ("name", "data", "cause"),
    [
        ("BootOrder", b"\1\0\2", "3 bytes, and each number in it takes two"),
        ("BootNext", b"\1", "1 bytes instead of 2"),
        ("BootNext", b"\1\0\0\0", "4 bytes instead of 2"),
        ("Boot0001", option("updated-a").format()[:40], "of its device path are there"),
        ("Boot0007", option("UPDATED-A").format(), "Boot0001 and Boot0007 both belong to slot a"),
        ("Boot0007", option("b").format(), "Boot0002 and Boot0007 both belong to slot b"),
    ],
)
def test_what_is_corrupt_is_named_with_its_cause_and_mend(
    firmware: Path, backend: Efi, name: str, data: bytes, cause: str
) -> None:
    write_variable(firmware, name, data)
    with pytest.raises(BootError, match=cause) as caught:
        backend.read()
    assert caught.value.code == "efi-corrupt"
    assert caught.value.what.startswith(str(firmware))
    assert "efibootmgr" in caught.value.mend


def test_so_many_slots_have_no_order(firmware: Path, backend: Efi) -> None:
    for number in range(16):
        write_variable(firmware, f"Boot01{number:02X}", option(f"updated-s{number}").format())
    assert code_of(backend) == "efi-corrupt"


def test_a_name_with_small_letters_is_no_entry(firmware: Path, backend: Efi) -> None:
    write_variable(firmware, "Boot000a", option("updated-c").format())
    assert backend.read().names == ("a", "b")


@pytest.mark.parametrize("b", [SlotState(2, 2, False), SlotState(2, 1, True)])
def test_boots_that_the_firmware_can_not_count_are_refused(firmware: Path, backend: Efi, b: SlotState) -> None:
    before = shown(firmware)
    assert code_of(backend, view_of(SPARE, b)) == "bad-tries"
    assert shown(firmware) == before


def test_slots_that_there_are_not_are_refused(backend: Efi) -> None:
    view = backend.read()
    for wrong in (BootView(view.slots[:1]), BootView((*view.slots, ("c", SlotState())))):
        assert code_of(backend, wrong) == "unknown-slot"


def test_what_can_not_be_written_is_an_error_and_leaves_the_old(
    firmware: Path, backend: Efi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.commit(backend.read())
    before = shown(firmware)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(durable, "write_file", full)
    for view in (
        model.invalidate(backend.read(), "b", active="a"),
        model.arm_trial(backend.read(), "b", active="a", tries=1),
        model.roll_back(backend.read(), active="a"),
    ):
        assert code_of(backend, view) == "efi-not-writable"
        assert shown(firmware) == before


def test_what_can_not_be_read_is_an_error(firmware: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "a.entry").mkdir(parents=True)
    for backup in ("file", "folder"):
        assert code_of(Efi(str(firmware), str(tmp_path / backup))) == "efi-unreadable"


def test_firmware_that_forgets_is_found_out(backend: Efi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EfiVariables, "write", lambda *_, **__: None)
    assert code_of(backend, model.arm_trial(backend.read(), "b", active="a", tries=1)) == "read-back-differs"


def test_a_disk_that_forgets_is_found_out(backend: Efi, monkeypatch: pytest.MonkeyPatch) -> None:
    view = backend.read()
    monkeypatch.setattr(durable, "write_file", lambda *_, **__: None)
    assert code_of(backend, view) == "read-back-differs"


# RAUC.

_SYSTEM = """\
[system]
compatible=test
bootloader=efi
mountprefix={folder}/mount
statusfile={folder}/status

[slot.rootfs.0]
device={folder}/a
type=raw
bootname=A

[slot.rootfs.1]
device={folder}/b
type=raw
bootname=B
"""


@contextmanager
def rauc(folder: Path, efivars: Path) -> Iterator[Any]:
    """A function that runs `rauc status` with its arguments; its service runs meanwhile."""
    (folder / "system.conf").write_text(_SYSTEM.format(folder=folder))
    for name in ("a", "b"):
        (folder / name).write_bytes(bytes(512))
    command = ["rauc", f"--conf={folder}/system.conf"]
    with private_bus() as address:
        environment = {
            **os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address, "EFIVARFS_PATH": f"{efivars}/",
            "LIBEFIVAR_OPS": "efivarfs", "LC_ALL": "C",
        }  # fmt: skip

        def status(*arguments: str) -> str:
            done = subprocess.run(
                [*command, "status", *arguments], env=environment, capture_output=True, text=True, timeout=30
            )
            if done.returncode:
                raise OSError(done.stderr)
            return done.stdout

        service = subprocess.Popen(
            [*command, "--override-boot-slot=A", "service"], env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    status()
                    break
                except OSError:
                    if time.monotonic() > deadline or service.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield status
        finally:
            service.terminate()
            service.wait(10)


def _as_rauc_sees(status: Any) -> tuple[str, dict[str, str]]:
    """The name of the primary slot, and good or bad of each."""
    document = json.loads(status("--output-format=json"))
    slots = {name: slot for each in document["slots"] for name, slot in each.items()}
    return (
        slots[document["boot_primary"]]["bootname"],
        {slot["bootname"]: slot["boot_status"] for slot in slots.values()},
    )


@pytest.mark.skipif(shutil.which("rauc") is None, reason="RAUC is not installed (packaging/install-bench-packages)")
def test_rauc_and_we_say_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "efivars"
    folder.mkdir()
    lay_out_firmware(folder, descriptions={**DESCRIPTIONS, 1: "A", 2: "B"})
    backend = Efi(str(folder), str(tmp_path / "backup"))
    with rauc(tmp_path, folder) as status:
        assert _as_rauc_sees(status) == ("A", {"A": "good", "B": "good"})
        backend.commit(model.invalidate(backend.read(), "b", active="a"))
        assert _as_rauc_sees(status) == ("A", {"A": "good", "B": "bad"})
        backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=1))
        assert _as_rauc_sees(status) == ("B", {"A": "good", "B": "bad"})
        backend.commit(model.confirm(backend.read(), "b"))
        assert _as_rauc_sees(status) == ("B", {"A": "good", "B": "good"})
        backend.commit(model.roll_back(backend.read(), active="b"))
        assert _as_rauc_sees(status) == ("A", {"A": "good", "B": "good"})
        status("mark-bad", "rootfs.1")
        assert backend.read() == view_of(SPARE, USED_UP)
        status("mark-active", "rootfs.1")
        assert backend.read() == view_of(SPARE, TRIAL)
        status("mark-good", "rootfs.1")
        efibootmgr(folder, "-N")  # as the firmware does when it starts the slot
        assert backend.read() == view_of(SPARE, GOOD)
