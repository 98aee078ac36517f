"""`releasectl`: the publisher's command."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

try:
    import numpy  # noqa: F401
except ModuleNotFoundError:
    sys.exit("releasectl: the library numpy is missing. Install it: pip install 'updated[publish]'")

from updated.core.document import dump
from updated.core.errors import UpdatedError
from updated.core.release import Release
from updated.core.version import Version
from updated.publish import blob
from updated.publish.founding import initialize
from updated.publish.inspection import Overview, verify
from updated.publish.keys import PASSPHRASE_VARIABLE, KeyFolder, passphrase
from updated.publish.publisher import PATCHES, Shipping, add, promote, recall, refresh
from updated.publish.repository import Repository, key_names, locked

OK, FAILED, USAGE = 0, 1, 2
_MAX_NOTES = 65536

_Run = Callable[[argparse.Namespace], None]
_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; 0 when it was done, 1 when it was refused or failed, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        run: _Run = options.run
        run(options)
        sys.stdout.flush()
    except UpdatedError as error:
        print(f"releasectl: {_line(error)}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader of the output has left; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"releasectl: {_line(_storage_error(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("releasectl: interrupted; nodes see the old state or the new one. Run it again.", file=sys.stderr)
        return 130
    return OK


def _line(error: UpdatedError) -> str:
    return " ".join(str(error).split())


def _storage_error(error: OSError) -> UpdatedError:
    what = str(error.filename or "the repository")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UpdatedError("disk-full", what, "there is no space left", "Free some space, and run this again.")
    return UpdatedError(
        "disk-error", what, error.strerror or str(error), "Mend that, and run this again; nothing was published."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="releasectl", description="Publish releases: keys, releases, channels and their signed metadata."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: _Run, text: str, among: _Verbs = verbs) -> argparse.ArgumentParser:
        made = among.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(run=run)
        made.add_argument("repository", metavar="REPOSITORY", help="the folder of the repository")
        return made

    def signing(name: str, run: _Run, text: str) -> argparse.ArgumentParser:
        made = verb(name, run, text)
        made.add_argument("--keys", metavar="DIR", required=True, help="the folder of the private keys")
        made.add_argument(
            "--passphrase-file", metavar="FILE",
            help=f"its first line opens encrypted keys (else the variable {PASSPHRASE_VARIABLE} does)",
        )  # fmt: skip
        return made

    made = signing("init", _init, "make a repository and its keys")
    made.add_argument(
        "--channels", metavar="NAMES", default="stable,beta,alpha", help="with commas (default: %(default)s)"
    )
    made.add_argument(
        "--lifetime", metavar="ROLE=DAYS", action="append", default=[], help="how long the signatures of a role last"
    )

    key_verbs = verbs.add_parser("key", help="look at keys", description="Look at keys.")
    made = verb(
        "list", _key_list, "show which keys sign which role", key_verbs.add_subparsers(required=True, metavar="VERB")
    )
    made.add_argument("--keys", metavar="DIR", help="also say which private keys are in this folder")

    made = signing("add", _add, "publish a release; no channel ships it yet")
    made.add_argument("--version", required=True, metavar="VERSION", help="such as 1.4.0 or 1.4.0-rc.1")
    made.add_argument("--compatible", required=True, metavar="NAME", help="which machines the release is made for")
    made.add_argument(
        "--component", required=True, action="append", metavar="NAME=IMAGE", help="an image file, such as rootfs=FILE"
    )
    made.add_argument("--notes", metavar="FILE", help="a text for people")
    made.add_argument(
        "--level", type=int, choices=range(1, 23), default=blob.LEVEL, metavar="1-22",
        help="zstd level (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--patches", type=int, choices=range(10), default=PATCHES, metavar="0-9",
        help="from how many of the newest releases to make patches (default: %(default)s)",
    )  # fmt: skip

    made = signing("promote", _promote, "ship a release in a channel")
    made.add_argument("--channel", required=True, metavar="NAME")
    made.add_argument("--version", required=True, metavar="VERSION")
    made.add_argument("--rollout-hours", type=float, default=0, metavar="HOURS", help="spread the nodes over this time")
    made.add_argument("--barrier", action="store_true", help="nodes with older releases must pass through this one")
    made.add_argument("--minimum", metavar="VERSION", help="only nodes that run this one or a newer one may take it")

    made = signing("recall", _recall, "take a release back: no node of the channel takes it any more")
    made.add_argument("--channel", required=True, metavar="NAME")
    made.add_argument("--version", required=True, metavar="VERSION")
    made.add_argument("--reason", required=True, metavar="TEXT", help="for the people who read it on the nodes")

    signing("refresh", _refresh, "sign snapshot and timestamp anew, and each role close to its expiry")

    made = verb("status", _status, "show what each channel ships, and when signatures expire")
    made.add_argument("--json", action="store_true", help="for programs")
    verb("verify", _verify, "check every signature, digest and compressed frame")
    made = verb("export-root", _export_root, "write the root of trust that images pin")
    made.add_argument("file", metavar="FILE")
    return parser


def _keys(options: argparse.Namespace) -> KeyFolder:
    """The key folder; never one that is published together with the repository."""
    keys, repository = os.path.realpath(options.keys), os.path.realpath(options.repository)
    if os.path.commonpath([keys, repository]) == repository:
        raise UpdatedError(
            "bad-request", f"the key folder {options.keys}", "lies inside of the repository, and would be published",
            "Name a folder elsewhere.",
        )  # fmt: skip
    return KeyFolder(options.keys, passphrase(options.passphrase_file))


def _pairs(values: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest) or name in pairs:
            raise UpdatedError(
                "bad-request", f"{option} {value}", "is there twice, or not NAME=VALUE", "Write it once, so."
            )
        pairs[name] = rest
    return pairs


def _init(options: argparse.Namespace) -> None:
    days = {}
    for role, text in _pairs(options.lifetime, "--lifetime").items():
        if not text.isdecimal():
            raise UpdatedError("bad-request", f"--lifetime {role}={text}", "is no number of days", "Write ROLE=DAYS.")
        days[role] = int(text)
    channels = [name.strip() for name in options.channels.split(",")]
    initialize(options.repository, _keys(options), channels, days=days, now=time.time())
    print(f"The repository {options.repository} is made. Keep two of the root keys in {options.keys} offline.")


def _key_list(options: argparse.Namespace) -> None:
    roles = Repository(options.repository).roles
    folder = KeyFolder(options.keys) if options.keys is not None else None
    for role in roles.all():
        keyids = roles.keyids(role)
        needed = roles.threshold(role)
        print(f"{role}: {needed} of {len(keyids)}" if len(keyids) > 1 else role)
        for keyid in keyids:
            print(f"  {keyid}")
        if folder is not None:
            there = [name for name in key_names(role, len(keyids)) if os.path.lexists(folder.file(name))]
            print(f"  in {options.keys}: {', '.join(there) or 'none'}")


def _add(options: argparse.Namespace) -> None:
    keys = _keys(options)
    version = Version(options.version)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = time.time()
    draft = Release(
        version=version, compatible=options.compatible, built=int(epoch) if epoch.isdecimal() else int(now),
        components={}, notes=_notes(options.notes),
    )  # fmt: skip
    images = _pairs(options.component, "--component")
    with locked(options.repository):
        repository = Repository(options.repository)
        stored = add(
            repository, keys, draft, images, now=now, level=options.level, patches=options.patches,
            progress=_progress(),
        )  # fmt: skip
    if not stored:
        print(f"Release {version} was published already; nothing to do.")
        return
    print(f"Release {version} is published.")
    for name, each in stored.items():
        print(f"  {name}: {each}")


def _notes(file: str | None) -> str:
    if file is None:
        return ""
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read(_MAX_NOTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise UpdatedError("bad-request", f"the notes {file}", str(cause), "Name a text file.") from None


def _progress() -> Callable[[str, int, int], None]:
    if not sys.stderr.isatty():
        return lambda what, done, size: None

    def show(what: str, done: int, size: int) -> None:
        bar = "#" * (20 * done // size) if size else ""
        end = "\n" if done == size else ""
        print(f"\r{what}: [{bar:<20}] {done >> 20} of {size >> 20} MiB", end=end, file=sys.stderr, flush=True)

    return show


def _promote(options: argparse.Namespace) -> None:
    keys = _keys(options)
    if not 0 <= options.rollout_hours <= 366 * 24:
        raise UpdatedError(
            "bad-request", f"--rollout-hours {options.rollout_hours:g}", "is not between 0 and a year", "Name fewer."
        )
    minimum = Version(options.minimum) if options.minimum is not None else None
    shipping = Shipping(options.rollout_hours, options.barrier, minimum)
    with locked(options.repository):
        promote(Repository(options.repository), keys, options.channel, options.version, shipping, now=time.time())
    print(f"Channel {options.channel} ships release {options.version}.")


def _recall(options: argparse.Namespace) -> None:
    keys = _keys(options)
    with locked(options.repository):
        recall(Repository(options.repository), keys, options.channel, options.version, options.reason, now=time.time())
    print(f"Release {options.version} is recalled from channel {options.channel}.")


def _refresh(options: argparse.Namespace) -> None:
    keys = _keys(options)
    with locked(options.repository):
        renewal = refresh(Repository(options.repository), keys, now=time.time())
    print(f"Signed anew: {', '.join(renewal.renewed)}.")
    if renewal.neglected:
        print(
            f"releasectl: {', '.join(renewal.neglected)}: close to expiry, and the keys are not in {options.keys}. "
            "Run refresh where they are.",
            file=sys.stderr,
        )


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


if __name__ == "__main__":
    sys.exit(main())
