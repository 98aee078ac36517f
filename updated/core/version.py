"""Versions of releases as the daemon and the publisher handle them; what they are ordered by is in bootctl."""

from __future__ import annotations

import contextlib
import functools

from bootctl.precedence import MAX_LENGTH, precedence, same_version
from updated.core.errors import UpdatedError

__all__ = ["MAX_LENGTH", "Version", "is_older", "is_within", "newer_of", "same_version"]


def is_older(one: str, other: str) -> bool:
    """Whether `one` names an older release than `other`. What is no version is not older than anything."""
    try:
        return Version(one) < Version(other)
    except UpdatedError:
        return False


def newer_of(one: str, other: str) -> str:
    """The newer of two versions, or the one that is a version; empty when neither is."""
    versions = []
    for text in (one, other):
        with contextlib.suppress(UpdatedError):
            versions.append(Version(text))
    return max(versions).text if versions else ""


def is_within(version: Version, newest: Version) -> bool:
    """Whether `version` is not newer than `newest`, which stands for all that begins as it does: 1.9 for 1.9.7.

    A `newest` that is a pre-release stands for itself alone.
    """
    numbers, _, prerelease = newest.text.partition("-")
    length = numbers.count(".") + 1
    begin = ".".join(version.text.partition("-")[0].split(".")[:length])
    return version <= newest or (not prerelease and Version(begin) == newest)


@functools.total_ordering
class Version:
    """A parsed version; compares by precedence and prints as it was written.

    Raises `UpdatedError` ("bad-request") when `text` is not a version.
    """

    __slots__ = ("_key", "text")

    def __init__(self, text: str) -> None:
        known = precedence(text)
        if known is None:
            raise UpdatedError(
                "bad-request", f"version {text[:MAX_LENGTH]!r}", "is not a version",
                "Write numbers with dots, and after a hyphen a pre-release, such as 1.4.0 or 1.4.0-rc.1.",
            )
        self.text = text
        self._key = known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"
