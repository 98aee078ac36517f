"""The entries of systemd-boot as the boot reference; judged by systemd's bootctl and by a model of the loader."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootctl import bls, durable, model
from bootctl.errors import BootError
from bootctl.model import EMPTY, REJECTED, BootView, SlotState
from bootctl.systemd_boot import SystemdBoot
from health.judgement import judge
from tests.fakes.systemd_boot import (
    Loader,
    bless,
    bootctl_default,
    bootctl_list,
    get_variable,
    set_variable,
    uki,
    unset_variable,
)

GOOD, SPARE = SlotState(2, 0, True), SlotState(1, 0, True)
DEFAULT, PREFERRED, ONE_SHOT = "LoaderEntryDefault", "LoaderEntryPreferred", "LoaderEntryOneShot"


@dataclass(frozen=True, slots=True)
class Machine:
    esp: Path
    efivars: Path
    version: int = 252

    @property
    def loader(self) -> Loader:
        return Loader(self.esp, self.efivars, self.version)

    @property
    def backend(self) -> SystemdBoot:
        return SystemdBoot(str(self.esp), str(self.efivars))

    @property
    def entries(self) -> Path:
        return self.esp / "loader/entries"

    @property
    def images(self) -> Path:
        return self.esp / "EFI/Linux"

    def of_version(self, version: int) -> Machine:
        machine = Machine(self.esp, self.efivars, version)
        machine.loader.tell_features()
        return machine

    def lay_out(self, *names: str, versions: dict[str, int] | None = None) -> None:
        for path in self.entries.iterdir():
            path.unlink()
        for name in names:
            slot = re.match("updated-([a-z]+)", name, re.IGNORECASE)
            assert slot
            text = conf(slot[1].lower(), (versions or {}).get(name, {"a": 2, "b": 1}.get(slot[1].lower(), 0)))
            (self.entries / name).write_text(text)

    def lay_out_images(self, **versions: str) -> None:
        for path in [*self.images.iterdir(), *self.entries.iterdir()]:
            path.unlink()
        for name, version in versions.items():
            (self.images / f"updated-{name}.efi").write_bytes(uki(f"ID=x\nVERSION_ID={version}\n"))

    def names(self) -> list[str]:
        return sorted(path.name for folder in (self.entries, self.images) for path in folder.iterdir())

    def bytes(self) -> dict[str, bytes]:
        files = (path for folder in (self.esp, self.efivars) for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path): path.read_bytes() for path in files}

    def state(self, slot: str) -> SlotState:
        return self.backend.read().state(slot)

    def change(self, transition: Callable[[BootView], BootView]) -> None:
        self.backend.commit(transition(self.backend.read()))


def conf(slot: str, version: int) -> str:
    return (
        f"title Slot {slot}\nsort-key updated\nversion {version:010d}\nlinux /{slot}/linux\n"
        f"options updated.slot={slot} version 5\n"
    )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for folder in ("esp/loader/entries", "esp/EFI/Linux", "esp/a", "esp/b", "esp/c", "efivars"):
        (tmp_path / folder).mkdir(parents=True)
    for slot in "abc":
        (tmp_path / "esp" / slot / "linux").touch()
    machine = Machine(tmp_path / "esp", tmp_path / "efivars").of_version(252)
    machine.lay_out("updated-a.conf", "updated-b+0-0.conf")
    return machine


def view(a: SlotState, b: SlotState) -> BootView:
    return BootView((("a", a), ("b", b)))


def arm(tries: int = 3) -> Callable[[BootView], BootView]:
    return lambda view: model.arm_trial(view, "b", active="a", tries=tries)


@pytest.mark.parametrize(
    ("name", "mark", "state"),
    [
        ("updated-b.conf", "", (1, 0, True)),
        ("updated-b.conf", "# updated: confirmed", (1, 0, True)),
        ("updated-b+3-0.conf", "", (1, 3, False)),
        ("updated-b+3.conf", "", (1, 3, False)),
        ("UPDATED-B+2-1.CONF", "", (1, 2, False)),
        ("updated-b+99-00.conf", "", (1, 15, False)),
        ("updated-b+0-3.conf", "", (1, 0, False)),
        ("updated-b+0-1.conf", "", (1, 0, False)),
        ("updated-b+0-49.conf", "", (1, 0, False)),
        ("updated-b+0-50.conf", "", (0, 1, False)),
        ("updated-b+0-100.conf", "", (0, 1, False)),
        ("updated-b+1-60.conf", "", (1, 1, False)),
        ("updated-b+0-60.conf", "# updated: confirmed", (0, 0, True)),
        ("updated-b+0-0.conf", "", (0, 0, False)),
        ("updated-b+0.conf", "", (0, 0, False)),
        ("updated-b+2-1.conf", "  # updated: confirmed\t", (1, 2, True)),
        ("updated-b+0-3.conf", "# updated: confirmed", (0, 0, True)),
        ("updated-b+0-0.conf", "# updated: confirmed", (0, 0, False)),
        ("updated-b+x.conf", "", (0, 0, False)),
        (".updated-b.conf", "", (0, 0, False)),
        ("updated-b.conf.bak", "", (0, 0, False)),
    ],
)
def test_a_name_and_a_mark_mean(machine: Machine, name: str, mark: str, state: tuple[int, int, bool]) -> None:
    machine.lay_out("updated-a.conf")
    (machine.entries / name).write_text(f"{mark}\n{conf('b', 1)}")
    assert machine.backend.read() == view(GOOD, SlotState(*state))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "none of the keys linux"),
        ("title x\n", "none of the keys linux"),
        ("linux /a/linux\nefi /b/linux\n", "more than one of the keys linux"),
        ("linux /missing\n", "there is no {esp}/missing"),
        ("linux \\b\\missing\n", "there is no {esp}/b/missing"),
        ("linux /b\n", "there is no {esp}/b"),
    ],
)
def test_what_the_loader_ignores_is_empty_and_told(machine: Machine, text: str, why: str) -> None:
    machine.lay_out("updated-a.conf")
    path = machine.entries / "updated-b.conf"
    path.write_text(text)
    assert machine.loader.order() == ["updated-a.conf"]
    assert machine.backend.read() == view(GOOD, EMPTY)
    (problem,) = machine.backend.problems()
    assert problem.startswith(f"{path}: ")
    assert why.format(esp=machine.esp) in problem
    machine.change(lambda view: view)
    assert machine.names() == ["updated-a.conf", "updated-b+0-0.conf"]
    assert machine.backend.problems() == ()
    path.with_name("updated-b+0-0.conf").write_text(conf("b", 9))
    assert machine.state("b") == EMPTY


@pytest.mark.parametrize("key", ["linux", "efi", "uki"])
def test_each_kind_of_program_is_known(machine: Machine, key: str) -> None:
    path = machine.entries / "updated-a.conf"
    path.write_text(path.read_text().replace("linux /a/linux", f"{key} \\a\\linux"))
    assert machine.state("a").condition == "good"


def test_an_update_in_names_step_by_step(machine: Machine) -> None:
    steps: list[tuple[Callable[[BootView], BootView], list[str]]] = [
        (lambda view: model.confirm(view, "a"), ["updated-a.conf", "updated-b+0-0.conf"]),
        (lambda view: model.invalidate(view, "b", active="a"), ["updated-a.conf", "updated-b+0-0.conf"]),
        (arm(), ["updated-a.conf", "updated-b+3-0.conf"]),
        (lambda view: model.confirm(view, "b"), ["updated-a.conf", "updated-b.conf"]),
        (lambda view: model.roll_back(view, active="b"), ["updated-a.conf", "updated-b.conf"]),
        (lambda view: model.reject(view, "b"), ["updated-a.conf", "updated-b+0-50.conf"]),
        (arm(10), ["updated-a.conf", "updated-b+10-00.conf"]),
        (lambda view: model.confirm(view, "b", counted=3), ["updated-a.conf", "updated-b+3-0.conf"]),
        (lambda view: model.recount(view, "b", counted=3), ["updated-a.conf", "updated-b+3-0.conf"]),
        (lambda view: model.invalidate(view, "a", active="b"), ["updated-a+0-0.conf", "updated-b+3-0.conf"]),
    ]
    for transition, names in steps:
        machine.change(transition)
        assert machine.names() == names
        listed = [found for found in bootctl_list(machine.esp, machine.efivars) if found["id"].startswith("updated-")]
        assert [Path(found["path"]).name for found in listed] == machine.loader.order()
        for found, file_name in zip(listed, machine.loader.order(), strict=True):
            name = bls.parse_name(file_name)
            assert name is not None
            assert (found.get("triesLeft"), found.get("triesDone", 0)) == (name.left, name.done)
        following, _ = model.next_boot(machine.backend.read())
        assert listed[0]["id"] == f"updated-{following}.conf"


def test_all_else_in_an_entry_is_kept_and_so_are_all_other_files(machine: Machine) -> None:
    (machine.entries / "debian.conf").write_text("title Debian\nversion 1\nsort-key zzz\nlinux /a/linux\n")
    (machine.esp / "loader/loader.conf").write_text("timeout 3\n#default x\n")
    set_variable(machine.efivars, "LoaderConfigTimeout", "5")
    kept = {path: data for path, data in machine.bytes().items() if "updated-" not in path}
    machine.change(arm())
    machine.change(lambda view: model.confirm(view, "b"))
    machine.change(lambda view: model.roll_back(view, active="b"))
    after = machine.bytes()
    assert {path: data for path, data in after.items() if "updated-" not in path} == kept
    for slot in "ab":
        text = (machine.entries / f"updated-{slot}.conf").read_text()
        assert re.sub(r"(?m)^version \d{10}$", f"version {0:010d}", text) == conf(slot, 0)


operations = st.sampled_from(["invalidate", "arm", "confirm", "recount", "reject", "roll back", "boot", "boot"])
numbers = st.integers(0, 15)


def transition(name: str, view: BootView, running: str, other: str, number: int) -> BootView:
    """One of those of the model. Raises BootError where that refuses."""
    match name:
        case "invalidate":
            return model.invalidate(view, other, active=running)
        case "arm":
            return model.arm_trial(view, other, active=running, tries=max(1, number))
        case "confirm":
            return model.confirm(view, running, counted=number % 4)
        case "recount":
            return model.recount(view, running, counted=number % 4)
        case "reject":
            return model.reject(view, running if number % 2 else other)
        case _:
            return model.roll_back(view, active=running)


@pytest.mark.parametrize("version", [252, 257, 259, 260])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(operations, numbers), min_size=1, max_size=12))
def test_the_loader_does_what_was_committed(machine: Machine, version: int, steps: list[tuple[str, int]]) -> None:
    machine.lay_out("updated-a.conf", "updated-b+0-0.conf")
    machine = machine.of_version(version)
    running, other = "a", "b"
    for operation, number in steps:
        before = machine.backend.read()
        if operation == "boot":
            slot, after = model.next_boot(before)
            if any(state.bootable for _, state in before.slots):
                assert machine.loader.boots() == slot
                assert machine.backend.read() == after
                running, other = ("a", "b") if slot == "a" else ("b", "a")
            continue
        try:
            wanted = transition(operation, before, running, other, number)
        except BootError:
            continue
        machine.backend.commit(wanted)
        after = machine.backend.read()
        assert model.boot_sequence(after, 20) == model.boot_sequence(wanted, 20)
        for slot, state in after.slots:
            meant = wanted.state(slot)
            assert (state.condition, state.confirmed) == (meant.condition, meant.confirmed)
            assert state.tries_left == (meant.tries_left if meant.bootable else int(meant == REJECTED))
            assert (state == REJECTED) == (meant == REJECTED)
        assert machine.backend.problems() == ()
        assert len(machine.names()) == 2


def test_a_trial_that_fails_all_its_boots_gives_way(machine: Machine) -> None:
    machine.change(arm(2))
    assert [machine.loader.boots() for _ in range(4)] == ["b", "b", "a", "a"]
    assert machine.backend.read() == view(SPARE, SlotState(2, 0, False))


def test_a_counted_slot_that_fails_all_its_boots_gives_way_and_is_the_last_resort(machine: Machine) -> None:
    machine.change(lambda view: model.confirm(view, "a", counted=2))
    assert [machine.loader.boots() for _ in range(4)] == ["a", "a", "a", "a"]
    assert machine.state("a") == SlotState(0, 0, True)
    machine.change(lambda view: model.recount(view, "a", counted=2))
    assert machine.state("a").tries_left == 2
    machine.change(arm(1))
    machine.change(lambda view: model.confirm(view, "b", counted=1))
    assert [machine.loader.boots() for _ in range(4)] == ["b", "a", "a", "b"]


def test_after_kexec_a_trial_still_has_all_its_boots_and_what_the_loader_told_before_is_true(machine: Machine) -> None:
    """The variables are of the boot of slot a, which was counted, while slot b runs."""
    machine.change(lambda view: model.confirm(view, "a", counted=3))
    assert machine.loader.boots() == "a"
    machine.change(lambda view: model.recount(view, "a", counted=3))
    machine.change(arm(2))
    assert machine.backend.read() == view(SlotState(1, 3, True), SlotState(2, 2, False))
    assert [machine.loader.boots() for _ in range(3)] == ["b", "b", "a"], "a kernel that does not come up gives way"
    machine.change(arm(2))
    machine.change(lambda view: model.confirm(view, "b", counted=3))
    assert machine.backend.limits() == ()
    assert machine.loader.boots() == "b"


WAYS = [("linux", 252), ("linux", 259), ("linux", 239), ("efi", 252), ("efi", 259), ("image", 252), ("image", 239)]


@pytest.mark.parametrize(("kind", "version"), WAYS)
def test_a_trial_is_on_trial_on_its_last_try_and_a_rejection_stands(machine: Machine, kind: str, version: int) -> None:
    machine = prepared(machine.of_version(version), kind)
    machine.change(arm(1))
    assert machine.loader.boots() == "b"
    state = machine.state("b")
    assert (state.priority > 0, state.tries_left, state.confirmed) == (True, 0, False)
    assert judge(machine.backend.read(), "b", []).verdict == "confirmed"
    for _ in range(2):
        machine.change(lambda view: model.reject(view, "b"))
        assert machine.state("b") == REJECTED
        assert judge(machine.backend.read(), "b", []).verdict == "rejected"
        assert [name.split(".")[0] for name in machine.names()] == ["updated-a", "updated-b+0-50"]
    assert machine.backend.problems() == ()
    assert machine.loader.boots() == "a"
    assert machine.state("b") == REJECTED
    machine.change(arm(1))
    assert machine.loader.boots() == "b"
    machine.change(lambda view: model.confirm(view, "b"))
    assert machine.state("b").condition == "good"


def test_all_boots_of_a_trial_leave_it_used_up_and_not_rejected(machine: Machine) -> None:
    files = [f"updated-b+0-{done}.conf" for done in range(15, 45)]
    machine.lay_out("updated-a.conf", *files)
    machine.change(arm(15))
    assert [machine.loader.boots() for _ in range(16)] == ["b"] * 15 + ["a"]
    assert machine.backend.read() == view(SPARE, SlotState(2, 0, False))


def test_a_last_resort_that_is_rejected_loses_its_mark(machine: Machine) -> None:
    machine.change(arm(1))
    machine.change(lambda view: model.confirm(view, "b", counted=1))
    machine.loader.boots()
    assert machine.state("b") == SlotState(0, 0, True)
    machine.change(lambda view: model.reject(view, "b"))
    assert machine.names() == ["updated-a.conf", "updated-b+0-50.conf"]
    assert machine.state("b") == REJECTED
    assert b"confirmed" not in (machine.entries / "updated-b+0-50.conf").read_bytes()


def test_a_last_resort_stays_one_however_often_it_starts(machine: Machine) -> None:
    machine.lay_out("updated-a+0-48.conf", "updated-b+0-50.conf")
    path = machine.entries / "updated-a+0-48.conf"
    path.write_text(f"# updated: confirmed\n{path.read_text()}")
    assert [machine.loader.boots() for _ in range(3)] == ["a"] * 3
    assert machine.backend.read() == view(SlotState(0, 0, True), REJECTED)
    before = machine.bytes()
    machine.change(lambda view: view)
    assert machine.bytes() == before
    machine.change(lambda view: model.recount(view, "a", counted=2))
    assert [machine.loader.boots() for _ in range(2)] == ["a"] * 2


def test_when_all_slots_were_rejected_the_one_that_was_confirmed_starts(machine: Machine) -> None:
    machine.change(lambda view: model.confirm(view, "a", counted=1))
    machine.change(arm(1))
    assert machine.loader.boots() == "b"
    machine.change(lambda view: model.reject(view, "b"))
    assert [machine.loader.boots() for _ in range(3)] == ["a"] * 3


@pytest.mark.parametrize(("verb", "state"), [("good", (2, 0, True)), ("bad", (2, 0, False))])
def test_what_systemd_bless_boot_says_of_a_trial_counts(
    machine: Machine, verb: str, state: tuple[int, int, bool]
) -> None:
    machine.change(arm())
    machine.loader.boots()
    assert bless(machine.esp, machine.efivars, "status") == "indeterminate"
    bless(machine.esp, machine.efivars, verb)
    assert machine.backend.read() == view(SPARE, SlotState(*state))


def test_systemd_bless_boot_sees_what_was_confirmed(machine: Machine) -> None:
    machine.change(arm())
    machine.loader.boots()
    machine.change(lambda view: model.confirm(view, "b"))
    assert bless(machine.esp, machine.efivars, "status") == "good"


@pytest.mark.parametrize("kind", ["linux", "efi", "image"])
def test_bootctl_tells_the_same_slot_as_the_next_one(machine: Machine, kind: str) -> None:
    machine = prepared(machine.of_version(259), kind)
    for transition in (
        lambda view: model.invalidate(view, "b", active="a"),
        arm(1),
        lambda view: model.confirm(view, "b"),
        lambda view: model.roll_back(view, active="b"),
        lambda view: model.reject(view, "b"),
    ):
        machine.change(transition)
        suffix = "efi" if kind == "image" else "conf"
        following, _ = model.next_boot(machine.backend.read())
        assert bootctl_default(machine.esp, machine.efivars) == f"updated-{following}.{suffix}"


def test_nothing_is_written_when_nothing_changes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.change(arm())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was written")

    for name in ("write_file", "overwrite", "rename", "remove", "write_variable"):
        monkeypatch.setattr(durable, name, refuse)
    machine.change(lambda view: view)
    machine.change(arm())


def test_an_order_is_changed_in_place(machine: Machine) -> None:
    machine.change(arm())
    machine.change(lambda view: model.confirm(view, "b"))
    inodes = {path.name: path.stat().st_ino for path in machine.entries.iterdir()}
    machine.change(lambda view: model.roll_back(view, active="b"))
    assert {path.name: path.stat().st_ino for path in machine.entries.iterdir()} == inodes
    assert machine.loader.boots() == "a"


@pytest.mark.parametrize("lines", ["", "version 1.2\n", "version 6.1.0-18-amd64\nsort-key debian\nmachine-id 7\n"])
def test_entries_of_any_version_get_one_of_ours(machine: Machine, lines: str) -> None:
    for slot in "ab":
        text = f"linux /{slot}/linux\n{lines.replace('7', slot)}"
        (machine.entries / f"updated-{slot}.conf").write_text(text)
    (machine.entries / "updated-b+0-0.conf").unlink()
    machine.change(lambda view: model.confirm(view, "a"))
    assert machine.loader.order()[0] == "updated-a.conf"
    machine.change(lambda view: model.roll_back(view, active="a"))
    assert machine.loader.order() == ["updated-b.conf", "updated-a.conf"]
    for slot in "ab":
        conf = bls.parse_conf((machine.entries / f"updated-{slot}.conf").read_bytes())
        assert conf.sort_key == ("debian" if "debian" in lines else "updated")
        assert conf.machine_id is None
        assert bls.number(conf.version) is not None
        assert conf.programs == (("linux", f"/{slot}/linux"),)


# Two files for one slot (https://github.com/systemd/systemd/issues/33504).
@pytest.mark.parametrize("version", [252, 259])
@pytest.mark.parametrize(
    ("extra", "versions", "counts", "state"),
    [
        (["updated-b.conf", "updated-b+3-0.conf"], (3, 4), "updated-b+3-0.conf", (2, 3, False)),
        (["updated-b.conf", "updated-b+3-0.conf"], (4, 3), "updated-b.conf", (2, 0, True)),
        (["updated-b.conf", "updated-b+0-0.conf"], (3, 4), "updated-b.conf", (2, 0, True)),
        (["updated-b+3-0.conf", "updated-b+0-3.conf"], (3, 4), "updated-b+3-0.conf", (2, 3, False)),
        (["updated-b+3-0.conf", "updated-b+2-1.conf"], (4, 4), "updated-b+3-0.conf", (2, 3, False)),
    ],
)
def test_of_two_files_for_a_slot_the_one_that_would_start_counts(
    machine: Machine,
    version: int,
    extra: list[str],
    versions: tuple[int, int],
    counts: str,
    state: tuple[int, int, bool],
) -> None:
    machine = machine.of_version(version)
    machine.lay_out("updated-a.conf", *extra, versions=dict(zip(extra, versions, strict=True)))
    assert machine.loader.order()[0] == counts
    assert machine.state("b") == SlotState(*state)
    (problem,) = machine.backend.problems()
    assert f"slot b has {counts} too" in problem
    machine.change(lambda view: view)
    assert machine.names() == ["updated-a.conf", counts]
    assert machine.backend.problems() == ()
    assert machine.loader.boots() == "b"


def test_a_new_name_is_never_one_that_the_loader_comes_to(machine: Machine) -> None:
    """It could not rename the file then, and would not count any further."""
    for first, change, names in (
        ("updated-b+0-3.conf", arm(3), "updated-b+3-1.conf"),
        ("updated-b+0-1.conf", arm(1), "updated-b+1-1.conf"),
        ("updated-b+1-0.conf", lambda view: model.reject(view, "b"), "updated-b+0-50.conf"),
        ("updated-b+0-49.conf", lambda view: model.reject(view, "b"), "updated-b+0-50.conf"),
        ("updated-b+3-47.conf", lambda view: model.reject(view, "b"), "updated-b+0-51.conf"),
        ("updated-b+0-60.conf", lambda view: model.reject(view, "b"), "updated-b+0-60.conf"),
        ("updated-b+0-50.conf", arm(15), "updated-b+15-00.conf"),
        ("updated-b+3-46.conf", arm(3), "updated-b+3-0.conf"),
        ("updated-b+3-45.conf", arm(3), "updated-b+3-45.conf"),
        ("updated-b+0-10.conf", arm(10), "updated-b+10-01.conf"),
    ):
        machine.lay_out("updated-a.conf", first)
        machine.change(change)
        assert machine.names() == ["updated-a.conf", names]


@pytest.mark.parametrize("version", [252, 259, 260])
@pytest.mark.parametrize("name", [DEFAULT, PREFERRED])
@pytest.mark.parametrize("value", ["updated-b.conf", "updated-b*", "updated-a.conf", "@saved", "other.conf", ""])
def test_an_explicit_choice_is_told_and_given_up_before_anything_is_counted(
    machine: Machine, version: int, name: str, value: str
) -> None:
    machine = machine.of_version(version)
    machine.lay_out("updated-a.conf", "updated-b.conf", versions={"updated-b.conf": 1})
    set_variable(machine.efivars, name, value)
    (problem,) = machine.backend.problems()
    assert problem.startswith(f"{name} names {value or 'nothing that is text'}, which overrides")
    machine.change(arm(2))
    assert get_variable(machine.efivars, name) is None
    assert machine.backend.problems() == ()
    assert [machine.loader.boots() for _ in range(4)] == ["b", "b", "a", "a"]


def test_a_default_is_what_boots_and_stays_so_without_it(machine: Machine) -> None:
    machine.lay_out("updated-a.conf", "updated-b.conf")
    set_variable(machine.efivars, DEFAULT, "updated-b.conf")
    assert machine.backend.read() == view(SPARE, GOOD)
    machine.change(lambda view: view)
    assert get_variable(machine.efivars, DEFAULT) is None
    assert machine.backend.read() == view(SPARE, GOOD)
    assert machine.loader.boots() == "b"


def test_a_default_that_panics_for_ever_is_told_and_ended(machine: Machine) -> None:
    machine.lay_out("updated-a.conf", "updated-b+2-0.conf", versions={"updated-b+2-0.conf": 3})
    set_variable(machine.efivars, DEFAULT, "updated-b*")
    assert [machine.loader.boots() for _ in range(5)] == ["b"] * 5
    assert len(machine.backend.problems()) == 1
    machine.change(lambda view: view)
    assert machine.loader.boots() == "a"


def test_a_one_shot_choice_of_a_slot_is_given_up_and_one_of_something_else_kept(machine: Machine) -> None:
    set_variable(machine.efivars, ONE_SHOT, "updated-b*")
    assert len(machine.backend.problems()) == 1
    machine.change(lambda view: view)
    assert get_variable(machine.efivars, ONE_SHOT) is None
    set_variable(machine.efivars, ONE_SHOT, "memtest.conf")
    machine.change(arm())
    assert get_variable(machine.efivars, ONE_SHOT) == "memtest.conf"
    assert machine.backend.problems() == ()


@pytest.mark.parametrize(
    "line",
    ["default updated-*", "default updated-a.conf", "preferred updated-a*", "default @saved", "default debian.conf",
     "default auto-windows", "default\tUPDATED-B.conf"],
)  # fmt: skip
def test_a_choice_in_loader_conf_is_told_and_nothing_is_armed(machine: Machine, line: str) -> None:
    (machine.entries / "debian.conf").write_text("linux /a/linux\n")
    machine.lay_out("updated-a.conf", "updated-b.conf")
    (machine.entries / "debian.conf").write_text("linux /a/linux\n")
    path = machine.esp / "loader/loader.conf"
    path.write_text(f"timeout 3\n{line}\n")
    (problem,) = machine.backend.problems()
    assert problem.startswith(f"{path}: {line.split()[0]} ")
    before = machine.bytes()
    with pytest.raises(BootError, match="Remove this line") as caught:
        machine.change(arm())
    assert caught.value.code == "loader-conf-default"
    assert caught.value.what == str(path)
    assert machine.bytes() == before


def test_a_choice_in_loader_conf_that_fits_nothing_does_no_harm(machine: Machine) -> None:
    (machine.esp / "loader/loader.conf").write_text("default 0123456789abcdef-*\n# default updated-a.conf\n")
    assert machine.backend.problems() == ()
    machine.change(arm())
    assert machine.loader.boots() == "b"


def test_an_entry_of_another_system_that_comes_first_is_told(machine: Machine) -> None:
    for name, text in (("x.conf", "sort-key aaa\n"), ("y.conf", "sort-key zzz\n"), ("z.conf", "")):
        (machine.entries / name).write_text(f"{text}linux /a/linux\n")
    (limit,) = machine.backend.limits()
    assert limit.startswith(f"{machine.entries}/x.conf comes before all slots")
    assert machine.loader.order()[0] == "x.conf"


def test_what_counts_has_no_limits(machine: Machine) -> None:
    backend = machine.backend
    backend.read()
    assert (backend.most_tries, backend.counts_confirmed, backend.limits()) == (15, True, ())
    assert backend.begin_reboot() == ""


# One shot.


@pytest.fixture(params=["does not count", "efi program", "did not count"])
def one_shot(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    if request.param == "does not count":
        return machine.of_version(239)
    if request.param == "efi program":
        for path in machine.entries.iterdir():
            path.write_text(path.read_text().replace("linux /", "efi /"))
        return machine.of_version(259)
    set_variable(machine.efivars, "LoaderEntrySelected", "updated-a+3-0.conf")
    return machine


def test_a_loader_that_does_not_count_is_told_and_starts_a_trial_once(one_shot: Machine) -> None:
    machine, backend = one_shot, one_shot.backend
    backend.read()
    assert (backend.most_tries, backend.counts_confirmed) == (1, False)
    limits = backend.limits()
    assert all("started once" in limit and "watchdog" in limit for limit in limits if "order" not in limit)
    assert limits
    machine.change(arm(1))
    assert backend.problems() == ()
    assert get_variable(machine.efivars, DEFAULT) == "updated-a.conf"
    assert backend.read() == view(SPARE, SlotState(2, 1, False))
    assert [machine.loader.boots() for _ in range(3)] == ["b", "a", "a"]
    assert backend.read() == view(SPARE, SlotState(2, 0, False))


def test_a_trial_by_one_shot_that_kexec_started_can_be_confirmed_or_fail_once_more(one_shot: Machine) -> None:
    """The loader has not deleted the choice, and what is known of it did not change."""
    machine = one_shot
    machine.change(arm(1))
    machine.change(lambda view: model.confirm(view, "b"))
    assert (get_variable(machine.efivars, DEFAULT), get_variable(machine.efivars, ONE_SHOT)) == ("updated-b.conf", None)
    assert [machine.loader.boots() for _ in range(2)] == ["b", "b"]
    machine.change(lambda view: model.arm_trial(view, "a", active="b", tries=1))
    assert [machine.loader.boots() for _ in range(2)] == ["a", "b"]


def test_one_shot_step_by_step(one_shot: Machine) -> None:
    machine = one_shot
    machine.change(lambda view: model.invalidate(view, "b", active="a"))
    assert machine.loader.boots() == "a"
    machine = machine.of_version(239)
    machine.change(arm(1))
    assert machine.loader.boots() == "b"
    machine.change(lambda view: model.confirm(view, "b"))
    assert get_variable(machine.efivars, DEFAULT) == "updated-b.conf"
    assert machine.backend.read() == view(SPARE, GOOD)
    assert machine.loader.boots() == "b"
    machine.change(lambda view: model.roll_back(view, active="b"))
    assert machine.backend.read() == view(GOOD, SPARE)
    assert machine.loader.boots() == "a"
    machine.change(lambda view: model.reject(view, "b"))
    assert machine.state("b") == REJECTED
    assert machine.loader.boots() == "a"
    machine.change(arm(1))
    machine.change(lambda view: model.invalidate(view, "b", active="a"))
    assert get_variable(machine.efivars, ONE_SHOT) is None
    assert machine.state("b") == EMPTY
    assert machine.loader.boots() == "a"


def test_a_trial_by_one_shot_does_not_start_when_the_firmware_forgets(machine: Machine) -> None:
    for path in machine.entries.iterdir():
        path.write_text(path.read_text().replace("linux /", "efi /"))
    machine.change(arm(1))
    for name in (DEFAULT, ONE_SHOT):
        unset_variable(machine.efivars, name)
    assert machine.loader.boots() == "a"


def test_more_than_one_try_or_counted_boots_are_refused_where_nobody_counts(one_shot: Machine) -> None:
    before = one_shot.bytes()
    for transition in (arm(2), lambda view: model.confirm(view, "a", counted=1)):
        with pytest.raises(BootError, match="can't be counted") as caught:
            one_shot.change(transition)
        assert caught.value.code == "bad-tries"
    assert one_shot.bytes() == before


def test_a_loader_that_counts_again_gives_up_the_explicit_choices(machine: Machine) -> None:
    old = machine.of_version(239)
    old.change(arm(1))
    old.loader.boots()
    old.change(lambda view: model.confirm(view, "b"))
    assert machine.loader.boots() == "b"
    assert machine.backend.problems() == (
        "LoaderEntryDefault names updated-b.conf, which overrides the order of the entries and their counters",
    )
    machine.change(lambda view: model.arm_trial(view, "a", active="b", tries=2))
    assert get_variable(machine.efivars, DEFAULT) is None
    assert [machine.loader.boots() for _ in range(4)] == ["a", "a", "b", "b"]


# Unified kernel images.


def test_an_update_of_images_is_counted(machine: Machine) -> None:
    machine.lay_out_images(**{"a": "1", "b+0-0": "2"})
    backend = machine.backend
    backend.read()
    assert (backend.most_tries, backend.counts_confirmed) == (15, False)
    machine.change(arm())
    assert machine.names() == ["updated-a.efi", "updated-b+3-0.efi"]
    assert get_variable(machine.efivars, DEFAULT) is None
    assert [machine.loader.boots() for _ in range(5)] == ["b", "b", "b", "a", "a"]
    machine.change(lambda view: model.confirm(view, "b"))
    assert machine.names() == ["updated-a.efi", "updated-b.efi"]
    assert machine.loader.boots() == "b"
    listed = bootctl_list(machine.esp, machine.efivars)
    assert [found["id"] for found in listed if found["id"].startswith("updated-")] == ["updated-b.efi", "updated-a.efi"]


def test_an_older_image_is_tried_once(machine: Machine) -> None:
    machine.lay_out_images(**{"a": "2", "b+0-0": "1"})
    backend = machine.backend
    backend.read()
    assert (backend.most_tries, backend.counts_confirmed) == (1, False)
    assert any(ONE_SHOT in limit for limit in backend.limits())
    machine.change(arm(1))
    assert get_variable(machine.efivars, DEFAULT) == "updated-a.efi"
    for version in (252, 259):
        machine.of_version(version)
        assert backend.read() == view(SPARE, SlotState(2, 1, False))
    assert [machine.loader.boots() for _ in range(3)] == ["b", "a", "a"]


@pytest.mark.parametrize("version", [252, 259])
def test_a_roll_back_to_an_older_image_is_a_default_until_the_next_update(machine: Machine, version: int) -> None:
    machine = machine.of_version(version)
    machine.lay_out_images(a="1", b="2")
    assert machine.backend.problems() == ()
    machine.change(lambda view: model.roll_back(view, active="b"))
    assert get_variable(machine.efivars, DEFAULT) == "updated-a.efi"
    assert machine.backend.read() == view(GOOD, SPARE)
    assert machine.backend.problems() == ()
    assert machine.loader.boots() == "a"
    machine.change(lambda view: model.invalidate(view, "b", active="a"))
    assert get_variable(machine.efivars, DEFAULT) is None
    assert machine.loader.boots() == "a"
    (machine.images / "updated-b+0-0.efi").write_bytes(uki("ID=x\nVERSION_ID=3\n"))
    machine.change(arm(2))
    assert [machine.loader.boots() for _ in range(3)] == ["b", "b", "a"]


@pytest.mark.parametrize(
    ("kind", "version"),
    [("linux", 239), ("linux", 247), ("efi", 252), ("efi", 259), ("image", 252), ("image", 259), ("image", 239)],
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(operations, numbers), min_size=1, max_size=12))
def test_the_loader_does_what_was_committed_with_one_shots_and_images(
    machine: Machine, kind: str, version: int, steps: list[tuple[str, int]]
) -> None:
    machine = prepared(machine.of_version(version), kind)
    running, other = "a", "b"
    machine.change(lambda view: model.confirm(view, running))
    for operation, number in steps:
        backend = machine.backend
        before = backend.read()
        if operation == "boot":
            slot, after = model.next_boot(before)
            if any(state.bootable for _, state in before.slots):
                assert machine.loader.boots() == slot
                assert same(machine.backend.read(), after)
                running, other = ("a", "b") if slot == "a" else ("b", "a")
            continue
        try:
            if operation == "arm":
                backend.commit(model.invalidate(before, other, active=running))
                for path in machine.images.glob(f"updated-{other}*"):
                    path.write_bytes(uki(f"ID=x\nVERSION_ID={number}.{running}\n"))
                before = backend.read()
                number = min(number, backend.most_tries)
            wanted = transition(operation, before, running, other, number if operation in ("arm", "reject") else 0)
        except BootError:
            continue
        backend.commit(wanted)
        assert same(machine.backend.read(), wanted)
        assert model.boot_sequence(machine.backend.read(), 20) == model.boot_sequence(wanted, 20)
        assert machine.backend.problems() == ()
        assert len(machine.names()) == 2


def prepared(machine: Machine, kind: str) -> Machine:
    if kind == "image":
        machine.lay_out_images(**{"a": "1", "b+0-0": "2"})
    else:
        machine.lay_out("updated-a.conf", "updated-b+0-0.conf")
        for path in machine.entries.iterdir():
            path.write_text(path.read_text().replace("linux /", f"{kind} /"))
    for path in machine.efivars.glob("LoaderEntry*"):
        path.unlink()
    machine.loader.tell_features()
    return machine


def same(view: BootView, wanted: BootView) -> bool:
    """A trial behind the first slot is never started by a one-shot, and may be bad."""
    first, _ = model.next_boot(wanted)
    for slot, state in wanted.slots:
        found = view.state(slot)
        if state.condition == "trial" and slot != first and found.condition == "bad":
            continue
        if (found.condition, found.confirmed) != (state.condition, state.confirmed):
            return False
        if (found == REJECTED) != (state == REJECTED):
            return False
        if state.bootable and found.tries_left != state.tries_left:
            return False
    return True


def test_a_loader_that_knows_no_versions_goes_by_the_names_of_the_slots(machine: Machine) -> None:
    machine = machine.of_version(247)
    backend = machine.backend
    backend.read()
    assert (backend.most_tries, backend.counts_confirmed) == (15, False)
    machine.change(arm(2))
    assert [machine.loader.boots() for _ in range(3)] == ["b", "b", "a"]
    machine.change(arm(2))
    machine.change(lambda view: model.confirm(view, "b"))
    backend.read()
    assert backend.most_tries == 1
    machine.change(lambda view: model.invalidate(view, "a", active="b"))
    machine.change(lambda view: model.arm_trial(view, "a", active="b", tries=1))
    assert [machine.loader.boots() for _ in range(3)] == ["a", "b", "b"]


# Errors.


def refused(machine: Machine, transition: Callable[[BootView], BootView]) -> BootError:
    before = machine.bytes()
    with pytest.raises(BootError) as caught:
        machine.change(transition)
    assert machine.bytes() == before
    return caught.value


def test_a_slot_without_a_file_is_empty_and_arming_it_names_the_file(machine: Machine) -> None:
    machine.lay_out("updated-a.conf")
    assert machine.backend.read() == view(GOOD, EMPTY)
    machine.change(lambda view: model.invalidate(view, "b", active="a"))
    machine.change(lambda view: model.reject(view, "b"))
    assert machine.names() == ["updated-a.conf"]
    error = refused(machine, arm())
    assert (error.code, error.what) == ("entry-missing", f"{machine.entries}/updated-b+0-0.conf")
    machine.lay_out_images(a="1")
    error = refused(machine, arm())
    assert (error.code, error.what) == ("entry-missing", f"{machine.images}/updated-b+0-0.efi")


@pytest.mark.parametrize("kernel", [None, b""], ids=["not there", "no byte"])
@pytest.mark.parametrize("name", ["updated-b+0-0.conf", "updated-b.conf", "updated-b+2-1.conf"])
def test_a_kernel_that_is_written_after_its_entry_was_invalidated_boots_once_it_is_armed(
    machine: Machine, kernel: bytes | None, name: str
) -> None:
    """As on a machine from the factory, whose slot b is empty: `updated` writes the image there."""
    folder = machine.esp / "EFI/updated"
    folder.mkdir()
    machine.lay_out("updated-a.conf", name)
    for path in machine.entries.iterdir():
        path.write_text(re.sub("/([ab])/linux", r"/EFI/updated/\1.efi", path.read_text()))
    (folder / "a.efi").write_bytes(b"a kernel")
    if kernel is not None:
        (folder / "b.efi").write_bytes(kernel)
    machine.change(lambda view: model.invalidate(view, "b", active="a"))
    assert machine.names() == ["updated-a.conf", "updated-b+0-0.conf"]
    (folder / "b.efi").write_bytes(b"half a ker")
    assert machine.state("b") == EMPTY
    assert machine.loader.boots() == "a"
    (folder / "b.efi").write_bytes(b"half a kernel, and the rest")
    machine.change(arm())
    assert [machine.loader.boots() for _ in range(4)] == ["b", "b", "b", "a"]


def test_arming_an_entry_without_its_kernel_names_the_kernel(machine: Machine) -> None:
    (machine.esp / "b/linux").unlink()
    error = refused(machine, arm())
    assert (error.code, error.what) == ("kernel-missing", f"{machine.esp}/b/linux")
    assert "updated-b+0-0.conf" in error.mend
    (machine.entries / "updated-b+0-0.conf").write_text("")
    assert refused(machine, arm()).code == "entry-corrupt"


def test_an_entry_and_an_image_of_one_slot_are_not_sorted_out(machine: Machine) -> None:
    (machine.images / "updated-b.efi").write_bytes(uki("ID=x\nVERSION_ID=1\n"))
    assert any("slot b has" in problem for problem in machine.backend.problems())
    error = refused(machine, arm())
    assert error.code == "entry-ambiguous"
    assert error.what.endswith(("updated-b.efi", "updated-b+0-0.conf"))


def test_slots_that_have_no_entries_are_refused(machine: Machine) -> None:
    one = machine.backend.read()
    for wrong in (BootView(one.slots[:1]), BootView((*one.slots, ("c", SlotState())))):
        assert refused(machine, lambda _, wrong=wrong: wrong).code == "unknown-slot"  # type: ignore[misc]


def test_slots_of_other_names_are_those_that_have_entries(machine: Machine) -> None:
    machine.lay_out("updated-a.conf", "updated-c+1-0.conf")
    assert machine.backend.read().names == ("a", "c")


def test_more_files_of_a_slot_than_can_be_told_apart_are_refused(machine: Machine) -> None:
    machine.lay_out("updated-a.conf", *(f"updated-b+0-{done}.conf" for done in range(1, 34)))
    with pytest.raises(BootError, match="slot b has 33 entries") as caught:
        machine.backend.read()
    assert caught.value.code == "entry-corrupt"
    (machine.entries / "updated-b+0-33.conf").unlink()
    machine.change(arm(15))
    assert machine.names() == ["updated-a.conf", "updated-b+15-18.conf"]


def test_what_is_not_there_is_told(machine: Machine) -> None:
    def code() -> str:
        with pytest.raises(BootError) as caught:
            machine.backend.read()
        assert str(machine.esp) in caught.value.what
        return caught.value.code

    machine.lay_out()
    assert code() == "no-slots"
    (machine.entries / "updated-a.conf").write_text("")
    assert code() == "entry-corrupt"
    (machine.entries / "updated-a.conf").write_text("linux /missing\n")
    assert code() == "kernel-missing"
    (machine.entries / "updated-a.conf").write_bytes(b"x" * (1 << 20 | 1))
    assert code() == "entry-corrupt"
    machine.lay_out(*(f"updated-{letter}{letter}.conf" for letter in "abcdefghijklmnop"))
    assert code() == "entry-corrupt"
    shutil.rmtree(machine.esp / "loader")
    assert code() == "no-slots"
    shutil.rmtree(machine.esp / "EFI")
    assert code() == "entries-missing"


def test_what_cannot_be_read_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Any, *_: object) -> list[str]:
        raise PermissionError(13, os.strerror(13), path)

    monkeypatch.setattr(os, "listdir", deny)
    with pytest.raises(BootError, match="Permission denied") as caught:
        machine.backend.read()
    assert caught.value.code == "entries-unreadable"


@pytest.mark.parametrize("function", ["write_file", "remove", "sync_filesystem"])
def test_what_cannot_be_written_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(durable, function, full)
    with pytest.raises(BootError, match="No space left on device") as caught:
        machine.change(arm())
    assert caught.value.code == "entry-not-writable"
    assert machine.loader.boots() in ("a", "b")


def test_a_disk_that_forgets_is_found_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "remove", lambda *_: None)
    write_file = durable.write_file

    def forgetful(path: Any, data: bytes, **options: Any) -> None:
        write_file(path, b"", **options)

    monkeypatch.setattr(durable, "write_file", forgetful)
    with pytest.raises(BootError) as caught:
        machine.change(arm())
    assert caught.value.code == "read-back-differs"


def test_firmware_that_forgets_is_found_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variable(machine.efivars, DEFAULT, "updated-a.conf")
    remove = durable.remove
    monkeypatch.setattr(durable, "remove", lambda path: None if "Loader" in str(path) else remove(path))
    with pytest.raises(BootError) as caught:
        machine.change(arm())
    assert caught.value.code == "read-back-differs"


def test_without_efi_variables_a_machine_can_be_laid_out(machine: Machine) -> None:
    shutil.rmtree(machine.efivars)
    machine.lay_out("updated-a+0-0.conf", "updated-b+0-0.conf")
    machine.backend.commit(model.confirm(view(SlotState(), SlotState()), "a"))
    assert machine.names() == ["updated-a.conf", "updated-b+0-0.conf"]
    assert machine.loader.order()[0] == "updated-a.conf"
    assert any("no EFI variables" in limit for limit in machine.backend.limits())


def test_a_leftover_of_a_cut_is_removed_by_the_next_change(machine: Machine) -> None:
    (machine.entries / ".updated-b+3-0.conf.123.tmp").touch()
    machine.change(arm())
    assert machine.names() == ["updated-a.conf", "updated-b+3-0.conf"]


contents = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.sampled_from([
            b"linux /a/linux\n", b"linux /b\n", b"efi /b/linux\n", b"version 0000000003\n", b"version 9\n",
            b"version \n", b"sort-key x\n", b"sort-key updated\n", b"machine-id 1\n", b"# updated: confirmed\n", b"\0",
            b"\xff\n", b"linux \xff\n",
        ]),
        max_size=6,
    ).map(b"".join),
    st.just(uki("ID=x\nVERSION_ID=1\n")),
)  # fmt: skip
file_names = st.from_regex(
    r"(updated-[abAB]?|other)(\+[0-9]{1,3}(-[0-9]{1,3})?)?\.(conf|efi|CONF|x)", fullmatch=True
)
texts = st.one_of(st.binary(max_size=12), st.sampled_from(["updated-a.conf", "updated-*", "@saved", "[", "*"]).map(
    lambda text: text.encode("utf-16-le")))  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(file_names, contents, max_size=6),
    variables=st.dictionaries(
        st.sampled_from([DEFAULT, PREFERRED, ONE_SHOT, "LoaderEntrySelected", "LoaderFeatures", "LoaderBootCountPath"]),
        texts, max_size=3,
    ),
    configured=st.one_of(st.none(), contents, st.just(b"default updated-a*\n")),
)  # fmt: skip
def test_garbage_is_a_view_or_a_boot_error_and_a_commit_makes_it_whole(
    machine: Machine, files: dict[str, bytes], variables: dict[str, bytes], configured: bytes | None
) -> None:
    for path in [*machine.entries.iterdir(), *machine.images.iterdir(), *machine.efivars.iterdir()]:
        path.unlink()
    machine.loader.tell_features()
    loader_conf = machine.esp / "loader/loader.conf"
    loader_conf.unlink(missing_ok=True)
    if configured is not None:
        loader_conf.write_bytes(configured)
    for name, data in files.items():
        folder = machine.images if name.endswith("efi") else machine.entries
        (folder / name).write_bytes(data)
    for name, data in variables.items():
        if len(data) % 5:
            set_variable(machine.efivars, name, data)
        else:
            (machine.efivars / f"{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f").write_bytes(data[:3])
    backend = machine.backend
    try:
        before = backend.read()
        backend.problems()
        backend.limits()
        backend.commit(before)
    except BootError as error:
        assert error.code in (  # noqa: PT017
            "no-slots", "entry-corrupt", "kernel-missing", "entry-ambiguous", "loader-conf-default", "bad-tries"
        )  # fmt: skip
    else:
        after = backend.read()
        assert {slot: state.condition for slot, state in after.slots} == {
            slot: state.condition for slot, state in before.slots
        }
        assert model.next_boot(after)[0] == model.next_boot(before)[0]
        assert not [problem for problem in backend.problems() if "ignores it" not in problem]
