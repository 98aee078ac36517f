"""Strict reading of JSON documents: every key known, every type as said, sizes bounded.

Used for signed manifests and for our own records alike; any misfit is one typed error that names the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from updated.core.errors import UpdatedError

T = TypeVar("T")
MAX_DEPTH = 16
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EARLIEST = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LATEST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


class Misfit(Exception):
    """A field that does not fit; the text names it."""


def _depth_checked(text: str) -> None:
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Misfit(f"is nested deeper than {MAX_DEPTH} levels")
        elif character in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise Misfit("has a key twice")
    return seen


def _no_constant(name: str) -> Any:
    raise Misfit(f"holds {name}, which is not JSON")


def _lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def load_object(data: bytes, *, what: str, code: str, mend: str) -> Object:
    """The JSON object in `data`. Raises `UpdatedError` with `code` when it is none."""
    try:
        text = data.decode("utf-8")
        _depth_checked(text)
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        if not isinstance(value, dict):
            raise Misfit("is not an object")
        if _lone_surrogate(value):
            raise Misfit("holds half of a surrogate pair, which is no character")
    except UnicodeDecodeError:
        raise UpdatedError(code, what, "is not UTF-8", mend) from None
    except (ValueError, RecursionError, Misfit) as error:
        raise UpdatedError(code, what, str(error) or "is not JSON", mend) from None
    return Object(value, "")


def parsed(parse: Callable[[], T], *, what: str, code: str, mend: str) -> T:
    """The result of `parse`; a `Misfit` becomes an `UpdatedError` with `code`."""
    try:
        return parse()
    except Misfit as error:
        raise UpdatedError(code, what, str(error), mend) from None


class Object:
    """One JSON object that is read key by key; `done()` refuses what was not read."""

    def __init__(self, value: Mapping[str, Any], path: str) -> None:
        self._value = value
        self._path = path
        self._read: set[str] = set()

    def name(self, key: str) -> str:
        """The full name of `key`, for messages."""
        return f"{self._path}.{key}" if self._path else key

    def _take(self, key: str, kind: type[Any] | tuple[type[Any], ...], noun: str) -> Any:
        self._read.add(key)
        if key not in self._value:
            raise Misfit(f"{self.name(key)} is missing")
        value = self._value[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Misfit(f"{self.name(key)} is not {noun}")
        return value

    def has(self, key: str) -> bool:
        """Whether `key` is there and not null."""
        self._read.add(key)
        return self._value.get(key) is not None

    def text(self, key: str, *, most: int = 4096) -> str:
        """A string of at most `most` characters."""
        value: str = self._take(key, str, "a text")
        if len(value) > most:
            raise Misfit(f"{self.name(key)} is longer than {most} characters")
        return value

    def line(self, key: str, *, most: int = 4096) -> str:
        """A string without control characters, fit for a log and a terminal."""
        value = self.text(key, most=most)
        if _CONTROL.search(value):
            raise Misfit(f"{self.name(key)} holds control characters")
        return value

    def number(self, key: str, *, least: int = 0, most: int = 2**53) -> int:
        """A whole number within limits."""
        value: int = self._take(key, int, "a whole number")
        if not least <= value <= most:
            raise Misfit(f"{self.name(key)} is not between {least} and {most}")
        return value

    def real(self, key: str, *, least: float, most: float) -> float:
        """A number within limits."""
        value: float = self._take(key, (int, float), "a number")
        if not least <= value <= most:
            raise Misfit(f"{self.name(key)} is not between {least} and {most}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value: bool = self._take(key, bool, "true or false")
        return value

    def digest(self, key: str) -> str:
        """A SHA-256 as 64 lower-case hexadecimal digits."""
        value: str = self._take(key, str, "a SHA-256 digest")
        if _SHA256.fullmatch(value) is None:
            raise Misfit(f"{self.name(key)} is not a SHA-256 digest in lower-case hexadecimal")
        return value

    def time(self, key: str) -> int:
        """An RFC 3339 time in UTC (`2026-01-31T00:00:00Z`), as seconds since the epoch."""
        value: str = self._take(key, str, "a time")
        try:
            return parse_time(value)
        except ValueError:
            raise Misfit(f"{self.name(key)} is not a time such as 2026-01-31T00:00:00Z") from None

    def object(self, key: str) -> Object:
        """A nested object."""
        return Object(self._take(key, dict, "an object"), self.name(key))

    def objects(self, key: str, *, most: int = 1000) -> list[Object]:
        """A list of objects."""
        values: list[Any] = self._take(key, list, "a list")
        if len(values) > most:
            raise Misfit(f"{self.name(key)} has more than {most} entries")
        if not all(isinstance(value, dict) for value in values):
            raise Misfit(f"{self.name(key)} is not a list of objects")
        return [Object(value, f"{self.name(key)}[{position}]") for position, value in enumerate(values)]

    def lines(self, key: str, *, most: int = 100) -> list[str]:
        """A list of strings without control characters."""
        values: list[Any] = self._take(key, list, "a list")
        if len(values) > most:
            raise Misfit(f"{self.name(key)} has more than {most} entries")
        names = [f"{key}[{position}]" for position in range(len(values))]
        entries = Object(dict(zip(names, values, strict=True)), self._path)
        return [entries.line(name) for name in names]

    def keys(self) -> list[str]:
        """All keys, for objects that map free names; the caller reads each."""
        return list(self._value)

    def done(self) -> None:
        """Refuses keys that nobody read."""
        unknown = sorted(set(self._value) - self._read)
        if unknown:
            raise Misfit(f"{self.name(unknown[0])} is not a known key")


def parse_time(text: str) -> int:
    """Seconds since the epoch of an RFC 3339 time in UTC. Raises `ValueError`."""
    if _RFC3339.fullmatch(text) is None:
        raise ValueError(text)
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def format_time(seconds: float) -> str:
    """`seconds` since the epoch as RFC 3339 in UTC, to the second; what it can't write becomes its first or last."""
    moment = datetime.fromtimestamp(min(max(int(seconds), _EARLIEST), _LATEST), UTC)
    return moment.replace(tzinfo=None).isoformat() + "Z"


def dump(value: Any) -> bytes:
    """`value` as JSON: sorted keys, two spaces, one newline at the end; half of a surrogate pair becomes `?`."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(errors="replace")
