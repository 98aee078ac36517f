"""The reboot, and what comes before it on the slot that runs: the baseline of health, warnings, and the hooks.

All of it happens outside of the daemon's sandbox, by units of their own: checks and hooks are any programs, and
terminals belong to users.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from bootctl import durable
from updated.command import fault_of
from updated.core.document import format_time, parse_time
from updated.core.errors import UpdatedError

REBOOT_SECONDS = 60.0
# Longer than the units may take by their own limits.
BASELINE_SECONDS = 240.0
HOOKS_SECONDS = 1380.0
WARNING_SECONDS = 30.0
# It reads the kernel from the EFI system partition.
KEXEC_SECONDS = 200.0
WARNING_UNIT = "updated-warning.service"
KEXEC_UNIT = "updated-kexec.service"
HOOKS_UNIT = "updated-hooks@pre-reboot.service"
MAX_RECORD_LENGTH = 1_000_000


async def ask_for_reboot(command: Sequence[str], argument: str = "") -> None:
    """Runs the command that reboots the machine, with `argument` for the firmware as systemctl(1) takes it.

    Raises `UpdatedError` ("reboot-failed").
    """
    if argument:
        command = [*command, f"--reboot-argument={argument}"]
    fault = await fault_of(command, REBOOT_SECONDS)
    if fault is not None:
        raise UpdatedError(
            "reboot-failed", f"the command {' '.join(command)!r}", fault,
            "Reboot the machine yourself, or correct [updates] reboot_command.",
        )


async def ask_for_kexec(start: Sequence[str]) -> str | None:
    """Has the kernel of the slot that boots next started without firmware and loader; why that can't be, or None.

    `start` is as in `take_baseline`. Then no kernel stays loaded.
    """
    return await fault_of([*start, KEXEC_UNIT], KEXEC_SECONDS)


async def take_baseline(start: Sequence[str], version: str) -> str | None:
    """Has health keep what its checks say now, for the judgement of `version`; why there is none, or None.

    `start` is the command that starts a unit, and waits for its end.
    """
    return await fault_of([*start, baseline_unit(version)], BASELINE_SECONDS)


def baseline_unit(version: str) -> str:
    """The unit that takes the baseline before `version` (of `core.version`) boots, escaped as by systemd-escape(1)."""
    escaped = "".join(
        each if each.isascii() and (each.isalnum() or each in "_.") else f"\\x{ord(each):02x}" for each in version
    )
    return f"updated-baseline@{escaped}.service"


async def warn_users(start: Sequence[str], path: str, version: str, until: int, seconds: int) -> str | None:
    """Tells all who are logged in, on their terminals, of the reboot at `until` (epoch); why it failed, or None.

    `start` is as in `take_baseline`; `path` is the file from which the unit takes the text.
    """
    wait = f"{-(-seconds // 60)} minutes" if seconds > 60 else "a minute"
    text = f"This machine reboots in {wait}, at {format_time(until)}, to start {version}, which is installed.\n"
    try:
        durable.write_file(path, f"{text}'updatectl hold' stops that.\n".encode(), mode=0o644)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return await fault_of([*start, WARNING_UNIT], WARNING_SECONDS)


async def ask_hooks(start: Sequence[str], record: str) -> None:
    """Returns when all pre-reboot hooks have passed. Raises `UpdatedError` ("hook-refused").

    `start` is as in `take_baseline`; `record` is the file in which health keeps what became of hooks.
    """
    begun = int(time.time())
    fault = await fault_of([*start, HOOKS_UNIT], HOOKS_SECONDS)
    if fault is None:
        return
    mend = "It is tried again. See 'journalctl -u updated-hooks@pre-reboot'; 'updatectl reboot --force' runs no hook."
    failed = _failed_hook(record, begun)
    if failed is None:
        raise UpdatedError("hook-refused", "the pre-reboot hooks", f"{HOOKS_UNIT} {fault}", mend)
    raise UpdatedError("hook-refused", f"the pre-reboot hook {failed[0]}", failed[1], mend)


def _failed_hook(path: str, begun: int) -> tuple[str, str] | None:
    """The hook that failed since `begun`, and how; None when the record tells of none: it is for people alone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            last: Any = json.loads(file.read(MAX_RECORD_LENGTH))["hooks"]["pre-reboot"]
        if parse_time(last["at"]) < begun:
            return None
        program = next(each for each in last["programs"] if each["result"] != "pass")
        words = {"fail": "failed", "timeout": "took too long"}.get(program["result"], str(program["result"]))
        return str(program["program"]), f"{words} ({str(program['output']).strip()[-300:]})"
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None
