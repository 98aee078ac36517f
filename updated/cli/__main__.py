"""`updatectl`: shows the node from its status file, and asks the daemon for changes over D-Bus.

Each verb imports only what it needs, so that `status` answers at once, also when the daemon is dead.
"""

from __future__ import annotations

import sys

try:
    import argparse
    import io
    import json
    import time
    from typing import Any

    from bootctl.output import written
    from updated.cli import exits
    from updated.cli.arguments import parser
    from updated.cli.paper import paper_of
    from updated.core.errors import UpdatedError
except KeyboardInterrupt:  # while it loads
    sys.exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb; the exit status is one of `exits`."""
    return written("updatectl", lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what the encoding of a terminal lacks is no reason to fail
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words  # also where the words are such that nobody can say what they mean
    try:
        options = parser().parse_args(words)
        if options.verb is None:
            options = parser().parse_args([*words, "status"])
        as_json = options.json
        return _run(options)
    except UpdatedError as error:
        if as_json:
            print(json.dumps({"error": error.to_json()}, ensure_ascii=False))
        print(f"updatectl: {error}", file=sys.stderr)
        return exits.BY_CODE.get(error.code, exits.FAILED)
    except KeyboardInterrupt:
        return exits.INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    match options.verb:
        case "status":
            return _status(options)
        case "history" | "health":
            from updated.cli import past

            return past.history(options) if options.verb == "history" else past.health(options)
        case "provision":
            from updated.cli import layout

            return layout.provision(options)
        case "channel" if options.name is None:
            channel = _channel(options)
            print(json.dumps({"channel": channel}, indent=2, ensure_ascii=False) if options.json else channel)
            return exits.DONE
        case "watch":
            from updated.cli import follow

            return follow.watch(options.root, as_json=options.json, color=options.color)
        case "log":
            from updated.cli import journal

            return journal.log(options)
        case "config":
            from updated.cli import merged

            return merged.config(options)
        case "doctor":
            from updated.cli import doctor

            return doctor.doctor(options)
        case "explain":
            from updated.cli import explain

            return explain.explain(options)
        case _:
            from updated.cli import change

            return change.change(options)


def _document(options: argparse.Namespace) -> dict[str, Any]:
    from updated.cli.statusfile import read_status

    return read_status(options.root)


def _channel(options: argparse.Namespace) -> str:
    """The channel that is followed: by the status, or where that says none, by the configuration."""
    try:
        fault, channel = None, str(_document(options).get("channel") or "")
    except UpdatedError as error:
        fault, channel = error, ""
    if channel:
        return channel
    from bootctl.settings import ConfigError
    from updated.cli.merged import config_fault
    from updated.config import read_settings

    try:
        return read_settings(options.root).policy.channel
    except ConfigError as error:
        raise fault or config_fault(error) from None


def _status(options: argparse.Namespace) -> int:
    try:
        document = _document(options)
    except UpdatedError as error:
        if error.code not in ("daemon-not-running", "state-corrupt"):
            raise
        from updated.cli.unaided import boot_document

        found = boot_document(options.root, error)
        if found is None:
            raise
        _print_status(found, options, slots_alone=True)
        if not options.json:
            print(f"updatectl: {error}", file=sys.stderr)
        return exits.BY_CODE.get(error.code, exits.FAILED)
    if not options.json:
        from updated.cli.statusfile import mended

        document = mended(document, options.root)
    _print_status(document, options)
    return exits.DONE


def _print_status(document: dict[str, Any], options: argparse.Namespace, *, slots_alone: bool = False) -> None:
    if options.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from updated.cli.show import status_text

    paper = paper_of(options.color)
    print(status_text(document, now=time.time(), paper=paper, slots_alone=slots_alone))


if __name__ == "__main__":
    sys.exit(main())
