"""GRUB's environment block: the format, judged by grub-editenv, and the backend."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bootctl import durable, grub, model
from bootctl.errors import BootError
from bootctl.grub import EnvBlock, Grub
from bootctl.model import BootView, SlotState
from tests.bootctl.grub_emulator import grubenv, listed

VARIABLES = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0", "saved_entry": "x y=z"}
HEADER = b"# GRUB Environment Block\n"

names = st.text(st.characters(codec="utf-8", exclude_characters="=\n\0#"), min_size=1, max_size=12)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
environments = st.dictionaries(names, values, max_size=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv(VARIABLES))
    return path


@given(environments)
@example({"ORDER": "A", "x": "a\\\nb\n\\"})
def test_what_is_written_is_read_back(variables: dict[str, str]) -> None:
    data = grub.format_block(EnvBlock(variables))
    assert len(data) == 1024
    assert dict(grub.parse(data).variables) == variables


@settings(max_examples=25)
@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True), values.filter(
    lambda value: "\n" not in value and "\r" not in value and value.isprintable()), max_size=6))  # fmt: skip
def test_grub_editenv_reads_what_we_write_and_we_read_what_it_writes(variables: dict[str, str]) -> None:
    assert listed(grub.format_block(EnvBlock(variables))) == variables
    assert grub.parse(grubenv(variables)).variables == variables


def test_grub_editenv_can_change_what_we_wrote(path: Path) -> None:
    Grub(str(path)).commit(model.confirm(Grub(str(path)).read(), "a"))
    subprocess.run(["grub-editenv", path, "set", "B_TRIES=2", "new=1"], check=True)
    subprocess.run(["grub-editenv", path, "unset", "saved_entry"], check=True)
    assert grub.parse(path.read_bytes()).variables == {
        **{name: value for name, value in VARIABLES.items() if name != "saved_entry"}, "B_TRIES": "2", "new": "1"
    }  # fmt: skip


@given(st.one_of(
    st.binary(max_size=1100),
    st.binary(max_size=900).map(lambda middle: (HEADER + middle).ljust(1024, b"#")),
    st.binary(max_size=900).map(lambda middle: (HEADER + middle + b"\n").ljust(1024, b"#")),
))  # fmt: skip
def test_garbage_is_a_block_or_a_boot_error(data: bytes) -> None:
    try:
        block = grub.parse(data)
        view = grub.decode(block.variables)
    except BootError as error:
        assert error.code in ("grubenv-corrupt", "no-slots")  # noqa: PT017
    else:
        assert grub.parse(grub.format_block(block)).variables == block.variables
        assert grub.decode(grub.encode(block.variables, view)) == view


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "0 bytes instead of 1024"),
        (grubenv({})[:1000], "1000 bytes instead of 1024"),
        (grubenv({}) + b"#" * 3072, "bytes instead of 1024"),
        (b"\0" * 1024, "lacks the signature"),
        ((HEADER + b"A_OK=1").ljust(1024, b"#"), "begins no variable"),
        ((HEADER + b"A_OK=1\\").ljust(1024, b"\\"), "begins no variable"),
        ((HEADER + b"novalue\n").ljust(1024, b"#"), "begins no variable"),
        ((HEADER + b"=x\n").ljust(1024, b"#"), "begins no variable"),
        (grubenv({"ORDER": "A A"}), "'A A', which is no list"),
        (grubenv({"ORDER": "system0"}), "'system0', which is no list"),
        (grubenv({"ORDER": " ".join(f"S{n}" for n in range(16))}), "16 slots"),
    ],
)
def test_a_corrupt_block_is_named_with_its_cause_and_mend(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "grubenv"
    path.write_bytes(data)
    with pytest.raises(BootError) as caught:
        Grub(str(path)).read()
    assert caught.value.code == "grubenv-corrupt"
    assert cause in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "grub-editenv" in caught.value.mend


def test_comments_survive_and_filler_does_not_pile_up() -> None:
    data = grubenv({"ORDER": "A", "A_OK": "1", "x": "1"})
    block = grub.parse(data)
    once = grub.format_block(block)
    assert b"# WARNING: Do not edit" in once
    assert grub.format_block(grub.parse(once)) == once


def test_our_variables_fill_the_first_sector_and_foreign_ones_the_second() -> None:
    foreign = {f"foreign{n}": "x" * 30 for n in range(10)}
    view = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
    before = grub.format_block(EnvBlock(grub.encode(foreign, view)))
    after = grub.format_block(EnvBlock(grub.encode(foreign, model.arm_trial(view, "b", active="a", tries=10))))
    assert before[:512] != after[:512]
    assert before[512:] == after[512:]


def test_a_full_block_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv({"x": "y" * 880, "ORDER": "A B", "A_OK": "1"}))
    before = path.read_bytes()
    with pytest.raises(BootError, match="it has 1024") as caught:
        Grub(str(path)).commit(model.arm_trial(Grub(str(path)).read(), "b", active="a"))
    assert caught.value.code == "grubenv-full"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("variables", "a", "b"),
    [
        ({"ORDER": "A B", "A_OK": "1", "B_OK": "1"}, (2, 0, True), (1, 0, True)),
        ({"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "3"}, (1, 0, True), (2, 3, False)),
        ({"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "0"}, (1, 0, True), (2, 0, False)),
        ({"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": ""}, (1, 0, True), (2, 0, True)),
        ({"ORDER": "A B", "A_OK": "1", "B_OK": "0", "B_TRIES": "3"}, (2, 0, True), (0, 1, False)),
        ({"ORDER": "A B", "A_OK": "1", "B_OK": "0", "B_TRIES": "rejected"}, (2, 0, True), (0, 1, False)),
        ({"ORDER": "A B", "A_OK": "1", "B_OK": "1", "B_TRIES": "rejected"}, (2, 0, True), (1, 0, True)),
        ({"ORDER": "A B", "A_OK": "1", "A_TRIES": "3", "A_GOOD": "1", "B_OK": "0"}, (2, 3, True), (0, 0, False)),
        ({"ORDER": "A B", "A_OK": "1", "A_TRIES": "0", "A_GOOD": "1", "B_OK": "0"}, (0, 0, True), (0, 0, False)),
        ({"ORDER": "A", "A_OK": "1", "B_OK": "1"}, (2, 0, True), (1, 0, True)),
        ({"ORDER": "A", "A_OK": "1", "B_OK": "0"}, (2, 0, True), (0, 0, False)),
        ({"ORDER": "A B", "A_OK": "1"}, (2, 0, True), (0, 0, False)),
        ({"A_OK": "1", "B_OK": "yes"}, (2, 0, True), (0, 0, False)),
    ],
)
def test_the_variables_mean(variables: dict[str, str], a: tuple[int, int, bool], b: tuple[int, int, bool]) -> None:
    assert grub.decode(variables) == BootView((("a", SlotState(*a)), ("b", SlotState(*b))))


def test_a_block_without_slots_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv({"saved_entry": "1"}))
    with pytest.raises(BootError, match="names no slot") as caught:
        Grub(str(path)).read()
    assert caught.value.code == "no-slots"
    assert caught.value.what == str(path)


def test_an_update_in_variables_step_by_step(path: Path) -> None:
    backend = Grub(str(path))
    steps: list[Any] = [
        (lambda view: model.invalidate(view, "b", active="a"), {"ORDER": "A B", "A_OK": "1", "B_OK": "0"}),
        (
            lambda view: model.arm_trial(view, "b", active="a"),
            {"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRIES": "3"},
        ),
        (lambda view: model.confirm(view, "b"), {"ORDER": "B A", "A_OK": "1", "B_OK": "1"}),
        (lambda view: model.roll_back(view, active="b"), {"ORDER": "A B", "A_OK": "1", "B_OK": "1"}),
        (lambda view: model.recount(view, "a", counted=3), {
            "ORDER": "A B", "A_OK": "1", "A_TRIES": "3", "A_GOOD": "1", "B_OK": "1"
        }),
        (lambda view: model.recount(view, "a", counted=0), {"ORDER": "A B", "A_OK": "1", "B_OK": "1"}),
        (lambda view: model.reject(view, "b"), {"ORDER": "A B", "A_OK": "1", "B_OK": "0", "B_TRIES": "rejected"}),
    ]  # fmt: skip
    for transition, expected in steps:
        backend.commit(transition(backend.read()))
        everything = {**expected, "A_TRY": "0", "B_TRY": "0", "saved_entry": "x y=z"}
        assert listed(path.read_bytes()) == everything
        assert listed(path.with_name("grubenv.backup").read_bytes()) == everything


def test_nothing_is_written_when_nothing_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Grub(str(path))
    backend.commit(backend.read())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was written")

    for name in ("write_file", "overwrite"):
        monkeypatch.setattr(durable, name, refuse)
    backend.commit(backend.read())


@pytest.mark.parametrize("spoiled", ["grubenv", "grubenv.backup"])
@pytest.mark.parametrize("content", [b"", b"\0" * 1024, None])
def test_a_corrupt_copy_is_replaced_by_the_other(path: Path, spoiled: str, content: bytes | None) -> None:
    backend = Grub(str(path))
    backend.commit(backend.read())
    view, variables = backend.read(), listed(path.read_bytes())
    victim = path.with_name(spoiled)
    if content is None:
        victim.unlink()
    else:
        victim.write_bytes(content)
    assert backend.read() == view
    backend.commit(view)
    assert listed(path.read_bytes()) == listed(path.with_name("grubenv.backup").read_bytes()) == variables


@pytest.mark.parametrize(
    ("spoiled", "content", "problem"),
    [
        ("grubenv", b"", "it has 0 bytes"),
        ("grubenv.backup", b"\0" * 1024, "lacks the signature"),
        ("grubenv.backup", None, "there is no such file"),
        ("grubenv.backup", grubenv({"ORDER": "A", "A_OK": "1"}), "differs from the copy that counts"),
    ],
)
def test_a_spoiled_copy_is_told_until_it_is_mended(
    path: Path, spoiled: str, content: bytes | None, problem: str
) -> None:
    backend = Grub(str(path))
    backend.commit(backend.read())
    assert backend.problems() == ()
    victim = path.with_name(spoiled)
    victim.unlink() if content is None else victim.write_bytes(content)
    (told,) = backend.problems()
    assert told.startswith(f"{victim}: ")
    assert problem in told
    backend.commit(backend.read())
    assert backend.problems() == ()


states = st.builds(SlotState, st.integers(0, 15), st.integers(0, 15), st.booleans())


@given(states, states)
def test_a_condition_is_never_read_as_another_one(a: SlotState, b: SlotState) -> None:
    view = BootView((("a", a), ("b", b)))
    read = grub.decode(grub.encode({}, view))
    for name, state in view.slots:
        if state.condition == "good" or state.condition == "trial":
            assert (read.state(name).condition, read.state(name).tries_left) == (state.condition, state.tries_left)
        else:
            assert read.state(name).condition == state.condition
            assert read.state(name).confirmed == state.confirmed


def test_a_link_is_followed_and_the_mode_is_kept(tmp_path: Path, path: Path) -> None:
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to("grubenv")
    Grub(str(link)).commit(model.arm_trial(Grub(str(link)).read(), "b", active="a"))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert listed(path.read_bytes())["B_TRIES"] == "3"


def test_on_fat_the_block_is_overwritten_in_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
    backend = Grub(str(path))
    inode = path.stat().st_ino
    backend.commit(model.arm_trial(backend.read(), "b", active="a"))
    assert path.stat().st_ino == inode
    assert listed(path.read_bytes())["B_TRIES"] == "3"
    path.write_bytes(b"")
    backend.commit(backend.read())
    assert listed(path.read_bytes())["B_TRIES"] == "3"


def test_a_missing_file_is_an_error_that_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="grub-editenv FILE create") as caught:
        Grub(str(tmp_path / "grubenv")).read()
    assert caught.value.code == "grubenv-missing"


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="Is a directory") as caught:
        Grub(str(tmp_path)).read()
    assert caught.value.code == "grubenv-unreadable"


def test_what_cannot_be_written_is_an_error_and_leaves_the_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(durable, "write_file", full)
    with pytest.raises(BootError, match="No space left on device") as caught:
        Grub(str(path)).commit(model.arm_trial(Grub(str(path)).read(), "b", active="a"))
    assert caught.value.code == "grubenv-not-writable"
    assert path.read_bytes() == before


def test_a_disk_that_forgets_is_found_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "write_file", lambda *_, **__: path.with_name("grubenv.backup").touch())
    with pytest.raises(BootError) as caught:
        Grub(str(path)).commit(model.arm_trial(Grub(str(path)).read(), "b", active="a"))
    assert caught.value.code == "read-back-differs"


def test_slots_that_the_block_does_not_have_are_refused(path: Path) -> None:
    view = Grub(str(path)).read()
    for wrong in (BootView(view.slots[:1]), BootView((*view.slots, ("c", SlotState())))):
        with pytest.raises(BootError) as caught:
            Grub(str(path)).commit(wrong)
        assert caught.value.code == "unknown-slot"
