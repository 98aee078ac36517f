"""What the daemon does about health: the baseline before a trial, the hooks before a reboot, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import nginx
from tests.fakes.machine import Machine
from tests.node.world import Publisher, make_machine

SIZE = 200_000


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "publisher")


@pytest.fixture
def server(publisher: Publisher) -> Iterator[str]:
    with nginx.serve(publisher.repository) as url:
        yield url


@contextmanager
def factory(folder: Path, publisher: Publisher, url: str, bus: str, *, sick: bool = False) -> Iterator[Machine]:
    """A machine with 1.0.0 from the factory, whose required check fails there when it is `sick`."""
    publisher.release("1.0.0", sick=sick, size=SIZE)
    with make_machine(folder, publisher, url, slot_size="1M") as made:
        made.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
        yield made


@pytest.fixture
def sick_machine(tmp_path: Path, publisher: Publisher, server: str, bus: str) -> Iterator[Machine]:
    with factory(tmp_path / "machine", publisher, server, bus, sick=True) as made:
        yield made


@pytest.fixture
def machine(tmp_path: Path, publisher: Publisher, server: str, bus: str) -> Iterator[Machine]:
    with factory(tmp_path / "machine", publisher, server, bus) as made:
        yield made


def status(machine: Machine) -> dict[str, Any]:
    path = machine.root / "run/updated/status.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"phase": "", "reasons": []}
    return document


def until_it_reboots(machine: Machine) -> None:
    machine.start_daemon()
    machine.wait_until(machine.reboot_asked.exists)


def reasons(machine: Machine) -> list[str]:
    return [reason["code"] for reason in status(machine)["reasons"]]


def test_the_baseline_is_taken_before_the_trial_is_armed_and_again_before_the_hooks(
    machine: Machine, publisher: Publisher
) -> None:
    publisher.release("1.1.0-rc.1", size=SIZE)
    until_it_reboots(machine)
    unit = r"updated-baseline@1.1.0\x2drc.1.service"
    assert machine.started_units() == [unit, unit, "updated-hooks@pre-reboot.service"]
    baseline = json.loads((machine.state / "health/baseline.json").read_text())
    assert (baseline["slot"], baseline["version"], baseline["target"]) == ("a", "1.0.0", "1.1.0-rc.1")


def test_what_was_broken_before_the_update_does_not_throw_a_release_out(
    sick_machine: Machine, publisher: Publisher
) -> None:
    publisher.release("1.1.0", sick=True, size=SIZE)
    until_it_reboots(sick_machine)
    assert sick_machine.power_on() == "b"
    sick_machine.start_daemon()
    sick_machine.wait_until(lambda: "1.1.0 is the newest release" in status(sick_machine).get("summary", ""))
    shown = sick_machine.updatectl("health").stdout
    assert "slot b (1.1.0): confirmed, as of" in shown
    assert "Baseline: 1.0.0 at" in shown
    assert "does not count, it failed before the update as well" in shown


def test_without_a_baseline_the_update_goes_on_and_people_are_told(
    sick_machine: Machine, publisher: Publisher
) -> None:
    machine = sick_machine
    (machine.folder / "start").write_text(
        '#!/bin/sh\ncase $1 in updated-baseline@*) echo "Unit $1 not found." >&2; exit 5 ;; esac\n'
    )
    publisher.release("1.1.0", sick=True, size=SIZE)
    until_it_reboots(machine)
    note = "1.1.0 will be judged without a baseline of this slot: updated-baseline@1.1.0.service ended with status 5"
    assert note in machine.tail()
    machine.wait_until(lambda: any(note in each for each in status(machine)["notes"]))
    assert machine.power_on() == "a"  # without one, a required check counts as it is
    machine.start_daemon()
    told = "fell back from 1.1.0: required check content failed"
    machine.wait_until(lambda: told in status(machine).get("summary", ""))


def test_a_hook_that_refuses_keeps_the_machine_up_and_is_named_until_it_passes(
    machine: Machine, publisher: Publisher
) -> None:
    machine.hook.write_text("#!/bin/sh\necho an exam is being written >&2\nexit 1\n")
    machine.hook.chmod(0o755)
    publisher.release("1.1.0", size=SIZE)
    machine.start_daemon()
    machine.wait_until(lambda: "hook-refused" in reasons(machine))
    shown = machine.updatectl("status").stdout
    assert "an exam is being written" in shown.splitlines()[0]
    assert not machine.reboot_asked.exists()
    machine.updatectl("reboot")
    machine.wait_until(lambda: machine.started_units().count("updated-hooks@pre-reboot.service") == 2)
    machine.wait_until(lambda: "hook-refused" in reasons(machine))
    assert not machine.reboot_asked.exists()
    machine.hook.write_text("#!/bin/sh\n")
    machine.updatectl("reboot")
    machine.wait_until(machine.reboot_asked.exists)
    assert machine.power_on() == "b"


def test_a_person_may_reboot_without_the_hooks(machine: Machine, publisher: Publisher) -> None:
    machine.hook.write_text("#!/bin/sh\nexit 1\n")
    machine.hook.chmod(0o755)
    publisher.release("1.1.0", size=SIZE)
    machine.start_daemon()
    machine.wait_until(lambda: "hook-refused" in reasons(machine))
    asked = len(machine.started_units())
    machine.updatectl("reboot", "--force")
    machine.wait_until(machine.reboot_asked.exists)
    assert machine.started_units()[asked:] == ["updated-baseline@1.1.0.service"]


def test_a_hold_while_a_hook_runs_is_in_time(machine: Machine, publisher: Publisher) -> None:
    go = machine.folder / "go"
    machine.hook.write_text(f'#!/bin/sh\nuntil [ -e "{go}" ]; do sleep 0.05; done\n')
    machine.hook.chmod(0o755)
    publisher.release("1.1.0", size=SIZE)
    machine.start_daemon()
    machine.wait_until(lambda: "updated-hooks@pre-reboot.service" in machine.started_units())
    assert "makes ready for the reboot" in machine.updatectl("status").stdout
    machine.updatectl("hold")
    go.touch()
    machine.wait_until(lambda: reasons(machine) == ["held"])
    assert not machine.reboot_asked.exists()


def runs(root: Path, version: str) -> bool:
    return f"={version}\n" in (root / "etc/os-release").read_text()


def left(machine: Machine, publisher: Publisher) -> dict[str, Any]:
    """The fallback, after a trial of 1.1.0 in which the machine never came to a verdict."""
    publisher.release("1.1.0", size=SIZE)
    until_it_reboots(machine)
    assert machine.power_on() == "a"
    assert machine.boots == ["a", "b", "b", "b", "a"]
    machine.start_daemon()
    machine.wait_until(lambda: status(machine).get("phase") == "fallen-back")
    fallback: dict[str, Any] = status(machine)["fallback"]
    denied = next(line for line in machine.updatectl("status").stdout.splitlines() if "ell back" in line)
    assert fallback["reason"] in denied
    assert fallback["reason"] in machine.updatectl("history").stdout
    return fallback


def test_a_trial_without_a_verdict_is_left_with_what_its_boots_said_of_themselves(
    machine: Machine, publisher: Publisher
) -> None:
    def hangs(root: Path) -> bool:
        if not runs(root, "1.1.0"):
            return False
        machine.run("health", "deadline", "--now", "--root", str(root), check=False)
        return True

    machine.panics = hangs
    assert left(machine, publisher)["reason"] == "slot b did not come up on trial: its check came to no verdict"


def test_a_trial_that_panics_is_left_with_what_the_kernel_said(machine: Machine, publisher: Publisher) -> None:
    def panics(root: Path) -> bool:
        if runs(root, "1.1.0"):
            return True
        pstore = root / "sys/fs/pstore"
        pstore.mkdir(parents=True)
        (pstore / "dmesg-efi-1").write_text("Panic#1 Part1\n<0>[ 1.0] Kernel panic - not syncing: No init found.\n")
        return False

    machine.panics = panics
    reason = "slot b did not come up on trial: the kernel panicked (No init found.)"
    assert left(machine, publisher)["reason"] == reason


def test_a_power_cut_in_each_boot_of_a_trial_leaves_no_word(machine: Machine, publisher: Publisher) -> None:
    machine.panics = lambda root: runs(root, "1.1.0")
    assert left(machine, publisher)["reason"] == "slot b did not come up on trial"


def test_the_verdicts_of_health_are_shown_with_the_daemon_dead(machine: Machine) -> None:
    folder = machine.state / "health"
    lines = [{"at": f"2026-11-2{day}T10:00:00Z", "slot": "a", "version": "1.0.0", "verdict": "healthy"} for day in "12"]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = machine.updatectl("health", "--json", "-n", "1")
    document = json.loads(done.stdout)
    assert (document["verdict"]["verdict"], document["verdict"]["this_boot"]) == ("healthy", True)
    assert [check["name"] for check in document["verdict"]["checks"]] == ["content"]
    assert [verdict["at"] for verdict in document["history"]] == ["2026-11-22T10:00:00Z"]
