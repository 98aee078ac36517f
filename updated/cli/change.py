"""The verbs that change something: one D-Bus call each, as the caller; the daemon and polkit decide."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from updated.cli import exits, follow
from updated.cli.answers import BUS_NAME, fault_of
from updated.cli.paper import paper_of
from updated.cli.spans import hold_end
from updated.cli.statusfile import never_set_up, read_status
from updated.cli.when import moment
from updated.cli.why import obstacles
from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.selection import NOTHING_TO_INSTALL
from updated.directory import open_import

_FOLLOW = "'updatectl watch' follows it."


def change(options: argparse.Namespace) -> int:
    """Asks the daemon, and waits for the outcome where that is wanted."""
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
        case "rollback" if options.force:
            member = "RollbackAnyway"
        case verb:
            member = verb.capitalize()
    if (unset := never_set_up(options.root)) is not None:
        raise unset
    waits = getattr(options, "wait", False)
    # It is opened here, so that nobody imports what only the daemon may read.
    files = [open_import(options.path)] if options.verb == "import" else []
    before = read_status(options.root) if waits else {}
    first = anyway = ""
    if options.verb == "rollback":
        first = _leaving(options.root)
    elif options.verb == "allow":
        anyway = _not_taken(options.root, options.version)
    elif options.verb == "unhold" and not _is_held(options.root):
        first = "Nothing was held. "
    asyncio.run(_call(member, signature, arguments, files))
    if not options.json:
        print(first + _done(options, anyway))
    if waits:
        return _waited(options, before)
    if options.json:
        print(json.dumps({"requested": options.verb}))
    return exits.DONE


def _waited(options: argparse.Namespace, before: dict[str, Any]) -> int:
    try:
        document = follow.wait(options.root, before, as_json=options.json, paper=paper_of(options.color))
    except UpdatedError as error:
        if error.code != "unknown-channel" or options.verb != "channel" or before["channel"] in ("", options.name):
            raise
        if before["error"] and before["error"]["code"] == error.code:
            raise  # the one before was not there either
        back = f"{error.mend} 'updatectl channel {before['channel']}' goes back."
        raise UpdatedError(error.code, error.what, error.cause, back) from None
    stopped = [each for each in document["reasons"] if each["code"] not in NOTHING_TO_INSTALL]
    if options.verb not in ("install", "import") or not stopped or document["phase"] in ("staged", "rebooting"):
        return exits.DONE
    if not options.json:
        for each in obstacles(document, time.time()):
            print(f"  {each.code}: {each.text}" + (f"\n    → {each.mend}" if each.mend else ""))
    return exits.REFUSED


def _is_held(root: str) -> bool:
    """Whether somebody paused updates; also where that is not known."""
    try:
        return bool(read_status(root)["hold"])
    except (UpdatedError, KeyError):
        return True


def _leaving(root: str) -> str:
    """Which slot boots next after a roll back, and what is denied from then on; empty when that is not known."""
    try:
        document = read_status(root)
        left = document["running"]
        other = next(slot for slot in document["slots"] if not slot["running"])
        name = f"slot {other['slot']}" + (f" ({other['version']})" if other["version"] else "")
        return (
            f"{name[0].upper()}{name[1:]} boots next. {left['version']} is denied here; "
            f"'updatectl allow {left['version']}' lifts that. "
        )
    except (UpdatedError, KeyError, TypeError, StopIteration):
        return ""


def _not_taken(root: str, version: str) -> str:
    """What keeps the release away even when it is not denied; empty where nothing does, and where that is not known."""
    from updated.cli.denied import why_not_taken

    try:
        return why_not_taken(read_status(root), version) or ""
    except (UpdatedError, KeyError, TypeError, AttributeError):
        return ""


def _done(options: argparse.Namespace, anyway: str = "") -> str:
    """What follows from the request, in words; whoever waits sees it. `anyway`: see `_not_taken`."""
    tail = "" if getattr(options, "wait", False) else f" {_FOLLOW}"
    match options.verb:
        case "check":
            return f"The daemon looks for a release now.{tail}"
        case "install":
            return f"The daemon looks for a release now, and installs it.{tail}"
        case "import":
            return f"The daemon looks into {options.path} now, and installs what is newest in it.{tail}"
        case "channel":
            return f"The node follows channel {options.name} from now on, and looks into it at once.{tail}"
        case "hold":
            now = time.time()
            end = f" until {moment(format_time(hold_end(options.until, now)), now)}" if options.until else ""
            return f"Updates are paused{end}; 'updatectl unhold' ends it."
        case "unhold":
            return f"Updates go on.{tail}"
        case "allow" if anyway:
            return f"Release {options.version} is off the denylist, and not installed all the same: it is {anyway}."
        case "allow":
            return f"Release {options.version} may be tried again, and the daemon looks for it now.{tail}"
        case "reboot" if options.force:
            return "The machine reboots."
        case _:
            return f"The machine reboots, unless a pre-reboot hook refuses it. {_FOLLOW}"


async def _call(member: str, signature: str, arguments: list[Any], files: list[int]) -> None:
    from dbus_next import Message, MessageFlag, MessageType

    reply = await _answer(
        lambda: Message(
            destination=BUS_NAME, path="/org/updated/Updated1", interface=BUS_NAME, member=member, signature=signature,
            body=arguments, flags=MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION, unix_fds=files,
        ),
        files=bool(files),
    )  # fmt: skip
    if reply is None or reply.message_type is not MessageType.ERROR:
        return
    raise fault_of(reply.error_name or "", str(reply.body[0]) if reply.body else "", member)


def has_owner() -> bool:
    """Whether the daemon's name is taken on the system bus. Raises `UpdatedError` ("daemon-not-running")."""
    from dbus_next import Message

    reply = asyncio.run(
        _answer(
            lambda: Message(
                destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus",
                member="NameHasOwner", signature="s", body=[BUS_NAME],
            )
        )
    )
    return bool(reply is not None and reply.body and reply.body[0])


async def _answer(message: Callable[[], Any], *, files: bool = False) -> Any:
    from dbus_next import BusType
    from dbus_next.errors import AuthError

    from updated.bus.connection import CONNECT_SECONDS, Attentive

    try:
        bus = Attentive(bus_type=BusType.SYSTEM, negotiate_unix_fd=files)
        await asyncio.wait_for(bus.connect(), CONNECT_SECONDS)
    except AuthError as error:
        raise UpdatedError(
            "not-authorized", "the system bus", f"does not let this user in ({error})",
            "Call it as a user of this system, not from within another user namespace.",
        ) from None
    except TimeoutError:
        raise UpdatedError(
            "daemon-not-running", "the system bus", "does not answer", "Restart dbus, or reboot."
        ) from None
    except (OSError, EOFError) as error:
        raise UpdatedError(
            "daemon-not-running", "the system bus", getattr(error, "strerror", None) or str(error) or "it hung up",
            "Start dbus and the daemon: systemctl start updated.",
        ) from None
    try:
        return await bus.call(message())
    finally:
        bus.disconnect()  # type: ignore[no-untyped-call]
