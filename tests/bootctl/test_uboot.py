"""The boot reference in U-Boot's environment: the back-end, and the boot script that reads it.

The judges are fw_printenv and fw_setenv for the environment, RAUC for the variables that are RAUC's, and for the script
a shell in which U-Boot's commands are functions.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bootctl import durable, model, uboot_env, uboot_files
from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from bootctl.uboot import UBoot
from bootctl.uboot_variables import decode, encode
from tests.bootctl.test_uboot_env import SIZE, config_of, made, printed, redundant, run, set_with_fw_setenv, single
from tests.fakes.rauc import Rauc, running_rauc

SCRIPT = Path(__file__).parents[2] / "packaging" / "uboot" / "boot.cmd"
FOREIGN = {"arch": "arm", "bootcmd": "run a; run b", "zeros": "0" * 600}
GOOD, SPARE = SlotState(2, 0, True), SlotState(1, 0, True)

Kind = Literal["redundant", "two files", "file", "raw"]
KINDS: list[Kind] = ["redundant", "two files", "file", "raw"]
RAW_OFFSET = 0x400


def two(a: SlotState, b: SlotState) -> BootView:
    return BootView((("a", a), ("b", b)))


FRESH = {**encode(two(GOOD, EMPTY)), **FOREIGN}


@dataclass(frozen=True, slots=True)
class Machine:
    """An environment below `root`, its configuration there and one with the paths for the tools, which have no root."""

    root: Path
    kind: Kind

    @property
    def backend(self) -> UBoot:
        return UBoot(str(self.root / "etc" / "fw_env.config"), str(self.root))

    @property
    def tools(self) -> Path:
        return self.root / "fw_env.config"

    @property
    def variables(self) -> dict[str, str] | None:
        return printed(self.tools)

    @property
    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "boot").iterdir()}

    def put(self, variables: Mapping[str, str], other: Mapping[str, str] | None = None, flag: int = 7) -> None:
        """Lay it out anew; of two copies the second one counts."""
        boot = self.root / "boot"
        for path in boot.iterdir():
            path.unlink()
        old, new = redundant(other or variables, (flag - 1) % 256), redundant(variables, flag)
        match self.kind:
            case "redundant":
                (boot / "disk").write_bytes(b"x" * 0x200 + old + b"y" * 0x200 + new)
            case "two files":
                (boot / "env0").write_bytes(old)
                (boot / "env1").write_bytes(new)
            case "file":
                (boot / "env").write_bytes(single(variables))
            case "raw":
                (boot / "disk").write_bytes(b"x" * RAW_OFFSET + single(variables) + b"y" * 0x400)


LINES: dict[Kind, list[tuple[str, str]]] = {
    "redundant": [("disk", "0x200"), ("disk", f"{0x400 + SIZE:#x}")],
    "two files": [("env0", "0x0"), ("env1", "0x0")],
    "file": [("env", "0x0")],
    "raw": [("disk", f"{RAW_OFFSET:#x}")],
}


def machine_in(root: Path, kind: Kind) -> Machine:
    for folder in ("etc", "boot", "var/lock"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    config_of(root, *(f"{root}/boot/{name} {offset} {SIZE:#x}" for name, offset in LINES[kind]))
    config_of(root / "etc", *(f"/boot/{name} {offset} {SIZE:#x}" for name, offset in LINES[kind]))
    machine = Machine(root, kind)
    machine.put(FRESH)
    return machine


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return machine_in(tmp_path, request.param)


@pytest.fixture
def pair(tmp_path: Path) -> Machine:
    return machine_in(tmp_path, "redundant")


@pytest.fixture
def file(tmp_path: Path) -> Machine:
    return machine_in(tmp_path, "file")


@pytest.fixture
def raw(tmp_path: Path) -> Machine:
    return machine_in(tmp_path, "raw")


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files after whose change the file system was synchronised; the tests don't wait for that."""
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_filesystem", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    return synced


def ours(variables: Mapping[str, str] | None) -> dict[str, str]:
    assert variables is not None
    return {name: value for name, value in variables.items() if name.startswith("BOOT_")}


# --- what the variables mean ---

LEFT_OK: list[tuple[str, str | None, tuple[int, int, bool]]] = [
    ("3", "0", (2, 3, False)),
    ("9", "0", (2, 9, False)),
    ("0", "0", (2, 0, False)),
    ("9", "1", (2, 0, True)),
    ("3", "2", (2, 3, True)),
    ("0", "2", (0, 0, True)),
    # as RAUC left it, or what RAUC wrote over a slot that we had confirmed
    ("3", None, (2, 3, True)),
    ("0", None, (0, 0, True)),
    ("3", "1", (2, 3, True)),
    ("0", "1", (0, 0, True)),
    # by other programs
    ("a", None, (2, 9, True)),
    ("14", "0", (2, 9, False)),
    ("0x1f", "2", (2, 9, True)),
    ("", "0", (2, 0, False)),
    ("x", "0", (2, 0, False)),
    ("03", "0", (2, 0, False)),
    ("-1", "0", (2, 0, False)),
    ("9", "yes", (2, 9, True)),
]


