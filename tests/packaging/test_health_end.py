"""What follows from the end of a health check: a reboot, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.shipped import PACKAGING, run

END = PACKAGING / "libexec/updated-health-end"


class Machine:
    """Stands in for systemctl, and keeps the folders of the script."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.verdict = folder / "health.json"
        self.count = self.state / "unjudged"
        self._calls = folder / "calls"
        self.kexec = folder / "kexec"
        self._bin = folder / "bin"
        self._bin.mkdir()
        self.set_system_state("running")

    def set_system_state(self, name: str) -> None:
        program = self._bin / "systemctl"
        program.write_text(
            f'#!/bin/sh\ncase $1 in is-system-running) echo {name} ;; *) echo "$@" >>{self._calls} ;; esac\n'
            f'echo "${{SYSTEMCTL_SKIP_AUTO_KEXEC:-}}" >{self.kexec}\n'
        )
        program.chmod(0o755)

    def ends(self, result: str, status: str, *command: str, **environment: str) -> list[str]:
        """What the script asks of systemctl after this end of the service; `command` is what it asks of Python."""
        self._calls.unlink(missing_ok=True)
        done = run(
            str(END),
            str(self.state),
            str(self.verdict),
            *command,
            SERVICE_RESULT=result,
            EXIT_STATUS=status,
            PATH=f"{self._bin}:/usr/bin:/bin",
            **environment,
        )
        self.returncode, self.said = done.returncode, done.stdout
        assert done.stderr == ""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


REBOOT = ["--no-block reboot"]


def test_a_rejected_slot_is_left_at_once(machine: Machine) -> None:
    assert machine.ends("exit-code", "3") == REBOOT


def test_the_reboot_goes_through_the_loader_also_where_a_kernel_is_loaded_for_kexec(machine: Machine) -> None:
    machine.ends("exit-code", "3")
    assert machine.kexec.read_text() == "1\n"


@pytest.mark.parametrize("status", ["1", "2", "4", "5", "6"])
def test_a_verdict_that_a_reboot_can_not_mend_reboots_nothing(machine: Machine, status: str) -> None:
    machine.verdict.write_text("{}")
    assert machine.ends("exit-code", status) == []
    assert machine.returncode == 0


def test_a_healthy_boot_reboots_nothing(machine: Machine) -> None:
    assert machine.ends("success", "0") == []


UNJUDGED = [
    ("timeout", "TERM"),
    ("signal", "KILL"),
    ("core-dump", "SEGV"),
    ("oom-kill", "KILL"),
    ("exit-code", "203"),  # no /usr/bin/python3
    ("exit-code", "127"),  # a library of Python is missing
    ("exit-code", "1"),  # Python can't import its own library, or `health`: no verdict was left
]


@pytest.mark.parametrize(("result", "status"), UNJUDGED)
def test_boots_that_can_not_be_judged_use_up_the_tries_of_a_trial_but_never_loop(
    machine: Machine, result: str, status: str
) -> None:
    assert [machine.ends(result, status) for _ in range(5)] == [REBOOT, REBOOT, REBOOT, [], []]
    assert "staying up" in machine.said


@pytest.mark.parametrize("status", ["1", "2", "3", "4", "5", "6"])
def test_a_verdict_ends_the_row_of_boots_that_could_not_be_judged(machine: Machine, status: str) -> None:
    machine.ends("timeout", "TERM")
    machine.verdict.write_text("{}")
    machine.ends("exit-code", status)
    assert not machine.count.exists()


@pytest.mark.parametrize("damage", ["", "x\n", "-1\n", "99999999999999999999\n"])
def test_a_damaged_count_stays_up(machine: Machine, damage: str) -> None:
    machine.state.mkdir()
    machine.count.write_text(damage)
    assert machine.ends("timeout", "TERM") == []


def test_without_a_place_for_the_count_there_is_no_reboot_that_it_could_not_bound(machine: Machine) -> None:
    machine.state.write_text("not a folder")
    program = END.read_text()
    assert program.index('mkdir -p "$state"') < program.rindex("reboot\n")
    done = run(
        "sh", str(END), str(machine.state), str(machine.verdict), SERVICE_RESULT="timeout", EXIT_STATUS="TERM"
    )
    assert done.returncode != 0
    assert "reboot" not in done.stdout


@pytest.mark.parametrize(("result", "status"), [("signal", "TERM"), ("exit-code", "143"), ("exit-code", "130")])
def test_stopping_the_unit_by_hand_reboots_nothing_and_counts_nothing(
    machine: Machine, result: str, status: str
) -> None:
    """The check ends with 128 and the number of the signal."""
    assert machine.ends(result, status) == []
    assert not machine.count.exists()


@pytest.mark.parametrize(("result", "status"), [("exit-code", "3"), ("timeout", "TERM")])
def test_a_machine_that_powers_off_is_not_started_again(machine: Machine, result: str, status: str) -> None:
    machine.set_system_state("stopping")
    assert machine.ends(result, status) == []


@pytest.mark.parametrize(("result", "status"), UNJUDGED)
def test_where_python_works_it_says_whether_a_boot_without_a_verdict_ends(
    machine: Machine, result: str, status: str
) -> None:
    assert machine.ends(result, status, "sh", "-c", "exit 3") == REBOOT
    assert machine.ends(result, status, "sh", "-c", "exit 0") == [], "the slot is confirmed"
    assert machine.ends(result, status, "sh", "-c", "exit 6") == [], "it rebooted too often"
    assert not machine.count.exists(), "Python has the count"


@pytest.mark.parametrize("answer", ["exit 1", "exit 2", "exit 5", "exit 124", "exit 127"])
def test_where_python_does_not_work_the_script_counts_by_itself(machine: Machine, answer: str) -> None:
    ended = [machine.ends("timeout", "TERM", "sh", "-c", answer) for _ in range(5)]
    assert ended == [REBOOT, REBOOT, REBOOT, [], []]


@pytest.mark.parametrize(
    ("result", "status"), [("success", "0"), ("exit-code", "3"), ("exit-code", "2"), ("signal", "TERM")]
)
def test_python_is_not_asked_when_the_end_says_it_all(machine: Machine, result: str, status: str) -> None:
    asked = machine.state.parent / "asked"
    machine.ends(result, status, "touch", str(asked))
    assert not asked.exists()


def test_in_probation_the_exit_status_1_is_no_verdict_although_one_was_left_before(machine: Machine) -> None:
    machine.verdict = Path("-")
    assert machine.ends("exit-code", "1", "sh", "-c", "exit 3") == REBOOT


def test_a_reboot_that_hangs_is_forced_where_nothing_waits_for_the_script(machine: Machine) -> None:
    assert machine.ends("exit-code", "3", FORCE_AFTER_SECONDS="0") == [
        "--no-block reboot", "--force reboot", "--force --force reboot",
    ]  # fmt: skip
