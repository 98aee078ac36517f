"""The verbs about keys."""

from __future__ import annotations

import argparse
import os

from updated.publish.keys import KeyFolder
from updated.publish.repository import Repository, key_names
from updated.publish.verbs.command import Verbs


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.reading("list", _list, "show which keys sign which role")
    made.add_argument("--keys", metavar="DIR", help="also say which private keys are in this folder")


def _list(options: argparse.Namespace) -> None:
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
