"""Runs the commands by which the daemon reaches out of its sandbox: each asks the service manager for something."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

MOST_TEXT = 300
# Without it `systemctl reboot` of a newer systemd starts a kernel that somebody loaded, past the boot reference.
_ENVIRONMENT = {"SYSTEMCTL_SKIP_AUTO_KEXEC": "1"}


async def fault_of(command: Sequence[str], seconds: float) -> str | None:
    """Runs `command` without a shell, for `seconds` at most; why it failed, or None when it ended with 0."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
        )  # fmt: skip
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    try:
        _, output = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        return f"did not end within {seconds:g} seconds"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    text = output.decode(errors="replace").strip()[-MOST_TEXT:]
    return f"ended with status {process.returncode} ({text})"
