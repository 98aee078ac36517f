"""`updated`: the daemon, one cycle of it, and the children that it starts."""

from __future__ import annotations

import argparse
import sys

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
    parser = argparse.ArgumentParser(
        prog="updated", description="Keeps this machine on a signed release channel, with two slots and fall back.",
        epilog="The children 'updated fetch' and 'updated seal' are started by the daemon.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--root", default="/", metavar="DIR", help="take all paths below DIR, but that of --import")
    parser.add_argument("--once", action="store_true", help="check, fetch, seal and arm once, then exit; no reboot")
    parser.add_argument("--import", metavar="PATH", dest="bundle", help="with --once: from this bundle or directory")
    options = parser.parse_args(arguments)
    if options.bundle is not None and not options.once:
        parser.error("--import needs --once; with a daemon it is 'updatectl import'")

    from updated import daemon

    return daemon.main(options.root, once=options.once, bundle=options.bundle)


if __name__ == "__main__":
    sys.exit(main())
