import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from health import runner
from health.check import Attempt, Check, InvalidProbe, Pace
from health.probes import Surroundings, attempt
from health.probes.programs import ExecProbe
from health.runner import MAX_PARALLEL, run_checks


def check(name: str, **pace: float) -> Check:
    return Check("required", name, InvalidProbe(""), Pace(**{"retry_delay_seconds": 0, **pace}))  # type: ignore[arg-type]


def answers(*attempts: Attempt) -> Callable[[Check], Attempt]:
    """A probe that gives these answers one after the other."""
    left = iter(attempts)
    return lambda check: next(left)


FAIL, PASS = Attempt("fail", "not yet"), Attempt("pass", "fine")


def test_no_checks_give_no_results() -> None:
    assert run_checks([], answers()) == ()


def test_results_are_in_the_order_of_the_checks_whichever_ends_first() -> None:
    gate = threading.Event()

    def probe(check: Check) -> Attempt:
        if check.name == "slow":
            assert gate.wait(10)
        else:
            gate.set()
        return PASS

    results = run_checks([check("slow"), check("quick")], probe)
    assert [(result.name, result.result) for result in results] == [("slow", "pass"), ("quick", "pass")]


def test_checks_run_side_by_side_up_to_the_limit() -> None:
    together = threading.Barrier(MAX_PARALLEL)

    def probe(check: Check) -> Attempt:
        together.wait(10)
        return PASS

    checks = [check(str(number)) for number in range(2 * MAX_PARALLEL)]
    assert [result.result for result in run_checks(checks, probe)] == ["pass"] * len(checks)


def test_no_more_than_the_limit_run_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def probe(check: Check) -> Attempt:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return PASS

    run_checks([check(str(number)) for number in range(3 * MAX_PARALLEL)], probe)
    assert most <= MAX_PARALLEL


def test_two_commands_that_wait_for_each_other_both_pass(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    os.mkfifo(there)
    os.mkfifo(back)
    checks = [
        Check("required", "a", ExecProbe(("/bin/sh", "-c", f"echo x >{there}; read y <{back}"))),
        Check("required", "b", ExecProbe(("/bin/sh", "-c", f"read x <{there}; echo y >{back}"))),
    ]
    around = Surroundings.of("/")
    results = run_checks(checks, lambda check: attempt(check, around))
    assert [(result.result, result.attempts) for result in results] == [("pass", 1), ("pass", 1)]


def test_a_failing_check_does_not_stop_the_others() -> None:
    results = run_checks([check("bad", retries=0), check("good")], lambda check: FAIL if check.name == "bad" else PASS)
    assert [result.result for result in results] == ["fail", "pass"]


def test_a_failed_attempt_is_repeated_until_one_passes() -> None:
    (result,) = run_checks([check("web")], answers(FAIL, Attempt("timeout"), PASS))
    assert (result.result, result.attempts, result.output) == ("pass", 3, "fine")


def test_after_the_last_retry_the_last_attempt_counts() -> None:
    (result,) = run_checks([check("web", retries=1)], answers(PASS, FAIL))
    assert (result.result, result.attempts) == ("pass", 1)
    (result,) = run_checks([check("web", retries=1)], answers(Attempt("timeout"), FAIL))
    assert (result.result, result.attempts, result.output) == ("fail", 2, "not yet")


def test_a_final_failure_is_not_repeated() -> None:
    (result,) = run_checks([check("web", retries=9)], answers(Attempt("fail", "no", final=True)))
    assert (result.result, result.attempts) == ("fail", 1)


def test_a_skip_is_not_repeated() -> None:
    (result,) = run_checks([check("web", retries=9)], answers(Attempt("skip", "no disk")))
    assert (result.result, result.attempts) == ("skip", 1)


def test_a_command_that_asks_for_later_passes_when_it_is_ready(tmp_path: Path) -> None:
    script = f'echo x >>"{tmp_path}/tries"; [ "$(wc -l <"{tmp_path}/tries")" -ge 3 ] || exit 75'
    around = Surroundings.of("/")
    ready = Check("required", "db", ExecProbe(("/bin/sh", "-c", script)), Pace(retries=4, retry_delay_seconds=0))
    (result,) = run_checks([ready], lambda check: attempt(check, around))
    assert (result.result, result.attempts) == ("pass", 3)


def test_a_command_that_asks_for_later_for_ever_fails() -> None:
    around = Surroundings.of("/")
    never = Check("required", "db", ExecProbe(("/bin/sh", "-c", "exit 75")), Pace(retries=1, retry_delay_seconds=0))
    (result,) = run_checks([never], lambda check: attempt(check, around))
    assert (result.result, result.attempts) == ("fail", 2)
    assert "asks to be tried again later" in result.output


def test_an_attempt_that_raises_is_a_failed_one_with_the_error_as_its_output() -> None:
    def probe(check: Check) -> Attempt:
        raise PermissionError(13, "Permission denied", "/x")

    (result,) = run_checks([check("web", retries=0)], probe)
    assert result.result == "fail"
    assert "Permission denied" in result.output


def test_an_attempt_that_hangs_is_left_behind_as_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "ABANDON_SECONDS", 0.05)
    forever = threading.Event()

    def probe(check: Check) -> Attempt:
        if check.name == "dead disk":
            forever.wait()
        return PASS

    results = run_checks([check("dead disk", retries=1, timeout_seconds=0.05), check("web")], probe)
    forever.set()
    assert [(result.result, result.attempts) for result in results] == [("timeout", 2), ("pass", 1)]


