"""Runs all checks side by side. No check stops another, and none can keep the run from ending."""

import queue
import threading
import time
from collections.abc import Callable, Sequence

from bootctl.errors import in_words
from health.check import OUTPUT_LIMIT, Attempt, Check, CheckResult

MAX_PARALLEL = 8
ABANDON_SECONDS = 2.0
"""How long past its time-out an attempt may take to end by itself before it is left behind in its thread."""

Probing = Callable[[Check], Attempt]


def run_checks(
    checks: Sequence[Check], probe: Probing, *, most_seconds: float | None = None
) -> tuple[CheckResult, ...]:
    """The results, in the order of `checks`. `probe` makes one attempt at a check, and may raise anything.

    Those that must run alone do so one after the other, once the others have ended. After `most_seconds` nothing is
    waited for: what has no result then is left out. The threads are daemons: one that hangs in the kernel (a dead disk,
    a dead network file system) does not keep the process from exiting.
    """
    started = time.monotonic()
    results: dict[int, CheckResult] = {}
    for parallel, threads in ((True, MAX_PARALLEL), (False, 1)):
        group = [index for index, check in enumerate(checks) if check.parallel == parallel]
        # Those that settle longest come last, so that none holds a worker asleep while another could run.
        group.sort(key=lambda index: checks[index].pace.settle_seconds)
        done = _start([(index, checks[index]) for index in group], threads, probe, started)
        for _ in group:
            left = None if most_seconds is None else started + most_seconds - time.monotonic()
            try:
                index, result = done.get(timeout=left) if left is None or left > 0 else done.get_nowait()
            except queue.Empty:
                return _in_order(results)
            results[index] = result
    return _in_order(results)


def _in_order(results: dict[int, CheckResult]) -> tuple[CheckResult, ...]:
    return tuple(results[index] for index in sorted(results))


_Done = queue.SimpleQueue[tuple[int, CheckResult]]


def _start(numbered: Sequence[tuple[int, Check]], threads: int, probe: Probing, run_started: float) -> _Done:
    """Begins to run these checks, at most `threads` at a time; the results come out of the queue."""
    todo: queue.SimpleQueue[tuple[int, Check]] = queue.SimpleQueue()
    done = _Done()
    for each in numbered:
        todo.put(each)

    def work() -> None:
        while True:
            try:
                index, check = todo.get_nowait()
            except queue.Empty:
                return
            done.put((index, _run(check, probe, run_started)))

    for _ in range(min(threads, len(numbered))):
        threading.Thread(target=work, name="health-check", daemon=True).start()
    return done


def _run(check: Check, probe: Probing, run_started: float) -> CheckResult:
    pace = check.pace
    time.sleep(max(0.0, run_started + pace.settle_seconds - time.monotonic()))
    started = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        attempt = _attempt(check, probe)
        if attempt.result in ("pass", "skip") or attempt.final or attempts > pace.retries:
            break
        time.sleep(pace.retry_delay_seconds)
    return CheckResult(
        name=check.name,
        kind=check.kind,
        type=check.probe.type,
        result=attempt.result,
        attempts=attempts,
        duration_seconds=round(time.monotonic() - started, 3),
        output=attempt.output[-OUTPUT_LIMIT:],
        count=check.count,
    )


def _attempt(check: Check, probe: Probing) -> Attempt:
    answer: queue.SimpleQueue[Attempt] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put(probe(check))
        except Exception as error:  # an attempt that can't be made is a failed one, whatever the reason
            answer.put(Attempt("fail", f"{type(error).__name__}: {in_words(error)}"))

    threading.Thread(target=work, name=f"health-attempt-{check.name}", daemon=True).start()
    try:
        return answer.get(timeout=check.pace.timeout_seconds + ABANDON_SECONDS)
    except queue.Empty:
        return Attempt("timeout", f"no answer within {check.pace.timeout_seconds:g} s")
