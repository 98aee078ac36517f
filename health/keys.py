"""What the keys of a check file may hold: TOML values -> values, each with the cause and the mend if it is wrong."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bootctl.toml_value import toml
from health.check import Probe


class BadValue(Exception):
    """Carries the cause and the mend up to where the file and the key are known."""

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.mend = mend


Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Type:
    """One `type`: its keys with their readers, those that must be there, and those of which one must be."""

    build: Callable[..., Probe]
    readers: Mapping[str, Reader]
    needed: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()


def text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise BadValue(f"{toml(value)} is not a text", "Write a text in quotes that is not empty.")
    return value


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadValue(f"{toml(value)} is not a list", 'Write a list of texts, such as ["one", "two"].')
    return tuple(text(item) for item in value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValue(f"{toml(value)} is neither true nor false", "Write true or false, without quotes.")
    return value


def command(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadValue(f"{toml(value)} is not a command", 'Write program and arguments as a list: ["/bin/true"].')
    head, *rest = value
    if any(not isinstance(item, str) or "\0" in item for item in rest):
        raise BadValue(f"{toml(value)} has an argument that is not a text", "Put each argument in quotes.")
    return (text(head), *rest)


def path(value: Any) -> str:
    told = text(value)
    if not told.startswith("/"):
        raise BadValue(f"{toml(told)} is not an absolute path", "Begin it with a slash.")
    return told


def unit(value: Any) -> str:
    told = text(value)
    if re.fullmatch(r"[A-Za-z0-9:_.\\@-]+\.[a-z]+", told) is None:
        raise BadValue(f"{toml(told)} is not a unit's full name", "Write it with its ending, such as sshd.service.")
    return told


def url(value: Any) -> str:
    from urllib.parse import urlsplit

    told = text(value)
    mend = "Write it as http://host:port/path or https://host/path."
    if re.search(r"[^\x21-\x7e]", told) is not None:
        raise BadValue(f"{toml(told)} has a space, control or non-ASCII character", "Write it percent-encoded.")
    try:
        parts = urlsplit(told)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise BadValue(f"{toml(told)} is not a URL ({error})", mend) from error
    if not usable:
        raise BadValue(f"{toml(told)} is not a URL that a check can fetch", mend)
    if parts.username is not None:
        raise BadValue(f"{toml(told)} holds a user name", "Check what needs a login with an exec check instead.")
    return told


def matching(pattern: str, mend: str) -> Reader:
    """A text that matches the whole `pattern`."""

    def read(value: Any) -> str:
        told = text(value)
        if re.fullmatch(pattern, told) is None:
            raise BadValue(f"{toml(told)} can't be used", mend)
        return told

    return read


def one_of(*choices: str | int) -> Reader:
    def read(value: Any) -> str | int:
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in choices:
            raise BadValue(f"{toml(value)} can't be chosen", f"Write one of {', '.join(map(toml, choices))}.")
        return value

    return read


def whole(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadValue(f"{toml(value)} is out of range", f"Write a whole number from {low} to {high}.")
        return value

    return read


def number(low: float, high: float) -> Reader:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadValue(f"{toml(value)} is out of range", f"Write a number from {low:g} to {high:g}.")
        return float(value)

    return read
