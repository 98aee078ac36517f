"""The parts of the documents that follow from the code.

`python -m tests.documents` (`make docs`) writes them anew, and with them the manual pages and the completions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from updated.bus.interface import NAME as BUS_NAME
from updated.bus.interface import description
from updated.bus.methods import DEEDS
from updated.bus.properties import INTERFACE, PROPERTIES, SIGNALS
from updated.bus.service import error_name
from updated.cli.mends import ERRORS
from updated.core.errors import CODES
from updated.core.events import Event
from updated.core.machine import ANY_PHASE, TABLE

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "packaging/doc"
BUS_DESCRIPTION = ROOT / "packaging/dbus-1/interfaces/org.updated.Updated1.xml"
DOCUMENTS = (ROOT / "README.md", *sorted(FOLDER.glob("*.md")))

ANNOUNCED = {"true": "with its value", "invalidates": "by its name"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (header, *rows)]
    first, *others = [f"| {line} |\n" for line in lines]
    return "".join([first, "|---" * len(header) + "|\n", *others])


def rows(text: str) -> list[list[str]]:
    """The cells of all tables in `text`, without their headers, with `code` marks taken off."""
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        is_header = number + 1 < len(lines) and lines[number + 1].startswith("|---")
        if line.startswith("| ") and not is_header:
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append([cell.strip().strip("`").replace("\\|", "|") for cell in cells])
    return found


def section(text: str, title: str) -> str:
    """What stands below the heading `title`, down to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert match is not None, f"there is no heading {title!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def summary(thing: Any) -> str:
    """The first line of a docstring."""
    assert thing.__doc__, f"{thing} has no docstring"
    return str(thing.__doc__).strip().splitlines()[0]


def events() -> str:
    """Each event of the machine, and what it is."""
    kinds: list[type[Event]] = []
    for kind in (*ANY_PHASE, *(each for _, each in TABLE)):
        if kind not in kinds:
            kinds.append(kind)
    return table(("event", "what it is"), [(f"`{kind.__name__}`", summary(kind)) for kind in kinds])


def transitions() -> str:
    """The table of the machine; phases that share a handler share a row, and those of no row are the last one's."""
    merged: dict[tuple[str, str], list[str]] = {}
    for (phase, kind), handler in TABLE.items():
        merged.setdefault((kind.__name__, summary(handler)), []).append(f"`{phase.value}`")
    for kind, handler in ANY_PHASE.items():
        own = any(each is kind for _, each in TABLE)
        merged.setdefault((kind.__name__, summary(handler)), []).append("any other" if own else "any")
    order = [kind.__name__ for kind in (*ANY_PHASE, *(kind for _, kind in TABLE))]
    lines = sorted(merged.items(), key=lambda item: order.index(item[0][0]))
    return table(
        ("event", "in", "what follows"), [(f"`{kind}`", ", ".join(phases), text) for (kind, text), phases in lines]
    )


def errors() -> str:
    """The catalogue of errors."""
    return table(
        ("code", "who can mend it", "a retry can help", "meaning"),
        [
            (f"`{name}`", code.blame.value, "yes" if code.retry else "no", code.meaning)
            for name, code in CODES.items()
        ],
    )


def mends() -> str:
    """What the node does about each error, and what helps against it, with the commands in it marked as such."""
    quoted = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
    return table(
        ("code", "what the node does by itself", "what to do"),
        [(f"`{name}`", by_itself, quoted.sub(r"`\1`", mend)) for name, (by_itself, mend) in ERRORS.items()],
    )


def methods() -> str:
    """The methods of the D-Bus interface."""
    return table(
        ("method", "argument", "polkit action", "what it does"),
        [
            (
                f"`{name}`", "".join(f"{argument} (`{kind}`)" for argument, kind in deed.method.takes),
                f"`{BUS_NAME}.{deed.action}`", deed.method.text,
            )
            for name, deed in DEEDS.items()
        ],
    )


def properties() -> str:
    """The properties of the D-Bus interface."""
    return table(
        ("property", "type", "announced", "what it is"),
        [
            (f"`{each.name}`", f"`{each.signature}`", ANNOUNCED[each.emits], each.text)
            for each in PROPERTIES
        ],
    )


def signals() -> str:
    """The signals of the D-Bus interface."""
    return table(
        ("signal", "carries", "when"),
        [
            (f"`{each.name}`", ", ".join(f"{name} (`{kind}`)" for name, kind in each.carries), each.text)
            for each in SIGNALS
        ],
    )


def bus_errors() -> str:
    """The errors of the D-Bus interface."""
    return table(
        ("error", "code", "meaning"),
        [(f"`{error_name(name)}`", f"`{name}`", code.meaning) for name, code in CODES.items()],
    )


GENERATED: Mapping[str, Callable[[], str]] = {
    "events": events, "transitions": transitions, "errors": errors, "mends": mends,
    "methods": methods, "properties": properties, "signals": signals, "bus_errors": bus_errors,
}
_PART = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)


def generated_parts(text: str) -> list[tuple[str, str]]:
    """Name and content of each generated part in a document."""
    return [(match[2], match[3]) for match in _PART.finditer(text)]


def regenerated(text: str) -> str:
    """A document with its generated parts as the code gives them now."""
    return _PART.sub(lambda match: match[1] + GENERATED[match[2]]() + match[4], text)


def metric_name(metric: Any) -> str:
    """The name of a metric as Prometheus sees it."""
    name: str = metric._name
    return f"{name}_total" if isinstance(metric, Counter) else name


if __name__ == "__main__":
    from tests import completions, manual

    for document in DOCUMENTS:
        document.write_text(regenerated(document.read_text()))
    BUS_DESCRIPTION.write_text(description([INTERFACE]))
    manual.write()
    completions.write()
