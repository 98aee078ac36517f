"""The verbs about keys."""

from __future__ import annotations

import argparse
import os
import sys
import time

from updated.core.errors import UpdatedError
from updated.publish import keychange
from updated.publish.keyfile import SCHEMES
from updated.publish.keys import KeyFolder
from updated.publish.misuse import Misuse
from updated.publish.repository import Repository, locked
from updated.publish.verbs.command import Verbs, add_key_options, key_folder, opened, report


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.plain("new", _new, "make a key, in a file")
    _named(made)
    add_key_options(made)
    made.add_argument(
        "--scheme", choices=list(SCHEMES), default="ed25519", metavar="SCHEME",
        help=f"how it signs: {', '.join(SCHEMES)} (default: %(default)s)",
    )

    made = verbs.plain("import", _import, "make a key known that is elsewhere, or somebody else's")
    _named(made)
    add_key_options(made)
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", metavar="PEM", help="a private key (PKCS #8); it is copied")
    source.add_argument("--uri", metavar="URI", help="a key in a token or a service, such as hsm:2?label=TOKEN")
    source.add_argument("--record", metavar="FILE", help="what 'key show' printed on another machine")

    made = verbs.plain("show", _show, "print the record of a key, to send it to others")
    _named(made)
    made.add_argument("--keys", metavar="DIR", required=True, help="the folder of the keys")

    made = verbs.plain("list", _list, "show the keys of a folder, and which keys sign which role")
    made.add_argument("repository", metavar="REPOSITORY", nargs="?", help="the folder of the repository")
    made.add_argument("--keys", metavar="DIR", help="a folder of keys")

    made = verbs.requesting("add", _add, "let one more key sign a role")
    _role(made)
    made.add_argument("name", metavar="NAME", help="the key, by its name in the folder")
    made.add_argument("--threshold", type=int, metavar="N", help="how many keys have to sign from then on")

    made = verbs.requesting("rotate", _rotate, "take a new key into a role, and an old one out")
    _role(made)
    made.add_argument("--old", required=True, metavar="NAME|KEYID", help="the key to take out")
    made.add_argument("--new", required=True, metavar="NAME", help="the key, by its name in the folder")

    made = verbs.requesting("revoke", _revoke, "take a key out of a role")
    _role(made)
    made.add_argument("key", metavar="NAME|KEYID", help="the key to take out")

    made = verbs.requesting("threshold", _threshold, "change how many keys have to sign a role")
    _role(made)
    made.add_argument("number", type=int, metavar="N", help="how many keys have to sign")


def _named(made: argparse.ArgumentParser) -> None:
    made.add_argument("name", metavar="NAME", help="the name of the key in this folder")


def _role(made: argparse.ArgumentParser) -> None:
    made.add_argument("--role", required=True, metavar="ROLE", help="the role: root, targets, releases or such")


def _new(options: argparse.Namespace) -> None:
    record = key_folder(options).generate(options.name, options.scheme)
    print(f"The key {record.name} is made, with the key id {record.keyid}.")


def _import(options: argparse.Namespace) -> None:
    folder = key_folder(options)
    if options.file is not None:
        record = folder.import_file(options.name, options.file)
    elif options.uri is not None:
        record = folder.import_uri(options.name, options.uri)
    else:
        record = folder.import_record(options.name, options.record)
    print(f"The key {record.name} is known here, with the key id {record.keyid}.")


def _show(options: argparse.Namespace) -> None:
    sys.stdout.write(KeyFolder(options.keys).record(options.name).public.format().decode())


def _list(options: argparse.Namespace) -> None:
    if options.repository is None and options.keys is None:
        raise Misuse("bad-request", "key list", "has nothing to show", "Name a REPOSITORY, --keys DIR, or both.")
    if options.keys is not None and not os.path.isdir(options.keys):
        raise UpdatedError("bad-key", f"the key folder {options.keys}", "is not there", "Name a folder with keys.")
    folder = KeyFolder(options.keys) if options.keys is not None else None
    if options.repository is not None:
        _list_roles(Repository(options.repository), folder)
    elif folder is not None:
        for name, record in folder.records().items():
            print(f"{name}: {record.key.scheme}, {record.private or 'the key of somebody else'}")
            print(f"  {record.keyid}")


def _list_roles(repository: Repository, folder: KeyFolder | None) -> None:
    roles = repository.roles
    names = folder.names() if folder is not None else {}
    for role in roles.all():
        keyids = roles.keyids(role)
        print(f"{role}: {roles.threshold(role)} of {len(keyids)}" if len(keyids) > 1 else role)
        for keyid in keyids:
            scheme = roles.delegator(role).get_key(keyid).scheme
            print(f"  {keyid} {scheme} {names.get(keyid, '')}".rstrip())
        if folder is not None:
            there = [names[keyid] for keyid in keyids if keyid in names and folder.holds(folder.record(names[keyid]))]
            print(f"  can sign with {folder.path}: {', '.join(there) or 'none'}")


def _add(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    with locked(options.repository):
        record = keys.record(options.name)
        keychange.add(opened(options), keys, options.role, record, options.threshold, now=time.time())
    report(options, f"{options.name} signs {options.role} from now on.")


def _rotate(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    with locked(options.repository):
        repository = opened(options)
        old = _keyid(keys, repository, options.role, options.old)
        new = keys.record(options.new)
        if not keychange.rotate(repository, keys, options.role, old, new, now=time.time()):
            print(f"{options.new} has taken the place of {options.old} already.")
            return
    report(options, f"{options.new} signs {options.role} from now on, in place of {options.old}.")


def _revoke(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    with locked(options.repository):
        repository = opened(options)
        old = _keyid(keys, repository, options.role, options.key)
        keychange.revoke(repository, keys, options.role, old, now=time.time())
    report(options, f"{options.key} signs {options.role} no longer.")


def _threshold(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    with locked(options.repository):
        keychange.set_threshold(opened(options), keys, options.role, options.number, now=time.time())
    report(options, f"{options.role} needs {options.number} signatures from now on.")


def _keyid(keys: KeyFolder, repository: Repository, role: str, text: str) -> str:
    return keys.keyid(text, repository.roles.keyids(role) if role in repository.roles.all() else [])