def test_checks_that_settle_hold_nobody_up_however_many_there_are() -> None:
    order: list[str] = []
    settling = [check(f"late {number}", settle_seconds=0.2) for number in range(MAX_PARALLEL)]

    def probe(check: Check) -> Attempt:
        order.append(check.name)
        return PASS

    run_checks([*settling, check("now")], probe)
    assert order[0] == "now"


def test_settling_counts_from_the_start_of_the_run() -> None:
    """The second round of checks begins when their time has passed already, so that they don't wait again."""
    durations = {}
    checks = [check(str(number), settle_seconds=0.2) for number in range(2 * MAX_PARALLEL)]
    started = time.monotonic()

    def probe(check: Check) -> Attempt:
        durations[check.name] = time.monotonic() - started
        return PASS

    run_checks(checks, probe)
    assert min(durations.values()) >= 0.2


def test_the_pause_between_attempts_is_kept() -> None:
    times: list[float] = []

    def probe(check: Check) -> Attempt:
        times.append(time.monotonic())
        return FAIL

    (result,) = run_checks([check("web", retries=2, retry_delay_seconds=0.1)], probe)
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(times))
    assert result.duration_seconds >= 0.2


def test_a_check_that_must_run_alone_waits_for_the_others_and_for_its_like() -> None:
    running: list[str] = []
    seen: dict[str, list[str]] = {}
    lock = threading.Lock()

    def probe(check: Check) -> Attempt:
        with lock:
            running.append(check.name)
            seen[check.name] = list(running)
        time.sleep(0.02)
        with lock:
            running.remove(check.name)
        return PASS

    alone = [Check("required", name, InvalidProbe(""), parallel=False) for name in ("first", "second")]
    results = run_checks([alone[0], check("beside"), alone[1], check("too")], probe)
    assert [result.name for result in results] == ["first", "beside", "second", "too"]
    assert seen["first"] == ["first"]
    assert seen["second"] == ["second"]
    assert list(seen)[2:] == ["first", "second"]


def test_what_has_no_result_when_the_time_is_over_is_left_out_and_the_rest_is_kept() -> None:
    forever = threading.Event()

    def probe(check: Check) -> Attempt:
        if check.name == "slow":
            forever.wait()
        return PASS

    never = Check("required", "never", InvalidProbe(""), parallel=False)
    results = run_checks([check("slow"), never, check("quick")], probe, most_seconds=1)
    forever.set()
    assert [result.name for result in results] == ["quick"]


def test_results_that_are_there_in_time_are_all_kept() -> None:
    results = run_checks([check(str(number)) for number in range(20)], lambda check: PASS, most_seconds=60)
    assert len(results) == 20


def test_how_a_check_counts_stands_with_its_result() -> None:
    (result,) = run_checks([Check("required", "web", InvalidProbe(""), count="always")], lambda check: PASS)
    assert result.count == "always"
