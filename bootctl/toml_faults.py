"""What tomllib says of a text that is no TOML, in words for people. Pure."""

from __future__ import annotations

import re
from typing import Final

_AT_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")
# It names keys by tuples of Python: "Cannot declare ('fetch',) twice".
_PART: Final = r"(?:'[^']*'|\"[^\"]*\")"
_KEY: Final = re.compile(rf"\(({_PART}(?:, {_PART})*),?\)")
_SAYINGS: Final = (
    (re.compile(r"^Cannot declare (.*) twice$"), r"the table [\1] is there already; all of it belongs into one"),
    (re.compile(r"^Cannot (?:mutate immutable|redefine) namespace (.*)$"), r"\1 was set already"),
    (re.compile(r"^Cannot overwrite a value$"), "this key was set already"),
)


def line_and_cause(message: str, text: str) -> tuple[int, str]:
    """The line of `text` that is wrong, counted from 1, and what is wrong with it: by the `message` of tomllib."""
    found = _AT_LINE.search(message)
    line = int(found[1]) if found else text.count("\n") + 1
    cause = _AT_LINE.sub("", message).removesuffix(" (at end of document)")
    cause = _KEY.sub(lambda key: ".".join(part[1:-1] for part in re.findall(_PART, key[1])), cause)
    for saying, words in _SAYINGS:
        cause = saying.sub(words, cause)
    return line, cause
