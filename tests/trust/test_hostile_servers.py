"""Whatever a server answers: one error that says what it is, at a bounded cost, and nothing half-done."""

from __future__ import annotations

import gzip
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests
import urllib3.exceptions

from tests.http.server import Answer, Handler, ScriptedServer, body, chunked, drip, hang_up, redirect, status, truncated
from tests.trust.hostile import ROLES, next_file, refused, state
from tests.trust.world import STABLE, World
from updated.http import HttpSettings, HttpSource

SETTINGS = HttpSettings(connect_timeout=5, read_timeout=5, window_seconds=0.2, lowest_rate=10_000, retries=0)


def serving(world: World, bad: str, answer: Answer) -> Answer:
    """The repository of `world`, except for the file `bad`."""

    def serve(handler: Handler) -> None:
        name = unquote(handler.path.lstrip("/"))
        file = Path(world.repository.directory, name)
        if name == bad:
            answer(handler)
        else:
            (body(file.read_bytes()) if file.exists() else status(404))(handler)

    return serve


def endless(handler: Handler) -> None:
    handler.head(200)
    handler.close_connection = True
    while True:
        handler.wfile.write(b" " * 65536)


def not_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.hang_up()


ANSWERS: dict[str, tuple[Answer, tuple[str, ...]]] = {
    "compressed": (body(gzip.compress(b"{}"), Content_Encoding="gzip"), ("encoded",)),
    "compressed on the way": (chunked(gzip.compress(b"{}"), Transfer_Encoding="gzip, chunked"), ("encoded",)),
    "compressed and silent about it": (body(gzip.compress(b"{}")), ("metadata-invalid",)),
    "redirected to another host": (redirect("http://192.0.2.1/x.json"), ("bad-redirect",)),
    "redirected to a file": (redirect("file:///etc/passwd"), ("bad-redirect",)),
    "redirected to itself": (redirect("?"), ("bad-redirect",)),
    "dripping": (drip(b"{" + b" " * 400, 0.01), ("too-slow",)),
    "endless": (endless, ("too-long",)),
    "said to be endless": (body(b"", Content_Length=10**15), ("too-long",)),
    "broken off": (truncated(b"{", 100), ("truncated",)),
    "broken off in chunks": (chunked(b"{", end=False), ("truncated",)),
    "not there at all": (hang_up, ("unreachable",)),
    "not HTTP": (not_http, ("unreachable",)),
    "a fault of the server": (status(500), ("http-status",)),
    "a page for people": (body(b"<html>Please log in</html>"), ("metadata-invalid",)),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_is_refused_as_what_it_is_and_the_next_cycle_is_well(world: World, role: str, kind: str) -> None:
    answer, codes = ANSWERS[kind]
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    before = state(world.store)
    with ScriptedServer(serving(world, next_file(world, role), answer)) as server:
        source = HttpSource(server.url, SETTINGS)
        try:
            error = refused(world, source=source)
        finally:
            source.close()
    assert error.code in codes
    assert f"{role}.json" in str(error) or error.code == "bad-redirect"
    assert "Traceback" not in str(error)
    after = state(world.store)
    # What had been verified before it is kept, and nothing of the refused file.
    kept = {name: data for name, data in after.items() if before.get(name) != data}
    published = world.repository.saved().values()
    assert all(data in published or name.startswith("floors") for name, data in kept.items())
    if role != "stable":
        assert after["floors"] == before["floors"]
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, first"


@pytest.mark.parametrize(
    "fault",
    [
        urllib3.exceptions.MaxRetryError(None, "/", None),  # type: ignore[arg-type]
        urllib3.exceptions.ProtocolError("broken"),
        urllib3.exceptions.IncompleteRead(1, 2),
        urllib3.exceptions.DecodeError("gzip"),
        urllib3.exceptions.LocationParseError("x"),
        urllib3.exceptions.ReadTimeoutError(None, "/", "slow"),  # type: ignore[arg-type]
        urllib3.exceptions.NewConnectionError(None, "no route"),  # type: ignore[arg-type]
        urllib3.exceptions.SSLError("handshake"),
        urllib3.exceptions.ProxyError("proxy", OSError("down")),
        urllib3.exceptions.HTTPError("some other"),
        requests.exceptions.ChunkedEncodingError("broken"),
        requests.exceptions.ConnectionError("refused"),
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.TooManyRedirects("loop"),
        requests.exceptions.RequestException("some other"),
        ConnectionResetError(104, "reset"),
        ValueError("label too long"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_no_fault_of_the_http_libraries_escapes(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def get(*arguments: object, **options: object) -> object:
        raise fault

    monkeypatch.setattr(requests.Session, "get", get)
    source = HttpSource("http://127.0.0.1:9/", SETTINGS)
    assert refused(world, source=source).code in ("unreachable", "too-slow", "bad-certificate")
    source.close()
