"""Anybody may call: what a hostile program on the bus can't do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dbus_next import Message, Variant
from dbus_next.signature import SignatureTree

from tests.bus.raw import client
from tests.bus.world import Node, with_node
from tests.fakes.bus import private_bus
from updated.bus.authority import MOST_OF_USER
from updated.bus.connection import MOST_SIGNATURES
from updated.bus.interface import NAME, PATH
from updated.bus.service import MOST_OPEN_CALLS

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as another user")
LIMITS = "org.freedesktop.DBus.Error.LimitsExceeded"
# polkit, while a person thinks about a password.
SILENT_POLKIT = """
import asyncio, sys
from dbus_next import MessageType
from dbus_next.aio import MessageBus

async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    bus.add_message_handler(lambda message: message.message_type is MessageType.METHOD_CALL)
    await bus.request_name("org.freedesktop.PolicyKit1")
    print("ready", flush=True)
    await bus.wait_for_disconnect()

asyncio.run(main())
"""
# So many calls, without a wait for the answers, by the user who is given, and what became of them.
FLOOD = f"""
import asyncio, collections, os, sys
from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus
from updated.bus.connection import Client

async def main():
    files = [0] if sys.argv[3] == "Import" else []
    client = MessageBus(bus_address=sys.argv[1], negotiate_unix_fd=True) if files else Client(bus_address=sys.argv[1])
    bus = await client.connect()
    answers = asyncio.Queue()

    def on_message(message):
        if message.message_type is not MessageType.METHOD_CALL and message.reply_serial > 1:
            answers.put_nowait(message.error_name or "done")

    bus.add_message_handler(on_message)
    for _ in range(int(sys.argv[4])):
        sent = bus.send(Message(destination="{NAME}", path="{PATH}", interface="{NAME}", member=sys.argv[3],
                                signature="h" if files else "", body=[0] if files else [], unix_fds=files))
        if files:
            await sent
    counted = collections.Counter()
    while sum(counted.values()) < int(sys.argv[5]):
        counted[await answers.get()] += 1
    print(*(f"{{name}}={{count}}" for name, count in sorted(counted.items())), flush=True)
    sys.stdin.read()

os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
asyncio.run(main())
"""


@pytest.fixture
def bus() -> Iterator[str]:
    """A bus of its own: what is done to it is not done to others."""
    with private_bus() as address:
        yield address


@contextmanager
def silent_polkit(bus: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", SILENT_POLKIT, bus], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@contextmanager
def flood(bus: str, user: int, member: str, calls: int, answers: int) -> Iterator[subprocess.Popen[str]]:
    """`calls` by `user`; it prints what the first `answers` were, and stays until the block ends."""
    command = [sys.executable, "-c", FLOOD, bus, str(user), member, str(calls), str(answers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def line_of(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdout is not None
    words = (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)).split()
    return {name: int(count) for name, count in (word.split("=") for word in words)}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_root
def test_one_user_has_few_calls_that_wait_and_root_still_passes(bus: str) -> None:
    async def flooded(node: Node) -> tuple[dict[str, int], Message]:
        with flood(bus, 1, "Check", 300, 300 - MOST_OF_USER) as process:
            refused = await line_of(process)
            async with client(bus) as other:
                return refused, await other.call(PATH, NAME, "Check")

    with silent_polkit(bus):
        refused, reply = with_node(bus, flooded)
    assert refused == {LIMITS: 300 - MOST_OF_USER}, "of some the bus itself refuses to take so many at once"
    assert reply.error_name is None


@needs_root
def test_what_a_user_waits_with_is_no_hindrance_for_another(bus: str) -> None:
    async def flooded(node: Node) -> set[str]:
        with flood(bus, 1, "Check", 100, 100 - MOST_OF_USER) as first:
            await line_of(first)
            with flood(bus, 2, "Check", MOST_OF_USER + 1, 1) as second:
                return set(await line_of(second))

    with silent_polkit(bus):
        assert with_node(bus, flooded) == {LIMITS}, "only the ninth was refused: eight of the second user wait"


@needs_root
def test_open_files_of_calls_are_closed_whatever_becomes_of_the_calls(bus: str) -> None:
    async def flooded(node: Node) -> tuple[int, int, int]:
        before = open_files()
        with flood(bus, 1, "Import", 200, 200 - MOST_OF_USER) as process:
            await line_of(process)
            during = open_files()
        async with client(bus) as other:
            for member, signature, body, files in (
                ("Nonsense", "h", [0], [0]), ("Check", "", [], [0, 1, 2]), ("Import", "h", [5], [0]),
                ("Import", "h", [0], [0, 1, 2]),
            ):  # fmt: skip
                await other.call(PATH, NAME, member, signature, body, files)
            await other.call(PATH, None, "Ping", files=[0, 1])
        return before, during, open_files()

    with silent_polkit(bus):
        before, during, after = with_node(bus, flooded)
    assert during - before <= MOST_OPEN_CALLS + 2  # and the pipes to the flood
    assert after - before <= MOST_OF_USER, "only what waits for polkit is open"


def test_a_file_that_did_not_come_is_refused(bus: str) -> None:
    async def without(node: Node) -> list[str]:
        async with client(bus) as other:
            replies = [await other.call(PATH, NAME, "Import", "h", [number], [0]) for number in (1, 2**32 - 1)]
        assert node.requests == []
        return [str(reply.error_name) for reply in replies]

    assert set(with_node(bus, without)) == {"org.updated.Updated1.Error.BadRequest"}


def test_a_string_of_many_megabytes_is_refused_and_the_next_call_answered(bus: str) -> None:
    async def huge(node: Node) -> tuple[Message, Message]:
        async with client(bus) as other:
            refused = await other.call(PATH, NAME, "SetChannel", "s", ["x" * 30_000_000])
            return refused, await other.call(PATH, NAME, "Check")

    refused, passed = with_node(bus, huge)
    assert refused.error_name == "org.updated.Updated1.Error.BadRequest"
    assert len(refused.body[0]) < 1000
    assert passed.error_name is None


def test_values_within_values_are_refused_as_any_wrong_call(bus: str) -> None:
    value: Any = Variant("s", "x")
    for _ in range(60):
        value = Variant("v", value)

    async def deep(node: Node) -> Message:
        async with client(bus) as other:
            return await other.call(PATH, NAME, "Check", "v", [value])

    assert with_node(bus, deep).error_name == "org.freedesktop.DBus.Error.InvalidArgs"


def test_signatures_that_nobody_needs_are_not_kept(bus: str) -> None:
    async def many(node: Node) -> None:
        async with client(bus) as other:
            for number in range(2 * MOST_SIGNATURES):
                ones, others = divmod(number, 20)
                signature = "u" * ones + "y" * others + "s"
                await other.call(PATH, NAME, "Check", signature, [0] * (len(signature) - 1) + [""])

    with_node(bus, many)
    assert len(SignatureTree._cache) <= MOST_SIGNATURES + 4


@pytest.mark.parametrize("member", ["PrepareForShutdown", "PrepareForSleep"])
def test_nobody_but_logind_can_say_that_the_machine_goes_down(bus: str, member: str) -> None:
    async def forged(node: Node) -> list[str]:
        told: list[str] = []
        node.bus.when_going_down(lambda: told.append(member))
        async with client(bus) as other:
            manager = "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
            await other.signal_to(NAME, *manager, member, [True])
            await other.call(PATH, None, "Ping")
        return told

    assert with_node(bus, forged) == []
