"""The daemon on the system bus: `org.updated.Updated1`, the only module that imports dbus_next.

dbus-next tells a method's handler nothing about its caller, and answers an exception with its traceback. So calls to
our interface are taken at the message level, where the sender is known; the interface class is there for
introspection, properties and signals.
"""
# The annotations of this module are D-Bus signatures.
# mypy: disable-error-code="name-defined, valid-type, untyped-decorator, misc, no-untyped-def, empty-body"
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbus_next import BusType, Message, MessageFlag, MessageType, PropertyAccess, RequestNameReply, Variant
from dbus_next.aio import MessageBus
from dbus_next.errors import AuthError, DBusError
from dbus_next.service import ServiceInterface, dbus_property, method, signal

from updated.core import events
from updated.core.document import dump, parse_time
from updated.core.effects import Record
from updated.core.errors import UpdatedError
from updated.core.events import Event
from updated.core.release import is_name
from updated.core.state import State
from updated.core.status import Progress

log = logging.getLogger("updated")

NAME = "org.updated.Updated1"
PATH = "/org/updated/Updated1"
ERROR = "org.updated.Updated1.Error."
SIGNAL_SECONDS = 0.5
# CheckAuthorization waits for the person who types a password (polkit's own limit is shorter).
POLKIT_SECONDS = 180.0
ALLOW_INTERACTION = 1
# How many calls with open files may wait for polkit: anybody may call, and open files are few.
MOST_OPEN_CALLS = 16
ASK_SECONDS = 5.0
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
LOGIND = "org.freedesktop.login1"
GOING_DOWN = f"type='signal',sender='{LOGIND}',interface='{LOGIND}.Manager',member='{{member}}'"

Request = Callable[..., UpdatedError | None]


