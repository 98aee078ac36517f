"""Our name on the bus: calls, properties and signals; and the way back to a bus that was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbus_next import ErrorType, Message, MessageFlag, MessageType, Variant

from updated.bus import interface
from updated.bus.authority import Authority, TooManyCalls
from updated.bus.connection import BUS, Connection, bare, close_files
from updated.bus.interface import NAME, PATH, STANDARD, Interface, Method
from updated.bus.methods import DEEDS
from updated.bus.pace import Pace
from updated.bus.properties import BY_NAME, INTERFACE, clean, values
from updated.core.effects import Record
from updated.core.errors import UpdatedError
from updated.core.state import State
from updated.core.status import Progress

log = logging.getLogger("updated")

ERROR = f"{NAME}.Error."
SIGNAL_SECONDS = 0.5
# How long after the loss of the bus it is tried first, and how long between tries at most.
FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 30.0
# How many calls may wait for an answer, and how many of them with open files: anybody may call.
MOST_CALLS, MOST_OPEN_CALLS = 64, 16
ASK_SECONDS = 5.0
LOGIND = "org.freedesktop.login1"
GOING_DOWN = ("PrepareForShutdown", "PrepareForSleep")
MATCH = f"type='signal',sender='{LOGIND}',interface='{LOGIND}.Manager',member='{{member}}'"
INTERFACES = (INTERFACE, *STANDARD)
# What an object has that is only on the way to ours.
BARE = tuple(each for each in STANDARD if each.name != interface.PROPERTIES)

Request = Callable[..., UpdatedError | None]
Answer = tuple[str, list[Any]]


class _Refused(Exception):
    """A call that gets one of the errors of the D-Bus specification."""

    def __init__(self, kind: ErrorType, text: str) -> None:
        super().__init__(text)
        self.name: str = kind.value


class Bus:
    """Our name on the bus. A listener of the engine."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._connection: Connection | None = None
        self._authority = Authority()
        self._calls: dict[asyncio.Task[None], Message] = {}
        self._document: Mapping[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._step: Progress | None = None
        self._changes = Pace(SIGNAL_SECONDS, self._tell_changes)
        self._steps = Pace(SIGNAL_SECONDS, self._tell_step)
        self._act: Callable[[], None] = lambda: None

    # -------------------------------------------------------------------------------------------------- connection

    async def connect(self, document: Mapping[str, Any]) -> None:
        """Connects and takes the name. Raises `UpdatedError` ("not-authorized", "unreachable", "already-running")."""
        self._document = document
        connection = await Connection.open(self._on_message)
        # Calls come as soon as the name is ours.
        self._connection, self._told = connection, values(document)
        try:
            await connection.take(NAME)
        except BaseException:
            await self.leave()
            raise
        for member in GOING_DOWN:
            await connection.call(*BUS, "AddMatch", "s", [MATCH.format(member=member)])

    async def keep(self) -> None:
        """Finds the bus again whenever it is lost, or was not there. Never returns."""
        while True:
            if self._connection is not None:
                await self._connection.lost()
                await self.leave()
                log.warning("the system bus was lost; the node is looked after without it until it is back")
            await self._find()
            log.info("%s is on the system bus", NAME)

    async def _find(self) -> None:
        wait, said = FIRST_RETRY_SECONDS, ""
        while self._connection is None:
            await asyncio.sleep(wait)
            wait = min(2 * wait, MOST_RETRY_SECONDS)
            try:
                await self.connect(self._document)
            except UpdatedError as error:
                if str(error) != said:
                    log.warning("%s", error)
                said = str(error)

    async def leave(self) -> None:
        """Leaves the bus; calls that wait get no answer."""
        connection, self._connection = self._connection, None
        self._changes.stop()
        self._steps.stop()
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if connection is not None:
            await connection.close()

    # ---------------------------------------------------------------------------------------------------- listener

    def state_changed(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        """See `audience.Listener`. Properties are announced at most once in `SIGNAL_SECONDS`."""
        self._document = document
        if self._connection is None:
            return
        if after.phase is not before.phase:
            self._signal(NAME, "StateChanged", "ss", [before.phase.value, after.phase.value])
        self._changes.want()

    def progressed(self, progress: Progress) -> None:
        """See `audience.Listener`. At most one signal in `SIGNAL_SECONDS`."""
        self._step = progress
        if self._connection is not None:
            self._steps.want()

    def happened(self, effect: Record) -> None:
        """See `audience.Listener`."""

    def _tell_changes(self) -> None:
        now = values(self._document)
        changed = [BY_NAME[name] for name, value in now.items() if value != self._told.get(name)]
        self._told = now
        if changed:
            told = {
                each.name: Variant(each.signature, now[each.name])
                for each in changed
                if each.emits == "true"
            }
            named = [each.name for each in changed if each.name not in told]
            self._signal(interface.PROPERTIES, "PropertiesChanged", "sa{sv}as", [NAME, told, named])

    def _tell_step(self) -> None:
        step = self._step
        if step is not None:
            self._signal(NAME, "Progress", "sstt", [clean(step.step), clean(step.component), step.done, step.total])

    def _signal(self, name: str, member: str, signature: str, body: list[Any]) -> None:
        if self._connection is not None:
            self._connection.send(Message.new_signal(PATH, name, member, signature, body))

    # --------------------------------------------------------------------------------------------- questions to others

    async def ask(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> Sequence[Any] | None:
        """See `surroundings.Bus`. Starts no service, and waits for `ASK_SECONDS` at most."""
        reply = await self._question(destination, path, interface, member, arguments)
        if reply is None:
            return None
        close_files(reply)
        return [bare(each) for each in reply.body]

    async def ask_for_file(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> int | None:
        """See `surroundings.Bus`."""
        reply = await self._question(destination, path, interface, member, arguments)
        if reply is None or not reply.unix_fds:
            return None
        descriptor: int = reply.unix_fds.pop()
        close_files(reply)
        return descriptor

    def when_going_down(self, act: Callable[[], None]) -> None:
        """See `surroundings.Bus`."""
        self._act = act

    async def _question(
        self, destination: str, path: str, interface: str, member: str, arguments: Sequence[str]
    ) -> Message | None:
        if self._connection is None:
            return None
        return await self._connection.call(
            destination, path, interface, member, "s" * len(arguments), arguments, ASK_SECONDS, MessageFlag.NO_AUTOSTART
        )

    # -------------------------------------------------------------------------------------------------------- calls

    def _on_message(self, message: Message) -> bool:
        if message.message_type is MessageType.METHOD_CALL:
            self._on_call(message)
            return True
        # What logind announces to all has no destination; to send the same to us alone, anybody is free.
        if message.member in GOING_DOWN and not message.destination and message.body == [True]:
            self._act()
        if self._connection is None or not self._connection.expects(message):
            close_files(message)
        return False

    def _on_call(self, message: Message) -> None:
        """Answers at once what only asks; a task of its own answers the rest, when polkit has."""
        method = None
        try:
            where, method = _called(message)
            if where is INTERFACE:
                self._begin(message)
                return
            self._reply(message, self._read(message, method))
        except _Refused as refused:
            self._fail(message, refused.name, str(refused))
        except Exception:
            self._unexpected(message)
        close_files(message)

    def _begin(self, message: Message) -> None:
        with_files = sum(bool(each.unix_fds) for each in self._calls.values())
        if len(self._calls) >= MOST_CALLS or (message.unix_fds and with_files >= MOST_OPEN_CALLS):
            raise _Refused(ErrorType.LIMITS_EXCEEDED, "too many calls wait already: send it again later")
        task = asyncio.get_running_loop().create_task(self._perform(message))
        self._calls[task] = message
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        close_files(self._calls.pop(task))

    async def _perform(self, message: Message) -> None:
        connection = self._connection
        if connection is None:
            return
        deed = DEEDS[message.member]
        try:
            body = message.body if deed.method.signature != "h" else [_descriptor(message)]
            fields = deed.fields(*body)
            details = {name: clean(value) for name, value in fields.items() if isinstance(value, str)}
            by = await self._authority.caller(connection, message, deed.action, details)
            refusal = self._request(deed.event, by=by, **fields)
            if refusal is not None:
                raise refusal
            self._reply(message, ("", []))
        except UpdatedError as error:
            self._fail(message, error_name(error.code), str(error))
        except TooManyCalls:
            self._fail(message, ErrorType.LIMITS_EXCEEDED.value, "too many calls of this user wait for polkit already")
        except Exception:
            self._unexpected(message)

    def _reply(self, message: Message, answer: Answer) -> None:
        self._send(message, Message.new_method_return(message, *answer))

    def _fail(self, message: Message, name: str, text: str) -> None:
        self._send(message, Message.new_error(message, name, clean(text)))

    def _unexpected(self, message: Message) -> None:
        log.exception("the call %s", message.member)
        self._fail(message, error_name("internal"), "an unexpected error: see the log of updated")

    def _send(self, message: Message, reply: Message) -> None:
        if self._connection is not None and not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._connection.send(reply)

    # ---------------------------------------------------------------------------------------------- what only asks

    def _read(self, message: Message, method: Method) -> Answer:
        """The answer to a call of a standard interface. Raises `_Refused`."""
        match method.name:
            case "Introspect":
                child = interface.child_of(message.path)
                there = INTERFACES if message.path == PATH else BARE
                return "s", [interface.description(there, [child] if child else [])]
            case "GetMachineId":
                return "s", [_machine()]
            case "Get" | "GetAll" | "Set":
                return self._property(method.name, *message.body[:2])
            case _:
                return "", []

    def _property(self, member: str, where: str, name: str = "") -> Answer:
        if where not in ("", *(each.name for each in INTERFACES)):
            raise _Refused(ErrorType.UNKNOWN_INTERFACE, f"there is no interface {where[:255]}")
        ours = BY_NAME if where in ("", NAME) else {}
        if member == "GetAll":
            now = values(self._document) if ours else {}
            return "a{sv}", [{key: Variant(ours[key].signature, value) for key, value in now.items()}]
        if name not in ours:
            raise _Refused(ErrorType.UNKNOWN_PROPERTY, f"there is no property {name[:255]}")
        if member == "Set":
            raise _Refused(ErrorType.PROPERTY_READ_ONLY, f"the property {name} is read, never set")
        return "v", [Variant(ours[name].signature, clean(ours[name].value(self._document)))]


def error_name(code: str) -> str:
    """The name of an error on the bus, by its code."""
    return ERROR + "".join(word.capitalize() for word in code.split("-"))


def _called(message: Message) -> tuple[Interface, Method]:
    """What `message` calls. Raises `_Refused`."""
    if message.path == PATH:
        there: Sequence[Interface] = INTERFACES
    elif interface.child_of(message.path) is not None:
        there = BARE
    else:
        raise _Refused(ErrorType.UNKNOWN_OBJECT, f"there is no object {message.path[:255]}")
    if message.interface is not None:
        there = [each for each in there if each.name == message.interface]
        if not there:
            raise _Refused(ErrorType.UNKNOWN_INTERFACE, f"there is no interface {message.interface}")
    for each in there:
        method = each.method(message.member)
        if method is not None and method.signature != message.signature:
            raise _Refused(
                ErrorType.INVALID_ARGS,
                f"{method.name} takes {method.signature or 'nothing'}, and not {message.signature or 'nothing'}",
            )
        if method is not None:
            return each, method
    raise _Refused(ErrorType.UNKNOWN_METHOD, f"there is no method {message.member}")


def _descriptor(message: Message) -> int:
    """The open file that the one argument of `message` means: a number of one that came with it."""
    if message.body[0] >= len(message.unix_fds):
        raise UpdatedError(
            "bad-request", f"the call of {message.member}", "came without the open file", "Send it with the file."
        )
    descriptor: int = message.unix_fds[message.body[0]]
    return descriptor


def _machine() -> str:
    """As in machine-id(5)."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read(33).strip()
    except OSError:
        raise _Refused(ErrorType.FAILED, "this machine has no /etc/machine-id") from None
