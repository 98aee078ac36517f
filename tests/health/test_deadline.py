"""A boot that comes to no verdict ends, but only so often, and never on a slot that was confirmed."""

import json
import subprocess
import sys
from unittest.mock import ANY

import pytest

from health import deadline, failed_boot, history, reboots
from health.deadline import await_deadline, leave_unjudged
from health.machine import open_machine
from tests.health.conftest import EMPTY, GOOD, GOOD_FIRST, REJECTED, REPOSITORY, TRIAL, Machine


def at_the_deadline(machine: Machine, *, uptime: float = 0.0, slept: list[float] | None = None) -> int:
    """The verb, with a clock that sleeping moves."""
    clock = [uptime]

    def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)
        clock[0] += seconds

    return await_deadline(open_machine(str(machine.root)), clock=lambda: clock[0], sleep=sleep)


def next_boot(machine: Machine, name: str) -> None:
    machine.write("proc/sys/kernel/random/boot_id", f"{name}\n")


def test_a_trial_without_a_verdict_reboots_and_says_so(machine: Machine) -> None:
    assert at_the_deadline(machine) == 3
    assert machine.attributes == (GOOD, TRIAL), "the loader's tries lead back"
    (line,) = history.read(str(machine.root))
    assert (line["verdict"], line["reason"]) == ("unjudged", "no verdict 900 seconds after the start")
    about = json.loads((machine.root / failed_boot.FOLDER.lstrip("/") / "about.json").read_text())
    assert about["reason"] == line["reason"]


def test_it_waits_for_its_time_also_when_it_is_woken_before(machine: Machine) -> None:
    slept: list[float] = []
    assert at_the_deadline(machine, uptime=890.5, slept=slept) == 3
    assert slept == [9.5]


def test_a_verdict_within_the_time_is_left_alone(machine: Machine) -> None:
    machine.required(passes=True)
    machine.configure('[disk]\nimage = "/disk.img"\n', probation_seconds=300)
    assert machine.health().returncode == 0
    assert at_the_deadline(machine) == 0


def test_the_verdict_of_another_boot_does_not_count(machine: Machine) -> None:
    machine.configure('[disk]\nimage = "/disk.img"\n', probation_seconds=300)
    assert machine.health().returncode == 0
    next_boot(machine, "another")
    assert at_the_deadline(machine) == 3


@pytest.mark.parametrize("a", [GOOD, EMPTY])
def test_a_confirmed_slot_is_never_left(machine: Machine, a: str) -> None:
    machine.set(a, GOOD_FIRST)
    assert at_the_deadline(machine) == 0
    assert leave_unjudged(open_machine(str(machine.root)), "its check crashed") == 0
    assert not (machine.root / reboots.LEDGER.lstrip("/")).exists()


def test_it_can_be_switched_off(machine: Machine) -> None:
    machine.write("etc/updated/updated.toml", '[disk]\nimage = "/disk.img"\n[health]\ndeadline_seconds = 0\n')
    slept: list[float] = []
    assert at_the_deadline(machine, slept=slept) == 0
    assert slept == []


def test_boots_without_a_verdict_end_in_one_that_stays_up(machine: Machine) -> None:
    statuses = []
    for number in range(5):
        next_boot(machine, f"boot {number}")
        statuses.append(at_the_deadline(machine))
    assert statuses == [3, 3, 3, 6, 6]
    told = (machine.root / reboots.MOTD.lstrip("/")).read_text()
    assert "1.2.0 has rebooted the machine 3 times already" in told
    assert "bootctl confirm" not in told, "a good verdict is enough"
    assert machine.required(passes=True).health().returncode == 0
    assert not (machine.root / reboots.MOTD.lstrip("/")).exists()


def test_who_asks_for_a_reboot_now_hears_what_follows(machine: Machine) -> None:
    ends = [(3, "a reboot is wanted")] * 3 + [(6, "the machine stays up, since 1.2.0 has")]
    for number, (status, follows) in enumerate(ends):
        next_boot(machine, f"boot {number}")
        made = machine.health("--now", verb="deadline")
        assert made.returncode == status
        left = "slot b (1.2.0) is left without a verdict (its check came to no verdict)"
        assert made.stdout.startswith(f"{left}; {follows}")


