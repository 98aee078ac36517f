"""A slot on trial has its verdict before the deadline of its boot, whatever hangs."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.deadline import await_deadline
from health.judging import MOST_SECONDS, VERDICT_SECONDS, seconds_to_judge
from health.machine import open_machine
from tests.health.conftest import (
    CHECKS,
    GOOD,
    GOOD_FIRST,
    REJECTED,
    REPOSITORY,
    TRIAL,
    Machine,
    Put,
    copy_program,
    ends,
)

DEADLINE = 900
LATE = 'type = "disk-space"\npath = "/"\nfree_bytes = 0\nsettle_seconds = 0.5\n'


def came_up_before(machine: Machine, seconds: float) -> None:
    machine.write("proc/uptime", f"{seconds:.2f} 100.00\n")


@given(st.integers(0, 86400), st.none() | st.floats(0, 10**6))
def test_the_time_for_the_checks_ends_before_the_deadline_and_before_that_of_the_units(
    deadline: int, uptime: float | None
) -> None:
    seconds = seconds_to_judge(deadline, uptime)
    assert 0 <= seconds <= MOST_SECONDS
    if uptime is not None and uptime < deadline:
        assert seconds == 0 or uptime + seconds + VERDICT_SECONDS <= deadline + 1e-6


@given(st.integers(1, 86400), st.floats(0, 10**6))
def test_nothing_is_cut_short_where_no_deadline_is_to_come(deadline: int, longer: float) -> None:
    assert seconds_to_judge(0, longer) == MOST_SECONDS
    assert seconds_to_judge(deadline, deadline + longer) == MOST_SECONDS
    assert seconds_to_judge(deadline, None) == MOST_SECONDS


def test_plugins_that_hang_one_after_the_other_have_timed_out_in_time(machine: Machine, put: Put) -> None:
    """Each alone has ten minutes, which together is more than the boot has."""
    copy_program("/bin/sh", machine.root)
    for fifo in ("started", "never"):
        os.mkfifo(machine.root / fifo)
    plugin = '#!/bin/sh\n[ "$1" = check ] || exit 0\necho $$ >/started\nread x </never\n'
    for name in ("one", "two"):
        put(f"usr/libexec/health-checker/{name}", plugin, mode=0o755)
    reader = os.open(machine.root / "started", os.O_RDONLY | os.O_NONBLOCK)
    came_up_before(machine, DEADLINE - VERDICT_SECONDS - 3)
    assert machine.required(passes=True).health().returncode == 3
    assert machine.attributes == (GOOD, REJECTED)
    assert [(check["name"], check["result"]) for check in machine.document["checks"]] == [
        ("it", "pass"), ("health-checker/one", "timeout"), ("health-checker/two", "timeout"),
    ]  # fmt: skip
    assert "required check health-checker/two timed out: no result within " in machine.document["reason"]
    (started,) = os.read(reader, 100).split()
    assert ends(int(started))
    os.close(reader)
    known = open_machine(str(machine.root))
    assert await_deadline(known, clock=lambda: float(DEADLINE), sleep=lambda seconds: None) == 0


@contextlib.contextmanager
def never_answering() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


STUBBORN = """#!/bin/sh
[ "$1" = stop ] && exit
trap '' TERM INT HUP
echo $$ >/started
while :; do read x </never; done
"""
FOR_EVER = "timeout_seconds = 3600\nretries = 1000\nretry_delay_seconds = {delay}\n"


def test_whatever_the_checks_do_there_is_a_verdict_before_the_deadline(machine: Machine, put: Put) -> None:
    """The real program, against checks that ignore signals, wait for ever, or ask again and again."""
    copy_program("/bin/sh", machine.root)
    for fifo in ("started", "never"):
        os.mkfifo(machine.root / fifo)
    put("stubborn", STUBBORN, mode=0o755)
    put("later", "#!/bin/sh\nexit 75\n", mode=0o755)
    put("usr/libexec/health-checker/alone", STUBBORN, mode=0o755)
    reader = os.open(machine.root / "started", os.O_RDONLY | os.O_NONBLOCK)
    with never_answering() as port:
        for name, text, delay in (
            ("stubborn", 'type = "exec"\ncommand = ["/stubborn"]\n', 0),
            ("later", 'type = "exec"\ncommand = ["/later"]\n', 0.1),
            ("slow-to-retry", 'type = "mount"\npath = "/no"\n', 3600),
            ("silent", f'type = "http"\nurl = "http://127.0.0.1:{port}/"\n', 0),
            ("settling", 'type = "disk-space"\npath = "/"\nfree_bytes = 0\nsettle_seconds = 3600\n', 0),
        ):
            machine.write(f"{CHECKS}/required.d/{name}.toml", text + FOR_EVER.format(delay=delay))
        seconds, uptime = 5, 100
        deadline = uptime + VERDICT_SECONDS + seconds
        machine.also_in_health(f"deadline_seconds = {deadline:.0f}")
        came_up_before(machine, uptime)
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        with subprocess.Popen(machine.command(), cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
            try:
                while not machine.verdict_file.exists():
                    assert uptime + time.clock_gettime(time.CLOCK_BOOTTIME) - began < deadline, "no verdict in time"
                    time.sleep(0.05)
                assert process.wait(VERDICT_SECONDS) == 3
            finally:
                process.terminate()
    assert machine.attributes == (GOOD, REJECTED)
    results = {check["name"]: check["result"] for check in machine.document["checks"]}
    assert results == dict.fromkeys(
        ("later", "settling", "silent", "slow-to-retry", "stubborn", "health-checker/alone"), "timeout"
    )
    (started,) = os.read(reader, 100).split()
    os.close(reader)
    assert ends(int(started)), "a process of a check outlived the verdict"


@pytest.mark.parametrize(("kind", "code", "b"), [("required", 3, REJECTED), ("wanted", 0, GOOD_FIRST)])
def test_what_has_no_result_in_time_is_judged_as_timed_out(machine: Machine, kind: str, code: int, b: str) -> None:
    machine.write(f"{CHECKS}/{kind}.d/late.toml", LATE)
    came_up_before(machine, DEADLINE - VERDICT_SECONDS - 0.4)
    assert machine.health().returncode == code
    assert machine.attributes == (GOOD, b)
    (check,) = machine.document["checks"]
    assert (check["name"], check["result"]) == ("late", "timeout")


@pytest.mark.parametrize("left", [VERDICT_SECONDS, 1.0])
def test_a_slot_of_which_no_check_could_run_is_left_and_not_rejected(machine: Machine, left: float) -> None:
    came_up_before(machine, DEADLINE - left)
    assert machine.required(passes=True).health().returncode == 3
    assert machine.attributes == (GOOD, TRIAL)
    came_up_before(machine, 10)
    assert machine.health().returncode == 0
    assert machine.attributes == (GOOD, GOOD_FIRST)


def test_what_had_no_result_in_time_before_the_update_as_well_does_not_count(machine: Machine) -> None:
    machine.write(f"{CHECKS}/required.d/late.toml", LATE)
    came_up_before(machine, DEADLINE - VERDICT_SECONDS - 0.4)
    machine.came_to(late="timeout")
    assert machine.health().returncode == 0


@pytest.mark.parametrize("uptime", [DEADLINE, DEADLINE + 86400])
def test_who_judges_again_after_the_deadline_has_time(machine: Machine, uptime: int) -> None:
    machine.write(f"{CHECKS}/required.d/late.toml", LATE)
    came_up_before(machine, uptime)
    assert machine.health().returncode == 0
    assert machine.attributes == (GOOD, GOOD_FIRST)


def test_a_confirmed_slot_has_time_since_it_is_not_left_at_the_deadline(machine: Machine) -> None:
    machine.set(GOOD, GOOD_FIRST).write(f"{CHECKS}/required.d/late.toml", LATE)
    came_up_before(machine, DEADLINE - VERDICT_SECONDS - 0.4)
    assert machine.health().returncode == 0
    assert machine.document["verdict"] == "healthy"


def test_without_a_deadline_a_trial_has_time(machine: Machine) -> None:
    machine.write(f"{CHECKS}/required.d/late.toml", LATE)
    machine.also_in_health("deadline_seconds = 0")
    came_up_before(machine, DEADLINE - VERDICT_SECONDS - 0.4)
    assert machine.health().returncode == 0
