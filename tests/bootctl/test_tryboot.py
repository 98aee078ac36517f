"""autoboot.txt of the Raspberry Pi: the format, judged by a model of the firmware, and the back-end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl import autoboot, durable, model
from bootctl.errors import BootError
from bootctl.model import BootView, SlotState
from bootctl.tryboot import Tryboot
from tests.fakes.raspberry_pi import RaspberryPi

PARTITIONS = (("a", 2), ("b", 3))
SLOTS = {2: "a", 3: "b", None: None}
BOOT = "6f2c8d1ad3c44ef5a5a2a1b5a8f1c2d3"
DOCUMENTED = b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
ARMED = DOCUMENTED + b"# updated: b=trial a=good\n"
BEGUN = DOCUMENTED + b"# updated: b=trial a=good boot=" + BOOT.encode() + b"\n"
GOOD, SPARE, EMPTY, BAD = (2, 0, True), (1, 0, True), (0, 0, False), (0, 1, False)
TRIAL, USED_UP = (2, 1, False), (2, 0, False)
State = tuple[int, int, bool]


@dataclass
class Pi:
    """A board with the slots a and b, and the back-end on it."""

    board: RaspberryPi

    @property
    def path(self) -> Path:
        return self.board.first / "autoboot.txt"

    @property
    def second(self) -> Path:
        return self.board.first / "autoboot.txt.backup"

    @property
    def backend(self) -> Tryboot:
        return Tryboot(str(self.path), PARTITIONS, str(self.board.root))

    def states(self) -> tuple[State, ...]:
        view = self.backend.read()
        return tuple((state.priority, state.tries_left, state.confirmed) for _, state in view.slots)

    def commit(self, transition: Callable[[BootView], BootView]) -> None:
        self.backend.commit(transition(self.backend.read()))

    def reboot(self) -> str | None:
        """As the daemon asks for it."""
        return SLOTS[self.board.reboot(self.backend.begin_reboot())]

    def tryboot_by_hand(self) -> str | None:
        return SLOTS[self.board.reboot("0 tryboot")]

    def power_cut(self) -> str | None:
        """Or a plain reboot by hand."""
        return SLOTS[self.board.power_on()]


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    pi = Pi(RaspberryPi(tmp_path / "first", tmp_path / "root"))
    pi.board.first.mkdir()
    pi.path.write_bytes(DOCUMENTED)
    pi.board.power_on()
    (tmp_path / "root/proc/sys/kernel/random/boot_id").write_text("6F2C8D1A-d3c4-4ef5-a5a2-a1b5a8f1c2d3\n")
    return pi


def view_of(a: State, b: State) -> BootView:
    return BootView((("a", SlotState(*a)), ("b", SlotState(*b))))


def arm(slot: str, active: str) -> Callable[[BootView], BootView]:
    return lambda view: model.arm_trial(view, slot, active=active, tries=1)


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(BootError) as caught:
        act()
    return caught.value.code


# -------------------------------------------------------------------------------------------------------- the format


def test_an_update_step_by_step(pi: Pi) -> None:
    steps: list[tuple[Callable[[BootView], BootView], str, str, str]] = [
        (arm("b", "a"), "2", "3", "b=trial a=good"),
        (lambda view: model.confirm(view, "b"), "3", "2", "b=good a=good"),
        (lambda view: model.invalidate(view, "a", active="b"), "3", "3", "b=good a=empty"),
        (arm("a", "b"), "3", "2", "a=trial b=good"),
        (lambda view: model.reject(view, "a"), "3", "3", "b=good a=bad"),
        (arm("a", "b"), "3", "2", "a=trial b=good"),
        (lambda view: model.confirm(view, "b"), "3", "2", "b=good a=trial"),
        (lambda view: model.confirm(view, "a"), "2", "3", "a=good b=good"),
        (lambda view: model.roll_back(view, active="a"), "3", "2", "b=good a=good"),
    ]
    for transition, starts, tries, note in steps:
        pi.commit(transition)
        text = f"[all]\ntryboot_a_b=1\nboot_partition={starts}\n[tryboot]\nboot_partition={tries}\n# updated: {note}\n"
        assert pi.path.read_text() == pi.second.read_text() == text


@pytest.mark.parametrize(
    ("note", "a", "b"),
    [
        ("", GOOD, EMPTY),
        ("# some comment", GOOD, EMPTY),
        ("# updated: a=good b=empty", GOOD, EMPTY),
        ("# updated: b=empty a=good", GOOD, EMPTY),
        ("# updated: a=good b=bad", GOOD, BAD),
        ("# updated: b=bad a=good", GOOD, BAD),
        ("# updated: b=tried a=good", SPARE, USED_UP),
        ("# updated: a=good b=tried", GOOD, (1, 0, False)),
        ("# updated: a=good b=good", GOOD, SPARE),
        ("# updated: b=good a=good", GOOD, SPARE),
        ("# updated: a=good b=trial", GOOD, (1, 1, False)),
        (f"# updated: b=trial a=good boot={BOOT}", SPARE, TRIAL),
        ("# updated: b=trial a=good boot=0123456789abcdef", SPARE, USED_UP),
        ("# updated: b=trial a=good", SPARE, TRIAL),
        ("# updated: a=good b=trial boot=0123456789abcdef", GOOD, (1, 1, False)),
        ("# updated: a=good", GOOD, EMPTY),
        ("# updated: a=good b=maybe", GOOD, EMPTY),
        ("# updated: x=good y=trial", GOOD, EMPTY),
        # The partitions were swapped by somebody who did not know of the comment.
        ("# updated: b=good a=trial", GOOD, SPARE),
        ("# updated: a=trial b=trial", GOOD, BAD),
        (f"# updated: a=trial b=trial boot={BOOT}", GOOD, BAD),
        ("# updated: a=bad b=tried", GOOD, BAD),
        ("# updated: b=good a=empty", GOOD, SPARE),
    ],
)
def test_the_comment_means(pi: Pi, note: str, a: State, b: State) -> None:
    pi.path.write_bytes(DOCUMENTED + note.encode() + b"\r\n")
    assert pi.states() == (a, b)


@pytest.mark.parametrize(
    ("content", "a", "b"),
    [
        (b"boot_partition=2", GOOD, EMPTY),
        (b"boot_partition=3\n", EMPTY, GOOD),
        (b"boot_partition=2\nboot_partition=3\n", EMPTY, GOOD),
        (b"[tryboot]\nboot_partition=2\n[all]\nboot_partition=3\n", EMPTY, GOOD),
        (b"\r\n[all]\r\nboot_partition=2\r\n", GOOD, EMPTY),
        (b"boot_partition=2\n[none]\nboot_partition=3\n", GOOD, EMPTY),
        (b"boot_partition=2\n[none]\n[tryboot]\nboot_partition=3\n", GOOD, EMPTY),
        (b"boot_partition=2\n[partition=62]\nboot_partition=3\n", GOOD, EMPTY),
        (b"boot_partition=2\n#boot_partition=3\n", GOOD, EMPTY),
        (b"# H\xfctte\nboot_partition=2\n", GOOD, EMPTY),
        (DOCUMENTED + bytes(512 - len(DOCUMENTED)), GOOD, EMPTY),
        (DOCUMENTED + b"\n" * (512 - len(DOCUMENTED)), GOOD, EMPTY),
        # A trial that the firmware would not start is none.
        (ARMED.replace(b"=3", b"=2"), SPARE, USED_UP),
        (ARMED.replace(b"tryboot_a_b=1\n", b""), SPARE, USED_UP),
        (ARMED.replace(b"tryboot_a_b=1\n", b"tryboot_a_b=0\n"), SPARE, USED_UP),
        (ARMED.replace(b"[tryboot]", b"[none]"), SPARE, USED_UP),
    ],
)
def test_the_keys_of_the_firmware_mean(pi: Pi, content: bytes, a: State, b: State) -> None:
    pi.path.write_bytes(content)
    assert pi.states() == (a, b)
    # What is good and first is also what the firmware starts.
    assert pi.power_cut() == ("a" if a[2] else "b")


FOREIGN = [
    "# first line",
    "[partition=62]",
    "boot_partition=7",
    "[all]",
    "uart_2ndstage=1",
    "[none]",
    "tryboot_a_b=0",
]


def test_foreign_lines_stay_as_they_are(pi: Pi) -> None:
    pi.path.write_bytes(
        b"# first line\r\n[partition=62]\r\nboot_partition=7\r\n[all]\r\nuart_2ndstage=1\r\nboot_partition=2\r\n"
        b"[none]\r\ntryboot_a_b=0"
    )
    for transition in (arm("b", "a"), lambda view: model.confirm(view, "b"), arm("a", "b")):
        pi.commit(transition)
        slot = pi.reboot()
        assert slot is not None
        lines = pi.path.read_bytes().decode().split("\n")
        kept = [line.rstrip("\r") for line in lines if line.endswith("\r") or line == "tryboot_a_b=0"]
        assert [line for line in kept if line in FOREIGN] == FOREIGN
        assert re.search(r"uart_2ndstage=1\r\ntryboot_a_b=1\nboot_partition=[23]\r\n", pi.path.read_bytes().decode())
        assert len(lines) == len(FOREIGN) + 7  # ours: tryboot_a_b, [all]'s, [tryboot] with its own, [all], comment, end


def test_what_is_missing_is_added_where_it_counts(pi: Pi) -> None:
    pi.path.write_bytes(b"[tryboot]\nboot_partition=3\n[all]\nboot_partition=2\n[gpio4=1]\nboot_partition=1\n")
    pi.commit(arm("b", "a"))
    assert pi.path.read_text() == (
        "[tryboot]\nboot_partition=3\n[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n[all]\n"
        "[gpio4=1]\nboot_partition=1\n# updated: b=trial a=good\n"
    )
    assert pi.reboot() == "b"
    once = len(pi.path.read_bytes())
    pi.commit(lambda view: model.confirm(view, "b"))
    assert len(pi.path.read_bytes()) < once


@settings(max_examples=200)
@given(st.one_of(
    st.binary(max_size=520),
    st.lists(st.sampled_from([
        b"[all]", b"[tryboot]", b"[none]", b"[partition=2]", b"boot_partition=2", b"boot_partition=3", b"tryboot_a_b=1",
        b"boot_partition=", b"boot_partition=99", b"# updated: a=good b=trial boot=1", b"# updated: b=good a=good",
        b"# updated: b=trial a=good boot=" + BOOT.encode(), b"# x", b"# updated: a=good b=tried",
        b"# updated: b=trial a=good", b"# updated: b=trial a=good boot=1",
        b"\0", b"\xff", b"", b" [all]\t", b"\r",
    ]), max_size=14).map(b"\n".join),
))  # fmt: skip
def test_garbage_is_a_reference_or_a_boot_error(content: bytes) -> None:
    try:
        file = autoboot.parse(content)
        view = autoboot.decode(file, PARTITIONS, boot=BOOT, trial_runs=None)
        data = autoboot.encode(file, PARTITIONS, view)
    except BootError as error:
        assert error.code in ("autoboot-corrupt", "no-slots", "autoboot-full")  # noqa: PT017
        assert error.cause  # noqa: PT017
        return
    again = autoboot.parse(data)
    assert autoboot.decode(again, PARTITIONS, boot=BOOT, trial_runs=None) == view
    assert autoboot.encode(again, PARTITIONS, view) == data
    assert [line for line in again.lines if is_foreign(line)] == [line for line in file.lines if is_foreign(line)]
    if view.state(model.next_boot(view)[0] or "").condition != "trial":
        return
    begun = autoboot.parse(autoboot.encode(again, PARTITIONS, view, begun_in=BOOT))  # what was armed has room for it
    assert begun.lines[:-1] == again.lines[:-1]
    assert autoboot.decode(begun, PARTITIONS, boot=BOOT, trial_runs=None) == view
    assert autoboot.decode(begun, PARTITIONS, boot="other", trial_runs=None) == model.next_boot(view)[1]


def is_foreign(line: str) -> bool:
    return not line.strip().startswith(("boot_partition", "tryboot_a_b", "# updated:", "[all]", "[tryboot]"))


# ------------------------------------------------------------------------------------------------------- the life of it


def test_a_trial_that_is_confirmed(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    assert pi.states() == (SPARE, TRIAL)
    assert pi.backend.begin_reboot() == "0 tryboot"
    assert pi.path.read_bytes() == pi.second.read_bytes() == BEGUN
    assert pi.states() == (SPARE, TRIAL)
    assert pi.backend.booted() == (2, False)
    assert pi.reboot() == "b"
    assert pi.states() == (SPARE, USED_UP)
    assert pi.backend.begin_reboot() == ""
    assert pi.backend.booted() == (3, True)
    pi.commit(lambda view: model.confirm(view, "b"))
    assert pi.states() == (SPARE, GOOD)
    assert (pi.reboot(), pi.power_cut()) == ("b", "b")
    assert pi.backend.booted() == (3, False)


def test_a_trial_that_nobody_confirms_is_used_up(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    assert pi.reboot() == "b"
    assert pi.power_cut() == "a"
    assert pi.states() == (SPARE, USED_UP)
    assert pi.backend.read().state("b").condition == "bad"
    assert (pi.reboot(), pi.power_cut()) == ("a", "a")
    pi.commit(lambda view: model.reject(view, "b"))
    assert pi.states() == (GOOD, BAD)


def test_reboots_and_power_cuts_between_arming_and_the_reboot_of_the_daemon_take_nothing(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    for _ in range(3):
        assert pi.power_cut() == "a"
        assert pi.states() == (SPARE, TRIAL)
        assert pi.path.read_bytes() == ARMED
    assert pi.reboot() == "b"


def test_a_trial_that_has_begun_and_is_cut_off_is_used_up(pi: Pi) -> None:
    """Nobody could tell it from one that hung."""
    pi.commit(arm("b", "a"))
    pi.backend.begin_reboot()
    assert pi.power_cut() == "a"
    assert pi.states() == (SPARE, USED_UP)
    assert pi.backend.begin_reboot() == ""
    assert pi.reboot() == "a"


def test_a_reboot_that_does_not_follow_can_be_asked_for_again(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    pi.commit(arm("b", "a"))
    pi.backend.begin_reboot()
    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", refuse)
        assert pi.backend.begin_reboot() == "0 tryboot"
        pi.backend.commit(pi.backend.read())
    assert pi.path.read_bytes() == BEGUN
    assert pi.reboot() == "b"


def test_a_trial_begun_by_hand_is_used_up_while_it_runs_and_waits_again_when_it_is_left(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    assert pi.tryboot_by_hand() == "b"
    assert pi.states() == (SPARE, USED_UP)
    assert pi.backend.begin_reboot() == ""
    assert pi.power_cut() == "a"
    assert pi.states() == (SPARE, TRIAL)
    assert (pi.reboot(), pi.power_cut()) == ("b", "a")
    assert pi.states() == (SPARE, USED_UP)


def test_without_a_trial_the_reboot_needs_nothing_and_nothing_is_written(
    pi: Pi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for transition in (
        lambda view: model.reject(view, "b"), arm("b", "a"), lambda view: model.confirm(view, "a"),
        lambda view: model.confirm(view, "b"), lambda view: model.roll_back(view, active="b"),
    ):  # fmt: skip
        pi.commit(transition)
        if pi.states() == (SPARE, TRIAL):
            continue
        with monkeypatch.context() as patch:
            patch.setattr(durable, "write_file", refuse)
            assert pi.backend.begin_reboot() == ""


def test_a_used_up_trial_can_be_armed_again(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    pi.backend.begin_reboot()
    pi.power_cut()
    pi.commit(arm("b", "a"))
    assert pi.states() == (SPARE, TRIAL)
    assert pi.path.read_bytes() == ARMED
    assert pi.reboot() == "b"


def test_a_rejected_trial_does_not_start_even_if_the_reboot_asks_for_it(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    argument = pi.backend.begin_reboot()
    pi.commit(lambda view: model.reject(view, "b"))
    assert SLOTS[pi.board.reboot(argument)] == "a"
    pi.commit(lambda view: model.invalidate(view, "b", active="a"))
    assert SLOTS[pi.board.reboot(argument)] == "a"


def test_an_update_out_of_a_trial_that_was_confirmed_without_a_reboot(pi: Pi) -> None:
    """The device tree still says tryboot; RAUC's back-end then made both partitions the same (rauc#1599)."""
    pi.commit(arm("b", "a"))
    pi.reboot()
    pi.commit(lambda view: model.confirm(view, "b"))
    pi.commit(lambda view: model.invalidate(view, "a", active="b"))
    pi.commit(arm("a", "b"))
    assert pi.states() == (TRIAL, SPARE)
    assert pi.reboot() == "a"
    assert pi.power_cut() == "b"


