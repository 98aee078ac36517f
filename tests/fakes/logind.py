"""The real systemd-logind on a private bus, in a mount namespace of its own; and a model of NetworkManager.

A session of logind is a file below /run/systemd/sessions, from which logind begins: so people are logged in here.
Needs root, since a file system is mounted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

PROGRAM = "/usr/lib/systemd/systemd-logind"
# $1 is the file with a line for each session: id, class, terminal, and remote host or "-".
_SCRIPT = f"""\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/sessions /run/systemd/users
while read -r id class tty host; do
    cat >/run/systemd/sessions/$id <<END
UID=0
USER=root
ACTIVE=1
STATE=active
TYPE=tty
CLASS=$class
SCOPE=session-$id.scope
TTY=$tty
LEADER=$$
END
    [ "$host" = - ] || printf 'REMOTE=1\\nREMOTE_HOST=%s\\n' "$host" >>/run/systemd/sessions/$id
    ids="$ids $id"
done
[ -z "$ids" ] || printf 'NAME=root\\nSTATE=active\\nSTOPPING=no\\nSESSIONS=%s\\n' "$ids" >/run/systemd/users/0
exec {PROGRAM}
"""
# The real one announces a shutdown only where systemd is there to do it. This one does so at once after it gave a lock,
# and then waits until the lock is let go.
_GOING_DOWN = """\
import asyncio, os, sys
from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

async def main():
    bus = await MessageBus(bus_address=sys.argv[1], negotiate_unix_fd=True).connect()
    ours, theirs = os.pipe()

    def answer(message):
        if message.message_type is not MessageType.METHOD_CALL or message.member != "Inhibit":
            return None
        asyncio.get_running_loop().call_soon(announce)
        reply = Message.new_method_return(message, "h", [0], [theirs])
        return reply

    def announce():
        manager = "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
        bus.send(Message.new_signal(*manager, sys.argv[2], "b", [True])).add_done_callback(lambda _: os.close(theirs))

    bus.add_message_handler(answer)
    await bus.request_name("org.freedesktop.login1")
    print("ready", flush=True)
    await asyncio.to_thread(os.read, ours, 1)
    print("let go", flush=True)

asyncio.run(main())
"""
# Answers each method with the signature and the body that it was given; of values in variants, with their own.
_SAYS = """\
import asyncio, json, sys
from dbus_next import Message, MessageType, Variant
from dbus_next.aio import MessageBus

async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    answers = json.loads(sys.argv[2])

    def answer(message):
        if message.message_type is not MessageType.METHOD_CALL or message.member not in answers:
            return None
        signature, body = answers[message.member]
        if signature == "a{sv}":
            body = [{key: Variant(*value) for key, value in body[0].items()}]
        return Message.new_method_return(message, signature, body)

    bus.add_message_handler(answer)
    await bus.request_name("org.freedesktop.login1")
    print("ready", flush=True)
    await bus.wait_for_disconnect()

asyncio.run(main())
"""
_NETWORK_MANAGER = """\
import asyncio, sys
from dbus_next import PropertyAccess
from dbus_next.aio import MessageBus
from dbus_next.service import ServiceInterface, dbus_property

class Manager(ServiceInterface):
    metered = 0

    @dbus_property(access=PropertyAccess.READ)
    def Metered(self) -> "u":
        return self.metered

async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    manager = Manager("org.freedesktop.NetworkManager")
    bus.export("/org/freedesktop/NetworkManager", manager)
    await bus.request_name("org.freedesktop.NetworkManager")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        manager.metered = int(line)
        print("is", manager.metered, flush=True)

asyncio.run(main())
"""


def environment(address: str) -> Mapping[str, str]:
    """The environment in which systemd's tools talk to the logind at `address`."""
    return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}


@contextmanager
def logind(address: str, sessions: Sequence[str] = ()) -> Iterator[None]:
    """logind, as long as the block lasts, with `sessions`: "7 user pts/9 192.0.2.7", or "-" for no remote host."""
    lines = "".join(f"{line}\n" for line in sessions).encode()
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", _SCRIPT],
        env=environment(address), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(lines)
            process.stdin.close()
            _wait_for(address, "org.freedesktop.login1", process)
            yield
        finally:
            process.terminate()
            process.wait(10)


def locks(address: str) -> str:
    """What systemd-inhibit(1) lists."""
    return subprocess.run(
        ["systemd-inhibit", "--list", "--no-pager"], env=environment(address),
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip


@contextmanager
def going_down(address: str, announcement: str) -> Iterator[subprocess.Popen[str]]:
    """A model of logind that announces "PrepareForShutdown" to who takes a lock, and prints when that is let go."""
    command = [sys.executable, "-c", _GOING_DOWN, address, announcement]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.terminate()


@contextmanager
def saying(address: str, answers: Mapping[str, tuple[str, Sequence[Any]]]) -> Iterator[None]:
    """A model of logind that answers each method with this signature and body, fitting or not."""
    command = [sys.executable, "-c", _SAYS, address, json.dumps(answers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.terminate()


@contextmanager
def inhibitor(address: str, *, who: str, why: str, what: str = "shutdown", mode: str = "block") -> Iterator[None]:
    """A lock, taken by systemd-inhibit(1)."""
    with subprocess.Popen(
        [
            "systemd-inhibit", f"--what={what}", f"--who={who}", f"--why={why}", f"--mode={mode}",
            "sh", "-c", "echo locked; cat",
        ],
        env=environment(address), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate(timeout=10)


class NetworkManager:
    """NetworkManager's property Metered, which a test sets."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def metered(self, value: int) -> None:
        """Sets it: 1 yes, 2 no, 3 a guess that is yes, 4 a guess that is no."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{value}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"is {value}\n"


@contextmanager
def network_manager(address: str, metered: int) -> Iterator[NetworkManager]:
    """The model, as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-c", _NETWORK_MANAGER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        made = NetworkManager(process)
        made.metered(metered)
        yield made
        process.communicate(timeout=10)


def _wait_for(address: str, name: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        asked = subprocess.run(
            ["busctl", f"--address={address}", "status", name], capture_output=True, timeout=30, check=False
        )
        if asked.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} does not come up on the bus; packaging/install-system-packages installs it")
