"""python -m bootctl, as a person, a rescue system or a test runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootctl.__main__ import main
from bootctl.settings import BACKENDS
from tests.bootctl import disks
from tests.bootctl.grub_emulator import grubenv, listed


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return disks.make_disk(tmp_path / "disk.img")


@pytest.fixture
def root(tmp_path: Path, disk: Path) -> Path:
    """A system whose configuration names the disk, and which runs from slot a."""
    root = tmp_path / "root"
    (root / "etc/updated").mkdir(parents=True)
    (root / "proc").mkdir()
    (root / "etc/updated/updated.toml").write_text('[disk]\nimage = "/disk.img"\n[boot]\ntries = 2\n')
    (root / "disk.img").write_bytes(disk.read_bytes())
    partuuid = disks.run("sgdisk", "-i", "2", disk).split("unique GUID: ")[1].split("\n")[0]
    (root / "proc/cmdline").write_text(f"root=PARTUUID={partuuid} gpt\n")
    return root


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_module_runs(disk: Path) -> None:
    command = [sys.executable, "-m", "bootctl", "--image", str(disk), "next"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "a\n"


def test_show_tells_the_state_of_each_slot(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "--root", root, "show")
    assert status == 0
    assert out.splitlines() == [
        "slot  condition  priority  tries  notes",
        "a     good              1      0  active, boots next",
        "b     empty             0      0",
    ]


@pytest.mark.parametrize("arguments", [["--json", "show"], ["show", "--json"]])
def test_show_as_json(root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    status, out, _ = call(capsys, "--root", root, *arguments)
    assert status == 0
    assert json.loads(out) == {
        "backend": "gptprio",
        "active": "a",
        "next": "a",
        "slots": [
            {"name": "a", "condition": "good", "priority": 1, "tries_left": 0, "confirmed": True},
            {"name": "b", "condition": "empty", "priority": 0, "tries_left": 0, "confirmed": False},
        ],
    }


def test_the_life_of_an_update(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def bootctl(*arguments: str) -> str:
        status, out, err = call(capsys, "--root", root, *arguments)
        assert (status, err) == (0, "")
        return out

    bootctl("arm", "b")
    assert disks.cgpt_state(root / "disk.img", "b") == (2, 2, False)
    assert bootctl("next") == "b\n"
    bootctl("confirm", "b")
    assert disks.cgpt_state(root / "disk.img", "b") == (2, 0, True)
    assert json.loads(bootctl("--active", "b", "rollback", "--json"))["next"] == "a"
    bootctl("reject", "b")
    assert disks.cgpt_state(root / "disk.img", "b") == (0, 1, False)
    bootctl("confirm")
    assert disks.cgpt_state(root / "disk.img", "a") == (2, 0, True)


def test_doctor_tells_what_it_found_and_mended_and_what_would_boot(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "--root", root, "arm", "b")
    disks.damage_primary(root / "disk.img")
    damaged = (root / "disk.img").read_bytes()
    for arguments, word, expected in ((["--dry-run"], "not mended", 1), ([], "mended", 0)):
        assert (root / "disk.img").read_bytes() == damaged
        status, out, _ = call(capsys, "--root", root, "doctor", *arguments)
        assert status == expected
        assert out.splitlines()[0] == "gptprio: a good, b trial"
        assert out.splitlines()[1].startswith(f"damaged, {word}: ")
        assert out.splitlines()[2] == "next boots, if each of them fails: b b a a a"
    assert disks.sgdisk_finds_no_problem(root / "disk.img")
    status, out, _ = call(capsys, "--root", root, "doctor", "--failures", "1", "--json")
    answer = json.loads(out)
    assert (answer["found"], answer["mended"], answer["boots"]) == ([], [], ["b", "b"])


def test_doctor_warns_where_there_is_nothing_to_fall_back_to(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "slot a is the only one that can boot" in call(capsys, "--root", root, "doctor")[1]
    disks.run("cgpt", "add", "-i", "2", "-P", "1", "-T", "1", "-S", "0", root / "disk.img")
    assert "no slot is confirmed" in call(capsys, "--root", root, "doctor")[1]
    disks.run("cgpt", "add", "-i", "2", "-P", "0", "-T", "0", "-S", "0", root / "disk.img")
    status, out, _ = call(capsys, "--root", root, "doctor")
    assert status == 1
    assert "warning: no slot may boot; confirm the one that is known to work" in out


def test_with_count_confirmed_a_confirmed_slot_has_boots_until_it_is_recounted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/updated").mkdir(parents=True)
    config = tmp_path / "etc/updated/updated.toml"
    config.write_text('[boot]\nbackend = "grub"\ngrubenv = "/grubenv"\ncount_confirmed = true\n')
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv({"ORDER": "A B", "A_OK": "1", "B_OK": "0"}))

    def tries_after(*arguments: str) -> str | None:
        assert call(capsys, "--root", tmp_path, "--active", "a", *arguments)[0] == 0
        return listed(path.read_bytes()).get("A_TRIES")

    assert tries_after("confirm") == "3"
    subprocess.run(["grub-editenv", path, "set", "A_TRIES=1"], check=True)
    assert tries_after("recount") == "3"
    config.write_text('[boot]\nbackend = "grub"\ngrubenv = "/grubenv"\n')
    assert tries_after("recount") is None


def test_a_recount_that_changes_nothing_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disks.damage_primary(root / "disk.img")
    damaged = (root / "disk.img").read_bytes()
    assert call(capsys, "--root", root, "recount")[0] == 0
    assert (root / "disk.img").read_bytes() == damaged


def test_an_environment_block_without_any_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv({"ORDER": "A B", "A_OK": "1", "B_OK": "0"}))
    assert call(capsys, "--root", tmp_path, "--file", path, "--active", "a", "arm", "b")[0] == 0
    assert listed(path.read_bytes())["B_TRIES"] == "3"


def test_the_name_of_a_file_tells_whose_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc/updated").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text("[boot]\ntryboot_partitions = { a = 3, b = 2 }\n")
    path = tmp_path / "autoboot.txt"
    path.write_text("[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=3\n")
    status, out, _ = call(capsys, "--root", tmp_path, "--file", path, "show", "--json")
    assert status == 0
    assert (json.loads(out)["backend"], json.loads(out)["next"]) == ("tryboot", "a")


def test_a_rescue_needs_no_valid_configuration(root: Path, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/updated/updated.toml").write_text("= broken")
    assert call(capsys, "--root", root, "--image", disk, "next")[0] == 0
    status, _, err = call(capsys, "--root", root, "next")
    assert (status, err.count("\n")) == (1, 1)
    assert "updated.toml:1: it is no TOML" in err


def test_refusals_are_one_line_with_exit_status_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (root / "disk.img").read_bytes()
    for arguments, words in (
        (["reject", "a"], "no other slot is good"),
        (["arm", "a"], "it is the one that runs now"),
        (["arm", "c"], "only the slots a, b"),
        (["rollback"], "can't be rolled back to"),
        (["--image", "/nonexistent", "show"], "disk /nonexistent: it can't be read"),
        (["--backend", "grub", "show"], "there is no such file"),
        (["--backend", "efi", "--file", "/x", "show"], "the backend efi has no such file"),
    ):
        status, out, err = call(capsys, "--root", root, *arguments)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("updated-bootctl: ")
        assert words in err
    assert (root / "disk.img").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["shwo"], "the verb 'shwo': is not known. Did you mean show?"), (["show", "--jsn"], "Did you mean --json?"),
     (["show", "--root", "/x"], "the option --root: stands in the wrong place"),
     (["flip"], "'updated-bootctl --help' says what there is.")],
)  # fmt: skip
def test_a_mistyped_word_is_answered_with_the_nearest_one(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert hint in capsys.readouterr().err


def test_where_there_is_no_boot_reference_the_doctor_has_a_line_for_each_backend(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "etc/updated/updated.toml").write_text("[boot]\ntries = 2\n")
    status, out, err = call(capsys, "--root", root, "show")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "'updated-bootctl doctor' says what each backend lacks" in err
    status, out, err = call(capsys, "--root", root, "doctor")
    assert (status, out) == (1, "")
    assert [line.partition(":")[0] for line in err.splitlines()[1:]] == [f"  {name}" for name in BACKENDS]


@pytest.mark.parametrize("words", [["show"], ["--help"]])
def test_an_output_that_has_no_room_is_a_failure_with_one_clear_line(disk: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "bootctl", "--image", str(disk), *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=60
        )
    told = "updated-bootctl: the output: No space left on device. Free some space on its file system.\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_an_unknown_active_slot_has_to_be_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "proc/cmdline").unlink()
    for verb in (["arm", "b"], ["confirm"], ["rollback"]):
        status, _, err = call(capsys, "--root", root, *verb)
        assert status == 1
        assert "name it with --active." in err
    assert json.loads(call(capsys, "--root", root, "show", "--json")[1])["active"] is None


def test_with_grub_the_disk_only_serves_to_find_the_active_slot(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "grubenv").write_bytes(grubenv({"ORDER": "A B", "A_OK": "1"}))
    config = root / "etc/updated/updated.toml"
    for disk, active in (('[disk]\nimage = "/disk.img"\n', "a"), ('[disk]\nimage = "/no"\n', None), ("", None)):
        config.write_text(f'[boot]\nbackend = "grub"\ngrubenv = "/grubenv"\n{disk}')
        status, out, _ = call(capsys, "--root", root, "show", "--json")
        assert (status, json.loads(out)["active"]) == (0, active)


def test_a_boot_reference_in_which_nothing_may_boot_is_an_error(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disks.run("cgpt", "add", "-i", "2", "-P", "0", "-T", "0", "-S", "0", disk)
    status, _, err = call(capsys, "--image", disk, "next")
    assert status == 1
    assert "no slot may boot" in err
    assert call(capsys, "--image", disk, "show")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [[], ["arm"], ["flip"], ["--backend", "lilo", "show"], ["--image", "a", "--file", "b", "show"], ["show", "x"]],
)
def test_wrong_usage_is_exit_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: updated-bootctl" in capsys.readouterr().err
