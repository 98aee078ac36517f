"""A web server that misbehaves by script: one answer per request, in order, and the last one for ever after."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

Answer = Callable[["Handler"], None]


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    path: str
    headers: dict[str, str] = field(default_factory=dict)
    port: int = 0


class Handler(BaseHTTPRequestHandler):
    """Plays the next answer of the server's script."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_GET(self) -> None:
        answer = self.server.take(Request(self.path, dict(self.headers), self.client_address[1]))
        # The client may go away in the middle; that is often what a test is about.
        with contextlib.suppress(OSError):
            answer(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def head(self, status: int, **headers: object) -> None:
        """Sends the head; an underscore in a header's name stands for a hyphen."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def hang_up(self) -> None:
        """Ends the connection without another byte."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class ScriptedServer(ThreadingHTTPServer):
    """`with ScriptedServer(answer, ...) as server:` then `server.url` and `server.requests`."""

    daemon_threads = False

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._tls = tls
        self._connections: set[socket.socket] = set()
        self.requests: list[Request] = []
        self.port: int = self.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/"

    def take(self, request: Request) -> Answer:
        """Notes the request; gives the answer that it gets."""
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Begins TLS in the thread of the connection, and drops what fails to."""
        assert isinstance(request, socket.socket)
        with self._lock:
            self._connections.add(request)
        try:
            if self._tls is None:
                Handler(request, client_address, self)
                return
            with contextlib.suppress(OSError), self._tls.wrap_socket(request, server_side=True) as wrapped:
                self._connections.add(wrapped)
                Handler(wrapped, client_address, self)
        finally:
            with self._lock:
                self._connections.discard(request)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        # A client that keeps its connection must not keep the test.
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


def body(data: bytes, status: int = 200, **headers: object) -> Answer:
    """The whole body, with its length."""

    def answer(handler: Handler) -> None:
        handler.head(status, **({"Content_Length": len(data)} | headers))
        handler.wfile.write(data)

    return answer


def status(number: int) -> Answer:
    """An empty answer with a status."""
    return body(b"", number)


def redirect(location: str, number: int = 302) -> Answer:
    """A redirect."""
    return body(b"moved", number, Location=location)


def truncated(data: bytes, declared: int, **headers: object) -> Answer:
    """Fewer bytes than were declared, and then the end."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=declared, **headers)
        handler.wfile.write(data)
        handler.hang_up()

    return answer


def chunked(*pieces: bytes, end: bool = True, **headers: object) -> Answer:
    """A body in chunks; without `end`, the last chunk never comes and the connection breaks."""

    def answer(handler: Handler) -> None:
        handler.head(200, **({"Transfer_Encoding": "chunked"} | headers))
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.hang_up()

    return answer


def drip(data: bytes, pause: float, **headers: object) -> Answer:
    """One byte at a time."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(data), **headers)
        for byte in data:
            handler.wfile.write(bytes([byte]))
            time.sleep(pause)

    return answer


def silence(seconds: float, before: bytes = b"") -> Answer:
    """A head and perhaps some bytes, then nothing for a while."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=1000)
        handler.wfile.write(before)
        time.sleep(seconds)
        handler.hang_up()

    return answer


def hang_up(handler: Handler) -> None:
    """No answer at all."""
    handler.hang_up()


def ranged(data: bytes, *, stop_after: int | None = None, etag: str | None = '"v1"', shift: int = 0) -> Answer:
    """Ranges as RFC 9110 says, with If-Range; `stop_after` breaks each body off, `shift` lies about where it begins."""

    def answer(handler: Handler) -> None:
        headers: dict[str, object] = {"ETag": etag} if etag else {}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        if match is None or handler.headers.get("If-Range", etag) != etag:
            part, number = data, 200
        else:
            first, last = int(match[1]), min(int(match[2]), len(data) - 1)
            part, number = data[first + shift : last + 1], 206
            headers["Content_Range"] = f"bytes {first + shift}-{last}/{len(data)}"
        handler.head(number, Content_Length=len(part), **headers)
        if stop_after is None or stop_after >= len(part):
            handler.wfile.write(part)
        else:
            handler.wfile.write(part[:stop_after])
            handler.hang_up()

    return answer
