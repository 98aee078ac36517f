"""A value of the configuration as a person would write it, in TOML 1.0, on one line."""

from __future__ import annotations

import re
from typing import Any, Final

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def toml(value: Any) -> str:
    """`value`, of a type that tomllib gives, as TOML. What can't be printed is escaped."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{"".join(map(_character, value))}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            pairs = [f"{_key(key)} = {toml(each)}" for key, each in value.items()]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
        case _:  # numbers and times are the same in Python
            return str(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else toml(key)


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