def test_a_trial_behind_the_confirmed_slot_does_not_begin(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    pi.commit(lambda view: model.confirm(view, "a"))
    assert pi.states() == (GOOD, (1, 1, False))
    assert (pi.reboot(), pi.power_cut()) == ("a", "a")
    assert pi.states() == (GOOD, (1, 1, False))


@pytest.mark.parametrize("content", [ARMED, BEGUN])
def test_the_running_trial_is_never_taken_for_one_that_is_to_begin(pi: Pi, content: bytes) -> None:
    pi.commit(arm("b", "a"))
    pi.reboot()
    pi.path.write_bytes(content)
    (pi.board.root / "proc/sys/kernel/random/boot_id").write_text(BOOT)
    assert pi.states() == (SPARE, USED_UP)
    assert pi.backend.begin_reboot() == ""


def test_a_trial_armed_in_a_rescue_system_without_proc_begins(pi: Pi, tmp_path: Path) -> None:
    rescue = Tryboot(str(pi.path), PARTITIONS, str(tmp_path / "mounted"))
    rescue.commit(arm("b", "a")(rescue.read()))
    assert rescue.read() == view_of(SPARE, TRIAL)
    assert rescue.booted() is None
    assert SLOTS[pi.board.reboot(rescue.begin_reboot())] == "b"
    assert pi.power_cut() == "a"
    assert pi.states() == (SPARE, USED_UP)


Step = tuple[str, Callable[[BootView, str], BootView]]
STEPS: list[Step] = [
    ("invalidate", lambda view, active: model.invalidate(view, view.other(active), active=active)),
    ("arm", lambda view, active: model.arm_trial(view, view.other(active), active=active, tries=1)),
    ("confirm", model.confirm),
    ("confirm the other", lambda view, active: model.confirm(view, view.other(active))),
    ("reject", model.reject),
    ("reject the other", lambda view, active: model.reject(view, view.other(active))),
    ("roll back", lambda view, active: model.roll_back(view, active=active)),
    ("recount", lambda view, active: model.recount(view, active, counted=0)),
]
BOOTS = ("reboot", "power cut", "power cut before the reboot", "tryboot by hand")
moves = st.lists(st.sampled_from([*STEPS, *BOOTS]), max_size=25)


@settings(max_examples=100)
@given(moves)
def test_the_firmware_starts_what_the_reference_says(
    tmp_path_factory: pytest.TempPathFactory, moves: list[Step | str]
) -> None:
    folder = tmp_path_factory.mktemp("pi")
    pi = Pi(RaspberryPi(folder, folder / "root"))
    pi.path.write_bytes(DOCUMENTED.replace(b"=3", b"=2"))
    active = pi.power_cut()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((os, "fsync"), (durable, "sync_filesystem")):
            patch.setattr(module, name, lambda fd: None)  # no cut happens here, and so this need not take its time
        kept = pi.backend.read()
        for move in moves:
            assert active is not None
            before = pi.backend.read()
            if isinstance(move, str):
                active, kept = expect_boot(pi, kept, before, move)
                continue
            try:
                wanted = move[1](before, active)
            except BootError:
                continue
            pi.backend.commit(wanted)
            assert meaning(pi.backend.read()) == meaning(wanted)
            if meaning(wanted) != meaning(before):
                kept = pi.backend.read()


def expect_boot(pi: Pi, kept: BootView, before: BootView, move: str) -> tuple[str, BootView]:
    """The slot that starts, and the reference that lasts.

    `before` is `kept`, but while a trial runs: one that was begun by hand is not marked, and gets its try again later.
    """
    expected, after = model.next_boot(before)
    trial = expected is not None and before.state(expected).condition == "trial"
    (confirmed, *_) = [name for name in meaning(before)[0] if before.state(name).condition == "good"]
    by_hand = SLOTS[autoboot.parse(pi.path.read_bytes()).tries]
    assert by_hand is not None
    assert kept.state(by_hand).bootable or kept.state(by_hand) == SlotState(*USED_UP)  # it was sealed, at least
    if move == "power cut before the reboot":
        assert pi.backend.begin_reboot() == ("0 tryboot" if trial else "")
        assert pi.backend.read() == before
    boot = {"reboot": pi.reboot, "tryboot by hand": pi.tryboot_by_hand}.get(move, pi.power_cut)
    active = boot()
    assert active is not None
    assert active == {"reboot": expected, "tryboot by hand": by_hand}.get(move, confirmed)
    if trial and move in ("reboot", "power cut before the reboot"):
        kept = after
    assert pi.backend.read() == (model.next_boot(kept)[1] if move == "tryboot by hand" else kept)
    return active, kept


def meaning(view: BootView) -> Any:
    order = [name for name, _ in sorted(view.slots, key=lambda slot: -slot[1].priority)]
    return order, [(state.condition, state.tries_left, state.confirmed) for _, state in view.slots]


# ----------------------------------------------------------------------------------------------------- the two copies


@pytest.mark.parametrize("spoiled", ["autoboot.txt", "autoboot.txt.backup"])
@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"\xff" * 512, ARMED[:20], b"x" * 4096, None])
def test_a_damaged_copy_is_told_and_replaced_by_the_other(pi: Pi, spoiled: str, content: bytes | None) -> None:
    pi.commit(arm("b", "a"))
    assert pi.backend.problems() == ()
    victim = pi.path.with_name(spoiled)
    if content is None:
        victim.unlink()
    else:
        victim.write_bytes(content)
    assert pi.states() == (SPARE, TRIAL)
    (told,) = pi.backend.problems()
    assert told.startswith(f"{victim}: ")
    assert ("the firmware can't use it" in told) == (spoiled == "autoboot.txt")
    pi.backend.commit(pi.backend.read())
    assert pi.path.read_bytes() == pi.second.read_bytes() == ARMED
    assert pi.backend.problems() == ()