@pytest.mark.parametrize(("left", "mark", "state"), LEFT_OK)
def test_the_variables_of_a_slot_in_the_order_mean(left: str, mark: str | None, state: tuple[int, int, bool]) -> None:
    variables = {"BOOT_ORDER": "A B", "BOOT_A_LEFT": left, "BOOT_B_LEFT": "9", "BOOT_B_OK": "1"}
    if mark is not None:
        variables["BOOT_A_OK"] = mark
    assert decode(variables) == two(SlotState(*state), SlotState(1, 0, True))


@pytest.mark.parametrize("mark", ["0", "1", "2", ""])
@pytest.mark.parametrize(("left", "state"), [("0", EMPTY), ("", EMPTY), ("3", SlotState(0, 3, False))])
def test_a_slot_that_the_order_omits_never_boots(left: str, mark: str, state: SlotState) -> None:
    variables = {"BOOT_ORDER": "B ", "BOOT_A_LEFT": left, "BOOT_A_OK": mark, "BOOT_B_LEFT": "9", "BOOT_B_OK": "1"}
    assert decode(variables) == two(state, GOOD)


def test_the_order_is_read_as_a_shell_reads_it() -> None:
    variables = {"BOOT_ORDER": " B\tA  B ", "BOOT_A_LEFT": "1", "BOOT_B_LEFT": "1"}
    assert decode(variables) == two(SlotState(1, 1, True), SlotState(2, 1, True))


@pytest.mark.parametrize("order", ["system0 system1", "A;B", "Ä B", " ".join(f"S{n}" for n in range(16))])
def test_an_order_that_is_no_list_of_slots_is_corrupt(order: str) -> None:
    with pytest.raises(BootError) as caught:
        decode({"BOOT_ORDER": order})
    assert caught.value.code == "uboot-env-corrupt"


states = st.builds(
    SlotState, st.integers(0, 15), st.integers(0, 9), st.booleans()
).filter(lambda state: not (state.priority == 0 and state.confirmed and state.tries_left))  # fmt: skip


@given(states, states)
@example(EMPTY, EMPTY)
@example(REJECTED, GOOD)
@example(SlotState(0, 0, True), SlotState(0, 0, True))
def test_every_state_is_read_back_with_its_order_tries_and_mark(a: SlotState, b: SlotState) -> None:
    view = decode(encode(two(a, b)))
    for (_, read), state in zip(view.slots, (a, b), strict=True):
        assert (read.condition, read.tries_left, read.confirmed) == (state.condition, state.tries_left, state.confirmed)
        assert bool(read.priority) == bool(state.priority)
    assert model.boot_sequence(view, 20) == model.boot_sequence(two(a, b), 20)
    assert decode(encode(view)) == view


@given(states, states)
def test_our_variables_are_always_as_wide_and_each_number_is_one_digit(a: SlotState, b: SlotState) -> None:
    variables = encode(two(a, b))
    assert [len(variables[name]) for name in sorted(variables)] == [1, 1, 1, 1, 3]
    assert all(variables[f"BOOT_{slot}_LEFT"] in "0123456789" for slot in "AB")


def test_more_tries_than_u_boot_counts_are_refused(pair: Machine) -> None:
    before = pair.files
    with pytest.raises(BootError, match="from 1 to 9") as caught:
        pair.backend.commit(two(GOOD, SlotState(1, 10, False)))
    assert caught.value.code == "bad-tries"
    assert pair.files == before
    assert pair.backend.most_tries == 9
    assert pair.backend.counts_confirmed


# --- an update ---

