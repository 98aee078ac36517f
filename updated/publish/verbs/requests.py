"""The verbs about signing requests."""

from __future__ import annotations

import argparse
import time

from updated.publish import review, rounds
from updated.publish.keys import KeyFolder
from updated.publish.repository import Repository, locked
from updated.publish.request import Request
from updated.publish.verbs.command import Verbs, add_key_options, key_folder


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.plain("show", _show, "say what a request changes, and which signatures are missing")
    made.add_argument("file", metavar="FILE", help="the request")
    made.add_argument("--keys", metavar="DIR", help="a folder of keys: they are called by their names")
    _root(made)

    made = verbs.plain("sign", _sign, "sign a request with the keys that are here and that it asks for")
    made.add_argument("file", metavar="FILE", help="the request; the signatures are added to it")
    add_key_options(made)
    _root(made)

    made = verbs.signing("publish", _publish, "publish a request that has all its signatures")
    made.add_argument("files", metavar="FILE", nargs="+", help="the request, or copies that different people signed")


def _root(made: argparse.ArgumentParser) -> None:
    made.add_argument("--root", metavar="FILE", help="the root of trust that you know: refuse what does not follow it")


def _show(options: argparse.Namespace) -> None:
    request = rounds.read(options.file, options.root)
    names = KeyFolder(options.keys).names() if options.keys is not None else {}
    print("\n".join([*review.lines(request, names), *review.needs(request, names)]))


def _sign(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    names = keys.names()
    print("\n".join(review.lines(rounds.read(options.file, options.root), names)))
    added = rounds.add_signatures(options.file, keys, options.root)
    for role, keyids in added.items():
        print(f"Signed {role} with {', '.join(names[keyid] for keyid in keyids)}.")
    if not added:
        print(f"Nothing was signed: the request asks for no key in {options.keys} that has not signed yet.")
    print("\n".join(review.needs(rounds.read(options.file), names)))


def _publish(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    with locked(options.repository):
        requests: list[Request] = [rounds.read(file) for file in options.files]
        request = rounds.publish(Repository(options.repository), keys, requests, now=time.time())
    print(f"Published: {', '.join(request.new)}.")
