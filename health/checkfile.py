"""The format of a check file (TOML): text <-> values, and errors that name the line, the key and the mend."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bootctl.settings import ConfigError
from health.check import (
    DiskSpaceProbe,
    ExecProbe,
    FailedUnitsProbe,
    HttpProbe,
    MountProbe,
    Pace,
    Probe,
    TcpProbe,
    UnitProbe,
)


class _BadValue(Exception):
    """Carries the cause and the mend up to where the file and the key are known."""

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.mend = mend


_Reader = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _BadValue(f"{value!r} is not a text", "Write a text in quotes that is not empty.")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _BadValue(f"{value!r} is not a list", 'Write a list of texts, such as ["one", "two"].')
    return tuple(_text(item) for item in value)


def _command(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _BadValue(f"{value!r} is not a command", 'Write program and arguments as a list: ["/bin/true"].')
    head, *rest = value
    if any(not isinstance(item, str) or "\0" in item for item in rest):
        raise _BadValue(f"{value!r} has an argument that is not a text", "Put each argument in quotes.")
    return (_text(head), *rest)


def _path(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise _BadValue(f"{text!r} is not an absolute path", "Begin it with a slash.")
    return text


def _unit(value: Any) -> str:
    text = _text(value)
    if re.fullmatch(r"[A-Za-z0-9:_.\\@-]+\.[a-z]+", text) is None:
        raise _BadValue(f"{text!r} is not a unit's full name", "Write it with its ending, such as sshd.service.")
    return text


def _url(value: Any) -> str:
    text = _text(value)
    mend = "Write it as http://host:port/path or https://host/path."
    if re.search(r"[^\x21-\x7e]", text) is not None:
        raise _BadValue(f"{text!r} has a space, control or non-ASCII character", "Write it percent-encoded.")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise _BadValue(f"{text!r} is not a URL ({error})", mend) from error
    if not usable:
        raise _BadValue(f"{text!r} is not a URL that a check can fetch", mend)
    if parts.username is not None:
        raise _BadValue(f"{text!r} holds a user name", "Check what needs a login with an exec check instead.")
    return text


def _whole(low: int, high: int) -> _Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _BadValue(f"{value!r} is out of range", f"Write a whole number from {low} to {high}.")
        return value

    return read


def _number(low: float, high: float) -> _Reader:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _BadValue(f"{value!r} is out of range", f"Write a number from {low:g} to {high:g}.")
        return float(value)

    return read


@dataclass(frozen=True, slots=True)
class _Type:
    """One `type`: its keys with their readers, those that must be there, and those of which one must be."""

    build: Callable[..., Probe]
    readers: Mapping[str, _Reader]
    needed: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()


_ROOM = ("free_bytes", "free_percent", "free_inodes_percent")

_TYPES: Mapping[str, _Type] = {
    ExecProbe.type: _Type(ExecProbe, {"command": _command}, needed=("command",)),
    UnitProbe.type: _Type(UnitProbe, {"unit": _unit}, needed=("unit",)),
    FailedUnitsProbe.type: _Type(FailedUnitsProbe, {"ignore": _texts}),
    HttpProbe.type: _Type(HttpProbe, {"url": _url, "status": _whole(100, 599), "contains": _text}, needed=("url",)),
    TcpProbe.type: _Type(TcpProbe, {"host": _text, "port": _whole(1, 65535)}, needed=("host", "port")),
    DiskSpaceProbe.type: _Type(
        DiskSpaceProbe,
        {
            "path": _path,
            "free_bytes": _whole(0, 2**63 - 1),
            "free_percent": _number(0, 100),
            "free_inodes_percent": _number(0, 100),
        },
        needed=("path",),
        one_of=_ROOM,
    ),
    MountProbe.type: _Type(MountProbe, {"path": _path, "options": _texts, "fstype": _text}, needed=("path",)),
}

_PACE: Mapping[str, _Reader] = {
    "timeout_seconds": _number(0.1, 3600),
    "retries": _whole(0, 1000),
    "retry_delay_seconds": _number(0, 3600),
    "settle_seconds": _number(0, 3600),
}


def parse_check(data: bytes, file: str) -> tuple[Probe, Pace]:
    """The probe and the pace that a check file describes. `file` is for the errors only.

    Raises ConfigError, and nothing else whatever the bytes are.
    """
    try:
        text = data.decode()
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, "it is not UTF-8", "Save the file as UTF-8.", line=line) from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        cause = str(error) if found is None else str(error)[: found.start()]
        raise ConfigError(file, f"it is not TOML ({cause})", "Correct that line.", line=line) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(file, f"it is not TOML ({error})", "Write plain keys and values.") from error

    def refuse(key: str, cause: str, mend: str) -> ConfigError:
        place = re.search(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=", text, re.MULTILINE)
        line = text.count("\n", 0, place.start()) + 1 if place else None
        return ConfigError(file, cause, mend, line=line, key=key)

    name = table.pop("type", None)
    described = _TYPES.get(name) if isinstance(name, str) else None
    if described is None:
        cause = "there is no type" if name is None else f"there is no type {name!r}"
        raise refuse("type", cause, f"Write one of {', '.join(_TYPES)}.")
    pace: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for key, value in table.items():
        reader = _PACE.get(key) or described.readers.get(key)
        if reader is None:
            known = ", ".join((*described.readers, *_PACE))
            raise refuse(key, f"a check of type {name} has no such key", f"The keys are type, {known}.")
        try:
            (pace if key in _PACE else keys)[key] = reader(value)
        except _BadValue as bad:
            raise refuse(key, bad.cause, bad.mend) from bad
    for key in described.needed:
        if key not in keys:
            raise refuse(key, f"a check of type {name} needs it", f"Add a line {key} = …")
    if described.one_of and not any(key in keys for key in described.one_of):
        raise ConfigError(
            file, "it asks for nothing", f"Add one or more of {', '.join(described.one_of)}.", key=str(name)
        )
    return described.build(**keys), Pace(**pace)
