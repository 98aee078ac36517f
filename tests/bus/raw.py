"""A client that sends what it is told, down to the message, and gets the name of an error."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from dbus_next import Message, MessageFlag, MessageType
from dbus_next.aio import MessageBus

from updated.bus.interface import NAME


class Client:
    """One connection. `strays` counts answers that nobody asked for; `signals` are those that came."""

    def __init__(self, bus: Any) -> None:
        self._bus = bus
        self._asked: set[int] = set()
        self.strays = 0
        self.signals: list[Message] = []
        bus.add_message_handler(self._on_message)

    def _on_message(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            self.signals.append(message)
        elif message.message_type is not MessageType.METHOD_CALL and message.reply_serial not in self._asked:
            self.strays += 1
        return False

    async def call(
        self, path: str, interface: str | None, member: str, signature: str = "", body: Sequence[Any] = (),
        files: Sequence[int] = (), destination: str = NAME,
    ) -> Message:
        """The answer of `destination`, also when it is an error."""
        serial = self._bus.next_serial()
        self._asked.add(serial)
        make: Any = Message  # its interface may be None, though it is not said
        message = make(
            destination=destination, path=path, interface=interface, member=member, signature=signature,
            body=list(body), unix_fds=list(files), serial=serial,
        )
        reply: Message = await self._bus.call(message)
        return reply

    async def say(self, path: str, interface: str, member: str) -> None:
        """A call that wants no answer."""
        await self._bus.send(
            Message(
                destination=NAME, path=path, interface=interface, member=member, flags=MessageFlag.NO_REPLY_EXPECTED
            )
        )

    async def match(self, rule: str) -> None:
        """Lets signals come."""
        await self.call(
            "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule], destination="org.freedesktop.DBus"
        )

    async def signal_to(self, destination: str, path: str, interface: str, member: str, body: Sequence[Any]) -> None:
        """Sends a signal with one truth value to one connection alone."""
        await self._bus.send(
            Message(
                message_type=MessageType.SIGNAL, destination=destination, path=path, interface=interface, member=member,
                signature="b", body=list(body),
            )
        )


@contextlib.asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    """A client of the bus at `address`."""
    bus: Any = await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()
    try:
        yield Client(bus)
    finally:
        bus.disconnect()
        with contextlib.suppress(Exception):
            await bus.wait_for_disconnect()
        bus._stream.close()
        bus._sock.close()
