"""One connection to the system bus, from its beginning to its loss; the asyncio client of dbus_next, made safe.

That client never closes its socket, spins when the bus goes away during authentication, gives the connection up when
the bus is slow to read, writes to a file number that may be another's by then when it is used after the loss, and keeps
each signature that anybody ever sent. What is done about it here uses parts of it that are not public;
packaging/constraints.txt pins the version.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from dbus_next import BusType, Message, MessageFlag, MessageType, RequestNameReply, Variant
from dbus_next.aio import MessageBus
from dbus_next.errors import AuthError
from dbus_next.signature import SignatureTree

from bootctl.errors import in_words
from updated.core.errors import UpdatedError

CONNECT_SECONDS = 10.0
CALL_SECONDS = 25.0
MOST_SIGNATURES = 256
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class _Writable:
    """A socket that takes nothing when it is full, which the client does not take for an error."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0


class Attentive(MessageBus):
    """The client, which sees that the bus hangs up before it let anybody in, and leaves no error behind unseen."""

    async def connect(self) -> Attentive:
        """Connects; raises what went wrong."""
        try:
            await super().connect()
        except BaseException:
            # The answer to its first call would be an error that nobody waits for any more.
            self._loop.remove_reader(self._fd)
            self._method_return_handlers.clear()
            raise
        return self

    def send(self, msg: Message) -> asyncio.Future[None]:  # type: ignore[override]
        """Sends `msg`, also for the client itself, which does not ask what became of it."""
        future: asyncio.Future[None] = super().send(msg)
        future.add_done_callback(_look_at)
        return future

    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            # One byte at a time: what follows the line is no part of it.
            data = await self._loop.sock_recv(self._sock, 1)
            if not data:
                raise EOFError("the bus ended the connection")
            line += data
        return line[:-2].decode()


class Client(Attentive):
    """The client, as long as no files are sent with it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(negotiate_unix_fd=True, **options)
        self._writer.sock = _Writable(self._sock)

    def _create_unmarshaller(self) -> Any:
        # Before each message.
        if len(SignatureTree._cache) > MOST_SIGNATURES:
            SignatureTree._cache.clear()
        return super()._create_unmarshaller()  # type: ignore[no-untyped-call]


class Connection:
    """Made by `open`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._end = asyncio.ensure_future(client.wait_for_disconnect())
        self._awaited: set[int] = set()

    @classmethod
    async def open(cls, handle: Callable[[Message], bool]) -> Connection:
        """Connects. `handle` gets each message, and says whether it is answered. Raises `UpdatedError` ("unreachable").
        """
        client: Any = None
        try:
            client = Client(bus_type=BusType.SYSTEM)
            await asyncio.wait_for(client.connect(), CONNECT_SECONDS)
        except Exception as error:  # a wrong address, a refusal, a bus that goes away: each in its own way
            _abandon(client)
            raise _unreachable(error) from None
        except BaseException:
            _abandon(client)
            raise
        client.add_message_handler(handle)
        return cls(client)

    async def take(self, name: str) -> None:
        """Takes `name`. Raises `UpdatedError` ("not-authorized", "unreachable", "already-running")."""
        try:
            reply = await asyncio.wait_for(self._client.request_name(name), CALL_SECONDS)
        except Exception as error:
            if not self.alive:
                raise UpdatedError("unreachable", "the system bus", "was lost", "It is tried again.") from None
            raise UpdatedError(
                "not-authorized", f"the bus name {name}", in_words(error),
                "Install the D-Bus policy file, or run as root.",
            ) from None
        if reply not in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER):
            raise UpdatedError("already-running", f"the bus name {name}", "has another owner", "End the other daemon.")

    @property
    def alive(self) -> bool:
        """Whether it is not lost."""
        return bool(self._client.connected)

    async def lost(self) -> None:
        """Returns when the connection is lost."""
        await asyncio.wait({self._end})

    async def close(self) -> None:
        """Leaves the bus, and lets the socket go. What waits for an answer gets none."""
        if self.alive:
            self._client.disconnect()
        await asyncio.wait({self._end}, timeout=1)
        self._end.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._end
        _abandon(self._client)

    def send(self, message: Message) -> None:
        """Sends `message`, if the connection is not lost."""
        if self.alive:
            self._client.send(message)

    def expects(self, message: Message) -> bool:
        """Whether `message` is an answer that somebody waits for here."""
        return message.reply_serial in self._awaited

    async def call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: Sequence[Any],
        seconds: float = CALL_SECONDS, flags: MessageFlag = MessageFlag.NONE,
    ) -> Message | None:
        """What a method returned; None when it failed, did not answer within `seconds`, or the connection is lost."""
        if not self.alive:
            return None
        serial = self._client.next_serial()
        call = Message(
            destination=destination, path=path, interface=interface, member=member, signature=signature,
            body=list(body), flags=flags, serial=serial,
        )
        self._awaited.add(serial)
        try:
            reply: Message | None = await asyncio.wait_for(self._client.call(call), seconds)
        except Exception:  # in whatever way the socket ended
            return None
        finally:
            self._awaited.discard(serial)
        return reply if reply is not None and reply.message_type is MessageType.METHOD_RETURN else None


def close_files(message: Message) -> None:
    """Closes what came with `message`; dbus_next leaves that to whoever takes messages."""
    while message.unix_fds:
        os.close(message.unix_fds.pop())


def bare(value: Any) -> Any:
    """`value` without the wrapping of variants."""
    if isinstance(value, Variant):
        return bare(value.value)
    return {key: bare(each) for key, each in value.items()} if isinstance(value, dict) else value


def _unreachable(error: Exception) -> UpdatedError:
    text = "does not answer" if isinstance(error, TimeoutError) else in_words(error)
    mend = "Start dbus; it is tried again."
    if isinstance(error, AuthError):
        text = f"does not let this user in ({text})"
        mend = "Run the daemon as root, and not within another user namespace; it is tried again."
    return UpdatedError("unreachable", "the system bus", text, mend)


def _look_at(future: asyncio.Future[None]) -> None:
    """A message that could not be sent is lost with its connection, which is seen elsewhere."""
    if not future.cancelled():
        future.exception()


def _abandon(client: Any) -> None:
    if client is None or client._sock.fileno() < 0:
        return
    loop = asyncio.get_running_loop()
    loop.remove_reader(client._fd)
    loop.remove_writer(client._fd)
    if client._disconnect_future.done():
        _look_at(client._disconnect_future)
    with contextlib.suppress(OSError):
        client._stream.close()
    client._sock.close()
