"""What stands between a guest and the web server of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fakes import nginx

RELAY = Path(__file__).with_name("relay.py")


def ask(url: str, *requests: str) -> bytes:
    """What the server answers to these requests on one connection, up to its end."""
    port = url.rstrip("/").rpartition(":")[2]
    text = "".join(f"{each} HTTP/1.1\r\nHost: machine\r\n\r\n" for each in requests).encode()
    with subprocess.Popen(
        [sys.executable, "-SE", RELAY, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.flush()
        answer = b""
        while not answer.endswith(b"the end\n"):
            answer += os.read(process.stdout.fileno(), 1 << 16)
        process.stdin.close()
        assert process.wait(30) == 0
    return answer


def test_it_passes_large_answers_on_and_ends_with_the_connection(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000) + b"the end\n")
    with nginx.serve(tmp_path) as url:
        assert ask(url, "GET /file").endswith(bytes(3_000_000) + b"the end\n")
        both = ask(url, "HEAD /file", "GET /file")
    assert both.count(b"200 OK") == 2
