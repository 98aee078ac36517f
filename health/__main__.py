"""`python -m health`: judges the running slot once, and confirms or rejects it; or keeps what the checks say before."""

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import FrameType

from bootctl.active import running_slot
from bootctl.backend import Backend, boots_of_confirmed, open_backend
from bootctl.errors import BootError
from bootctl.model import BootView
from bootctl.settings import ConfigError, boot_settings, load
from health import baseline, system
from health.catalogue import load_checks
from health.check import Check, CheckResult
from health.judgement import Verdict, changed, judge, weigh
from health.probes import Surroundings, attempt
from health.record import Record, lines, listing
from health.runner import run_checks

EXIT_NOT_KEPT = 1
EXIT_USAGE = 2
EXIT_BOOT_REFERENCE = 5
EXIT_INTERRUPTED = 128
"""Plus the number of the signal, as a shell has it. Nothing was changed."""
EXIT_OF: dict[Verdict, int] = {"confirmed": 0, "probation": 0, "healthy": 0, "sick": 1, "rejected": 3, "no-fallback": 4}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a rejected slot's 3 asks the service manager for the reboot."""
    options = _parser().parse_args(argv)
    root = os.path.realpath(options.root)
    if not os.path.isdir(root):
        _complain(f"--root {options.root}: it is not a directory. Name the directory that holds the system.")
        return EXIT_USAGE
    try:
        settings = boot_settings(load(root), root)
    except ConfigError as error:
        _complain(str(error))
        return EXIT_USAGE
    try:
        if options.verb == "baseline":
            return _take_baseline(root, running_slot(settings), options.target, options.most_seconds, options.json)
        backend = open_backend(settings)
        slot = running_slot(settings)
        counted = boots_of_confirmed(settings, backend)
        return _judge_once(root, slot, backend, counted, act=not options.no_act, as_json=options.json)
    except BootError as error:
        _complain(str(error))
        return EXIT_BOOT_REFERENCE
    except OSError as error:
        _complain(f"{error.filename or 'the boot reference'}: {error.strerror}. Check the disk, then run health again.")
        return EXIT_BOOT_REFERENCE
    except _Interrupted as interrupted:
        _complain(f"health: interrupted by {interrupted.signal.name}; nothing was changed. Run it again.")
        return EXIT_INTERRUPTED + interrupted.signal


def _judge_once(root: str, slot: str, backend: Backend, counted: int, *, act: bool, as_json: bool) -> int:
    backend.read().state(slot)  # so that what can't be judged in the end does not begin
    started = _now()
    version = system.image_version(root)
    results = _run(root, load_checks(root))
    # Read now and not before the checks, which take their time: a person may have decided meanwhile.
    view = backend.read()
    before = _baseline_for(root, view, slot, version)
    weighed = weigh(view, slot, results, None if isinstance(before, baseline.NoBaseline) else before.results)
    judgement = judge(view, slot, weighed)
    after = changed(view, slot, judgement, counted=counted)
    record = Record(slot, version, system.boot_id(root), judgement, started, _now(), weighed, before)
    if act:
        _carry_out(record, write=lambda: _write(root, record), commit=lambda: _commit(backend, view, after))
        if judgement.verdict in ("confirmed", "rejected"):
            _forget_baseline(root)
    _print(json.dumps(record.document) + "\n" if as_json else listing(record, acted=act))
    return EXIT_OF[judgement.verdict]


def _carry_out(record: Record, *, write: Callable[[], None], commit: Callable[[], None]) -> None:
    """The reason of a rejection is on disk before the slot is given up; no confirmation is told before it is one."""
    steps = (commit, write) if record.judgement.verdict == "confirmed" else (write, commit)
    for step in steps:
        step()


def _commit(backend: Backend, before: BootView, after: BootView) -> None:
    if after != before:
        backend.commit(after)


def _baseline_for(
    root: str, view: BootView, slot: str, version: str | None
) -> baseline.Baseline | baseline.NoBaseline:
    if view.state(slot).confirmed:
        return baseline.NoBaseline(f"slot {slot} was confirmed before")
    return baseline.for_slot(baseline.read(root), slot, version)


def _take_baseline(root: str, slot: str, target: str | None, most_seconds: float, as_json: bool) -> int:
    """The checks on the slot that runs, for the judgement of the next boot. What it changes is that file alone."""
    checks = [_settled(check) for check in load_checks(root)]
    if not _forget_baseline(root):
        return EXIT_NOT_KEPT
    results = _run(root, checks, most_seconds)
    version = system.image_version(root)
    taken = baseline.document(slot, version, system.boot_id(root), target, _now(), results)
    try:
        baseline.write(root, taken)
    except OSError as error:
        _complain(f"{baseline.BASELINE}: it can't be written ({error.strerror}). Free or mend its file system.")
        return EXIT_NOT_KEPT
    told = f"baseline of slot {slot} is kept; {len(results)} of {len(checks)} checks came to a result"
    _print(json.dumps(taken) + "\n" if as_json else "\n".join([*lines(results), told]) + "\n")
    return 0


def _settled(check: Check) -> Check:
    """A machine that is about to reboot came up long ago."""
    return replace(check, pace=replace(check.pace, settle_seconds=0))


def _forget_baseline(root: str) -> bool:
    try:
        baseline.discard(root)
    except OSError as error:
        _complain(f"{baseline.BASELINE}: it can't be removed ({error.strerror}). Remove it by hand.")
        return False
    return True


def _run(root: str, checks: Sequence[Check], most_seconds: float | None = None) -> tuple[CheckResult, ...]:
    around = Surroundings.of(root)
    with _interruptible():
        try:
            return run_checks(checks, lambda check: attempt(check, around), most_seconds=most_seconds)
        finally:
            around.commands.kill_all()


class _Interrupted(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A signal ends the checks, each with its process group; afterwards nothing stands between verdict and boot."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(root: str, record: Record) -> None:
    for problem in system.write_verdict(root, record):
        _complain(problem)


def _print(text: str) -> None:
    """A reader that went away or a full disk must not change the exit status, which may mean a reboot."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="updated-health",
        description="Run the health checks and confirm or reject the running slot; or, as the baseline, keep their "
        "results for the judgement of the boot that follows.",
        epilog="exit status: 0 confirmed or healthy, 1 sick, 2 usage or configuration, 3 rejected (reboot wanted), "
        "4 sick but no other slot can boot, 5 the boot reference could not be read or written",
        allow_abbrev=False,
    )
    parser.add_argument("verb", nargs="?", choices=("judge", "baseline"), default="judge", help="judge if left out")
    parser.add_argument("--root", metavar="DIR", default="/", help="judge the system below DIR")
    parser.add_argument("--json", action="store_true", help="print the verdict document, or the baseline")
    parser.add_argument("--no-act", action="store_true", help="judge, but write nothing and change nothing")
    parser.add_argument(
        "--most-seconds", metavar="N", type=_seconds, default=120, help="baseline: wait no longer for results (120)"
    )
    parser.add_argument("--target", metavar="VERSION", help="baseline: the version that is about to boot")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
