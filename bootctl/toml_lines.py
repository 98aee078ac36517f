"""The lines of keys in a TOML text that tomllib has accepted already: it gives no positions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

_KEY_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY: Final = rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*"
_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEY})[ \t]*\]\]?")
_ASSIGNMENT: Final = re.compile(rf"[ \t]*({_KEY})[ \t]*=")
_OPAQUE: Final = re.compile(
    r'''
      """ (?: [^\\] | \\. )*? """+
    | \'\'\' .*? \'\'\'+
    | " (?: [^"\\\n] | \\. )* "
    | ' [^'\n]* '
    | \# [^\n]*
    ''',
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> Iterator[tuple[str, int]]:
    """Each key in `text`, dotted with its tables, and its line, from 1."""
    text = text.replace("\r\n", "\n")
    table = ""
    counts: dict[str, int] = {}
    position, line = 0, 1
    while position < len(text):
        header = _HEADER.match(text, position)
        assignment = _ASSIGNMENT.match(text, position)
        if header:
            table, key = "", _dotted(header[2])
            *parents, last = key
            for parent in parents:
                table = _inside(table, parent)
                if counts.get(table):
                    table = f"{table}[{counts[table] - 1}]"
            table = _inside(table, last)
            if header[1] == "[[":
                yield table, line
                counts[table] = counts.get(table, 0) + 1
                table = f"{table}[{counts[table] - 1}]"
            yield table, line
        elif assignment:
            name = table
            for part in _dotted(assignment[1]):
                name = _inside(name, part)
                yield name, line
        end = _end_of_statement(text, position)
        line += text.count("\n", position, end)
        position = end


def _inside(table: str, name: str) -> str:
    return f"{table}.{name}" if table else name


def _dotted(text: str) -> list[str]:
    """The parts of a dotted key, with quotes and escapes resolved."""
    import tomllib

    parts: list[str] = []
    value: Any = tomllib.loads(f"{text} = 0")
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        parts.append(name)
    return parts


def _end_of_statement(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        token = _OPAQUE.match(text, position)
        if token:
            position = token.end()
            continue
        character = text[position]
        position += 1
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "\n" and depth == 0:
            break
    return position
