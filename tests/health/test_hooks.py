"""Hooks run in order, within their time, and what became of them is kept; only pre-reboot stands in a way."""

import json
import os
from pathlib import Path

import pytest

from bootctl.settings import ConfigError
from health import failed_boot, fallback, hooks, sequence, watch
from health.hooks import commands_of, environment_of, run, run_hooks
from health.machine import open_machine
from tests.health.conftest import EMPTY, GOOD, GOOD_FIRST, REJECTED, TRIAL, Machine, Put, copy_program

VENDOR = "usr/lib/updated/hooks"
SITE = "etc/updated/hooks"
LAST = "0002000000000000"
"""On trial, and without a try left: what a slot is that panicked until the loader went back."""


@pytest.fixture
def shell(machine: Machine) -> Machine:
    for program in ("/bin/sh", "/bin/sleep"):
        copy_program(program, machine.root)
    return machine


def hook(machine: Machine, path: str, text: str, mode: int = 0o755) -> None:
    machine.write(path, f"#!/bin/sh\n{text}\n")
    (machine.root / path).chmod(mode)


def record(machine: Machine, kind: str) -> dict[str, object]:
    document = json.loads((machine.root / hooks.RECORD.lstrip("/")).read_text())
    assert document["schema"] == 1
    found: dict[str, object] = document["hooks"][kind]
    return found


def test_a_pre_reboot_hook_that_fails_blocks_the_reboot_and_the_others_do_not_run(shell: Machine) -> None:
    hook(shell, f"{VENDOR}/pre-reboot.d/10-drain", "echo no node takes the pods; exit 1")
    hook(shell, f"{VENDOR}/pre-reboot.d/20-late", "echo >/late")
    made = shell.health("pre-reboot", verb="hooks")
    assert made.returncode == 1
    assert "/usr/lib/updated/hooks/pre-reboot.d/10-drain: fail; no node takes the pods" in made.stderr
    assert not (shell.root / "late").exists()
    assert record(shell, "pre-reboot")["passed"] is False


@pytest.mark.parametrize("kind", ["post-confirm", "post-fallback"])
def test_another_hook_that_fails_is_kept_and_stands_in_no_way(shell: Machine, kind: str) -> None:
    hook(shell, f"{VENDOR}/{kind}.d/10-tell", "exit 9")
    hook(shell, f"{VENDOR}/{kind}.d/20-late", "echo >/late")
    assert shell.health(kind, verb="hooks").returncode == 0
    assert (shell.root / "late").exists()
    found = record(shell, kind)
    assert found["passed"] is False
    programs = found["programs"]
    assert isinstance(programs, list)
    assert [(each["result"], each["output"]) for each in programs] == [("fail", "exit status 9"), ("pass", "")]


def test_the_site_replaces_and_masks_what_the_image_brings_and_all_run_in_order_of_their_names(
    shell: Machine,
) -> None:
    for name in ("10-a", "20-b", "30-c"):
        hook(shell, f"{VENDOR}/post-confirm.d/{name}", f"echo vendor {name} >>/said")
    hook(shell, f"{SITE}/post-confirm.d/20-b", "echo site 20-b >>/said")
    (shell.root / SITE / "post-confirm.d/30-c").symlink_to("/dev/null")
    hook(shell, f"{SITE}/post-confirm.d/15-x", "echo site 15-x >>/said")
    assert shell.health("post-confirm", verb="hooks").returncode == 0
    assert (shell.root / "said").read_text() == "vendor 10-a\nsite 15-x\nsite 20-b\n"


def test_what_can_not_be_run_is_an_error_and_not_left_out(shell: Machine) -> None:
    hook(shell, f"{VENDOR}/pre-reboot.d/10-drain", "exit 0", mode=0o644)
    made = shell.health("pre-reboot", verb="hooks")
    assert made.returncode == 2
    assert "pre-reboot.d/10-drain: it is no executable file. Make it one, or remove it." in made.stderr


def test_a_hook_that_hangs_is_ended(shell: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "EACH_SECONDS", 0.2)
    hook(shell, f"{VENDOR}/pre-reboot.d/10-hang", "sleep 600")
    (outcome,) = run(open_machine(str(shell.root)), "pre-reboot")
    assert (outcome.result, outcome.output) == ("timeout", "killed after 0.2 s")


def test_all_together_have_a_limit_too(tmp_path: Path) -> None:
    times = iter(range(0, 1000, 100))
    outcomes = sequence.run_in_order(
        "/", [("/bin/true",)] * 3, {}, each_seconds=60, all_seconds=250, clock=lambda: next(times)
    )
    assert [outcome.result for outcome in outcomes] == ["pass", "timeout", "timeout"]
    assert outcomes[1].output == "not begun: 250 s are over"


def test_a_hook_learns_what_it_is_about_and_the_proxy_of_the_repository(shell: Machine) -> None:
    shell.configure('[repository]\nproxy = "http://proxy:3128"\n[disk]\nimage = "/disk.img"\n')
    shell.required(passes=True)
    shell.write("etc/os-release", "IMAGE_VERSION=1.1.0\n")
    assert shell.set(GOOD, GOOD_FIRST).health().returncode == 0
    shell.write("etc/os-release", "IMAGE_VERSION=1.2.0\n")
    names = ("UPDATED_VERSION", "UPDATED_PREVIOUS_VERSION", "UPDATED_SLOT", "http_proxy", "https_proxy")
    hook(shell, f"{VENDOR}/post-confirm.d/it", "echo " + " ".join(f"${name}" for name in names) + " >/said")
    assert shell.set(GOOD, TRIAL).health().returncode == 0
    assert (shell.root / "said").read_text() == "1.2.0 1.1.0 b http://proxy:3128 http://proxy:3128\n"


