"""A relay in front of the web server: a slow link, or a link that goes silent at a byte.

    python -m tests.bench.relay PORT [--listen PORT] [--rate BYTES] [--hold BYTES]

It prints its own port, listens on the loopback interface, and passes connections on to PORT. All of them share one
token bucket of `--rate` bytes per second towards the client. After `--hold` bytes towards clients it passes nothing
on any more, and prints "held". At its end it prints how many bytes it passed on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine
from typing import Any

_PIECE = 16 * 1024
# What a rate-limited link lets through at once: two pieces, so that the limit holds over any tenth of a second.
_BURST = 2 * _PIECE


class Link:
    """Counts what goes to clients, and makes it wait."""

    def __init__(self, rate: int, hold: int) -> None:
        self._rate = rate
        self._hold = hold
        self._free_at = 0.0
        self.passed = 0

    async def allow(self, wanted: int) -> int:
        """Waits; how many of `wanted` bytes may pass now. Never returns once the link holds."""
        if self._hold:
            wanted = min(wanted, self._hold - self.passed)
            if wanted == 0:
                print("held", flush=True)
                await asyncio.Event().wait()
        self.passed += wanted
        if self._rate:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _BURST / self._rate) + wanted / self._rate
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)
        return wanted


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link | None) -> None:
    try:
        while data := await reader.read(_PIECE if link is not None else 1 << 16):
            while data:
                count = len(data) if link is None else await link.allow(len(data))
                writer.write(data[:count])
                data = data[count:]
                await writer.drain()
    finally:
        with contextlib.suppress(OSError):
            writer.close()


async def _serve(options: argparse.Namespace) -> None:
    link = Link(options.rate, options.hold)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", options.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_quietly(_pass_on(reader, server_writer, None)))
                group.create_task(_quietly(_pass_on(server_reader, writer, link)))

    server = await asyncio.start_server(connected, "127.0.0.1", options.listen)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(link.passed, flush=True)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(OSError):
        await work


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.relay")
    parser.add_argument("port", type=int)
    parser.add_argument("--listen", type=int, default=0)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--hold", type=int, default=0)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
