"""What may stand on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from health.hooks import Kind

_STATUSES = """exit status:
  0  confirmed, healthy or in probation
  1  sick, a hook failed, or the baseline could not be kept
  2  wrong usage or configuration
  3  rejected, or not judged in time: a reboot is wanted
  4  sick, but no other slot can boot
  5  the boot reference could not be read or written
  6  a reboot is wanted, but there were too many
"""
VERBS = ("judge", "baseline", "probation", "deadline", "hooks")


class Options:
    """What is asked for; as it stands here, without any argument: to judge this machine."""

    verb: str = "judge"
    root: str = "/"
    json: bool = False
    no_act: bool = False
    target: str | None = None
    most_seconds: float = 120.0
    now: bool = False
    kind: Kind


def options_of(arguments: Sequence[str]) -> Options:
    """Ends the process where argparse does: with 2 for wrong usage, with 0 after the help."""
    if not arguments:
        return Options()  # the way of each boot, which shall not wait for argparse
    given = list(arguments)
    # Without a verb it judges, as it did before there were others.
    named = next((each for each in _without_root(given) if not each.startswith("-")), None)
    if named not in VERBS and not {"-h", "--help", "--version"} & set(given):
        given.insert(0, "judge")
    return parser().parse_args(given, Options())


def _without_root(given: Sequence[str]) -> Sequence[str]:
    """What follows `--root DIR`, where that comes first; its directory may have the name of a verb."""
    return given[2:] if given[0] == "--root" else given


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    from argparse import SUPPRESS

    from bootctl.usage import Parser, PlainEnd, sentence
    from bootctl.version import ShowVersion

    made = Parser(
        prog="updated-health",
        description="Judge this boot: confirm or reject the running slot. Without a verb: judge.",
        epilog=_STATUSES, formatter_class=PlainEnd,
        allow_abbrev=False,
    )
    made.add_argument("--version", action=ShowVersion)
    made.add_argument("--root", metavar="DIR", default=Options.root, help="judge the system below DIR")
    shared = Parser(add_help=False, allow_abbrev=False)
    # What stands behind the verb wins, and its default must not undo what stands before it.
    shared.add_argument("--root", metavar="DIR", default=SUPPRESS, help="judge the system below DIR")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, told: str) -> Parser:
        return verbs.add_parser(
            name, help=told, description=sentence(told), parents=[shared], allow_abbrev=False, formatter_class=PlainEnd
        )

    judge = verb("judge", "judge this boot once, and act on the verdict")
    judge.verbs = VERBS
    judge.add_argument("--json", action="store_true", help="print the verdict document")
    judge.add_argument("--no-act", action="store_true", help="judge, but write nothing and change nothing")
    baseline = verb("baseline", "keep what the checks say, for the judgement of the next boot")
    baseline.add_argument("--json", action="store_true", help="print the baseline")
    baseline.add_argument("--target", metavar="VERSION", help="the version that is about to boot")
    baseline.add_argument(
        "--most-seconds", metavar="N", type=_seconds, default=Options.most_seconds,
        help="wait no longer for results (default: 120)",
    )  # fmt: skip
    verb("probation", "watch a slot that passed, then confirm or reject it")
    deadline = verb("deadline", "wait for the deadline; without a verdict, ask for a reboot")
    deadline.add_argument("--now", action="store_true", help="do not wait: there will be no verdict")
    hooks = verb("hooks", "run the hooks of a kind")
    hooks.add_argument(
        "kind", choices=("pre-reboot", "post-confirm", "post-fallback", "green", "red"), metavar="KIND",
        help="when they run: pre-reboot, post-confirm, post-fallback, green or red",
    )
    return made


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise ArgumentTypeError(f"{text!r} is no number of seconds above 0, up to 3600")
    return value
