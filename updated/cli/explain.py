"""`updatectl explain`: what a code means, what the node does about it by itself, and what a person can do."""

from __future__ import annotations

import argparse
import difflib
import json
from typing import Any

from updated.cli import exits
from updated.cli.mends import ERRORS, REASONS
from updated.cli.paper import Paper, paper_of
from updated.core.errors import CODES, UpdatedError

_WHOSE = {
    "network": "of the network", "repository": "of the repository", "device": "of this machine",
    "operator": "that an operator can mend", "bug": "of this program",
}  # fmt: skip


def explain(options: argparse.Namespace) -> int:
    """Prints one explanation, or all of them. Raises `UpdatedError` ("bad-request") for an unknown code."""
    found = explanations() if options.code is None else explanations_of(options.code)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(explained(found, paper_of(options.color)))
    return exits.DONE


def explanations() -> list[dict[str, Any]]:
    """All codes, reasons first; some are of both kinds."""
    reasons = [
        {
            "code": code, "kind": "reason", "meaning": meaning, "by_itself": by_itself, "mend": mend or None,
            "blame": None, "retry": None,
        }
        for code, (meaning, by_itself, mend) in REASONS.items()
    ]  # fmt: skip
    errors = [
        {
            "code": code, "kind": "error", "meaning": CODES[code].meaning, "by_itself": by_itself, "mend": mend,
            "blame": CODES[code].blame.value, "retry": CODES[code].retry,
        }
        for code, (by_itself, mend) in ERRORS.items()
    ]  # fmt: skip
    return [*reasons, *errors]


def explanations_of(code: str) -> list[dict[str, Any]]:
    """The explanations of a code, also of its name on the bus (`NotPossibleNow`, with or without what is before it)."""
    name = "".join(f"-{each.lower()}" if each.isupper() else each for each in code.rpartition(".")[2]).strip("-_ ")
    name = name.replace("_", "-").replace(" ", "-")
    found = [each for each in explanations() if each["code"] == name]
    if not found:
        known = sorted({*REASONS, *CODES})
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        near += [each for each in known if name and name in each and each not in near][:3]
        mend = f"Did you mean {', '.join(near)}? " if near else ""
        raise UpdatedError("bad-request", f"the code {code!r}", "is not known", f"{mend}'updatectl explain' lists all.")
    return found


def explained(found: list[dict[str, Any]], paper: Paper) -> str:
    """Explanations as lines."""
    lines: list[str] = []
    for each in found:
        kind = "why it waits" if each["kind"] == "reason" else f"error {_WHOSE[each['blame']]}"
        lines += [""] * bool(lines)
        lines.append(f"{paper.paint(each['code'], 'bold')}  ({kind})")
        lines += paper.wrapped("    ", each["meaning"])
        lines += paper.wrapped("    by itself: ", each["by_itself"])
        lines += paper.wrapped("    → ", each["mend"]) if each["mend"] else []
    return "\n".join(lines)
