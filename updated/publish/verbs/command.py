"""What the verbs of `releasectl` share: how they are declared, and how they read what several of them take."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias, TypeVar

from bootctl.usage import Help, Parser, sentence
from updated.core.errors import UpdatedError
from updated.core.version import Version
from updated.publish import review, rounds
from updated.publish.keyfile import PASSPHRASE_VARIABLE
from updated.publish.keys import KeyFolder, passphrase
from updated.publish.misuse import Misuse
from updated.publish.repository import Repository

Run = Callable[[argparse.Namespace], int | None]
"""A verb: does it, and returns an exit status if it is not 0."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
_T = TypeVar("_T")


class VerbParser(Parser):
    """Raises `Misuse`, which is told as every other error is."""

    def wrong(self, what: str, cause: str, mend: str) -> NoReturn:
        """See `Parser.wrong`."""
        raise Misuse("bad-request", what, cause, mend)


_Parsers: TypeAlias = "argparse._SubParsersAction[VerbParser]"


class Verbs:
    """The verbs of a command, or of one of its groups."""

    def __init__(self, parsers: _Parsers) -> None:
        self._parsers = parsers

    def group(self, name: str, text: str) -> Verbs:
        """A verb that has verbs of its own."""
        made = self._parsers.add_parser(name, help=text, description=sentence(text), formatter_class=Help)
        return Verbs(made.add_subparsers(dest="verb", required=True, metavar="VERB"))

    def plain(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A verb that needs no repository."""
        made = self._parsers.add_parser(name, help=text, description=sentence(text), formatter_class=Help)
        made.set_defaults(run=run)
        return made

    def reading(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A verb that looks at a repository."""
        made = self.plain(name, run, text)
        made.add_argument("repository", metavar="REPOSITORY", help="the folder of the repository")
        return made

    def signing(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A verb that changes a repository, and needs private keys."""
        made = self.reading(name, run, text)
        add_key_options(made)
        return made

    def requesting(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A verb that changes a repository, or asks others to sign the change."""
        made = self.signing(name, run, text)
        made.add_argument(
            "--request", metavar="FILE", help="publish nothing; write the change to this file, to be signed by others"
        )
        return made


_PATHS = {
    "repository": "the repository", "destination": "the destination", "file": "the file", "files": "the file",
    "keys": "--keys", "request": "--request", "root": "--root", "passphrase_file": "--passphrase-file",
    "notes": "--notes", "record": "--record",
}  # fmt: skip
"""The arguments that are paths, by their names in the options, and what they are called in messages."""


def check_paths(options: argparse.Namespace) -> None:
    """Raises `Misuse` for a path that is empty, which would be the current folder, or a URL."""
    if getattr(options, "source", None) == "":
        raise Misuse("bad-request", "the source", "is empty", "Name the URL or the folder of a repository.")
    for name, what in _PATHS.items():
        given = getattr(options, name, None)
        for path in given if isinstance(given, list) else [given]:
            if path == "":
                raise Misuse("bad-request", what, "the path is empty", "Name one, such as /srv/updates.")
            if path is not None and (url := _URL.match(path)) is not None:
                local = url[0] == "file://" and path.startswith("file:///")
                raise Misuse(
                    "bad-request", f"{what} {path}", "is a URL, and has to be a path",
                    f"Write {path.removeprefix('file://')}." if local else "Name a path of this machine.",
                )  # fmt: skip


def add_key_options(made: argparse.ArgumentParser) -> None:
    """Adds the options for a key folder."""
    made.add_argument("--keys", metavar="DIR", required=True, help="the folder of the keys")
    made.add_argument(
        "--passphrase-file", metavar="FILE",
        help=f"its first line opens encrypted keys (else the variable {PASSPHRASE_VARIABLE} does)",
    )  # fmt: skip


def key_folder(options: argparse.Namespace) -> KeyFolder:
    """The key folder; never one that is published together with the repository, if the verb has one."""
    if "repository" in options:
        _refuse_inside(options.keys, options.repository, "the key folder")
    if os.path.lexists(options.keys) and not os.path.isdir(options.keys):
        raise UpdatedError("bad-key", f"the key folder {options.keys}", "is no folder", "Name the folder of the keys.")
    return KeyFolder(options.keys, passphrase(options.passphrase_file))


def opened(options: argparse.Namespace) -> Repository:
    """The repository of a verb that may ask others to sign."""
    if options.request is not None:
        _refuse_inside(options.request, options.repository, "the request")
    return Repository(options.repository, request=options.request)


def report(options: argparse.Namespace, done: str) -> None:
    """Says `done`, or which signatures are missing when others were asked."""
    if options.request is None:
        print(done)
        return
    names = KeyFolder(options.keys).names()
    print(f"Nothing is published yet; {options.request} asks for it.")
    print("\n".join(review.needs(rounds.read(options.request), names)))


def _refuse_inside(path: str, repository: str, what: str) -> None:
    inner, outer = os.path.realpath(path), os.path.realpath(repository)
    if os.path.commonpath([inner, outer]) == outer:
        raise UpdatedError(
            "bad-request", f"{what} {path}", "lies inside of the repository, and would be published",
            "Name a place elsewhere.",
        )  # fmt: skip


def taking(option: str, read: Callable[[str], _T]) -> Callable[[str], _T]:
    """What reads the value of `option`: what `read` raises becomes a `Misuse` that names the option and the value."""

    def taken(text: str) -> _T:
        try:
            return read(text)
        except UpdatedError as error:
            raise misuse(option, text, error.cause, error.mend) from None

    return taken


def misuse(option: str, value: str, cause: str, mend: str) -> Misuse:
    """The error for a wrong value."""
    shown = shlex.quote(value) if value.isprintable() else repr(value)
    return Misuse("bad-request", f"{option} {shown}", cause, mend)


def version(text: str) -> str:
    """`text`, if it is a version. Raises `UpdatedError` ("bad-request")."""
    return Version(text).text


_PAIRS = {
    "--component": ("NAME=IMAGE", "rootfs=1.5.0.img"), "--key": ("ROLE=NAME", "stable=my-key"),
    "--lifetime": ("ROLE=DAYS", "timestamp=7"), "--threshold": ("ROLE=N", "root=2"),
}  # fmt: skip
"""The options whose values are pairs: what they have to be, and an example."""


def write_so(option: str) -> str:
    """What to do about a wrong value of an option for pairs."""
    return f"Write it so: {option} {_PAIRS[option][1]}."


def pairs(values: Sequence[str], option: str) -> dict[str, str]:
    """The values of an option for pairs, by their first halves. Raises `Misuse`."""
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise misuse(option, value, f"is not {_PAIRS[option][0]}", write_so(option))
        if name in pairs:
            once = f"Write {name} once, such as {option} {shlex.quote(f'{name}={pairs[name]}')}."
            raise misuse(option, value, f"gives {name} a second time", once)
        pairs[name] = rest
    return pairs
