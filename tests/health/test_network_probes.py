"""HTTP and TCP against real servers on the loopback interface."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from health.check import Attempt, Check, Pace, Probe
from health.probes import Surroundings, attempt
from health.probes.network import HttpProbe, TcpProbe


def try_once(probe: Probe, timeout_seconds: float = 10) -> Attempt:
    return attempt(Check("wanted", "web", probe, Pace(timeout_seconds=timeout_seconds)), Surroundings.of("/"))


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/": 200, "/moved": 302, "/gone": 410, "/query?x=1": 200}.get(self.path, 404)
        body = b"all systems go"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """The test's output is no place for an access log."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def closed_port() -> int:
    with listener() as server:
        return int(server.getsockname()[1])


def test_any_2xx_passes_by_default(site: str) -> None:
    assert try_once(HttpProbe(site)).result == "pass"
    assert try_once(HttpProbe(f"{site}/query?x=1")).result == "pass"


def test_another_status_fails_and_is_told_with_the_wanted_one(site: str) -> None:
    made = try_once(HttpProbe(f"{site}/gone"))
    assert (made.result, made.final) == ("fail", False)
    assert "410 Gone, not 2xx" in made.output


def test_a_redirect_is_not_followed(site: str) -> None:
    assert try_once(HttpProbe(f"{site}/moved")).result == "fail"
    assert try_once(HttpProbe(f"{site}/moved", status=302)).result == "pass"


def test_the_wanted_status_is_the_only_one_that_passes(site: str) -> None:
    assert try_once(HttpProbe(f"{site}/gone", status=410)).result == "pass"
    assert try_once(HttpProbe(site, status=204)).result == "fail"


def test_the_body_must_contain_the_wanted_text(site: str) -> None:
    assert try_once(HttpProbe(site, contains="systems go")).result == "pass"
    made = try_once(HttpProbe(site, contains="systems gone"))
    assert made.result == "fail"
    assert "without 'systems gone'" in made.output


def test_proxies_of_the_environment_are_not_asked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    assert try_once(HttpProbe(site)).result == "pass"


def test_a_server_that_is_not_there_fails_and_may_be_tried_again() -> None:
    made = try_once(HttpProbe(f"http://127.0.0.1:{closed_port()}/"))
    assert (made.result, made.final) == ("fail", False)
    assert "Connection refused" in made.output


def test_a_server_that_says_nothing_is_a_time_out() -> None:
    with listener() as server:
        made = try_once(HttpProbe(f"http://127.0.0.1:{server.getsockname()[1]}/"), timeout_seconds=0.2)
    assert made.result == "timeout"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_an_answer_that_is_no_http_fails(answer: bytes) -> None:
    with listener() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        made = try_once(HttpProbe(f"http://127.0.0.1:{server.getsockname()[1]}/"))
        thread.join()
    assert made.result == "fail"


def test_https_to_a_server_without_tls_fails(site: str) -> None:
    assert try_once(HttpProbe(site.replace("http:", "https:"))).result == "fail"


def test_a_host_name_that_can_not_be_is_a_failure_and_no_crash() -> None:
    assert try_once(HttpProbe("http://a..b/")).result == "fail"
    assert try_once(TcpProbe("a..b", 80)).result == "fail"


def test_a_port_that_accepts_passes() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        made = try_once(TcpProbe("127.0.0.1", port))
    assert made == Attempt("pass", f"127.0.0.1 port {port} accepts connections")


def test_a_closed_port_fails_and_may_be_tried_again() -> None:
    made = try_once(TcpProbe("127.0.0.1", closed_port()))
    assert (made.result, made.final) == ("fail", False)
    assert "Connection refused" in made.output


def test_a_port_that_does_not_answer_is_a_time_out() -> None:
    """A listener whose queue is full lets the kernel drop further connections."""
    with socket.socket() as server, socket.socket() as first:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        first.connect(server.getsockname())
        assert try_once(TcpProbe(*server.getsockname()), timeout_seconds=0.2).result == "timeout"
