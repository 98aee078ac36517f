"""Versions of releases: `MAJOR.MINOR.PATCH[-PRERELEASE]`, ordered as Semantic Versioning 2.0.0 section 11 says. Pure.

Any number of dotted numeric parts is taken ("12.4", "20261121.1"): missing parts count as 0.
"""

from __future__ import annotations

import re

_FORM = re.compile(r"(\d{1,18}(?:\.\d{1,18}){0,5})(?:-([0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*))?", re.ASCII)
MAX_LENGTH = 64

Precedence = tuple[tuple[int, ...], bool, tuple[tuple[int, int, str], ...]]


def precedence(text: str) -> Precedence | None:
    """What versions are compared by; None: `text` is no version."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    prerelease = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in (match[2] or "").split(".") if part
    )
    return tuple(numbers), not prerelease, prerelease


def same_version(one: str, other: str) -> bool:
    """Whether two texts name the same release: "1.1" is "1.1.0". What is no version is only like itself."""
    known = precedence(one)
    return one == other or (known is not None and known == precedence(other))
