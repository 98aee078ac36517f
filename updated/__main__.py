"""`updated`: the daemon, one cycle of it, and the children that it starts."""

from __future__ import annotations

import argparse
import os
import sys

from bootctl.usage import Help, Parser
from bootctl.version import ShowVersion

FAILED = 1
INTERRUPTED = 130
NEEDED = (
    "updated.daemon", "updated.bus.service", "updated.metrics", "updated.metrics_server",
    "updated.child", "updated.fetch", "updated.seal", "cryptography.hazmat.primitives.asymmetric.ed25519",
)
"""What the daemon and its children load, now or later, and with it all packages that they need.

The last is what securesystemslib does without, until it meets a key that it can't use then.
"""


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
    if options.self_check:
        return _self_check()
    if options.bundle is not None and not options.once:
        asked.error("--import needs --once; with a daemon it is 'updatectl import'")

    from updated import daemon

    # Addresses such as file:///… are made of it.
    return daemon.main(os.path.abspath(options.root), once=options.once, bundle=options.bundle)


def _self_check() -> int:
    """Loads all that is needed, and nothing of this node: what a person configures can't fail it."""
    from importlib import import_module, metadata

    name = "the version"
    try:
        metadata.version("updated")  # each request names it
        for name in NEEDED:
            import_module(name)
    except Exception as error:  # whatever is wrong with a file, the daemon can't start
        cause = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"updated: {name} can't be loaded ({cause}). Install updated and its packages again.\n")
        return FAILED
    sys.stdout.write("updated and its packages can be loaded\n")
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the daemon's command line."""
    made = Parser(
        prog="updated", description="Keep this machine on a signed release channel, with two slots and fall back.",
        epilog="The children 'updated fetch' and 'updated seal' are started by the daemon.", formatter_class=Help,
    )
    made.add_argument("--version", action=ShowVersion)
    made.add_argument("--root", default="/", metavar="DIR", help="take all paths below DIR, but that of --import")
    made.add_argument("--once", action="store_true", help="check, fetch, seal and arm once, then exit; no reboot")
    made.add_argument("--self-check", action="store_true", help="load all that the daemon needs, then exit")
    made.add_argument("--import", metavar="PATH", dest="bundle", help="with --once: from this bundle or directory")
    return made


if __name__ == "__main__":
    sys.exit(main())
