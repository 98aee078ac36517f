"""A real nginx over a directory, on a free port of the loopback interface, for as long as a block lasts."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
pid {work}/pid;
error_log {work}/error.log;
{user}
events {{ worker_connections 256; }}
http {{
  log_format connections '$connection $status $http_range';
  log_format sent '$request_uri $bytes_sent';
  access_log {log} connections;
  client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi;
  scgi_temp_path {work}/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port};
    root {directory};
    {rate}
    {more}
  }}
}}
"""


@contextmanager
def serve(
    directory: str | os.PathLike[str], *, rate_limit: str | None = None, log: str | os.PathLike[str] | None = None,
    more: str = "",
) -> Iterator[str]:
    """Serves the files below `directory`; gives the base URL, which ends in a slash.

    `rate_limit` is nginx's `limit_rate`: the most per second and connection, such as "500k". `log` is a file that gets
    a line for each request: the number of the connection, the status, the range. `more` are further directives, which
    may name the log format `sent`: path, and bytes of the answer with its head. Raises RuntimeError, with what nginx
    said, when it does not start. Needs the Debian package nginx-light; works for root and for others.
    """
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise RuntimeError("nginx is missing; packaging/install-system-packages installs it")
    with tempfile.TemporaryDirectory(prefix="nginx-") as work:
        port = _free_port()
        config = os.path.join(work, "nginx.conf")
        with open(config, "w") as file:
            file.write(
                _CONFIG.format(
                    work=work,
                    port=port,
                    directory=os.path.abspath(directory),
                    # Else workers of root become nobody, who can't read a private directory.
                    user="user root;" if os.geteuid() == 0 else "",
                    log=os.path.abspath(log) if log is not None else f"{work}/access.log",
                    more=more,
                    rate=f"limit_rate {rate_limit};" if rate_limit else "",
                )
            )
        process = subprocess.Popen(
            [program, "-p", work, "-c", config, "-e", f"{work}/error.log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_answers(process, port, f"{work}/error.log")
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: str) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.01)
        finally:
            connection.close()
    words = "nothing"
    if os.path.exists(log):
        with open(log) as file:
            words = file.read()
    raise RuntimeError(f"nginx did not start; it said: {words}")