STEPS: list[tuple[Callable[[BootView], BootView], dict[str, str]]] = [
    (
        lambda view: model.invalidate(view, "b", active="a"),
        {"BOOT_ORDER": "A  ", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1", "BOOT_B_LEFT": "0", "BOOT_B_OK": "0"},
    ),
    (
        lambda view: model.arm_trial(view, "b", active="a", tries=2),
        {"BOOT_ORDER": "B A", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1", "BOOT_B_LEFT": "2", "BOOT_B_OK": "0"},
    ),
    (
        lambda view: model.confirm(view, "b"),
        {"BOOT_ORDER": "B A", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1", "BOOT_B_LEFT": "9", "BOOT_B_OK": "1"},
    ),
    (
        lambda view: model.recount(view, "b", counted=3),
        {"BOOT_ORDER": "B A", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1", "BOOT_B_LEFT": "3", "BOOT_B_OK": "2"},
    ),
    (
        lambda view: model.roll_back(view, active="b"),
        {"BOOT_ORDER": "A B", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1", "BOOT_B_LEFT": "3", "BOOT_B_OK": "2"},
    ),
    (
        lambda view: model.reject(view, "b"),
        {"BOOT_ORDER": "A  ", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1", "BOOT_B_LEFT": "1", "BOOT_B_OK": "0"},
    ),
]


def test_an_update_as_fw_printenv_sees_it_step_by_step(machine: Machine) -> None:
    machine.put({**encode(two(GOOD, SPARE)), **FOREIGN})
    for transition, expected in STEPS:
        view = transition(machine.backend.read())
        machine.backend.commit(view)
        assert machine.backend.read() == decode(encode(view))
        assert machine.variables == {**expected, **FOREIGN}
        assert machine.backend.problems() == ()


@pytest.mark.parametrize("change", [{"BOOT_B_LEFT": "1", "extra": "1"}, {"BOOT_ORDER": "A", "arch": "riscv"}])
def test_what_fw_setenv_writes_is_understood_and_written_over(machine: Machine, change: dict[str, str]) -> None:
    machine.backend.commit(model.arm_trial(machine.backend.read(), "b", active="a"))
    set_with_fw_setenv(machine.tools, change)
    variables = machine.variables
    assert variables is not None
    assert machine.backend.read() == decode(variables)
    machine.backend.commit(model.arm_trial(machine.backend.read(), "b", active="a", tries=5))
    expected = {**variables, "BOOT_ORDER": "B A", "BOOT_B_LEFT": "5"}
    assert machine.variables == expected


def test_foreign_variables_stay_byte_for_byte_and_in_their_order(machine: Machine) -> None:
    foreign = (b"z=1", b"\xff\xfe=\x80", b"empty=", b"noequals", b"a=b=c", b"z=2", b"#comment")
    lines = (*foreign[:3], b"BOOT_ORDER=A B", b"BOOT_A_LEFT=3", *foreign[3:], b"BOOT_B_LEFT=3")
    machine.put({})
    data = machine.files
    for name, content in data.items():
        flag = None if machine.kind in ("file", "raw") else 7
        environment = uboot_env.format_environment(uboot_env.Environment(lines, flag, b"\xff"), SIZE)
        blank = single({}) if flag is None else redundant({}, 7)
        (machine.root / "boot" / name).write_bytes(content.replace(blank, environment))
    machine.backend.commit(model.invalidate(machine.backend.read(), "b", active="a"))
    found = [content for content in machine.files.values() if b"BOOT_A_OK=2" in content]
    others = b"\0".join(foreign) + b"\0\0\xff"
    assert found
    assert all(b"BOOT_A_LEFT=3\0BOOT_A_OK=2\0BOOT_B_LEFT=0\0BOOT_B_OK=0\0BOOT_ORDER=A  \0" + others in content
               for content in found)  # fmt: skip


def test_an_environment_of_mkenvimage_is_changed_and_keeps_its_padding(file: Machine) -> None:
    (file.root / "boot" / "env").write_bytes(made({"BOOT_ORDER": "A B", "BOOT_A_LEFT": "9", "BOOT_A_OK": "1"}))
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    data = file.files["env"]
    assert data[-3000:] == b"\xff" * 3000
    assert ours(file.variables) == encode(two(SPARE, SlotState(2, 3, False)))


# --- one write, of one copy ---


def test_a_change_of_a_redundant_environment_writes_the_other_copy_with_the_next_flag(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, "two files")
    for flag in (7, 254, 255, 0):
        machine.put(FRESH, flag=flag)
        before = machine.files
        machine.backend.commit(model.arm_trial(machine.backend.read(), "b", active="a"))
        after = machine.files
        assert after["env1"] == before["env1"]
        assert after["env0"][4] == (flag + 1) % 256
        assert ours(machine.variables)["BOOT_ORDER"] == "B A"
        machine.backend.commit(model.confirm(machine.backend.read(), "b"))
        assert machine.files["env0"] == after["env0"]
        assert machine.files["env1"][4] == (flag + 2) % 256
        assert ours(machine.variables)["BOOT_B_OK"] == "1"


def test_what_is_around_the_environment_on_a_disk_is_left_alone(pair: Machine, tmp_path: Path) -> None:
    other = machine_in(tmp_path / "other", "raw")
    around = {pair: [(0, 0x200), (0x200 + SIZE, 0x400 + SIZE)], other: [(0, RAW_OFFSET), (RAW_OFFSET + SIZE, -1)]}
    for machine, places in around.items():
        before = machine.files["disk"]
        for transition, _ in STEPS[:3]:
            machine.backend.commit(transition(machine.backend.read()))
        after = machine.files["disk"]
        assert len(after) == len(before)
        assert [after[start:end] for start, end in places] == [before[start:end] for start, end in places]


def test_in_a_single_copy_on_a_disk_nothing_changes_beyond_its_first_sector(raw: Machine) -> None:
    raw.put({**encode(two(GOOD, SPARE)), **FOREIGN})
    for transition, _ in STEPS:
        before = raw.files["disk"]
        raw.backend.commit(transition(raw.backend.read()))
        after = raw.files["disk"]
        assert before != after
        assert before[RAW_OFFSET + 512 :] == after[RAW_OFFSET + 512 :]
        assert before[:RAW_OFFSET] == after[:RAW_OFFSET]


def test_it_is_one_write_of_that_sector(raw: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, int]] = []
    monkeypatch.setattr(durable, "overwrite", lambda fd, offset, data: written.append((offset, len(data))))
    with pytest.raises(BootError, match="does not hold"):
        raw.backend.commit(model.arm_trial(raw.backend.read(), "b", active="a"))
    assert written == [(RAW_OFFSET, 512)]


def test_a_disk_with_variables_of_others_first_says_that_its_first_change_is_wider(raw: Machine) -> None:
    early = {"AAA": "1" * 600}
    variables = {name: value for name, value in FRESH.items() if name not in FOREIGN}
    raw.put({**early, **variables})
    limits = raw.backend.limits()
    assert len(limits) == 2
    assert "only copy" in limits[0]
    assert "beyond its first sector" in limits[1]
    raw.backend.commit(model.arm_trial(raw.backend.read(), "b", active="a"))
    assert len(raw.backend.limits()) == 1
    assert raw.variables == {**encode(two(SPARE, SlotState(2, 3, False))), **early}


def test_a_file_is_replaced_and_has_a_second_copy_beside_it(file: Machine) -> None:
    inode = (file.root / "boot" / "env").stat().st_ino
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    assert (file.root / "boot" / "env").stat().st_ino != inode
    assert file.files["env"] == file.files["env.backup"]
    assert ours(file.variables)["BOOT_B_LEFT"] == "3"


def test_the_file_system_is_synchronised_since_u_boot_replays_no_journal(file: Machine, synced: list[str]) -> None:
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    assert synced == [f"{file.root}/boot/env.backup", f"{file.root}/boot/env"]


def test_on_fat_a_file_is_overwritten_in_place(file: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    path = file.root / "boot" / "env"
    inode = path.stat().st_ino
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    assert path.stat().st_ino == inode
    assert ours(file.variables)["BOOT_B_LEFT"] == "3"
    path.write_bytes(b"")
    file.backend.commit(file.backend.read())
    assert ours(file.variables)["BOOT_B_LEFT"] == "3"


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_nobody_may_read_a_new_second_copy_who_may_not_read_the_first_one(file: Machine, mode: int) -> None:
    path, second = file.root / "boot" / "env", file.root / "boot" / "env.backup"
    path.chmod(mode)
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    assert second.stat().st_mode & 0o777 == mode


def test_a_second_copy_and_a_first_one_made_anew_are_as_open_as_they_were(file: Machine) -> None:
    path, second = file.root / "boot" / "env", file.root / "boot" / "env.backup"
    file.backend.commit(file.backend.read())
    path.chmod(0o640)
    second.chmod(0o600)
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    assert [each.stat().st_mode & 0o777 for each in (path, second)] == [0o640, 0o600]
    path.unlink()
    file.backend.commit(file.backend.read())
    assert path.stat().st_mode & 0o777 == 0o600  # nobody knows any more what it was


def test_a_link_is_followed_and_the_mode_is_kept(file: Machine) -> None:
    target = file.root / "boot" / "env"
    target.chmod(0o600)
    (file.root / "link").symlink_to("boot/env")
    config_of(file.root / "etc", f"/link 0x0 {SIZE:#x}")
    file.backend.commit(model.arm_trial(file.backend.read(), "b", active="a"))
    assert (file.root / "link").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert ours(file.variables)["BOOT_B_LEFT"] == "3"


def test_nothing_is_written_when_nothing_changes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.backend.commit(machine.backend.read())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was written")

    for name in ("write_file", "overwrite", "overwrite_pieces"):
        monkeypatch.setattr(durable, name, refuse)
    before = machine.files
    machine.backend.commit(machine.backend.read())
    assert machine.files == before


def test_nothing_is_written_when_the_variables_of_rauc_say_the_same(pair: Machine) -> None:
    pair.put({"BOOT_ORDER": "A B", "BOOT_A_LEFT": "3", "BOOT_B_LEFT": "3"})
    before = pair.files
    pair.backend.commit(pair.backend.read())
    assert pair.files == before


# --- damage ---


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_copy_of_two_does_not_count_and_is_mended(pair: Machine, damaged: int) -> None:
    older = {**FRESH, **encode(two(SPARE, GOOD))}
    pair.put(FRESH, older)
    path = pair.root / "boot" / "disk"
    at = (0x200, 0x400 + SIZE)[damaged]
    data = bytearray(path.read_bytes())
    data[at + 100] ^= 1
    path.write_bytes(data)
    expected = decode(older if damaged else FRESH)
    assert pair.backend.read() == expected
    assert pair.backend.problems() == (f"{path} at {at:#x}: its checksum is wrong",)
    pair.backend.commit(expected)
    assert pair.backend.problems() == ()
    assert pair.backend.read() == expected
    assert pair.variables == (older if damaged else FRESH)


@pytest.mark.parametrize("content", [b"", b"\0" * SIZE, None])
@pytest.mark.parametrize("victim", ["env0", "env1"])
def test_a_file_of_two_that_is_lost_is_written_anew(tmp_path: Path, victim: str, content: bytes | None) -> None:
    machine = machine_in(tmp_path, "two files")
    path = tmp_path / "boot" / victim
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    view = machine.backend.read()
    assert len(machine.backend.problems()) == 1
    machine.backend.commit(view)
    assert machine.backend.problems() == ()
    assert machine.variables == FRESH


@pytest.mark.parametrize("victim", ["env", "env.backup"])
@pytest.mark.parametrize("content", [b"", b"\0" * SIZE, None])
def test_a_corrupt_file_is_replaced_by_the_other(file: Machine, victim: str, content: bytes | None) -> None:
    file.backend.commit(file.backend.read())
    path = file.root / "boot" / victim
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert decode(FRESH) == file.backend.read()
    assert len(file.backend.problems()) == 1
    assert file.backend.problems()[0].startswith(f"{path}: ")
    file.backend.commit(file.backend.read())
    assert file.backend.problems() == ()
    assert file.files["env"] == file.files["env.backup"] == single(FRESH)


def test_a_second_copy_that_is_older_is_a_problem_and_is_mended(file: Machine) -> None:
    file.backend.commit(file.backend.read())
    set_with_fw_setenv(file.tools, {"other": "1"})
    assert "differs" in file.backend.problems()[0]
    file.backend.commit(file.backend.read())
    assert file.backend.problems() == ()


# --- the lock ---


@pytest.mark.parametrize("sixth", ["", " 0x1000 0x1 1"])
def test_it_waits_for_the_lock_of_fw_setenv_and_then_gives_up(
    pair: Machine, monkeypatch: pytest.MonkeyPatch, sixth: str
) -> None:
    """Its sixth field is about the lock of the flash, not about this one."""
    path = pair.root / "etc" / "fw_env.config"
    path.write_text(path.read_text().replace(f" {SIZE:#x}\n", f" {SIZE:#x}{sixth}\n"))
    monkeypatch.setattr(uboot_files, "_LOCK_SECONDS", 0.2)
    view = pair.backend.read()
    with (pair.root / "var/lock/fw_printenv.lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        actions = (pair.backend.read, partial(pair.backend.commit, view), pair.backend.problems, pair.backend.limits)
        for action in actions:
            began = time.monotonic()
            with pytest.raises(BootError, match="locked for") as caught:
                action()
            assert caught.value.code == "uboot-busy"
            assert time.monotonic() - began >= 0.2
    pair.backend.commit(view)


def test_it_goes_on_without_a_folder_for_the_lock(pair: Machine) -> None:
    (pair.root / "var/lock").rmdir()
    pair.backend.commit(model.arm_trial(pair.backend.read(), "b", active="a"))
    assert pair.backend.read().state("b").condition == "trial"


# --- errors ---


def code_of(machine: Machine, action: Callable[[], object] | None = None) -> str:
    with pytest.raises(BootError) as caught:
        (action or machine.backend.read)()
    assert str(machine.root) in caught.value.what or caught.value.code == "unknown-slot"
    return caught.value.code


def test_the_errors_about_the_configuration(pair: Machine) -> None:
    path = pair.root / "etc" / "fw_env.config"
    path.write_text("uboot:\n  size: 0x4000\n")
    assert code_of(pair) == "uboot-config-corrupt"
    path.write_text(f"/boot/disk 0x0 {SIZE:#x}\n/boot/disk 0x800 {SIZE:#x}\n")
    assert code_of(pair) == "uboot-config-corrupt"
    path.write_text(f"/boot/disk -0x20000000 {SIZE:#x}\n")
    assert code_of(pair) == "uboot-config-corrupt"
    path.unlink()
    assert code_of(pair) == "uboot-config-missing"
    path.mkdir()
    assert code_of(pair) == "uboot-config-unreadable"


def test_the_errors_about_the_environment(machine: Machine) -> None:
    machine.put({"arch": "arm"})
    assert code_of(machine) == "no-slots"
    for path in (machine.root / "boot").iterdir():
        path.write_bytes(b"\xff" * 3 * SIZE if machine.kind in ("redundant", "raw") else b"")
    assert code_of(machine) == "uboot-env-corrupt"
    assert machine.variables is None
    for path in (machine.root / "boot").iterdir():
        path.unlink()
    assert code_of(machine) == "uboot-env-missing"


def test_a_corrupt_copy_says_more_than_a_missing_one(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, "two files")
    (tmp_path / "boot" / "env0").unlink()
    (tmp_path / "boot" / "env1").write_bytes(b"")
    assert code_of(machine) == "uboot-env-corrupt"


@pytest.mark.parametrize("device", ["/dev/mtd0", "/dev/mtdblock1", "/dev/ubi0_0", "/dev/ubi0:env", "/dev/null", "/"])
def test_flash_is_refused_with_the_name_of_the_tool(tmp_path: Path, device: str) -> None:
    config = config_of(tmp_path, f"{device} 0x0 0x4000")
    with pytest.raises(BootError, match="libubootenv") as caught:
        UBoot(str(config)).read()
    assert caught.value.code == "uboot-device-unsupported"


def test_a_negative_offset_counts_from_the_end(raw: Machine) -> None:
    config_of(raw.root / "etc", f"/boot/disk -{SIZE + 0x400:#x} {SIZE:#x}")
    raw.backend.commit(model.arm_trial(raw.backend.read(), "b", active="a"))
    assert ours(raw.variables)["BOOT_B_LEFT"] == "3"


def test_slots_that_the_environment_does_not_have_are_refused(machine: Machine) -> None:
    view, before = machine.backend.read(), machine.files
    for wrong in (BootView(view.slots[:1]), BootView((*view.slots, ("c", EMPTY)))):
        assert code_of(machine, partial(machine.backend.commit, wrong)) == "unknown-slot"
    assert machine.files == before


def test_a_full_environment_is_refused_and_left_alone(machine: Machine) -> None:
    machine.put({"BOOT_ORDER": "A B", "BOOT_A_LEFT": "3", "x": "y" * (SIZE - 50)})
    before = machine.files
    view = model.arm_trial(machine.backend.read(), "b", active="a")
    assert code_of(machine, lambda: machine.backend.commit(view)) == "uboot-env-full"
    assert machine.files == before


def test_what_cannot_be_written_is_an_error_and_leaves_the_old(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, view = machine.files, model.arm_trial(machine.backend.read(), "b", active="a")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("write_file", "overwrite"):
        monkeypatch.setattr(durable, name, full)
    assert code_of(machine, lambda: machine.backend.commit(view)) == "uboot-env-not-writable"
    assert machine.files == before


def test_a_disk_that_forgets_is_found_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    view = model.arm_trial(machine.backend.read(), "b", active="a")
    machine.backend.commit(machine.backend.read())
    for name in ("write_file", "overwrite"):
        monkeypatch.setattr(durable, name, lambda *_, **__: None)
    assert code_of(machine, lambda: machine.backend.commit(view)) == "read-back-differs"


@settings(max_examples=200)
@given(
    config=st.binary(max_size=40) | st.sampled_from([b"/boot/env 0x0 40", b"/boot/env 0x0 40\n/boot/env 0x40 40"]),
    data=st.binary(max_size=140),
    whole=st.booleans(),
)
def test_garbage_is_a_boot_reference_or_a_boot_error(
    tmp_path_factory: pytest.TempPathFactory, config: bytes, data: bytes, whole: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "garbage"
    (root / "boot").mkdir(parents=True, exist_ok=True)
    if whole:
        entries = tuple(line for line in (b"BOOT_" + line for line in data[:40].split(b"\0")) if line)
        data = uboot_env.format_environment(uboot_env.Environment(entries[:4]), 0x100)[:0x40]
        data = zlib.crc32(data[4:]).to_bytes(4, "little") + data[4:]
    (root / "boot" / "env").write_bytes(data)
    (root / "fw_env.config").write_bytes(config)
    backend = UBoot(str(root / "fw_env.config"), str(root))
    for action in (backend.read, backend.problems, backend.limits, lambda: backend.commit(backend.read())):
        try:
            action()
        except BootError as error:
            assert error.code.startswith(("uboot-", "no-slots"))  # noqa: PT017
        (root / "boot" / "env.backup").unlink(missing_ok=True)


# --- limits ---


def test_the_limits_say_what_a_single_copy_means(tmp_path: Path) -> None:
    assert machine_in(tmp_path / "pair", "redundant").backend.limits() == ()
    assert "env.backup" in machine_in(tmp_path / "file", "file").backend.limits()[0]
    assert "only copy" in machine_in(tmp_path / "raw", "raw").backend.limits()[0]
    assert machine_in(tmp_path / "pair", "redundant").backend.begin_reboot() == ""


@pytest.mark.parametrize(
    ("variables", "limit"),
    [
        (
            {"bootcount": "1", "bootlimit": "3", "upgrade_available": "1", "altbootcmd": "run x"},
            "U-Boot itself counts: bootcount 1 of bootlimit 3, upgrade_available=1, then altbootcmd",
        ),
        (
            {"bootcount": "0", "bootlimit": "3", "upgrade_available": "0", "altbootcmd": "run x"},
            "U-Boot itself does not count now: bootcount 0 of bootlimit 3, upgrade_available=0, then altbootcmd",
        ),
        (
            {"bootlimit": "3"},
            "U-Boot itself counts: bootcount 0 of bootlimit 3, then nothing, since altbootcmd is not set",
        ),
        (
            {"bootcount": "4"},
            "U-Boot itself does not count now: bootcount 4 without bootlimit",
        ),
    ],
)
def test_the_limits_say_that_u_boot_itself_counts(pair: Machine, variables: dict[str, str], limit: str) -> None:
    pair.put({**FRESH, **variables})
    assert pair.backend.limits() == (limit,)


# --- RAUC, which drives the same environment ---


@pytest.fixture
def rauc(pair: Machine) -> Iterator[Rauc]:
    tools = {name: f"/usr/bin/{name} -c {pair.tools}" for name in ("fw_printenv", "fw_setenv")}
    with running_rauc(pair.root, "bootloader=uboot\n", tools) as rauc:
        yield rauc


def good_or_bad(state: SlotState) -> str:
    return "good" if state.bootable else "bad"


RAUC_STATES = [EMPTY, REJECTED, GOOD, SPARE, SlotState(2, 0, False), SlotState(2, 3, False), SlotState(2, 9, True)]
RAUC_STATES += [SlotState(0, 0, True)]


def test_rauc_sees_good_bad_and_primary_as_we_do(pair: Machine, rauc: Rauc) -> None:
    for a in RAUC_STATES:
        for b in (EMPTY, SlotState(1, 3, False), SPARE, SlotState(2, 1, True), SlotState(0, 0, True)):
            pair.put({**encode(two(a, b)), **FOREIGN})
            primary, conditions = rauc.status()
            assert conditions == {"a": good_or_bad(a), "b": good_or_bad(b)}
            started, _ = model.next_boot(two(a, b))
            assert primary == (started if a.bootable or b.bootable else None)


def test_what_rauc_writes_is_what_we_read(pair: Machine, rauc: Rauc) -> None:
    pair.backend.commit(two(GOOD, SPARE))
    rauc.run("status", "mark-bad", "other")
    assert pair.backend.read() == two(GOOD, EMPTY)
    rauc.run("status", "mark-good", "other")
    assert pair.backend.read().state("b").condition == "bad"  # for RAUC too, since it is in no order
    assert rauc.status()[1] == {"a": "good", "b": "bad"}
    rauc.run("status", "mark-active", "other")
    assert pair.backend.read() == two(SPARE, SlotState(2, 3, True))
    assert rauc.status() == ("b", {"a": "good", "b": "good"})
    rauc.run("status", "mark-good", "booted")
    assert pair.backend.read() == two(SlotState(1, 3, True), SlotState(2, 3, True))


def test_a_new_image_of_raucs_in_a_slot_that_we_had_confirmed_is_counted_and_falls_back(
    pair: Machine, rauc: Rauc
) -> None:
    pair.backend.commit(two(GOOD, SPARE))
    rauc.run("status", "mark-bad", "other")
    rauc.run("status", "mark-active", "other")
    assert model.boot_sequence(pair.backend.read(), 4) == ("b", "b", "b", "a", "a")


def test_rauc_gives_a_trial_its_boots_again_and_does_not_confirm_it(pair: Machine, rauc: Rauc) -> None:
    pair.backend.commit(two(SlotState(2, 1, False), SPARE))
    rauc.run("status", "mark-good", "booted")
    assert pair.backend.read() == two(SlotState(2, 3, False), SPARE)


def test_an_image_that_was_made_for_rauc_moves_over(pair: Machine, rauc: Rauc) -> None:
    pair.put({"BOOT_ORDER": "A B", "BOOT_A_LEFT": "3", "BOOT_B_LEFT": "3"})
    view = pair.backend.read()
    assert view == two(SlotState(2, 3, True), SlotState(1, 3, True))
    pair.backend.commit(model.recount(view, "a", counted=0))
    for transition, _ in STEPS[:3]:
        view = transition(pair.backend.read())
        pair.backend.commit(view)
        assert rauc.status()[1] == {slot: good_or_bad(state) for slot, state in view.slots}
    assert pair.backend.read() == two(SPARE, GOOD)


# --- the boot script ---

# U-Boot's hush takes an assignment of nothing for none.
_ASSIGNMENT = re.compile(r"^( *)(updated_\w+)=(.*)$", re.MULTILINE)
_COMMANDS = """\
assign() { test -z "$2" || eval "$1=\\$2"; }
setenv() { updated_argument=$1; shift; eval "$updated_argument=\\$*"; }
run() { eval "updated_argument=\\$$1"; eval "$updated_argument"; }
itest() {
    updated_number=$(printf %s "$1" | sed -nE 's/^(0[xX])?([0-9a-fA-F]+).*/\\2/p')
    test $((0x${updated_number:-0})) -gt "$3"
}
saveenv() { test -z "$UNSAVABLE" || return 1; printf '%s\\n' "$BOOT_ORDER|$BOOT_A_LEFT|$BOOT_B_LEFT" >>"$SAVED"; }
load() { case " $BROKEN " in *" $2 "*) return 1 ;; esac; }
booti() { printf 'started %s\\n' "$bootargs"; exit 0; }
reset() { printf 'reset\\n'; exit 0; }
"""


@dataclass(frozen=True, slots=True)
class Started:
    """What the script did. `saved` is what it saved, each time, of the order and the boots left."""

    slot: str | None
    saved: list[str]


def start(folder: Path, variables: Mapping[str, str], *, broken: str = "", unsavable: bool = False) -> Started:
    """Run the script with these variables; partition 2 has the kernel of slot A, partition 3 that of slot B."""
    (folder / "saved").write_text("")
    (folder / "script").write_text(_COMMANDS + _ASSIGNMENT.sub(r"\1assign \2 \3", SCRIPT.read_text()))
    environment = {"PATH": "/usr/bin:/bin", "SAVED": str(folder / "saved"), "BROKEN": broken, **variables}
    if unsavable:
        environment["UNSAVABLE"] = "1"
    done = subprocess.run(
        ["/bin/sh", folder / "script"], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    last = done.stdout.splitlines()[-1]
    slot = None
    if last != "reset":
        slot = last.partition("updated.slot=")[2][:1]
        assert last.startswith("started console=ttyS0,115200 ro panic=10 updated.slot=")
        assert last.endswith(f" root=PARTLABEL=rootfs-{slot}")
    return Started(slot, (folder / "saved").read_text().splitlines())


SCRIPT_STATES = [EMPTY, REJECTED, GOOD, SPARE, SlotState(2, 0, False), SlotState(0, 3, False), SlotState(2, 1, False)]
SCRIPT_STATES += [SlotState(1, 9, False), SlotState(2, 1, True), SlotState(1, 9, True), SlotState(0, 0, True)]


@pytest.mark.parametrize("a", SCRIPT_STATES)
@pytest.mark.parametrize("b", SCRIPT_STATES)
def test_the_script_does_what_the_model_says(tmp_path: Path, a: SlotState, b: SlotState) -> None:
    view = decode(encode(two(a, b)))
    slot, after = model.next_boot(view)
    variables = encode(view)
    started = start(tmp_path, variables)
    # When no slot was ever confirmed, rather the first one than a prompt.
    assert started.slot == (slot or (variables["BOOT_ORDER"].split() or ["A"])[0].lower())
    expected = encode(after)
    saved = f"{variables['BOOT_ORDER']}|{expected['BOOT_A_LEFT']}|{expected['BOOT_B_LEFT']}"
    assert started.saved == ([] if after == view else [saved])


@pytest.mark.parametrize(("left", "mark", "state"), LEFT_OK)
def test_the_script_reads_the_variables_of_others_as_we_do(
    tmp_path: Path, left: str, mark: str | None, state: tuple[int, int, bool]
) -> None:
    variables = {"BOOT_ORDER": "A B", "BOOT_A_LEFT": left, "BOOT_B_LEFT": "9", "BOOT_B_OK": "1"}
    if mark is not None:
        variables["BOOT_A_OK"] = mark
    for others in ({}, {"BOOT_ORDER": "B A", "BOOT_B_LEFT": "0", "BOOT_B_OK": "0"}):
        both = {**variables, **others}
        slot, after = model.next_boot(decode(both))
        started = start(tmp_path, both)
        assert started.slot == (slot or "b")
        counted = SlotState(*state).bootable and SlotState(*state).tries_left
        saved = f"{both['BOOT_ORDER']}|{after.state('a').tries_left}|{both['BOOT_B_LEFT']}"
        assert started.saved == ([saved] if counted else [])


def test_a_trial_is_counted_down_from_nine_before_each_boot_and_then_the_confirmed_slot_starts(tmp_path: Path) -> None:
    view, slots = two(SPARE, SlotState(2, 9, False)), []
    for _ in range(11):
        started = start(tmp_path, encode(view))
        slots.append(started.slot)
        _, view = model.next_boot(view)
    assert slots == ["b"] * 9 + ["a"] * 2


def test_a_trial_that_cannot_be_saved_is_not_begun(tmp_path: Path) -> None:
    assert start(tmp_path, encode(two(SPARE, SlotState(2, 3, False))), unsavable=True) == Started("a", [])


def test_a_confirmed_slot_that_cannot_be_counted_starts_all_the_same(tmp_path: Path) -> None:
    assert start(tmp_path, encode(two(SPARE, SlotState(2, 3, True))), unsavable=True) == Started("b", [])


@pytest.mark.parametrize(
    ("view", "broken", "slot"),
    [
        (two(GOOD, SPARE), "0:2", "b"),
        (two(SPARE, GOOD), "0:3", "a"),
        (two(SPARE, SlotState(2, 3, False)), "0:3", "a"),
        (two(SlotState(0, 0, True), SlotState(2, 3, False)), "0:3", "a"),
        (two(GOOD, SlotState(1, 3, False)), "0:2", None),
        (two(GOOD, EMPTY), "0:2", None),
        (two(GOOD, SPARE), "0:2 0:3", None),
    ],
)
def test_a_kernel_that_cannot_be_loaded_gives_way_to_the_other_confirmed_slot_or_to_a_reset(
    tmp_path: Path, view: BootView, broken: str, slot: str | None
) -> None:
    assert start(tmp_path, encode(view), broken=broken).slot == slot


@pytest.mark.parametrize("variables", [{}, {"BOOT_ORDER": ""}, {"BOOT_ORDER": "C D"}, {"BOOT_A_OK": "0"}])
def test_without_a_boot_reference_slot_a_starts_rather_than_a_prompt(tmp_path: Path, variables: dict[str, str]) -> None:
    assert start(tmp_path, variables).slot == "a"


def test_mkimage_takes_the_script(tmp_path: Path) -> None:
    options = ("-A", "arm64", "-T", "script", "-C", "none", "-n", "updated", "-d", str(SCRIPT))
    shown = run("mkimage", *options, str(tmp_path / "boot.scr"))
    assert "Script" in shown
    assert (tmp_path / "boot.scr").read_bytes().endswith(SCRIPT.read_bytes())


def test_the_script_has_no_apostrophe_between_quotation_marks_which_hush_takes_for_an_unended_string() -> None:
    lines = [line for line in SCRIPT.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if "'" in line and not re.fullmatch(r"setenv \w+ '[^'\"]*'", line)] == []
