"""The arguments of `updatectl`: the one place that names its verbs and options, for completions and manuals too."""

from __future__ import annotations

import argparse
from typing import NoReturn

from bootctl.usage import Parser, PlainEnd, sentence
from bootctl.version import ShowVersion
from updated.cli import exits
from updated.cli.paper import columns
from updated.core.errors import UpdatedError


class _Help(PlainEnd):
    """Knows the width: argparse would load half a dozen modules to ask for it, also where no help is printed."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)


class _Parser(Parser):
    """Raises `UpdatedError` ("bad-request"), which is told as every other error is."""

    def wrong(self, what: str, cause: str, mend: str) -> NoReturn:
        """See `Parser.wrong`."""
        raise UpdatedError("bad-request", what, cause, mend)


def parser() -> Parser:
    """The parser of the whole command line. Without side effects. What it does not take raises `UpdatedError`."""
    top = _Parser(
        prog="updatectl", description="Show and steer how this machine is updated; without a verb: status.",
        epilog=exits.HELP, formatter_class=_Help,
    )
    top.add_argument("--root", default="/", metavar="DIR", help="take all paths below DIR")
    top.add_argument("--version", action=ShowVersion)
    top.add_argument("--json", action="store_true", help="print JSON")
    _colour(top, "auto")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")

    def verb(name: str, text: str, *, waits: bool | None = None) -> Parser:
        child = verbs.add_parser(name, help=text, description=sentence(text), formatter_class=_Help)
        child.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        _colour(child, argparse.SUPPRESS)
        child.outer = top._option_string_actions
        if waits is not None:
            waited = child.add_mutually_exclusive_group()
            waited.add_argument(
                "--wait", action="store_true", default=waits, help="follow it to its end" + " (default)" * waits
            )
            waited.add_argument(
                "--no-wait", action="store_false", dest="wait", default=waits,
                help="only ask for it, and return at once" + " (default)" * (not waits),
            )
        return child

    verb("status", "show where the node stands, and why it is not updating now")
    verb("check", "look for a release now", waits=True)
    verb("install", "install the newest now, despite wave, hold or download window", waits=True)
    bring = verb("import", "install the newest release of a bundle or a directory now", waits=True)
    bring.add_argument("path", metavar="PATH", help="the bundle, or the directory with a repository")
    reboot = verb("reboot", "reboot into the staged release now")
    reboot.add_argument("--force", action="store_true", help="ask neither the pre-reboot hooks nor inhibitors")
    back = verb("rollback", "go back to the other slot, reboot, and deny what runs now")
    back.add_argument("--force", action="store_true", help="also to a release that was denied or recalled")
    channel = verb("channel", "show or choose the release channel", waits=True)
    channel.add_argument("name", nargs="?", metavar="NAME", help="the channel to follow from now on")
    hold = verb("hold", "pause updates")
    hold.add_argument(
        "until", nargs="?", metavar="UNTIL",
        help="until when: 18:00, 2026-12-24 or '2026-12-24 18:00', by this machine's clock; 2026-12-24T18:00:00Z; or a "
        "length such as 90m, 12h, 7d (default: until unhold)",
    )
    verb("unhold", "end the pause", waits=False)
    allow = verb("allow", "take a release off the denylist", waits=False)
    allow.add_argument("version", metavar="VERSION", help="the release")
    history = verb("history", "show what happened, and why")
    history.add_argument("-n", "--lines", type=_count, metavar="N", help="how many entries at most (default: 20)")
    history.add_argument(
        "--since", metavar="TIME",
        help="only from then on: 18:00, 2026-11-20, 2026-11-20T00:00:00Z, or 90m, 12h, 7d ago",
    )
    health = verb("health", "show the last verdict with each check, and those before")
    health.add_argument("-n", "--lines", type=_count, default=5, metavar="N", help="how many verdicts (default: 5)")
    verb("watch", "follow the node until interrupted")
    log = verb("log", "show the log of the daemon, of health and of what they start")
    log.add_argument("-f", "--follow", action="store_true", help="go on with what is added")
    log.add_argument("-n", "--lines", type=_count, metavar="N", help="how many lines (default: all, with -f 10)")
    log.add_argument(
        "-b", "--boot", nargs="?", const="0", metavar="ID", help="of one boot: 0 this one (default), -1 the one before"
    )
    verb("config", "show the merged configuration, and where each value comes from")
    verb("doctor", "check this node, and say what to mend")
    explain = verb("explain", "say what an error or a reason means, and what to do")
    explain.add_argument("code", nargs="?", metavar="CODE", help="the code, such as disk-full or held (default: all)")
    provision = verb("provision", "lay out a disk or an image file, and write its first slot")
    provision.add_argument("disk", metavar="DISK", help="the block device, or the image file, which is made")
    provision.add_argument("--slot-size", default="2G", metavar="SIZE", help="the size of each slot (default: 2G)")
    provision.add_argument(
        "--state-size", default="1G", metavar="SIZE", help="the size of the state partition (default: 1G)"
    )
    provision.add_argument(
        "--esp-size", default="64M", metavar="SIZE", help="the size of the EFI system partition (default: 64M)"
    )
    provision.add_argument("--image", metavar="FILE", help="write this image into slot a, and confirm the slot")
    provision.add_argument("--force", action="store_true", help="overwrite a disk that has a partition table")
    return top


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def _colour(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default=default, metavar="WHEN",
        help="colour the output: auto (on a terminal, without NO_COLOR), always or never",
    )