def test_a_boot_that_asks_twice_is_counted_once(machine: Machine) -> None:
    for _ in range(5):
        assert leave_unjudged(open_machine(str(machine.root)), "its check crashed") == 3


def test_a_rejected_slot_whose_check_ended_before_the_reboot_is_left_too(machine: Machine) -> None:
    machine.set(GOOD, REJECTED)
    assert machine.required(passes=False).health().returncode == 3
    assert leave_unjudged(open_machine(str(machine.root)), "its check was killed") == 3


def test_a_slot_that_is_rejected_again_and_again_stays_up_in_the_end(machine: Machine) -> None:
    """As with a loader that does not follow the boot reference."""
    machine.required(passes=False)
    statuses = []
    for number in range(6):
        next_boot(machine, f"boot {number}")
        statuses.append(machine.health().returncode)
    assert statuses == [3, 3, 3, 6, 6, 6]
    assert machine.attributes == (GOOD, REJECTED)


@pytest.fixture
def stuck(machine: Machine) -> Machine:
    """On a rejected slot that was given up before, and with no reboot left."""
    machine.set(GOOD, REJECTED).required(passes=False)
    for number in range(3):
        next_boot(machine, f"boot {number}")
        assert machine.health().returncode == 3
    next_boot(machine, "the last one")
    return machine


def test_a_verdict_that_is_not_followed_by_a_reboot_says_so(stuck: Machine) -> None:
    made = stuck.health()
    assert made.returncode == 6
    assert made.stdout.splitlines()[-1] == (
        "slot b (1.2.0) is rejected, and the machine stays up: it reboots by itself no more; "
        "0 passed, 1 failed, 0 skipped"
    )


def bootctl(machine: Machine, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "bootctl", "--root", str(machine.root), *words], cwd=REPOSITORY, check=True,
        capture_output=True,
    )  # fmt: skip


def test_what_the_message_names_ends_a_rejection_and_a_repair_alone_does_not(stuck: Machine) -> None:
    stuck.required(passes=True)
    made = stuck.health()
    assert made.returncode == 6
    assert stuck.attributes == (GOOD, REJECTED)
    assert "('updated-bootctl confirm'), then run systemctl restart updated-health." in made.stderr
    assert (stuck.root / reboots.MOTD.lstrip("/")).read_text() == made.stderr.removeprefix("<2>")
    bootctl(stuck, "confirm")
    made = stuck.health()
    assert (made.returncode, stuck.document["verdict"]) == (0, "healthy")
    assert reboots.read(str(stuck.root)) == reboots.Ledger({}, ANY, ANY), "the count begins anew"
    assert not (stuck.root / reboots.MOTD.lstrip("/")).exists()


def test_the_way_back_to_a_good_slot_is_open_however_often_the_machine_rebooted(machine: Machine) -> None:
    machine.required(passes=False)
    for number in range(6):
        machine.set(GOOD, TRIAL)
        next_boot(machine, f"boot {number}")
        assert machine.health().returncode == 3


def test_a_release_that_is_found_good_may_reboot_again(machine: Machine) -> None:
    for number in range(3):
        next_boot(machine, f"boot {number}")
        assert at_the_deadline(machine) == 3
    next_boot(machine, "good")
    assert machine.required(passes=True).health().returncode == 0
    machine.set(GOOD, TRIAL)
    next_boot(machine, "after it")
    assert at_the_deadline(machine) == 3


def test_the_time_is_that_since_the_kernel_started() -> None:
    with open("/proc/uptime", encoding="ascii") as file:
        before = float(file.read().split()[0])
    assert before <= deadline.uptime() + 1
    assert deadline.uptime() <= before + 3600


@pytest.mark.parametrize("damage", [bytes(4 * 1024 * 1024)])
def test_where_the_boot_reference_can_not_be_read_it_is_told(machine: Machine, damage: bytes) -> None:
    machine.disk.write_bytes(damage)
    made = machine.health("--now", verb="deadline")
    assert made.returncode == 5
    assert made.stderr
