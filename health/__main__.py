"""`python -m health`: judges the running slot once, and confirms or rejects it."""

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from bootctl.active import running_slot
from bootctl.backend import Backend, boots_of_confirmed, open_backend
from bootctl.errors import BootError
from bootctl.model import BootView
from bootctl.settings import ConfigError, boot_settings, load
from health import system
from health.catalogue import load_checks
from health.check import CheckResult
from health.judgement import Verdict, changed, judge
from health.probes import Surroundings, attempt
from health.record import Record, listing
from health.runner import run_checks

EXIT_USAGE = 2
EXIT_BOOT_REFERENCE = 5
EXIT_INTERRUPTED = 128
"""Plus the number of the signal, as a shell has it. Nothing was changed."""
EXIT_OF: dict[Verdict, int] = {"confirmed": 0, "healthy": 0, "sick": 1, "rejected": 3, "no-fallback": 4}


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
    results = _check_all(root)
    # Read now and not before the checks, which take their time: a person may have decided meanwhile.
    view = backend.read()
    judgement = judge(view, slot, results)
    after = changed(view, slot, judgement, counted=counted)
    record = Record(slot, system.image_version(root), system.boot_id(root), judgement, started, _now(), results)
    if act:
        _carry_out(record, write=lambda: _write(root, record), commit=lambda: _commit(backend, view, after))
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


def _check_all(root: str) -> tuple[CheckResult, ...]:
    around = Surroundings.of(root)
    with _interruptible():
        try:
            return run_checks(load_checks(root), lambda check: attempt(check, around))
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
        description="Run the health checks and confirm or reject the running slot.",
        epilog="exit status: 0 confirmed or healthy, 1 sick, 2 usage or configuration, 3 rejected (reboot wanted), "
        "4 sick but no other slot can boot, 5 the boot reference could not be read or written",
        allow_abbrev=False,
    )
    parser.add_argument("--root", metavar="DIR", default="/", help="judge the system below DIR")
    parser.add_argument("--json", action="store_true", help="print the verdict document")
    parser.add_argument("--no-act", action="store_true", help="judge, but write nothing and change nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
