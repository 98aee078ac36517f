"""`updatectl doctor`: looks at all that an update needs on this node, and says what to mend. It changes nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from bootctl.errors import mend_of
from updated.cli import exits, findings
from updated.cli.findings import Finding, Node
from updated.cli.paper import Paper, paper_of, plain
from updated.core.errors import UpdatedError

CHECKS: Sequence[tuple[str, Callable[[Node], list[Finding]]]] = (
    ("configuration", findings.configuration), ("boot-reference", findings.boot_reference),
    ("slots", findings.slots), ("root-of-trust", findings.root_of_trust), ("expiry", findings.expiry),
    ("state", findings.state), ("daemon", findings.daemon), ("bus", findings.bus), ("units", findings.units),
    ("reboot", findings.reboot), ("health-checks", findings.health_checks),
)  # fmt: skip
_MARKS = {"ok": ("✓", "good"), "skipped": ("–", "dim"), "note": ("i", "dim"), "warning": ("!", "warning"),
          "error": ("×", "bad")}  # fmt: skip


def doctor(options: argparse.Namespace) -> int:
    """Prints the findings; fails when one of them is an error."""
    found = examine(options.root)
    well = not any(each["severity"] == "error" for each in found)
    if options.json:
        print(json.dumps({"well": well, "findings": found}, indent=2, ensure_ascii=False))
    else:
        print(findings_text(found, paper_of(options.color)))
    return exits.DONE if well else exits.FAILED


def examine(root: str) -> list[dict[str, Any]]:
    """All findings: `check`, `severity` (ok, skipped, note, warning, error), `text`, `mend` (or null)."""
    node = Node(root)
    found: list[dict[str, Any]] = []
    for name, look in CHECKS:
        try:
            results = look(node)
        except UpdatedError as error:
            results = [Finding("error", f"{error.what}: {error.cause}", error.mend)]
        except OSError as error:
            text = f"{error.filename or 'it'} can't be read: {error.strerror}"
            results = [Finding("skipped", text, mend_of(error))]
        found += [
            {"check": name, "severity": each.severity, "text": each.text, "mend": each.mend or None} for each in results
        ]
    return found


def findings_text(found: Sequence[dict[str, Any]], paper: Paper) -> str:
    """The findings as lines, and how many are to be mended."""
    width = max(len(each["check"]) for each in found)
    lines: list[str] = []
    for each in found:
        mark, colour = _MARKS[each["severity"]]
        first, *more = paper.wrapped(f"{mark} {each['check']:<{width}}  ", plain(each["text"]))
        lines += [paper.paint(mark, colour) + first[1:], *more]
        if each["mend"]:
            lines += paper.wrapped(" " * (width + 4) + "→ ", plain(each["mend"]))
    errors, warnings = (sum(each["severity"] == name for each in found) for name in ("error", "warning"))
    lines += ["", f"{_count(errors, 'error')}, {_count(warnings, 'warning')}."]
    return "\n".join(lines)


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
