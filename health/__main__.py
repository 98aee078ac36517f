"""`python -m health`: judges the running slot, and does what belongs around the verdict; one verb for each."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from bootctl.errors import BootError
from bootctl.settings import ConfigError
from health.exits import EXIT_BOOT_REFERENCE, EXIT_INTERRUPTED, EXIT_USAGE
from health.interruption import Interrupted
from health.machine import Machine, open_machine
from health.output import complain

VERBS = ("judge", "baseline", "probation", "deadline", "hooks")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a rejected slot's 3 asks the service manager for the reboot."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Without a verb it judges, as it did before there were others.
    named = next((each for each in arguments if not each.startswith("-")), None)
    if named not in VERBS and not {"-h", "--help"} & set(arguments):
        arguments.insert(0, "judge")
    options = _parser().parse_args(arguments)
    root = os.path.realpath(options.root)
    if not os.path.isdir(root):
        complain(f"--root {options.root}: it is not a directory. Name the directory that holds the system.")
        return EXIT_USAGE
    try:
        return _run(options, open_machine(root))
    except ConfigError as error:
        complain(str(error))
        return EXIT_USAGE
    except BootError as error:
        complain(str(error))
        return EXIT_BOOT_REFERENCE
    except OSError as error:
        complain(f"{error.filename or 'the boot reference'}: {error.strerror}. Check the disk, then run health again.")
        return EXIT_BOOT_REFERENCE
    except Interrupted as interrupted:
        complain(f"health: interrupted by {interrupted.signal.name}; no slot was confirmed or given up. Run it again.")
        return EXIT_INTERRUPTED + interrupted.signal
    except KeyboardInterrupt:
        complain("health: interrupted; no slot was confirmed or given up. Run it again.")
        return EXIT_INTERRUPTED + signal.SIGINT


def _run(options: argparse.Namespace, machine: Machine) -> int:
    """Each verb loads what it needs and no more: the first check shall not wait for the rest."""
    if options.verb == "baseline":
        from health.before_reboot import take_baseline

        return take_baseline(
            machine, target=options.target, most_seconds=options.most_seconds, as_json=options.json
        )
    if options.verb == "probation":
        from health.probation import go_through

        return go_through(machine)
    if options.verb == "deadline":
        from health.deadline import await_deadline, leave_unjudged

        return leave_unjudged(machine, "its check came to no verdict") if options.now else await_deadline(machine)
    if options.verb == "hooks":
        from health.hooks import run_hooks

        return run_hooks(machine, options.kind)
    from health.judging import judge_boot

    return judge_boot(machine, act=not options.no_act, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="updated-health",
        description="Run the health checks and confirm or reject the running slot. Without a verb: judge.",
        epilog="exit status: 0 confirmed, healthy or in probation, 1 sick, a hook failed, or the baseline could not be "
        "kept, 2 usage or configuration, 3 rejected or not judged in time (reboot wanted), 4 sick but no other slot "
        "can boot, 5 the boot reference could not be read or written, 6 a reboot is wanted, but there were too many",
        allow_abbrev=False,
    )
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    shared.add_argument("--root", metavar="DIR", default="/", help="judge the system below DIR")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, told: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=told, description=told, parents=[shared], allow_abbrev=False)

    judge = verb("judge", "judge this boot once, and act on the verdict")
    judge.add_argument("--json", action="store_true", help="print the verdict document")
    judge.add_argument("--no-act", action="store_true", help="judge, but write nothing and change nothing")
    baseline = verb("baseline", "keep what the checks say before a reboot, for the judgement of the next boot")
    baseline.add_argument("--json", action="store_true", help="print the baseline")
    baseline.add_argument("--target", metavar="VERSION", help="the version that is about to boot")
    baseline.add_argument(
        "--most-seconds", metavar="N", type=_seconds, default=120, help="wait no longer for results (120)"
    )
    verb("probation", "watch a slot that passed, then confirm or reject it")
    deadline = verb("deadline", "wait for the deadline, and ask for a reboot when there is no verdict")
    deadline.add_argument("--now", action="store_true", help="do not wait: there will be no verdict")
    hooks = verb("hooks", "run the hooks of a kind")
    hooks.add_argument(
        "kind", choices=("pre-reboot", "post-confirm", "post-fallback", "green", "red"), help="when they run"
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
