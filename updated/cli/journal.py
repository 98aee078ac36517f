"""`updatectl log`: the journal of all that belongs to updates, by journalctl(1)."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from updated.core.errors import UpdatedError

# As journalctl(1) takes them; a * stands for the instance.
UNITS = (
    "updated", "updated-health", "updated-probation", "updated-deadline", "updated-baseline@*", "updated-hooks@*",
    "updated-warning", "updated-kexec", "updated-boot-count",
)  # fmt: skip


def command(options: argparse.Namespace) -> list[str]:
    """The words that show the log."""
    words = ["journalctl", *(word for unit in UNITS for word in ("-u", unit))]
    if options.root != "/":
        words += ["--root", options.root]
    if options.follow:
        words.append("--follow")
    if options.lines is not None:
        words += ["--lines", str(max(0, options.lines))]
    if options.boot is not None:
        words += [f"--boot={options.boot}"]
    if options.json:
        words += ["--output=json"]
    return words


def log(options: argparse.Namespace) -> int:
    """Becomes journalctl, with its exit status. Raises `UpdatedError` ("not-possible-now") when there is none."""
    path = shutil.which("journalctl")
    if path is None:
        raise UpdatedError(
            "not-possible-now", "the log", "journalctl is not installed",
            "The daemon logs to its standard error: look where your service manager keeps that.",
        )
    sys.stdout.flush()
    os.execv(path, command(options))  # noqa: S606
