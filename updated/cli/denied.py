"""Which denied releases are not taken anyway, as far as the status tells it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from updated.core.version import is_older, same_version


def why_not_taken(document: Mapping[str, Any], version: str) -> str | None:
    """What keeps the release off this node even when it is not denied, in words that follow "it is"; None: nothing.

    What the status does not tell, such as a recall that the last look did not meet, is not known here.
    """
    recall = next((why for each, why in _recalls(document) if same_version(each, version)), None)
    if recall is not None:
        return f"recalled: {recall}"
    running = (document["running"] or {}).get("version") or ""
    if is_older(version, running):
        return f"older than {running}, which runs"
    return next((f"below {floor}, {why}" for floor, why in _floors(document) if is_older(version, floor)), None)


def _recalls(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Versions, and why each was recalled."""
    yield from ((each["version"], each["reason"]) for each in document["recalled"])
    for reason in document["reasons"]:
        version, said, why = reason["text"].partition(" was recalled: ")
        if reason["code"] == "recalled" and said:
            yield version, why


def _floors(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Versions below which nothing is installed, each with what it is."""
    recalled = {each["version"] for each in document["recalled"]}
    for slot in document["slots"]:
        # Where the floor itself was recalled, what replaces it may be installed.
        if slot["state"] == "good" and slot["version"] and slot["version"] not in recalled:
            yield slot["version"], "which was confirmed here"
    for reason in document["reasons"]:
        _, said, rest = reason["text"].partition(" is below ")
        if reason["code"] == "below-floor" and said:
            yield rest.partition(",")[0], "the lowest version that this node accepts"