def test_a_copy_that_is_older_is_told_and_replaced(pi: Pi) -> None:
    pi.commit(arm("b", "a"))
    pi.second.write_bytes(DOCUMENTED)
    assert pi.backend.problems() == (f"{pi.second}: it differs from the copy that counts",)
    pi.backend.commit(pi.backend.read())
    assert pi.second.read_bytes() == ARMED


def test_the_copy_of_the_firmware_is_mended_before_the_other_one(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    pi.commit(arm("b", "a"))
    written = []
    write_file = durable.write_file

    def record(path: str, data: bytes, *, mode: int) -> None:
        written.append(os.path.basename(path))
        write_file(path, data, mode=mode)

    monkeypatch.setattr(durable, "write_file", record)
    pi.commit(lambda view: model.reject(view, "b"))
    pi.path.write_bytes(b"")
    pi.commit(arm("b", "a"))
    pi.backend.begin_reboot()
    pi.path.write_bytes(b"")
    pi.backend.begin_reboot()
    first, second = "autoboot.txt", "autoboot.txt.backup"
    assert written == [second, first, first, second, second, first, first]


@pytest.mark.parametrize(
    ("content", "told", "after"),
    [
        (DOCUMENTED + b"# updated: b=good a=trial\n", "does not call slot a good", "a=good b=good"),
        (ARMED.replace(b"=3", b"=2"), "does not start slot b, which is on trial", "b=tried a=good"),
        (BEGUN.replace(b"=3", b"=2"), "does not start slot b, which is on trial", "b=tried a=good"),
        (ARMED.replace(b"tryboot_a_b=1\n", b""), "does not start slot b, which is on trial", "b=tried a=good"),
    ],
)
def test_a_comment_that_contradicts_the_keys_is_told_and_corrected(
    pi: Pi, content: bytes, told: str, after: str
) -> None:
    for path in (pi.path, pi.second):
        path.write_bytes(content)
    view = pi.backend.read()
    (problem,) = pi.backend.problems()
    assert told in problem
    pi.backend.commit(view)
    assert pi.backend.read() == view
    assert pi.backend.problems() == ()
    assert f"# updated: {after}\n".encode() in pi.path.read_bytes()


def test_nothing_is_written_when_nothing_changes(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    for prepare in (lambda view: view, arm("b", "a"), lambda view: model.confirm(view, "b")):
        pi.commit(prepare)
        with monkeypatch.context() as patch:
            for name in ("write_file", "overwrite", "sync_filesystem"):
                patch.setattr(durable, name, refuse)
            pi.backend.commit(pi.backend.read())


def test_the_same_order_in_other_numbers_changes_nothing(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    pi.backend.commit(pi.backend.read())
    monkeypatch.setattr(durable, "write_file", refuse)
    pi.backend.commit(view_of((7, 0, True), EMPTY))
    assert pi.path.read_bytes() == DOCUMENTED


def test_a_trial_is_not_armed_again_by_writing_what_is_there(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    pi.commit(arm("b", "a"))
    pi.backend.begin_reboot()
    pi.power_cut()
    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", refuse)
        pi.backend.commit(pi.backend.read())
    assert pi.states() == (SPARE, USED_UP)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a file was written")


# ------------------------------------------------------------------------------------------------------------- on FAT


@pytest.fixture
def fat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)


@pytest.mark.usefixtures("fat")
def test_on_fat_the_sector_is_overwritten_in_place(pi: Pi) -> None:
    pi.backend.commit(pi.backend.read())
    inodes = [path.stat().st_ino for path in (pi.path, pi.second)]
    for transition in (arm("b", "a"), lambda view: model.confirm(view, "b"), arm("a", "b")):
        pi.commit(transition)
        assert [path.stat().st_ino for path in (pi.path, pi.second)] == inodes
        assert pi.path.stat().st_size == 511
        assert pi.path.read_bytes() == pi.second.read_bytes()
        assert pi.backend.problems() == ()
        pi.reboot()
        assert [path.stat().st_ino for path in (pi.path, pi.second)] == inodes
        assert pi.path.stat().st_size == 511
    assert pi.path.read_bytes().startswith(b"[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n")


@pytest.mark.usefixtures("fat")
def test_on_fat_a_file_keeps_its_length_when_the_text_fits(pi: Pi) -> None:
    for path in (pi.path, pi.second):
        path.write_bytes(DOCUMENTED + b"\n" * 136)
    pi.commit(arm("b", "a"))
    assert pi.path.read_bytes() == pi.second.read_bytes() == ARMED + b"\n" * (200 - len(ARMED))
    pi.backend.begin_reboot()
    assert pi.path.read_bytes() == pi.second.read_bytes() == BEGUN + b"\n" * (200 - len(BEGUN))
    pi.commit(lambda view: model.reject(view, "b"))
    assert pi.path.stat().st_size == 200
    assert pi.states() == (GOOD, BAD)


@pytest.mark.usefixtures("fat")
@pytest.mark.parametrize("content", [b"", b"\xff" * 4096, None])
def test_on_fat_a_file_that_has_no_sector_or_too_many_is_written_anew(pi: Pi, content: bytes | None) -> None:
    pi.commit(arm("b", "a"))
    if content is None:
        pi.path.unlink()
    else:
        pi.path.write_bytes(content)
    pi.backend.commit(pi.backend.read())
    assert pi.path.read_bytes().rstrip(b"\n") + b"\n" == ARMED
    assert pi.reboot() == "b"


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("content", "code", "cause"),
    [
        (b"", "autoboot-corrupt", "it is empty"),
        (b"\n\r\n\0\0", "autoboot-corrupt", "it is empty"),
        (b"\0" * 512, "autoboot-corrupt", "it is empty"),
        (b"\xff" * 512, "autoboot-corrupt", "names no boot_partition"),
        (b"[all]\nboot\x01\n", "autoboot-corrupt", "names no boot_partition"),
        (b"boot_partition=2\n\0\0[tryboot]\n", "autoboot-corrupt", "bytes of zero within"),
        (DOCUMENTED + b"#" * 512, "autoboot-corrupt", "more than the 512 bytes"),
        (b"[all]\ntryboot_a_b=1\n", "no-slots", "names no boot_partition"),
        (b"[tryboot]\nboot_partition=2\n", "no-slots", "names no boot_partition"),
        (b"boot_partition = 2\n", "no-slots", "names no boot_partition"),
        (b"boot_partition=two\n", "no-slots", "names no boot_partition"),
        (b"boot_partition=6\n", "no-slots", "starts partition 6, and the slots have a = 2, b = 3"),
    ],
)
def test_a_file_that_is_no_reference_is_named_with_its_cause(pi: Pi, content: bytes, code: str, cause: str) -> None:
    pi.path.write_bytes(content)
    for act in (pi.backend.read, pi.backend.problems, pi.backend.begin_reboot, lambda: pi.commit(arm("b", "a"))):
        with pytest.raises(BootError) as caught:
            act()
        assert caught.value.code == code
        assert cause in caught.value.cause
        assert caught.value.what == str(pi.path)
        assert "[all]" in caught.value.mend or "tryboot_partitions" in caught.value.mend
    assert pi.path.read_bytes() == content


def test_a_missing_file_and_one_that_cannot_be_read(pi: Pi) -> None:
    pi.path.unlink()
    assert code_of(pi.backend.read) == "autoboot-missing"
    pi.path.mkdir()
    assert code_of(pi.backend.read) == "autoboot-unreadable"


def test_a_file_that_would_grow_too_long_is_refused_and_left_alone(pi: Pi) -> None:
    content = DOCUMENTED + b"# " + b"x" * 400 + b"\n"
    pi.path.write_bytes(content)
    with pytest.raises(BootError, match=r"it would have \d+ bytes, and the firmware reads 512") as caught:
        pi.commit(arm("b", "a"))
    assert caught.value.code == "autoboot-full"
    assert caught.value.what == str(pi.path)
    assert pi.path.read_bytes() == content


def test_a_trial_that_could_not_be_marked_as_begun_for_want_of_room_is_not_armed(pi: Pi) -> None:
    fits = DOCUMENTED + b"#".ljust(512 - len(BEGUN) - 1, b"x") + b"\n"
    pi.path.write_bytes(b"#" + fits)
    assert code_of(lambda: pi.commit(arm("b", "a"))) == "autoboot-full"
    assert pi.path.read_bytes() == b"#" + fits
    pi.path.write_bytes(fits)
    pi.commit(arm("b", "a"))
    assert pi.reboot() == "b"
    assert pi.path.stat().st_size == 512


def test_a_trial_does_not_begin_in_a_boot_that_nobody_could_tell_from_others(
    pi: Pi, monkeypatch: pytest.MonkeyPatch
) -> None:
    pi.commit(arm("b", "a"))
    monkeypatch.setattr(Tryboot, "_boot_id", lambda _: "")
    assert pi.states() == (SPARE, TRIAL)
    assert code_of(pi.backend.begin_reboot) == "boot-id-unreadable"
    assert pi.path.read_bytes() == pi.second.read_bytes() == ARMED
    pi.path.write_bytes(BEGUN)
    assert pi.states() == (SPARE, USED_UP)


def test_states_that_the_firmware_cannot_express_are_refused(pi: Pi) -> None:
    for b in ((2, 2, False), (2, 1, True)):
        assert code_of(lambda b=b: pi.backend.commit(view_of(SPARE, b))) == "bad-tries"  # type: ignore[misc]
    assert code_of(lambda: pi.backend.commit(view_of(BAD, TRIAL))) == "no-confirmed-slot"
    slots = view_of(GOOD, BAD).slots
    for wrong in (slots[:1], (*slots, ("c", SlotState()))):
        assert code_of(lambda wrong=wrong: pi.backend.commit(BootView(wrong))) == "unknown-slot"  # type: ignore[misc]
    assert pi.path.read_bytes() == DOCUMENTED
    assert not pi.second.exists()


def test_what_cannot_be_written_is_an_error_and_leaves_the_old(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", full)
        with pytest.raises(BootError, match="No space left on device") as caught:
            pi.commit(arm("b", "a"))
    assert caught.value.code == "autoboot-not-writable"
    assert pi.path.read_bytes() == DOCUMENTED
    pi.commit(arm("b", "a"))
    monkeypatch.setattr(durable, "write_file", full)
    assert code_of(pi.backend.begin_reboot) == "autoboot-not-writable"
    assert pi.path.read_bytes() == ARMED


def test_a_disk_that_forgets_is_found_out(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", lambda path, *_, **__: Path(path).touch())
        assert code_of(lambda: pi.commit(arm("b", "a"))) == "read-back-differs"
    pi.commit(arm("b", "a"))
    monkeypatch.setattr(durable, "write_file", lambda path, *_, **__: Path(path).touch())
    assert code_of(pi.backend.begin_reboot) == "read-back-differs"


def test_a_link_is_followed_and_the_mode_is_kept(pi: Pi, tmp_path: Path) -> None:
    pi.path.chmod(0o600)
    (tmp_path / "link").symlink_to("first/autoboot.txt")
    backend = Tryboot(str(tmp_path / "link"), PARTITIONS, str(pi.board.root))
    backend.commit(arm("b", "a")(backend.read()))
    assert (tmp_path / "link").is_symlink()
    assert pi.path.stat().st_mode & 0o777 == 0o600
    assert pi.path.read_bytes() == ARMED


# ----------------------------------------------------------------------------------------------- what the loader can do


def test_the_firmware_starts_a_trial_once_and_counts_nothing(pi: Pi) -> None:
    assert pi.backend.name == "tryboot"
    assert pi.backend.most_tries == 1
    assert not pi.backend.counts_confirmed
    limits = pi.backend.limits()
    assert any("hardware watchdog" in limit and "RuntimeWatchdogSec=" in limit for limit in limits)
    assert any("updatectl reboot" in limit and "any other starts the confirmed slot" in limit for limit in limits)
    assert not any("\n" in limit for limit in limits)


@pytest.mark.parametrize(("capabilities", "too_old"), [(0x7F, False), (None, False), (0x7B, True)])
def test_a_firmware_that_cannot_try_a_partition_is_told(pi: Pi, capabilities: int | None, too_old: bool) -> None:
    folder = pi.board.root / "proc/device-tree/chosen/bootloader"
    (folder / "capabilities").unlink()
    if capabilities is not None:
        (folder / "capabilities").write_bytes(capabilities.to_bytes(4, "big"))
    assert any("too old" in limit for limit in pi.backend.limits()) == too_old


@pytest.mark.parametrize("cell", [b"", b"\0\0\0", b"\0\0\0\0\0", None])
def test_a_device_tree_that_does_not_tell_is_no_error(pi: Pi, cell: bytes | None) -> None:
    partition = pi.board.root / "proc/device-tree/chosen/bootloader/partition"
    partition.unlink()
    if cell is not None:
        partition.write_bytes(cell)
    assert pi.backend.booted() is None
    pi.commit(arm("b", "a"))
    assert pi.reboot() == "b"
