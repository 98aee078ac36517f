"""Units and boot-complete.target below a real systemd: the manager of a user, in namespaces of its own.

Its units are asked for through the systemctl of the machine, with --user put in front.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.shipped import open_folder
from tests.packaging.user_manager import below_a_manager

ONESHOT = "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
BEFORE = "[Unit]\nDefaultDependencies=no\nBefore=boot-complete.target\n"

ASK = """
import json, subprocess, sys, time
from pathlib import Path
from health.probes import Surroundings
from health.probes.units import BootCompleteProbe, FailedUnitsProbe, UnitProbe

folder = Path(sys.argv[1])
around = Surroundings.of("/")
told = {}

def look(name, probe):
    made = probe.attempt(20, around)
    told[name] = [made.result, made.output, made.final]

def control(*words):
    subprocess.run(["systemctl", *words], check=False)

def until(unit, wanted):
    for _ in range(400):
        shown = subprocess.check_output(["systemctl", "show", "--property=ActiveState,NRestarts", unit], text=True)
        if all(line in shown.split() for line in wanted):
            return
        time.sleep(0.05)
    raise SystemExit(f"{unit}: {shown}")

control("start", "web.service", "plain.target")
look("active", UnitProbe("web.service"))
look("active, never restarted", UnitProbe("web.service", 0))
look("no restarts", UnitProbe("plain.target", 0))
look("inactive", UnitProbe("other.service"))
look("unknown", UnitProbe("no.service"))
look("none failed", FailedUnitsProbe())
control("start", "--no-block", "flapping.service", "looping.service")
until("flapping.service", ["NRestarts=3", "ActiveState=active"])
look("flapping", UnitProbe("flapping.service"))
look("flapping within its limit", UnitProbe("flapping.service", 3))
look("flapping too often", UnitProbe("flapping.service", 2))
until("looping.service", ["ActiveState=activating"])
look("looping", UnitProbe("looping.service"))

look("nothing begun", BootCompleteProbe())
control("start", "--no-block", "boot-complete.target")
until("updated-health.service", ["ActiveState=activating"])
look("waiting", BootCompleteProbe())
(folder / "go").touch()
until("other.service", ["ActiveState=active"])
look("all others done", BootCompleteProbe())
(folder / "healthy").touch()
until("boot-complete.target", ["ActiveState=active"])
look("reached", BootCompleteProbe())
control("stop", "boot-complete.target", "other.service", "updated-health.service")
(folder / "healthy").unlink()
(folder / "fail").touch()
control("start", "--no-block", "boot-complete.target")
until("other.service", ["ActiveState=failed"])
look("another checker failed", BootCompleteProbe())
look("one failed", FailedUnitsProbe())
look("failed", UnitProbe("other.service"))
look("ignored", FailedUnitsProbe(("oth*",)))
print(json.dumps(told))
"""

Told = dict[str, tuple[str, str, bool]]


def write_units(folder: Path) -> None:
    units = folder / "units"
    wait = f"until [ -e {folder}/%s ]; do sleep 0.05; done"
    count = f"echo x >>{folder}/count; [ $(wc -l <{folder}/count) -gt 3 ] || exit 1; exec sleep 1000"
    for name, text in {
        "web.service": "[Service]\nExecStart=/bin/sleep 1000\n",
        "plain.target": "[Unit]\nDescription=A target\n",
        "flapping.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=50ms\n"
        f"ExecStart=/bin/sh -c '{count.replace('$', '$$')}'\n",
        "looping.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1000\n"
        "ExecStart=/bin/false\n",
        "boot-complete.target": "[Unit]\nDefaultDependencies=no\nRequires=updated-health.service other.service\n",
        "updated-health.service": f"{BEFORE}{ONESHOT}ExecStart=/bin/sh -c '{wait % 'healthy'}'\n",
        "other.service": f"{BEFORE}{ONESHOT}ExecStart=/bin/sh -c '{wait % 'go'}; [ ! -e {folder}/fail ]'\n",
    }.items():
        (units / name).write_text(text)


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with open_folder() as folder:
        for name in ("units", "bin"):
            (folder / name).mkdir()
        write_units(folder)
        wrapper = folder / "bin/systemctl"
        wrapper.write_text('#!/bin/sh\nexec /usr/bin/systemctl --user "$@"\n')
        wrapper.chmod(0o755)
        done = below_a_manager(folder, [sys.executable, "-c", ASK, str(folder)], timeout=90)
        yield {name: (result, output, final) for name, (result, output, final) in json.loads(done).items()}


def test_an_active_unit_passes(told: Told) -> None:
    assert told["active"] == ("pass", "web.service is active (running)", False)
    assert told["active, never restarted"] == ("pass", "web.service is active (running), restarted 0 times", False)


def test_a_unit_that_is_not_active_fails_and_may_become_so(told: Told) -> None:
    assert told["inactive"] == ("fail", "other.service is inactive (dead)", False)
    assert told["unknown"] == ("fail", "no.service is inactive (dead), load state not-found", False)


def test_a_crash_loop_is_seen_between_two_starts(told: Told) -> None:
    result, output, _ = told["looping"]
    assert result == "fail"
    assert output.startswith("looping.service is activating (auto-restart)")


def test_a_unit_that_is_active_after_crashes_passes_unless_they_are_counted(told: Told) -> None:
    assert told["flapping"][0] == "pass"
    assert told["flapping within its limit"][:2] == ("pass", "flapping.service is active (running), restarted 3 times")


def test_too_many_restarts_fail_for_good(told: Told) -> None:
    output = "flapping.service is active (running), restarted 3 times, more than 2"
    assert told["flapping too often"] == ("fail", output, True)


def test_the_restarts_of_what_is_no_service_can_not_be_limited(told: Told) -> None:
    result, output, _ = told["no restarts"]
    assert result == "fail"
    assert output.endswith("systemd counts the restarts of services alone")


def test_failed_units_are_found_named_and_ignored(told: Told) -> None:
    assert told["none failed"][0] == "pass"
    assert told["one failed"][:2] == ("fail", "failed: other.service")
    assert told["ignored"][0] == "pass"
    assert told["failed"][1] == "other.service is failed (failed), result exit-code"


def test_boot_complete_waits_for_other_checkers_and_not_for_this_one(told: Told) -> None:
    assert told["waiting"] == ("fail", "boot-complete.target still waits for other.service", False)
    assert told["all others done"][:2] == ("pass", "all that boot-complete.target requires is done: other.service")


def test_boot_complete_fails_when_another_checker_failed(told: Told) -> None:
    output = "boot-complete.target can't be reached; failed: other.service"
    assert told["another checker failed"] == ("fail", output, False)


def test_boot_complete_passes_when_it_is_reached(told: Told) -> None:
    assert told["reached"] == ("pass", "boot-complete.target is reached", False)
