"""The bus ends, and comes back: the node goes on, and is on it again."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_next import Message, MessageType

from tests.bus.raw import client
from tests.bus.world import Node, document, property_of
from tests.fakes import nginx
from tests.fakes.bus import PrivateBus, killable_bus
from tests.fakes.machine import Machine
from tests.node.conftest import publisher
from tests.node.test_daemon import asked_to_reboot, downloaded_share, status
from tests.node.world import Publisher, make_machine
from updated.bus import service
from updated.bus.connection import BUS, Client
from updated.bus.interface import NAME, PATH
from updated.core.errors import UpdatedError
from updated.core.state import Phase

__all__ = ["publisher"]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with killable_bus() as made:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus is tried again without much of a wait."""
    monkeypatch.setattr(service, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(service, "MOST_RETRY_SECONDS", 0.1)


async def owned(address: str) -> None:
    """Returns when our name has an owner on the bus."""
    async with asyncio.timeout(30), client(address) as other:
        while True:
            reply = await other.call(
                "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", [NAME],
                destination="org.freedesktop.DBus",
            )
            if reply.body[0]:
                return
            await asyncio.sleep(0.02)


def test_a_download_goes_on_without_the_bus_and_the_name_is_taken_again_when_it_is_back(
    tmp_path: Path, publisher: Publisher, bus: PrivateBus
) -> None:
    publisher.release("1.1.0", size=6_000_000)
    with (
        nginx.serve(publisher.repository, rate_limit="500k") as url,
        make_machine(tmp_path / "machine", publisher, url, slot_size="12M") as node,
    ):
        node.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
        node.start_daemon()
        node.wait_until(lambda: downloaded_share(node) > 0.1)
        assert node.daemon is not None
        process = node.daemon.pid
        bus.kill()
        share = downloaded_share(node)
        node.wait_until(lambda: downloaded_share(node) > share + 0.1)
        bus.start()
        node.wait_until(lambda: f"{NAME} is on the system bus" in node.tail())
        assert asyncio.run(property_of(bus.address, "Phase")) == "fetching", "the download had not ended meanwhile"
        node.wait_until(lambda: asked_to_reboot(node))
        assert node.daemon.pid == process
        assert node.log.read_text().count("the system bus was lost") == 1
        assert "Traceback" not in node.log.read_text()
        assert begun(node) == 1, "the download was not begun anew"
        node.updatectl("hold")
        assert status(node)["hold"]


def begun(node: Machine) -> int:
    return node.log.read_text().count("install 1.1.0: ")


def test_what_changed_meanwhile_is_seen_on_the_new_bus(bus: PrivateBus, soon: None) -> None:
    async def lose() -> str:
        node = Node()
        await node.bus.connect(document())
        keeping = asyncio.create_task(node.bus.keep())
        bus.kill()
        node.becomes(Phase.STAGED)
        bus.start()
        await owned(bus.address)
        seen = str(await property_of(bus.address, "Phase"))
        keeping.cancel()
        await node.bus.leave()
        return seen

    assert asyncio.run(lose()) == "staged"


def test_the_bus_may_be_lost_again_and_again_and_no_file_stays_open(bus: PrivateBus, soon: None) -> None:
    async def lose() -> list[int]:
        node = Node()
        await node.bus.connect(document())
        keeping = asyncio.create_task(node.bus.keep())
        counts = []
        for _ in range(6):
            bus.kill()
            bus.start()
            await owned(bus.address)
            async with client(bus.address) as other:
                assert (await other.call(PATH, NAME, "Check")).error_name is None
            counts.append(len(os.listdir("/proc/self/fd")))
        keeping.cancel()
        await node.bus.leave()
        return counts

    counts = asyncio.run(lose())
    assert len(set(counts)) == 1, counts


def test_a_bus_that_is_slow_to_read_is_not_lost(bus: PrivateBus) -> None:
    async def slow() -> object:
        node = Node()
        await node.bus.connect(document())
        bus.signal(signal.SIGSTOP)
        for number in range(3000):
            node.becomes(Phase.CHECKING if number % 2 else Phase.WAITING)
        await asyncio.sleep(0.2)
        bus.signal(signal.SIGCONT)
        async with client(bus.address) as other:
            reply = await other.call(PATH, NAME, "Check")
        await node.bus.leave()
        return reply.error_name

    assert asyncio.run(slow()) is None


def test_a_question_to_others_that_is_open_when_the_bus_ends_has_no_answer(bus: PrivateBus) -> None:
    async def lose() -> object:
        node = Node()
        await node.bus.connect(document())
        asking = asyncio.create_task(node.bus.ask("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ListNames"))
        bus.kill()
        answer = await asyncio.wait_for(asking, 10)
        assert await node.bus.ask("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ListNames") is None
        await node.bus.leave()
        return answer

    assert asyncio.run(lose()) is None


def test_a_bus_that_goes_away_during_authentication_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async def meet() -> None:
        server = await asyncio.start_unix_server(hang_up, path)
        async with server:
            await Node().bus.connect(document())

    with pytest.raises(UpdatedError, match="the system bus") as caught:
        asyncio.run(meet())
    assert caught.value.code == "unreachable"


def test_a_bus_that_lets_nobody_in_is_not_told_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"REJECTED EXTERNAL\r\n")
        await writer.drain()
        writer.close()

    async def meet() -> None:
        server = await asyncio.start_unix_server(refuse, path)
        async with server:
            await Node().bus.connect(document())

    with pytest.raises(UpdatedError, match="the system bus: does not let this user in") as caught:
        asyncio.run(meet())
    assert caught.value.code == "unreachable"
    assert "Start dbus" not in str(caught.value)


HELLO: Any = Message(
    message_type=MessageType.METHOD_RETURN, sender=BUS[0], destination=":1.1", serial=1, reply_serial=1, signature="s",
    body=[":1.1"],
)  # fmt: skip


@pytest.mark.parametrize("last", ["before Hello", "after Hello", "after its answer", "after the next call"])
def test_a_bus_that_hangs_up_at_the_first_calls_is_not_there_and_no_error_is_left_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    path = tmp_path / "socket"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    let_in: Any = Client._authenticate
    unseen: list[dict[str, Any]] = []

    async def meet() -> None:
        gone = asyncio.Event()

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"OK 0123456789abcdef0123456789abcdef\r\n")
            await reader.readline()
            writer.write(b"AGREE_UNIX_FD\r\n")
            await reader.readline()
            if last != "before Hello":
                await reader.read(4096)
            if last.startswith("after ") and last != "after Hello":
                writer.write(HELLO._marshall())
            if last == "after the next call":
                await reader.read(4096)
            writer.close()
            await writer.wait_closed()
            gone.set()

        async def slowly(client: Any) -> None:
            await let_in(client)
            if last == "before Hello":
                await gone.wait()

        monkeypatch.setattr(Client, "_authenticate", slowly)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        async with await asyncio.start_unix_server(hang_up, path):
            node = Node()
            with pytest.raises(UpdatedError, match="the system bus") as caught:
                await node.bus.connect(document())
            assert caught.value.code == "unreachable"
            await gone.wait()
            await node.bus.leave()
        gc.collect()

    asyncio.run(meet())
    gc.collect()
    assert unseen == []


def test_a_bus_that_takes_connections_and_says_nothing_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    monkeypatch.setattr("updated.bus.connection.CONNECT_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        begin = time.monotonic()
        with pytest.raises(UpdatedError, match="does not answer") as caught:
            asyncio.run(Node().bus.connect(document()))
    assert caught.value.code == "unreachable"
    assert time.monotonic() - begin < 60
