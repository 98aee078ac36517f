"""The verbs about a repository as a whole: init, refresh, status, verify, export-root."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from updated.core.document import dump
from updated.core.errors import UpdatedError
from updated.publish import places
from updated.publish.founding import initialize
from updated.publish.inspection import Overview, verify
from updated.publish.publisher import refresh
from updated.publish.repository import Repository, locked
from updated.publish.verbs.command import Verbs, key_folder, misuse, opened, pairs, report, write_so

NEGLECTED = 3
"""The exit status of `refresh` when it signed, and a role is close to its expiry whose keys are elsewhere."""


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.signing("init", _init, "make a repository and its keys")
    made.add_argument(
        "--channels", metavar="NAMES", default="stable,beta,alpha",
        help="the channels, with commas (default: %(default)s)",
    )
    made.add_argument(
        "--lifetime", metavar="ROLE=DAYS", action="append", default=[], help="how long the signatures of a role last"
    )

    made.add_argument(
        "--key", metavar="ROLE=NAME", action="append", default=[],
        help="a key in the folder for this role (again for more keys); a role without one gets new keys",
    )
    made.add_argument(
        "--threshold", metavar="ROLE=N", action="append", default=[],
        help="how many keys have to sign (root: 2, others: 1)",
    )

    verbs.requesting("refresh", _refresh, "sign the roles anew that change often or expire soon")

    made = verbs.reading("status", _status, "show what each channel ships, and when signatures expire")
    made.add_argument("--json", action="store_true", help="print JSON")
    verbs.reading("verify", _verify, "check every signature, digest and compressed frame")
    made = verbs.reading("export-root", _export_root, "write the root of trust that images pin")
    made.add_argument("file", metavar="FILE", help="the file to write")


def _init(options: argparse.Namespace) -> None:
    channels = [name.strip() for name in options.channels.split(",")]
    members: dict[str, list[str]] = {}
    for value in options.key:
        for role, name in pairs([value], "--key").items():
            members.setdefault(role, []).append(name)
    initialize(
        options.repository, key_folder(options), channels, days=_numbers(options.lifetime, "--lifetime"),
        now=time.time(), members=members, thresholds=_numbers(options.threshold, "--threshold"),
    )  # fmt: skip
    advice = "" if "root" in members else f" Keep two of the root keys in {options.keys} offline."
    print(f"The repository {options.repository} is made.{advice}")


def _numbers(values: Sequence[str], option: str) -> dict[str, int]:
    numbers = {}
    for role, text in pairs(values, option).items():
        if not text.isdecimal():
            raise misuse(option, f"{role}={text}", f"{text!r} is no number", write_so(option))
        numbers[role] = int(text)
    return numbers


def _refresh(options: argparse.Namespace) -> int | None:
    keys = key_folder(options)
    with locked(options.repository):
        renewal = refresh(opened(options), keys, now=time.time())
    report(options, f"Signed anew: {', '.join(renewal.renewed)}.")
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
    repository = Repository(options.repository)
    if repository.interrupted:
        print(f"releasectl: {_interruption(repository)}", file=sys.stderr)
    overview = Overview.of(repository)
    if options.json:
        sys.stdout.write(dump(overview.to_json(now)).decode())
    else:
        print("\n".join(overview.lines(now)))


def _verify(options: argparse.Namespace) -> None:
    repository = Repository(options.repository)
    if repository.interrupted:
        raise _interruption(repository)
    verdict = verify(repository, now=time.time())
    print(
        f"All is well: {verdict.roles} roles, {verdict.releases} releases, {verdict.blobs} images, "
        f"{verdict.stored_bytes} bytes stored."
    )


def _interruption(repository: Repository) -> UpdatedError:
    return UpdatedError(
        "bad-repository", f"the repository {repository.path}",
        "can't be read by nodes: a change of its keys was interrupted between the root and the timestamp",
        "Run `releasectl refresh`, which completes it.",
    )


def _export_root(options: argparse.Namespace) -> None:
    repository = Repository(options.repository)
    data = repository.read("metadata", f"{repository.roles.root.signed.version}.root.json")
    try:
        places.check_root(options.file, data)
        with open(options.file, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UpdatedError(
            "bad-request", f"the file {options.file}", error.strerror or str(error), "Name a file that can be written."
        ) from None
