"""Which slot runs now, from the kernel's command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

# Words are separated by blanks; double quotes keep blanks within a value (Linux, lib/cmdline.c).
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_SLOT: Final = re.compile(r"[a-z0-9]+")


def active_slot(root: str, partuuids: Mapping[str, str]) -> str | None:
    """The slot that runs now, or None when the command line doesn't tell.

    Reads ROOT/proc/cmdline: `updated.slot=NAME`, else `rauc.slot=NAME`, else `root=PARTUUID=...`, which is looked up in
    `partuuids` (PARTUUID in lower case -> slot). The last one of several equal arguments counts, as in the kernel.
    """
    try:
        with open(os.path.join(root, "proc/cmdline"), encoding="utf-8", errors="replace") as file:
            line = file.read()
    except OSError:
        return None
    arguments = _arguments(line)
    for key in ("updated.slot", "rauc.slot"):
        name = arguments.get(key, "").lower()
        if _SLOT.fullmatch(name):
            return name
    scheme, _, partuuid = arguments.get("root", "").partition("=")
    if scheme != "PARTUUID":
        return None
    return partuuids.get(partuuid.lower())


def _arguments(line: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for word in _WORD.findall(line):
        plain = word.replace('"', "")
        if plain == "--":
            break  # what follows is for init
        key, separator, value = plain.partition("=")
        if separator:
            arguments[key] = value
    return arguments
