"""Judges a value by a published JSON Schema (draft 2020-12); knows the words that those use, and refuses others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.documents import FOLDER

SCHEMAS = FOLDER / "schema"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),), "integer": (int,),
    "number": (int, float),
}  # fmt: skip
_WORDS = {
    "$schema", "title", "description", "$defs", "type", "properties", "required", "additionalProperties", "items",
    "enum", "const", "pattern", "minimum", "anyOf", "$ref",
}  # fmt: skip


def schema(name: str) -> dict[str, Any]:
    """The published schema of this name."""
    document: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text())
    return document


def misfits(name: str, value: Any, *, closed: bool = True) -> list[str]:
    """What does not fit the schema `name`; with `closed`, also each key that it does not describe."""
    root = schema(name)
    return list(_misfits(root, root, value, name, closed))


def _misfits(root: dict[str, Any], rule: dict[str, Any], value: Any, at: str, closed: bool) -> Iterator[str]:
    unknown = rule.keys() - _WORDS
    assert not unknown, f"{at}: the judge does not know {unknown}"
    if "$ref" in rule:
        yield from _misfits(root, root["$defs"][rule["$ref"].removeprefix("#/$defs/")], value, at, closed)
    if "anyOf" in rule:
        ways = [list(_misfits(root, each, value, at, closed)) for each in rule["anyOf"]]
        if all(ways):
            yield from min(ways, key=len) if value is not None else [f"{at}: null"]
    if "type" in rule and not _is(value, rule["type"]):
        yield f"{at}: {value!r} is no {rule['type']}"
        return
    if "enum" in rule and value not in rule["enum"]:
        yield f"{at}: {value!r} is none of {rule['enum']}"
    if "const" in rule and value != rule["const"]:
        yield f"{at}: {value!r} is not {rule['const']}"
    if "pattern" in rule and isinstance(value, str) and re.search(rule["pattern"], value) is None:
        yield f"{at}: {value!r} does not match {rule['pattern']}"
    if "minimum" in rule and isinstance(value, int | float) and value < rule["minimum"]:
        yield f"{at}: {value!r} is less than {rule['minimum']}"
    if isinstance(value, dict):
        yield from (f"{at}: lacks {key}" for key in rule.get("required", ()) if key not in value)
        known = rule.get("properties", {})
        for key, each in value.items():
            if key in known:
                yield from _misfits(root, known[key], each, f"{at}.{key}", closed)
            elif "additionalProperties" in rule:
                yield from _misfits(root, rule["additionalProperties"], each, f"{at}.{key}", closed)
            elif closed and known:
                yield f"{at}: {key} is not described"
    if isinstance(value, list) and "items" in rule:
        for number, each in enumerate(value):
            yield from _misfits(root, rule["items"], each, f"{at}[{number}]", closed)


def _is(value: Any, names: str | list[str]) -> bool:
    wanted = [names] if isinstance(names, str) else names
    if isinstance(value, bool):
        return "boolean" in wanted
    return any(isinstance(value, _TYPES[name]) for name in wanted)