def test_without_a_proxy_no_variable_says_so(machine: Machine) -> None:
    assert not [name for name in environment_of(open_machine(str(machine.root)), "pre-reboot") if "proxy" in name]


def test_the_hooks_of_a_confirmation_run_after_it_once_and_never_for_a_rejection(shell: Machine) -> None:
    hook(shell, f"{VENDOR}/post-confirm.d/it", "echo >>/confirmed")
    assert shell.required(passes=True).health().returncode == 0
    assert shell.health().returncode == 0
    assert (shell.root / "confirmed").read_text() == "\n"
    shell.set(GOOD, TRIAL).required(passes=False)
    assert shell.health().returncode == 3
    assert (shell.root / "confirmed").read_text() == "\n"


@pytest.mark.parametrize(("a", "reason"), [(REJECTED, "required check web failed"), (LAST, "did not come up")])
def test_the_hooks_of_a_fallback_run_once_on_the_slot_that_boots_then(shell: Machine, a: str, reason: str) -> None:
    shell.write("var/lib/updated/health/rejected.json", json.dumps(
        {"slot": "a", "version": "1.3.0", "reason": "required check web failed"}
    ))
    hook(shell, f"{VENDOR}/post-fallback.d/it", 'echo "$UPDATED_PREVIOUS_VERSION: $UPDATED_REASON" >>/said')
    shell.set(a, GOOD_FIRST)
    for _ in range(3):
        assert shell.health().returncode == 0
    (line,) = (shell.root / "said").read_text().splitlines()
    assert reason in line
    assert line.startswith("1.3.0: ") == (a == REJECTED)
    about = json.loads((shell.root / failed_boot.FOLDER.lstrip("/") / "about.json").read_text())
    assert reason in about["reason"]


def test_another_fallback_of_the_same_slot_is_another_one(shell: Machine) -> None:
    hook(shell, f"{VENDOR}/post-fallback.d/it", "echo >>/said")
    shell.set(LAST, GOOD_FIRST)
    assert shell.health().returncode == 0
    assert shell.health("pre-reboot", verb="hooks").returncode == 0
    assert shell.health().returncode == 0
    assert (shell.root / "said").read_text() == "\n\n"


@pytest.mark.parametrize("a", [EMPTY, TRIAL, GOOD])
def test_where_nothing_failed_there_was_no_fallback(shell: Machine, a: str) -> None:
    hook(shell, f"{VENDOR}/post-fallback.d/it", "echo >>/said")
    assert shell.set(a, GOOD_FIRST).health().returncode == 0
    assert not (shell.root / "said").exists()
    assert fallback.noted(str(shell.root)) is None


def test_a_fallback_is_noted_before_its_hooks_so_that_they_can_not_take_the_machine_down_twice(
    shell: Machine,
) -> None:
    hook(shell, f"{VENDOR}/post-fallback.d/it", "read first </var/lib/updated/health/fallback.json && echo >/noted")
    assert shell.set(LAST, GOOD_FIRST).health().returncode == 0
    assert (shell.root / "noted").exists()


def test_before_the_reboot_it_is_kept_what_is_broken_on_the_old_slot(machine: Machine) -> None:
    assert run_hooks(open_machine(str(machine.root)), "pre-reboot") == 0
    assert json.loads((machine.root / watch.TOLERATED.lstrip("/")).read_text()) == {"slot": "b", "units": []}


@pytest.mark.parametrize(("passes", "said"), [(True, "green\n"), (False, "red\nstop\n")])
def test_the_scripts_of_other_checkers_run_after_a_good_and_after_a_bad_boot(
    shell: Machine, passes: bool, said: str
) -> None:
    copy_program("/bin/bash", shell.root)
    for kind in ("green", "red"):
        hook(shell, f"etc/greenboot/{kind}.d/10.sh", f"echo {kind} >>/said", mode=0o644)
        hook(shell, f"etc/greenboot/{kind}.d/README", "echo never >>/said")
    hook(shell, "usr/libexec/health-checker/web.sh", '[ "$1" = check ] || echo $1 >>/said')
    shell.required(passes)
    assert shell.health().returncode == (0 if passes else 3)
    assert (shell.root / "said").read_text() == said


def test_the_folders_of_other_checkers_can_be_left_alone(machine: Machine) -> None:
    hook(machine, "etc/greenboot/red.d/10.sh", "")
    hook(machine, "usr/libexec/health-checker/web.sh", "")
    known = open_machine(str(machine.root))
    assert commands_of(known, "red") == (
        ("bash", "/etc/greenboot/red.d/10.sh"), ("/usr/libexec/health-checker/web.sh", "stop"),
    )  # fmt: skip
    machine.configure('[disk]\nimage = "/disk.img"\n', 0)
    with (machine.root / "etc/updated/updated.toml").open("a") as file:
        file.write("greenboot = false\nhealth_checker = false\n")
    assert commands_of(open_machine(str(machine.root)), "red") == ()


def test_a_folder_that_can_not_be_read_is_told(machine: Machine, put: Put) -> None:
    put(f"{VENDOR}/pre-reboot.d", "a file where the folder should be")
    with pytest.raises(ConfigError, match="Make it a folder"):
        commands_of(open_machine(str(machine.root)), "pre-reboot")


def test_a_damaged_record_is_begun_anew(shell: Machine) -> None:
    hook(shell, f"{VENDOR}/post-confirm.d/it", "exit 0")
    shell.write(hooks.RECORD.lstrip("/"), "{")
    assert shell.health("post-confirm", verb="hooks").returncode == 0
    assert record(shell, "post-confirm")["passed"] is True
    assert os.listdir(shell.root / "var/lib/updated/health") == ["hooks.json"]
