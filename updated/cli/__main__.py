"""`updatectl`: shows the node from its status file, and asks the daemon for changes over D-Bus.

Each verb imports only what it needs, so that `status` answers at once, also when the daemon is dead.
"""

from __future__ import annotations

import sys

try:
    import argparse
    import json
    import os
    from collections.abc import Callable
    from typing import Any

    from updated.cli import exits
    from updated.core.errors import UpdatedError
except KeyboardInterrupt:  # while it loads
    sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="updatectl", description="Shows and steers how this machine is updated.", epilog=exits.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", default="/", metavar="DIR", help="take all paths below DIR")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, *, changes: bool = False) -> argparse.ArgumentParser:
        child = verbs.add_parser(name, help=text, description=text)
        child.add_argument("--json", action="store_true", help="print JSON")
        if changes:
            child.add_argument("--no-wait", action="store_true", help="only ask for it, and return at once")
        return child

    verb("status", "Show where the node stands, and why it is not updating right now")
    verb("check", "Look for a release now", changes=True)
    verb("install", "Install the newest release now, whatever wave or hold there is", changes=True)
    bring = verb("import", "Install the newest release of a bundle or a directory now", changes=True)
    bring.add_argument("path", help="the bundle, or the directory with a repository")
    reboot = verb("reboot", "Reboot into the staged release now")
    reboot.add_argument("--force", action="store_true", help="do not run the pre-reboot hooks")
    verb("rollback", "Go back to the other, confirmed slot, and reboot; the release that runs is denied")
    channel = verb("channel", "Show or choose the release channel")
    channel.add_argument("name", nargs="?", help="the channel to follow from now on")
    hold = verb("hold", "Pause updates")
    hold.add_argument("until", nargs="?", help="until when: 2026-12-24T18:00:00Z, or a length such as 90m, 12h, 7d")
    verb("unhold", "End the pause")
    allow = verb("allow", "Take a release off the denylist")
    allow.add_argument("version", help="the release")
    history = verb("history", "Show what happened")
    history.add_argument("-n", "--lines", type=_count, default=20, help="how many entries (default: 20)")
    health = verb("health", "Show the last verdict on this machine, with each check, and the verdicts before")
    health.add_argument("-n", "--lines", type=_count, default=5, help="how many verdicts (default: 5)")
    verb("watch", "Follow the node until interrupted")
    provision = verb("provision", "Lay out a disk or a disk image: EFI system partition, slots a and b, state")
    provision.add_argument("disk", help="the block device, or the image file, which is made")
    provision.add_argument("--slot-size", default="2G", help="the size of each slot (default: 2G)")
    provision.add_argument("--state-size", default="1G", help="the size of the state partition (default: 1G)")
    provision.add_argument(
        "--esp-size", default="64M", help="the size of the EFI system partition (default: 64M)"
    )
    provision.add_argument("--image", metavar="FILE", help="write this image into slot a, and confirm the slot")
    provision.add_argument("--force", action="store_true", help="overwrite a disk that has a partition table")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb; the exit status is one of `exits`."""
    try:
        options = _parser().parse_args(arguments)
        return _run(options)
    except UpdatedError as error:
        if options.json:
            print(json.dumps({"error": error.to_json()}, indent=2))
        print(f"updatectl: {error}", file=sys.stderr)
        return exits.BY_CODE.get(error.code, exits.FAILED)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED


def _run(options: argparse.Namespace) -> int:
    match options.verb:
        case "status":
            return _status(options)
        case "history":
            return _history(options)
        case "health":
            return _health(options)
        case "provision":
            from updated.cli import layout

            return layout.provision(options)
        case "channel" if options.name is None:
            print(_document(options)["channel"])
            return exits.DONE
        case "watch":
            from updated.cli import follow

            return follow.watch(options.root, as_json=options.json)
        case _:
            from updated.cli import change

            return change.change(options)


def _document(options: argparse.Namespace) -> dict[str, Any]:
    from updated.cli.statusfile import read_status

    return read_status(options.root)


def _status(options: argparse.Namespace) -> int:
    document = _document(options)
    if options.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return exits.DONE
    from updated.cli.show import status_text

    print(status_text(document, colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return exits.DONE


def _health(options: argparse.Namespace) -> int:
    from updated.cli.judged import health_text, well_formed
    from updated.healthfiles import WHOLE_OUTPUT, read_health, read_verdicts

    health = read_health(options.root, most_output=WHOLE_OUTPUT)
    verdicts = _newest(well_formed(_readable(lambda: read_verdicts(options.root), "the verdicts")), options.lines)
    if options.json:
        print(json.dumps({"verdict": health, "history": verdicts}, indent=2, ensure_ascii=False))
    else:
        print(health_text(health, verdicts))
    return exits.DONE


def _readable(read: Callable[[], list[dict[str, Any]]], what: str) -> list[dict[str, Any]]:
    try:
        return read()
    except OSError as error:
        raise UpdatedError(
            "not-authorized", f"{what} {error.filename}", error.strerror or str(error), "Read it as root."
        ) from None


def _newest(entries: list[dict[str, Any]], lines: int) -> list[dict[str, Any]]:
    return entries[max(0, len(entries) - lines) :]


def _history(options: argparse.Namespace) -> int:
    from bootctl.settings import below
    from updated.history import read_history

    path = below(options.root, "/var/lib/updated/history.jsonl")
    entries = _newest(_readable(lambda: read_history(path), "the history"), options.lines)
    if options.json:
        print(json.dumps(entries, indent=2, ensure_ascii=False))
        return exits.DONE
    for entry in entries:
        at, kind, version, text = (str(entry.get(key, "")) for key in ("at", "kind", "version", "text"))
        print(f"{at}  {kind:<12} {version:<10} {text}")
    return exits.DONE


if __name__ == "__main__":
    sys.exit(main())
