"""The TUF client of nodes, with the command line that the conformance suite of TUF asks for (its CLIENT-CLI.md).

    client --metadata-dir D init ROOT
    client --metadata-dir D --metadata-url U refresh
    client --metadata-dir D --metadata-url U --target-name P... --target-base-url B --target-dir T download

Exit status 0 when all of it was done, 1 otherwise. What nodes demand beyond the specification is switched off through
`Rules` and `HttpSource(quoted=True)`; floors, lock, clock and store are those of a node.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.http import HttpSettings, HttpSource, open_source
from updated.metadata_store import holds
from updated.ports import Source
from updated.trust import Clock, Trust
from updated.tufclient import Rules

SPECIFICATION = Rules(consistent_snapshots=False, digests=("sha256", "sha512"))
LONGEST_TARGET = 2**31
PINNED = "root-of-trust"


class Places:
    """Implements `updated.ports.Source` over one place for `metadata/` and one for `targets/`."""

    def __init__(self, **places: Source) -> None:
        self._places = places

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        folder, _, rest = name.partition("/")
        return self._places[folder].read(rest, most)

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`."""
        folder, _, rest = name.partition("/")
        return self._places[folder].stream(rest, start, length)

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`."""
        return False


def opened(url: str) -> Source:
    # One attempt: the suite counts requests, and a server of its that fails doesn't mend itself.
    settings = HttpSettings(retries=0)
    if url.startswith(("http://", "https://")):
        return HttpSource(url, settings, quoted=True)
    return open_source(url, settings)


def init(folder: str, root: str) -> None:
    with open(root, "rb") as file:
        durable.write_file(os.path.join(folder, PINNED), file.read())


def update(options: argparse.Namespace) -> None:
    with open(os.path.join(options.metadata_dir, PINNED), "rb") as file:
        root_of_trust = file.read()
    places = {"metadata": opened(options.metadata_url)}
    if options.command == "download":
        places["targets"] = opened(options.target_base_url)
    clock = Clock(time.time(), built=0)
    with Trust(Places(**places), options.metadata_dir, root_of_trust, clock, rules=SPECIFICATION) as trust:
        trust.refresh()
        for path in options.target_name if options.command == "download" else ():
            data = trust.target(path, LONGEST_TARGET)
            place = os.path.join(options.target_dir, quote(path, safe=""))
            if not holds(place, data):
                durable.write_file(place, data)


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="client")
    for option in ("--metadata-dir", "--metadata-url", "--target-base-url", "--target-dir"):
        parser.add_argument(option)
    parser.add_argument("--target-name", action="append", default=[])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    options = parser.parse_args(arguments)
    try:
        if options.command == "init":
            init(options.metadata_dir, options.root)
        else:
            update(options)
    except (UpdatedError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
