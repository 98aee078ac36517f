"""`updated`: the daemon, one cycle of it, and the children that it starts."""

from __future__ import annotations

import argparse
import os
import sys

from bootctl.usage import Help
from bootctl.version import ShowVersion

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 usage or configuration, 4 a release waits (`--once`), 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("updated: interrupted; the next run goes on from there.\n")
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["fetch"], ["seal"]):
        from updated import child

        return child.main(arguments)
    asked = parser()
    options = asked.parse_args(arguments)
    if options.bundle is not None and not options.once:
        asked.error("--import needs --once; with a daemon it is 'updatectl import'")

    from updated import daemon

    # Addresses such as file:///… are made of it.
    return daemon.main(os.path.abspath(options.root), once=options.once, bundle=options.bundle)


def parser() -> argparse.ArgumentParser:
    """The parser of the daemon's command line."""
    made = argparse.ArgumentParser(
        prog="updated", description="Keep this machine on a signed release channel, with two slots and fall back.",
        epilog="The children 'updated fetch' and 'updated seal' are started by the daemon.", formatter_class=Help,
    )
    made.add_argument("--version", action=ShowVersion)
    made.add_argument("--root", default="/", metavar="DIR", help="take all paths below DIR, but that of --import")
    made.add_argument("--once", action="store_true", help="check, fetch, seal and arm once, then exit; no reboot")
    made.add_argument("--import", metavar="PATH", dest="bundle", help="with --once: from this bundle or directory")
    return made


if __name__ == "__main__":
    sys.exit(main())