class _Interface(ServiceInterface):
    """What introspection shows. The methods' bodies are never run."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.document: Mapping[str, Any] = {}

    @method()
    def Check(self): ...

    @method()
    def Install(self): ...

    @method()
    def Import(self, bundle: "h"): ...

    @method()
    def Reboot(self): ...

    @method()
    def RebootNow(self): ...

    @method()
    def Rollback(self): ...

    @method()
    def SetChannel(self, channel: "s"): ...

    @method()
    def Hold(self, until: "t"): ...

    @method()
    def Unhold(self): ...

    @method()
    def Allow(self, version: "s"): ...

    @dbus_property(access=PropertyAccess.READ)
    def Phase(self) -> "s":
        return self.document["phase"]

    @dbus_property(access=PropertyAccess.READ)
    def Summary(self) -> "s":
        return self.document["summary"]

    @dbus_property(access=PropertyAccess.READ)
    def Version(self) -> "s":
        return self.document["running"]["version"]

    @dbus_property(access=PropertyAccess.READ)
    def Slot(self) -> "s":
        return self.document["running"]["slot"]

    @dbus_property(access=PropertyAccess.READ)
    def Confirmed(self) -> "b":
        return self.document["running"]["confirmed"]

    @dbus_property(access=PropertyAccess.READ)
    def Channel(self) -> "s":
        return self.document["channel"]

    @dbus_property(access=PropertyAccess.READ)
    def Target(self) -> "s":
        return (self.document["target"] or {}).get("version", "")

    @dbus_property(access=PropertyAccess.READ)
    def Reasons(self) -> "as":
        return [reason["text"] for reason in self.document["reasons"]]

    @dbus_property(access=PropertyAccess.READ)
    def Error(self) -> "s":
        error = self.document["error"]
        return f"{error['what']}: {error['cause']}. {error['mend']}" if error else ""

    @dbus_property(access=PropertyAccess.READ)
    def LastCheck(self) -> "t":
        return parse_time(self.document["last_check"]) if self.document["last_check"] else 0

    @dbus_property(access=PropertyAccess.READ)
    def NextCheck(self) -> "t":
        return parse_time(self.document["next_check"]) if self.document["next_check"] else 0

    @dbus_property(access=PropertyAccess.READ)
    def Status(self) -> "s":
        return dump(self.document).decode()

    @signal()
    def Progress(self, step, component, done, total) -> "sstt":
        return [step, component, done, total]

    @signal()
    def StateChanged(self, before, after) -> "ss":
        return [before, after]


def _no_arguments(kind: type[Event]) -> Callable[..., tuple[type[Event], dict[str, Any]]]:
    return lambda: (kind, {})


def _reboot_now() -> tuple[type[Event], dict[str, Any]]:
    return events.RebootRequested, {"force": True}


def _channel(channel: str) -> tuple[type[Event], dict[str, Any]]:
    if not is_name(channel):
        raise UpdatedError(
            "bad-request", f"channel {channel[:40]!r}", "is not a name of a channel", "Use one such as stable or beta."
        )
    return events.ChannelRequested, {"channel": channel}


def _hold(until: int) -> tuple[type[Event], dict[str, Any]]:
    if until > 253402300799:
        raise UpdatedError("bad-request", "the end of the hold", "is not a time", "Give seconds since 1970, or 0.")
    return events.HoldRequested, {"until": until or None}


def _allow(version: str) -> tuple[type[Event], dict[str, Any]]:
    return events.AllowRequested, {"version": version}


def _import(descriptor: int) -> tuple[type[Event], dict[str, Any]]:
    return events.ImportRequested, {"descriptor": descriptor}


# Per method: its signature, its polkit action, and the event that it becomes.
METHODS: Mapping[str, tuple[str, str, Callable[..., tuple[type[Event], dict[str, Any]]]]] = {
    "Check": ("", "check", _no_arguments(events.CheckRequested)),
    "Install": ("", "install", _no_arguments(events.InstallRequested)),
    "Import": ("h", "import", _import),
    "Reboot": ("", "reboot", _no_arguments(events.RebootRequested)),
    "RebootNow": ("", "reboot", _reboot_now),
    "Rollback": ("", "rollback", _no_arguments(events.RollbackRequested)),
    "SetChannel": ("s", "set-channel", _channel),
    "Hold": ("t", "hold", _hold),
    "Unhold": ("", "unhold", _no_arguments(events.UnholdRequested)),
    "Allow": ("s", "allow", _allow),
}


class Bus:
    """Our name on the bus. A listener of the engine."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._interface = _Interface()
        self._bus: MessageBus | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_progress = 0.0
        self._open_calls: set[Message] = set()
        self._awaited: set[int] = set()
        self._act: Callable[[], None] = lambda: None

    async def connect(self, document: Mapping[str, Any]) -> None:
        """Connects and takes the name. Raises `UpdatedError` ("not-authorized", "unreachable", "already-running")."""
        self._interface.document = document
        try:
            bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        except (OSError, EOFError, DBusError, AuthError) as error:
            raise UpdatedError("unreachable", "the system bus", str(error), "Start dbus; it is tried again.") from None
        bus.add_message_handler(self._on_message)
        bus.export(PATH, self._interface)
        try:
            reply = await bus.request_name(NAME)
        except Exception as error:
            bus.disconnect()
            raise UpdatedError(
                "not-authorized", f"the bus name {NAME}", str(error), "Install the D-Bus policy file, or run as root."
            ) from None
        if reply not in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER):
            bus.disconnect()
            raise UpdatedError("already-running", f"the bus name {NAME}", "has another owner", "End the other daemon.")
        self._bus = bus
        for member in ("PrepareForShutdown", "PrepareForSleep"):
            await self.ask(*BUS, "AddMatch", GOING_DOWN.format(member=member))

    async def lost(self) -> None:
        """Returns when the connection is lost."""
        if self._bus is not None:
            await self._bus.wait_for_disconnect()

    def disconnect(self) -> None:
        """Leaves the bus."""
        if self._bus is not None:
            self._bus.disconnect()

    # ---------------------------------------------------------------------------------------------------- listener

    def state_changed(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        """See `engine.Listener`."""
        self._interface.document = document
        if self._bus is None:
            return
        if after.phase is not before.phase:
            self._interface.StateChanged(before.phase.value, after.phase.value)
            self._interface.emit_properties_changed(
                {name: getattr(self._interface, name) for name in ("Phase", "Summary", "Target", "Error", "Version")}
            )

    def progressed(self, progress: Progress) -> None:
        """See `engine.Listener`. At most one signal in `SIGNAL_SECONDS`, and always the end of a step."""
        now = time.monotonic()
        if self._bus is None or (progress.done < progress.total and now - self._last_progress < SIGNAL_SECONDS):
            return
        self._last_progress = now
        self._interface.Progress(progress.step, progress.component, progress.done, progress.total)

    def happened(self, effect: Record) -> None:
        """See `engine.Listener`."""

    # -------------------------------------------------------------------------------------------------------- calls

    async def ask(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> Sequence[Any] | None:
        """See `surroundings.Bus`. Starts no service, and waits for `ASK_SECONDS` at most."""
        reply = await self._question(destination, path, interface, member, arguments)
        return None if reply is None else [_bare(each) for each in reply.body]

    async def ask_for_file(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> int | None:
        """See `surroundings.Bus`."""
        reply = await self._question(destination, path, interface, member, arguments)
        return reply.unix_fds.pop() if reply is not None and reply.unix_fds else None

    def when_going_down(self, act: Callable[[], None]) -> None:
        """See `surroundings.Bus`."""
        self._act = act

    async def _question(
        self, destination: str, path: str, interface: str, member: str, arguments: Sequence[str]
    ) -> Message | None:
        bus = self._bus
        if bus is None:
            return None
        serial = bus.next_serial()
        self._awaited.add(serial)
        try:
            reply = await _call(
                bus, destination, path, interface, member, "s" * len(arguments), list(arguments), ASK_SECONDS,
                flags=MessageFlag.NO_AUTOSTART, serial=serial,
            )  # fmt: skip
        except Exception:  # in whatever way the socket ended
            return None
        finally:
            self._awaited.discard(serial)
        return reply if reply is not None and reply.message_type is MessageType.METHOD_RETURN else None

    def _on_message(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL and message.member in ("PrepareForShutdown", "PrepareForSleep"):
            if message.body == [True]:
                self._act()
            return False
        if message.message_type is MessageType.METHOD_RETURN and message.reply_serial in self._awaited:
            return False  # what comes with it is wanted
        if message.message_type is not MessageType.METHOD_CALL or message.interface != NAME:
            _close(message)
            return False
        if message.unix_fds and len(self._open_calls) >= MOST_OPEN_CALLS:
            _close(message)
        elif message.unix_fds:
            self._open_calls.add(message)
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _answer(self, message: Message) -> None:
        try:
            await self._reply(message)
        finally:
            self._open_calls.discard(message)
            _close(message)

    async def _reply(self, message: Message) -> None:
        bus = self._bus
        if bus is None:
            return
        try:
            await self._perform(bus, message)
            reply = Message.new_method_return(message)
        except UpdatedError as error:
            reply = Message.new_error(message, ERROR + _camel(error.code), str(error))
        except Exception:
            log.exception("the call %s", message.member)
            reply = Message.new_error(message, ERROR + "Internal", "an unexpected error: see the log of updated")
        await bus.send(reply)

    async def _perform(self, bus: MessageBus, message: Message) -> None:
        if message.path != PATH or message.member not in METHODS:
            raise UpdatedError("bad-request", f"the method {message.member}", "does not exist", "See the manual.")
        signature, action, event = METHODS[message.member]
        if message.signature != signature:
            raise UpdatedError(
                "bad-request", f"the call of {message.member}", f"has the signature {message.signature!r}",
                f"Its signature is {signature!r}.",
            )
        body = message.body if signature != "h" else [_descriptor(message)]
        kind, fields = event(*body)
        by = await self._authorized(bus, message, action)
        refusal = self._request(kind, by=by, **fields)
        if refusal is not None:
            raise refusal

    async def _authorized(self, bus: MessageBus, message: Message, action: str) -> str:
        """The caller's name, if the caller may do it. Raises `UpdatedError` ("not-authorized")."""
        reply = await _call(bus, *BUS, "GetConnectionUnixUser", "s", [message.sender])
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            raise _denied(action, "the caller is gone")
        user = int(reply.body[0])
        if user in (0, os.geteuid()):
            return _user_name(user)
        interactive = ALLOW_INTERACTION if message.flags.value & 4 else 0
        reply = await _call(
            bus, "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
            "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization", "(sa{sv})sa{ss}us",
            [["system-bus-name", {"name": Variant("s", message.sender)}], f"{NAME}.{action}", {}, interactive, ""],
            POLKIT_SECONDS,
        )
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            raise _denied(action, "polkit does not answer")
        if not reply.body[0][0]:
            raise _denied(action, "polkit says no")
        return _user_name(user)


def _close(message: Message) -> None:
    """Closes what came with `message`; dbus-next leaves that to whoever takes messages."""
    while message.unix_fds:
        os.close(message.unix_fds.pop())


def _descriptor(message: Message) -> int:
    """The open file that the one argument of `message` means: a number of one that came with it."""
    if message.body[0] >= len(message.unix_fds):
        raise UpdatedError(
            "bad-request", f"the call of {message.member}", "came without the open file, or too many wait already",
            "Send it again, with the file.",
        )
    descriptor: int = message.unix_fds[message.body[0]]
    return descriptor


async def _call(
    bus: MessageBus, destination: str, path: str, interface: str, member: str, signature: str, body: list[Any],
    seconds: float = 25.0, flags: MessageFlag = MessageFlag.NONE, serial: int = 0,
) -> Message | None:
    call = Message(
        destination=destination, path=path, interface=interface, member=member, signature=signature, body=body,
        flags=flags, serial=serial,
    )
    try:
        return await asyncio.wait_for(bus.call(call), seconds)
    except (TimeoutError, EOFError):
        return None


def _bare(value: Any) -> Any:
    """`value` without the wrapping of variants."""
    if isinstance(value, Variant):
        return _bare(value.value)
    return {key: _bare(each) for key, each in value.items()} if isinstance(value, dict) else value


def _denied(action: str, cause: str) -> UpdatedError:
    return UpdatedError(
        "not-authorized", f"the action {NAME}.{action}", cause, "Do it as root, or allow it with a polkit rule."
    )


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _camel(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("-"))
