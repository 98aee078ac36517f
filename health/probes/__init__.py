"""One attempt at a check: a module for each family of types, and here what all of them need.

A module is loaded only when a check asks for one of its types (see `health.checkfile`). It holds, for each type, the
values, how to look, and in `TYPES` the keys of the check file.
"""

import os
from dataclasses import dataclass

from health.check import OUTPUT_LIMIT, Attempt, Check
from health.commands import Commands
from health.rootdir import below


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the checks run: the root directory as an absolute path, and whether systemd runs this very system."""

    root: str
    systemd: bool
    commands: Commands

    @classmethod
    def of(cls, root: str) -> "Surroundings":
        """`systemd` is told as sd_booted(3) does; below another root it is never the one that runs there."""
        return cls(root, root == "/" and os.path.isdir("/run/systemd/system"), Commands())


def attempt(check: Check, around: Surroundings) -> Attempt:
    """Makes one attempt at `check`, within about its time-out. May raise OSError, which is a failed attempt."""
    return check.probe.attempt(check.pace.timeout_seconds, around)


def cause(error: Exception) -> str:
    """The system's words without its number, since a person reads them."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def headed(headline: str, output: str) -> str:
    return f"{headline}\n{output[-(OUTPUT_LIMIT - len(headline) - 1) :]}"


def no_systemd(around: Surroundings) -> Attempt:
    return Attempt("skip", "no systemd runs here" if around.root == "/" else "no systemd below --root")


def of_the_kernel(around: Surroundings, path: str) -> str | None:
    """The text of a file of /proc as seen inside the root; None when that root has none. Raises OSError."""
    try:
        with open(below(around.root, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def nothing_told(around: Surroundings, path: str) -> Attempt:
    """The kernel can't say, since it was built or started without this: no reason to leave a slot."""
    return Attempt("skip", f"the kernel has no {path}" if around.root == "/" else f"no {path} below --root")
