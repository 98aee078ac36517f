"""What the verbs of `releasectl` share: how they are declared, and how they read what several of them take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from updated.core.errors import UpdatedError
from updated.publish.keys import PASSPHRASE_VARIABLE, KeyFolder, passphrase

Run = Callable[[argparse.Namespace], int | None]
"""A verb: does it, and returns an exit status if it is not 0."""
_Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Verbs:
    """The verbs of a command, or of one of its groups."""

    def __init__(self, parsers: _Parsers) -> None:
        self._parsers = parsers

    def group(self, name: str, text: str) -> Verbs:
        """A verb that has verbs of its own."""
        made = self._parsers.add_parser(name, help=text, description=_sentence(text))
        return Verbs(made.add_subparsers(required=True, metavar="VERB"))

    def plain(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A verb that needs no repository."""
        made = self._parsers.add_parser(name, help=text, description=_sentence(text))
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
        made.add_argument("--keys", metavar="DIR", required=True, help="the folder of the private keys")
        made.add_argument(
            "--passphrase-file", metavar="FILE",
            help=f"its first line opens encrypted keys (else the variable {PASSPHRASE_VARIABLE} does)",
        )  # fmt: skip
        return made


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def key_folder(options: argparse.Namespace) -> KeyFolder:
    """The key folder; never one that is published together with the repository."""
    keys, repository = os.path.realpath(options.keys), os.path.realpath(options.repository)
    if os.path.commonpath([keys, repository]) == repository:
        raise UpdatedError(
            "bad-request", f"the key folder {options.keys}", "lies inside of the repository, and would be published",
            "Name a folder elsewhere.",
        )  # fmt: skip
    return KeyFolder(options.keys, passphrase(options.passphrase_file))


def pairs(values: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest) or name in pairs:
            raise UpdatedError(
                "bad-request", f"{option} {value}", "is there twice, or not NAME=VALUE", "Write it once, so."
            )
        pairs[name] = rest
    return pairs
