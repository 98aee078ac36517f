"""The web server of the benchmark: nginx on the loopback interface, what it sent, and a relay in front of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import nginx

_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
pid {work}/pid;
error_log {work}/error.log;
{user}
events {{ worker_connections 256; }}
http {{
  log_format bytes '$bytes_sent $request_method $status $request_uri';
  access_log {work}/access.log bytes;
  client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi;
  scgi_temp_path {work}/scgi;
  default_type application/octet-stream;
  sendfile on;
  keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{port};
    root {directory};
  }}
}}
"""
# The server writes a line when it knows that a request is over, which can be a moment after the client does.
_SETTLE = 0.1


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the server sent: bytes, with all headers, and answers."""

    sent: int
    requests: int


class Server:
    """A running nginx. `port` is its own; clients use `url`."""

    def __init__(self, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._process = process
        self._log = log
        self._seen = 0

    @property
    def url(self) -> str:
        """The base address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def traffic(self) -> Traffic:
        """What was sent since the last call. Raises RuntimeError when the server was ended by somebody else."""
        time.sleep(_SETTLE)
        if self._process.poll() is not None:
            raise RuntimeError(f"nginx ended with status {self._process.returncode}; run this again")
        lines = self._log.read_text().splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        return Traffic(sum(int(line.split()[0]) for line in new), len(new))


@contextmanager
def serve(directory: Path) -> Iterator[Server]:
    """Serves the files below `directory`. Raises RuntimeError when nginx is missing or does not start."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise RuntimeError("nginx is missing; packaging/install-system-packages installs it")
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as work:
        port = nginx._free_port()
        config = os.path.join(work, "nginx.conf")
        with open(config, "w") as file:
            user = "user root;" if os.geteuid() == 0 else ""
            file.write(_CONFIG.format(work=work, port=port, directory=directory.resolve(), user=user))
        process = subprocess.Popen(
            [program, "-p", work, "-c", config, "-e", f"{work}/error.log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            nginx._wait_until_it_answers(process, port, f"{work}/error.log")
            server = Server(port, Path(work) / "access.log", process)
            server.traffic()
            yield server
        finally:
            process.terminate()
            process.wait(timeout=10)


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay that runs. `held` is an open file that can be read from the moment on at which it holds the link."""

    url: str
    held: int


@contextmanager
def relay(server: Server, *, rate: int = 0, hold: int = 0, listen: int = 0) -> Iterator[Relay]:
    """A slow or an interrupted link to `server`; see `tests.bench.relay`."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tests.bench.relay", str(server.port),
            "--rate", str(rate), "--hold", str(hold), "--listen", str(listen),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    if process.stdout is None:
        raise RuntimeError("the relay has no pipe")
    try:
        port = int(process.stdout.readline())
        yield Relay(f"http://127.0.0.1:{port}", process.stdout.fileno())
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()
