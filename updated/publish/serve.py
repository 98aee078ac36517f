"""A web server for one repository, to try things out: HTTP/1.1 (RFC 9110), files of the repository and nothing else."""

from __future__ import annotations

import os
import re
import socket
import stat
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import BinaryIO, Final
from urllib.parse import unquote

from updated.core.errors import UpdatedError
from updated.publish.misuse import Misuse

_FOLDERS: Final = ("metadata", "targets", "blobs")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})", re.ASCII)

_EXAMPLE: Final = "Name an address such as 127.0.0.1:8080."


class RepositoryServer(ThreadingMixIn, TCPServer):
    """Serves the files of the repository in the folder `repository` at `address`, each connection in a thread.

    Raises `UpdatedError`: "bad-request" for an address that is none, or can't be had; "bad-repository".
    """

    daemon_threads = True
    allow_reuse_address = True
    # A burst of nodes must not be refused.
    request_queue_size = 128

    def __init__(self, repository: str, address: str) -> None:
        match = _ADDRESS.fullmatch(address)
        if match is None or int(match[3]) > 65535:
            raise Misuse("bad-request", f"--listen {address}", "is not HOST:PORT", _EXAMPLE)
        if not os.path.isfile(os.path.join(repository, "metadata", "timestamp.json")):
            raise UpdatedError(
                "bad-repository", f"the folder {repository}", "is not a repository",
                "Name another one, or make it with `releasectl init` or `releasectl mirror`.",
            )
        host = match[1] or match[2]
        if match[1]:
            self.address_family = socket.AF_INET6
        self.repository = os.path.realpath(repository)
        try:
            super().__init__((host, int(match[3])), _Handler)
        except OSError as error:
            cause = error.strerror or str(error)
            raise UpdatedError("bad-request", f"--listen {address}", cause, _EXAMPLE) from None
        # Nodes can't ask "all addresses"; the name of the machine is the best guess.
        name = socket.gethostname() if host in ("", "0.0.0.0", "::") else f"[{host}]" if match[1] else host  # noqa: S104
        self.url = f"http://{name}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "releasectl"
    sys_version = ""
    # Else the body of an answer waits until its head was acknowledged.
    disable_nagle_algorithm = True
    timeout = 60
    server: RepositoryServer

    def do_GET(self) -> None:
        """Answers with a file, or a range of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answers as to GET, without the file."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            # A body, which nobody reads here, would be taken for the next request.
            self.close_connection = True
        file = _opened(self.server.repository, self.path)
        if file is None:
            self._refuse(404, "no such file in the repository\n", with_body=with_body)
            return
        with file:
            status = os.fstat(file.fileno())
            tag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
            start, end = 0, status.st_size
            asked = self.headers.get("Range") if with_body else None
            partial = None
            if asked is not None and self.headers.get("If-Range", tag) == tag:
                try:
                    partial = _range(asked, end)
                except ValueError:
                    self._refuse(416, "", Content_Range=f"bytes */{end}")
                    return
            if partial is not None:
                start, end = partial
            self.send_response(200 if partial is None else 206)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", tag)
            if partial is not None:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{status.st_size}")
            self.end_headers()
            if with_body and start < end:
                self._send(file, start, end)

    def _send(self, file: BinaryIO, start: int, end: int) -> None:
        try:
            sent = self.connection.sendfile(file, start, end - start)
        except OSError:
            sent = 0  # the node has left
        # What was announced can't be made up for: only the end of the connection says so.
        self.close_connection = self.close_connection or sent != end - start

    def _refuse(self, status: int, text: str, *, with_body: bool = True, **headers: str) -> None:
        """An answer that leaves the connection open: that there is no newer root is what each node asks first."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _opened(repository: str, address: str) -> BinaryIO | None:
    """The file that a request asks for; None unless it is one of the repository."""
    names = unquote(address.partition("?")[0]).split("/")[1:]
    # What begins with a dot is not finished.
    if len(names) < 2 or names[0] not in _FOLDERS or any("\0" in name or name[:1] in ("", ".") for name in names):
        return None
    path = os.path.join(repository, *names)
    folder = os.path.realpath(os.path.join(repository, names[0]))
    if os.path.commonpath([os.path.realpath(path), folder]) != folder:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return open(fd, "rb", buffering=0)


def _range(text: str, length: int) -> tuple[int, int] | None:
    """The bytes [start, end) of a file that a Range field asks for; None when it is passed over, and all are sent.

    Raises ValueError when the file has none of them.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match[1] + match[2] == "":
        return None
    if match[1] == "":
        start, end = max(0, length - int(match[2])), length
    else:
        start, end = int(match[1]), min(length, int(match[2]) + 1 if match[2] else length)
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        raise ValueError(text)
    return start, end
