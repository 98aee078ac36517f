"""The verbs of `python -m health`: what they share, and how their errors are told."""

import os
from collections.abc import Sequence

from bootctl.errors import BootError, mend_of
from bootctl.settings import ConfigError
from health.exits import EXIT_BOOT_REFERENCE, EXIT_INTERRUPTED, EXIT_USAGE
from health.interruption import Interrupted
from health.machine import Machine, open_machine
from health.output import complain
from health.usage import Options, options_of


def run(arguments: Sequence[str]) -> int:
    """Runs the verb and gives the exit status. Raises KeyboardInterrupt."""
    options = options_of(arguments)
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
        complain(f"{error.filename or 'the boot reference'}: {error.strerror}. {mend_of(error)}")
        return EXIT_BOOT_REFERENCE
    except Interrupted as interrupted:
        complain(f"health: interrupted by {interrupted.signal.name}; no slot was confirmed or given up. Run it again.")
        return EXIT_INTERRUPTED + interrupted.signal


def _run(options: Options, machine: Machine) -> int:
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
