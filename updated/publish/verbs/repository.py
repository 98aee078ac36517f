"""The verbs about a repository as a whole: init, refresh, status, verify, export-root."""

from __future__ import annotations

import argparse
import sys
import time

from updated.core.document import dump
from updated.core.errors import UpdatedError
from updated.publish.founding import initialize
from updated.publish.inspection import Overview, verify
from updated.publish.publisher import refresh
from updated.publish.repository import Repository, locked
from updated.publish.verbs.command import Verbs, key_folder, pairs

NEGLECTED = 3
"""The exit status of `refresh` when it signed, and a role is close to its expiry whose keys are elsewhere."""


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.signing("init", _init, "make a repository and its keys")
    made.add_argument(
        "--channels", metavar="NAMES", default="stable,beta,alpha", help="with commas (default: %(default)s)"
    )
    made.add_argument(
        "--lifetime", metavar="ROLE=DAYS", action="append", default=[], help="how long the signatures of a role last"
    )

    verbs.signing("refresh", _refresh, "sign snapshot and timestamp anew, and each role close to its expiry")

    made = verbs.reading("status", _status, "show what each channel ships, and when signatures expire")
    made.add_argument("--json", action="store_true", help="for programs")
    verbs.reading("verify", _verify, "check every signature, digest and compressed frame")
    made = verbs.reading("export-root", _export_root, "write the root of trust that images pin")
    made.add_argument("file", metavar="FILE")


def _init(options: argparse.Namespace) -> None:
    days = {}
    for role, text in pairs(options.lifetime, "--lifetime").items():
        if not text.isdecimal():
            raise UpdatedError("bad-request", f"--lifetime {role}={text}", "is no number of days", "Write ROLE=DAYS.")
        days[role] = int(text)
    channels = [name.strip() for name in options.channels.split(",")]
    initialize(options.repository, key_folder(options), channels, days=days, now=time.time())
    print(f"The repository {options.repository} is made. Keep two of the root keys in {options.keys} offline.")


def _refresh(options: argparse.Namespace) -> int | None:
    keys = key_folder(options)
    with locked(options.repository):
        renewal = refresh(Repository(options.repository), keys, now=time.time())
    print(f"Signed anew: {', '.join(renewal.renewed)}.")
    if not renewal.neglected:
        return None
    print(
        f"releasectl: {', '.join(renewal.neglected)}: close to expiry, and the keys are not in {options.keys}. "
        "Run refresh where they are.",
        file=sys.stderr,
    )
    return NEGLECTED


def _status(options: argparse.Namespace) -> None:
    now = time.time()
    overview = Overview.of(Repository(options.repository))
    if options.json:
        sys.stdout.write(dump(overview.to_json(now)).decode())
    else:
        print("\n".join(overview.lines(now)))


def _verify(options: argparse.Namespace) -> None:
    verdict = verify(Repository(options.repository), now=time.time())
    print(
        f"All is well: {verdict.roles} roles, {verdict.releases} releases, {verdict.blobs} images, "
        f"{verdict.stored_bytes} bytes stored."
    )


def _export_root(options: argparse.Namespace) -> None:
    repository = Repository(options.repository)
    data = repository.read("metadata", f"{repository.roles.root.signed.version}.root.json")
    try:
        with open(options.file, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UpdatedError(
            "bad-request", f"the file {options.file}", error.strerror or str(error), "Name a file that can be written."
        ) from None
