"""Servers that must answer: HTTP, TCP, and sockets in the file system."""

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from health import keys
from health.check import Attempt
from health.probes import Surroundings, cause
from health.rootdir import below

if TYPE_CHECKING:
    from http.client import HTTPConnection

BODY_LIMIT = 1024 * 1024
"""Bytes of an HTTP answer that are searched for `contains`."""
LONGEST_ADDRESS = 107
"""Bytes of a path in the address of a socket (unix(7))."""


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """GET `url` must answer with `status` (None: any 2xx) and, if given, a body that contains `contains`."""

    type: ClassVar[str] = "http"
    url: str
    status: int | None = None
    contains: str | None = None

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        import http.client
        from urllib.parse import urlsplit

        parts = urlsplit(self.url)
        assert parts.hostname is not None  # noqa: S101 - the check file's format sees to it
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return self.judge(connect(parts.hostname, parts.port, timeout=timeout), target, timeout)

    def judge(self, connection: "HTTPConnection", target: str, timeout: float) -> Attempt:
        """Asks `connection` for `target`, and closes it."""
        answer = get(connection, self.url, target, timeout, BODY_LIMIT if self.contains is not None else 0)
        if isinstance(answer, Attempt):
            return answer
        told = f"{self.url} answers {answer.status} {answer.reason}"
        if not (200 <= answer.status <= 299 if self.status is None else answer.status == self.status):
            return Attempt("fail", f"{told}, not {self.status or '2xx'}")
        if self.contains is not None and self.contains.encode() not in answer.body:
            return Attempt("fail", f"{told} without {self.contains!r}")
        return Attempt("pass", told)


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an HTTP server; `body` is cut off at the limit that was asked for."""

    status: int
    reason: str
    body: bytes


def get(
    connection: "HTTPConnection", name: str, target: str, timeout: float, limit: int, authorization: str | None = None
) -> Answer | Attempt:
    """The answer to GET `target`, or the attempt that failed for the want of one; `name` is what it tells of."""
    import http.client

    headers = {"User-Agent": "updated-health", "Connection": "close"}
    if authorization is not None:
        headers["Authorization"] = authorization
    try:
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as response:
            return Answer(response.status, response.reason, response.read(limit) if limit else b"")
    except TimeoutError:
        return Attempt("timeout", f"{name} gave no answer within {timeout:g} s")
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        return Attempt("fail", f"{name} can't be fetched: {cause(error)}")
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """A TCP connection to `host`:`port` must be accepted."""

    type: ClassVar[str] = "tcp"
    host: str
    port: int

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        place = f"{self.host} port {self.port}"
        try:
            socket.create_connection((self.host, self.port), timeout=timeout).close()
        except TimeoutError:
            return Attempt("timeout", f"{place} did not answer within {timeout:g} s")
        except (OSError, UnicodeError) as error:
            return Attempt("fail", f"{place} can't be reached: {cause(error)}")
        return Attempt("pass", f"{place} accepts connections")


@dataclass(frozen=True, slots=True)
class UnixSocketProbe:
    """A connection to the socket `path` must be accepted, whether it carries a stream or packets."""

    type: ClassVar[str] = "unix-socket"
    path: str

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        try:
            connect_unix(around, self.path, timeout).close()
        except TimeoutError:
            return Attempt("timeout", f"{self.path} did not answer within {timeout:g} s")
        except OSError as error:
            return Attempt("fail", f"{self.path} can't be reached: {cause(error)}")
        return Attempt("pass", f"{self.path} accepts connections")


def connect_unix(around: Surroundings, path: str, timeout: float) -> socket.socket:
    """A connection to the socket that is `path` inside the root. Raises OSError."""
    outside = below(around.root, path)
    if len(os.fsencode(outside)) <= LONGEST_ADDRESS:
        return _connect(outside, timeout)
    folder = os.open(os.path.dirname(outside), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _connect(f"/proc/self/fd/{folder}/{os.path.basename(outside)}", timeout)
    finally:
        os.close(folder)


def _connect(address: str, timeout: float) -> socket.socket:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        try:
            return _connect_as(kind, address, timeout)
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
    return _connect_as(socket.SOCK_DGRAM, address, timeout)


def _connect_as(kind: socket.SocketKind, address: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.settimeout(timeout)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


TYPES = {
    HttpProbe.type: keys.Type(
        HttpProbe, {"url": keys.url, "status": keys.whole(100, 599), "contains": keys.text}, needed=("url",)
    ),
    TcpProbe.type: keys.Type(TcpProbe, {"host": keys.text, "port": keys.whole(1, 65535)}, needed=("host", "port")),
    UnixSocketProbe.type: keys.Type(UnixSocketProbe, {"path": keys.path}, needed=("path",)),
}
