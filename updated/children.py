"""Starts `fetch` and `seal`, relays their progress, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pwd
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from updated.core.errors import UpdatedError
from updated.task import Task

# A child that says nothing for so long hangs: its own limits on slow servers and disks are far below.
SILENCE_SECONDS = 900.0
START_SECONDS = 60.0
MAX_LINE = 1 << 20

Message = Mapping[str, Any]


def account(name: str) -> tuple[int, int] | None:
    """The user and group id for the downloader; None where this process may not change users anyway.

    Every process of that user is ended after a download (`sweep`), so it must be a user of its own, and never root.
    Raises `UpdatedError` ("bad-config") when there is no such user, or when it is root.
    """
    if os.geteuid() != 0 or not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UpdatedError(
            "bad-config", f"the user {name}", "does not exist",
            "Create it with systemd-sysusers, or name another in [fetch] user.",
        ) from None
    if entry.pw_uid == 0:
        raise UpdatedError(
            "bad-config", f"the user {name}", "is root, and what talks to the network must not be",
            "Name a user of its own in [fetch] user.",
        )
    return entry.pw_uid, entry.pw_gid


class Children:
    """Runs one child at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._kills = 0

    async def run(
        self, arguments: list[str], task: Task, progress: Callable[[Message], None],
        user: tuple[int, int] | None = None,
    ) -> Message:
        """The result of `updated ARGUMENTS` for `task`. Raises `UpdatedError`: the child's own, or "child-failed"."""
        identity: dict[str, Any] = {}
        if user is not None:
            identity = {"user": user[0], "group": user[1], "extra_groups": []}
        kills = self._kills
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: else a module in the working directory would be taken for one of the standard library.
                sys.executable, "-P", "-m", "updated", *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MAX_LINE, umask=0o022,
                pass_fds=task.descriptors(),
                start_new_session=True, **identity,
            )
        except OSError as error:
            raise UpdatedError(
                "bad-config", f"the process 'updated {arguments[0]}'",
                f"can not be started: {sys.executable}: {error.strerror}",
                "Let the user of [fetch] read and run the files of this program.",
            ) from None
        self._process = process
        if kills != self._kills:
            _kill(process)  # it was asked for while the process was being made
        try:
            return await self._converse(process, task, progress, arguments[0])
        finally:
            self._process = None
            await _end(process)
            if user is not None:
                await sweep(user)

    def kill(self) -> None:
        """Ends the child that runs, at once."""
        self._kills += 1
        if self._process is not None:
            _kill(self._process)

    async def _converse(
        self, process: asyncio.subprocess.Process, task: Task, progress: Callable[[Message], None], name: str
    ) -> Message:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the child has no pipes")
        with contextlib.suppress(ConnectionError, TimeoutError):
            process.stdin.write(dataclasses.replace(task, parent=os.getpid()).to_json())
            await asyncio.wait_for(process.stdin.drain(), START_SECONDS)
        process.stdin.close()
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), SILENCE_SECONDS)
            except TimeoutError:
                raise _child_failed(name, f"said nothing for {SILENCE_SECONDS:.0f} seconds") from None
            except ValueError:
                raise _child_failed(name, "said something too long") from None
            if not line:
                break
            message = _message(line)
            if message is None:
                raise _child_failed(name, f"said something unknown: {line[:80]!r}")
            if message["type"] == "error":
                raise UpdatedError.from_json(message.get("error"))
            if message["type"] == "result":
                return message
            progress(message)
        status = await process.wait()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise _child_failed(name, f"{how}, without a result")


async def sweep(user: tuple[int, int]) -> None:
    """Ends every process of the downloader's user, so that none still holds the slot open when it is sealed.

    A downloader that was taken over by the network could have left one behind, in a session of its own. kill(2) with
    -1 reaches all processes that the caller may signal, at one instant, and not the caller itself.
    """
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "kill -9 -1", user=user[0], group=user[1], extra_groups=[],
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )
    await process.wait()


def _message(line: bytes) -> Message | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(message, dict) and message.get("type") in ("progress", "plan", "result", "error"):
        return message
    return None


def _child_failed(name: str, cause: str) -> UpdatedError:
    return UpdatedError("child-failed", f"the process 'updated {name}'", cause, "It is tried again; see the log.")


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1)
    if process.returncode is None:
        _kill(process)
        await process.wait()
