"""Asks for a reboot, by the command that the configuration names."""

from __future__ import annotations

import asyncio

from updated.core.errors import UpdatedError


async def ask_for_reboot(command: list[str], argument: str = "") -> None:
    """Runs the command that reboots the machine, with `argument` for the firmware as systemctl(1) takes it.

    Raises `UpdatedError` ("reboot-failed").
    """
    if argument:
        command = [*command, f"--reboot-argument={argument}"]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise _reboot_failed(command, error.strerror or str(error)) from None
    try:
        _, output = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise _reboot_failed(command, "did not end within 60 seconds") from None
    if process.returncode != 0:
        text = output.decode(errors="replace").strip()[-300:]
        raise _reboot_failed(command, f"ended with status {process.returncode} ({text})")


def _reboot_failed(command: list[str], cause: str) -> UpdatedError:
    return UpdatedError(
        "reboot-failed", f"the command {' '.join(command)!r}", cause,
        "Reboot the machine yourself, or correct [updates] reboot_command.",
    )
