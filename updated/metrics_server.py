"""Where the metrics are to be had: on HTTP at a loopback address, on a unix socket, or in a textfile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger("updated")

# Anybody on this machine may connect and say nothing; the service may have so many threads and processes only.
MOST_CONNECTIONS = 16


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug("metrics: %s", format % args)

    def address_string(self) -> str:
        return "local"


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)  # it is closed at once otherwise

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(str(self.server_address))
        socketserver.TCPServer.server_bind(self)
        os.chmod(str(self.server_address), 0o660)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = self.socket.accept()
        return connection, ("local", 0)


def serve(metrics: Metrics, listen: str) -> Callable[[], None]:
    """Publishes `metrics` where `listen` says; the function that ends it. To be called within the event loop.

    Raises `UpdatedError` ("bad-config") when the place can't be had.
    """
    kind, _, place = listen.partition(":")
    if listen == "off":
        return lambda: None
    if kind == "textfile":
        return _keep_textfile(metrics, place)
    try:
        if kind == "unix":
            os.makedirs(os.path.dirname(place), exist_ok=True)
            server: _Server = _UnixServer(place, _Handler)
        else:
            host, _, port = listen.rpartition(":")
            family = _Server6 if host.startswith("[") else _Server
            server = family((host.strip("[]"), int(port)), _Handler)
    except OSError as error:
        raise UpdatedError(
            "bad-config", f"the metrics at {listen}", error.strerror or str(error),
            "Choose another place in [metrics] listen, or end what listens there.",
        ) from None
    server.set_app(_application(metrics))
    # The event loop waits for connections: `serve_forever` would look at a flag twice a second.
    server.socket.setblocking(False)
    loop = asyncio.get_running_loop()
    loop.add_reader(server.fileno(), server.handle_request)

    def stop() -> None:
        loop.remove_reader(server.fileno())
        server.server_close()

    return stop


def _application(metrics: Metrics) -> Callable[[Mapping[str, Any], Callable[..., Any]], list[bytes]]:
    def application(environment: Mapping[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if environment.get("PATH_INFO") != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"The metrics are at /metrics.\n"]
        start("200 OK", [("Content-Type", CONTENT_TYPE)])
        return [metrics.text()]

    return application


TEXTFILE_SECONDS = 15.0


def _keep_textfile(metrics: Metrics, path: str) -> Callable[[], None]:
    ended = threading.Event()

    def write() -> None:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            durable.write_file(path, metrics.text(), mode=0o644)
        except OSError as error:
            log.warning("the metrics could not be written to %s: %s", path, error)

    def keep() -> None:
        while not ended.wait(TEXTFILE_SECONDS):
            write()
        write()

    write()
    thread = threading.Thread(target=keep, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()

    return stop
