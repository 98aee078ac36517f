"""The verbs that bring a repository to nodes: mirror, bundle, serve."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable

from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource
from updated.http import HttpSettings, open_source
from updated.publish import places
from updated.publish.bundle import bundle
from updated.publish.mirror import mirror
from updated.publish.serve import RepositoryServer
from updated.publish.verbs.command import Verbs, misuse, taking, version

_MAX_ROOT = 512_000


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.plain("mirror", _mirror, "copy a repository, verified, into a folder that nodes read")
    made.add_argument("source", metavar="SOURCE", help="the URL or the folder of a repository")
    made.add_argument("destination", metavar="DESTINATION", help="the folder of the mirror; made if it is missing")
    made.add_argument("--channel", metavar="NAME", action="append", default=[], help="only what this channel needs")
    made.add_argument("--root", metavar="FILE", help="the root of trust (default: the one that the mirror began with)")
    made.add_argument(
        "--connections", type=int, choices=range(1, 33), default=4, metavar="1-32",
        help="how many files to fetch at once (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--bandwidth-limit", type=int, default=0, metavar="BYTES", help="at most so many bytes per second"
    )
    made.add_argument("--reread", action="store_true", help="also check what is there already, and mend it")

    made = verbs.reading("bundle", _bundle, "write a release into one file, for nodes without a network")
    made.add_argument("file", metavar="FILE", help="the file to write")
    made.add_argument("--channel", required=True, metavar="NAME", help="the channel")
    made.add_argument(
        "--version", type=taking("--version", version), metavar="VERSION",
        help="the release (default: the newest that the channel ships)",
    )  # fmt: skip
    made.add_argument(
        "--from", dest="bases", type=taking("--from", version), metavar="VERSION", action="append", default=[],
        help="what nodes run: patches from it go along, and barriers on the way",
    )  # fmt: skip

    made = verbs.reading("serve", _serve, "serve a repository over HTTP, to try things out")
    made.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="where (default: %(default)s)"
    )


def _mirror(options: argparse.Namespace) -> None:
    if options.bandwidth_limit < 0:
        raise misuse(
            "--bandwidth-limit", str(options.bandwidth_limit), "is less than 0",
            "Write bytes per second, such as 1000000, or 0 for no limit.",
        )  # fmt: skip
    places.check_source(options.source)
    places.check_mirror(options.source, options.destination)
    settings = HttpSettings(bandwidth_limit=options.bandwidth_limit, connections=options.connections)
    source = open_source(options.source if "://" in options.source else os.path.abspath(options.source), settings)
    mirrored = mirror(
        source, options.destination, channels=options.channel, root=_root(options.root), now=time.time(),
        connections=options.connections, reread=options.reread, progress=_progress(),
        warn=lambda text: print(f"releasectl: {text}", file=sys.stderr),
    )  # fmt: skip
    print(
        f"{options.destination} has {mirrored.releases} releases of {', '.join(mirrored.channels)}, valid until "
        f"{format_time(mirrored.expires)}; {mirrored.files} files were fetched, {mirrored.downloaded / 1e6:.1f} MB."
    )


def _root(file: str | None) -> bytes | None:
    if file is None:
        return None
    try:
        with open(file, "rb") as opened:
            return opened.read(_MAX_ROOT)
    except OSError as error:
        raise UpdatedError(
            "no-root-of-trust", f"the root {file}", error.strerror or str(error), "Name a file that can be read."
        ) from None


def _progress() -> Callable[[int, int], None]:
    if not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\rblobs: {done >> 20} of {total >> 20} MiB", end=end, file=sys.stderr, flush=True)

    return show


def _bundle(options: argparse.Namespace) -> None:
    places.check_source(options.repository)
    places.check_bundle(options.file)
    source = DirectorySource(options.repository)
    made = bundle(
        source, options.file, options.channel, version=options.version, bases=options.bases, now=time.time()
    )
    *barriers, release = made.releases
    through = f", through {', '.join(barriers)}" if barriers else ""
    print(f"{options.file}: release {release} of channel {options.channel}{through}.")
    if made.bases:
        patches = f"{made.patches} patch{'es' * (made.patches != 1)}"
        print(f"  for nodes that run {', '.join(made.bases)} ({patches}), and whole for others")
    print(f"  {made.length} bytes, SHA-256 {made.sha256}")
    print(f"  valid until {format_time(made.expires)}: make it anew for nodes that get it later")


def _serve(options: argparse.Namespace) -> None:
    with RepositoryServer(options.repository, options.listen) as server:
        print(
            f"{options.repository} is at {server.url} until this is interrupted. On a node, in updated.toml:\n\n"
            f'    [repository]\n    url = "{server.url}"\n\n'
            "and as /usr/share/updated/root.json what this writes:\n\n"
            f"    releasectl export-root {options.repository} root.json\n",
            flush=True,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Ended.")
