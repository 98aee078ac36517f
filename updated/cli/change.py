"""The verbs that change something: one D-Bus call each, as the caller; the daemon and polkit decide."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from typing import Any

from updated.cli import exits, follow
from updated.cli.statusfile import read_status
from updated.core.document import parse_time
from updated.core.errors import UpdatedError
from updated.directory import open_place

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def hold_end(text: str | None, now: float) -> int:
    """The end of a hold in seconds since the epoch, 0 for none. Raises `UpdatedError` ("bad-request")."""
    if text is None:
        return 0
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is not None:
        return int(now) + int(match[1]) * _UNITS[match[2]]
    try:
        end = parse_time(text)
    except ValueError:
        raise UpdatedError(
            "bad-request", f"the end {text!r}", "is neither a time nor a length",
            "Write 2026-12-24T18:00:00Z, or 90m, 12h, 7d, 2w.",
        ) from None
    if end <= now:
        raise UpdatedError("bad-request", f"the end {text!r}", "is in the past", "Give one in the future.")
    return end


def change(options: argparse.Namespace) -> int:
    """Asks the daemon, and waits for the outcome where the verb has one."""
    arguments: list[Any] = []
    signature = ""
    match options.verb:
        case "channel":
            member, signature, arguments = "SetChannel", "s", [options.name]
        case "hold":
            member, signature, arguments = "Hold", "t", [hold_end(options.until, time.time())]
        case "allow":
            member, signature, arguments = "Allow", "s", [options.version]
        case "import":
            member, signature, arguments = "Import", "h", [0]
        case "reboot" if options.force:
            member = "RebootNow"
        case verb:
            member = verb.capitalize()
    waits = options.verb in ("check", "install", "import") and not options.no_wait
    # It is opened here, so that nobody imports what only the daemon may read.
    files = [open_place(options.path)] if options.verb == "import" else []
    before = read_status(options.root) if waits else {}
    asyncio.run(_call(member, signature, arguments, files))
    if waits:
        return follow.wait(options.root, before, as_json=options.json)
    if options.json:
        print("{}")
    else:
        print(_done(options))
    return exits.DONE


def _done(options: argparse.Namespace) -> str:
    match options.verb:
        case "channel":
            return f"The node follows channel {options.name} from now on."
        case "hold":
            return "Updates are paused; 'updatectl unhold' ends it."
        case "unhold":
            return "Updates go on."
        case "allow":
            return f"Release {options.version} may be tried again."
        case "reboot" if options.force:
            return "The machine reboots."
        case "reboot" | "rollback":
            return "The machine reboots, unless a pre-reboot hook refuses it; 'updatectl watch' follows it."
        case _:
            return "Asked for; 'updatectl watch' follows it."


async def _call(member: str, signature: str, arguments: list[Any], files: list[int]) -> None:
    from dbus_next import BusType, Message, MessageFlag, MessageType
    from dbus_next.aio import MessageBus

    try:
        bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=bool(files)).connect()
    except (OSError, EOFError) as error:
        raise UpdatedError(
            "daemon-not-running", "the system bus", str(error), "Start dbus and the daemon: systemctl start updated."
        ) from None
    try:
        reply = await bus.call(
            Message(
                destination="org.updated.Updated1", path="/org/updated/Updated1", interface="org.updated.Updated1",
                member=member, signature=signature, body=arguments,
                flags=MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION, unix_fds=files,
            )
        )
    finally:
        bus.disconnect()  # type: ignore[no-untyped-call]
    if reply is None or reply.message_type is not MessageType.ERROR:
        return
    text = str(reply.body[0]) if reply.body else ""
    name = reply.error_name or ""
    if name.startswith("org.updated.Updated1.Error."):
        raise _Answer(name.rpartition(".")[2], text)
    if name.endswith((".ServiceUnknown", ".NameHasNoOwner", ".Spawn.ChildExited")):
        raise UpdatedError(
            "daemon-not-running", "the daemon", "is not on the bus", "Start it: systemctl start updated."
        )
    code = "not-authorized" if name.endswith(".AccessDenied") else "internal"
    raise UpdatedError(code, f"the call of {member}", text or name, "See the log: journalctl -u updated.")


class _Answer(UpdatedError):
    """What the daemon answered, in its own words."""

    def __init__(self, name: str, text: str) -> None:
        code = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
        super().__init__(code, text, "", "")

    def __str__(self) -> str:
        return self.what
