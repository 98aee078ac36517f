"""A child of the daemon: it takes its task, gives up what it does not need, and only then loads what it works with.

What parses anything of the network is imported in functions here, and nowhere else on the way.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from typing import Any

from updated.confinement import confine, needs_of_fetch, needs_of_seal
from updated.task import Task, run

USAGE = """\
usage: updated fetch check|install
       updated seal  (the daemon starts them, with the task on stdin)
"""


def _check(task: Task) -> Mapping[str, Any]:
    notes = confine(needs_of_fetch(task))
    from updated.fetch import check

    return _with_notes(notes, check(task))


def _install(task: Task) -> Mapping[str, Any]:
    notes = confine(needs_of_fetch(task))
    from updated.fetch import fetch

    return _with_notes(notes, fetch(task))


def _seal(task: Task) -> Mapping[str, Any]:
    notes = confine(needs_of_seal(task))
    from updated.seal import seal

    return _with_notes(notes, seal(task))


def _with_notes(notes: list[str], result: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**result, "notes": [*notes, *result.get("notes", ())]}


WORKS: Mapping[tuple[str, ...], Callable[[Task], Mapping[str, Any]]] = {
    ("fetch", "check"): _check, ("fetch", "install"): _install, ("seal",): _seal,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """`updated fetch check|install` and `updated seal`, with the task on stdin; the exit status."""
    work = WORKS.get(tuple(arguments))
    if work is None:
        sys.stderr.write(USAGE)
        return 2
    # A child lives for one task, and makes millions of short-lived values without cycles.
    gc.disable()
    return run(work)
