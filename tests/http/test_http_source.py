"""Whatever a server or a network does, reading ends in the right bytes or in one clear error."""

from __future__ import annotations

import socket
import threading
from functools import partial

import pytest

from tests.http.conftest import FakeTime, Opener
from tests.http.server import (
    Answer,
    Handler,
    ScriptedServer,
    body,
    chunked,
    drip,
    hang_up,
    ranged,
    redirect,
    silence,
    status,
    truncated,
)
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource
from updated.http import MAX_PAUSE, HttpSettings, HttpSource, open_source
from updated.throttle import BURST_SECONDS

DATA = bytes(range(256)) * 40
ONCE = HttpSettings(retries=0)


def _read_error(opened: Opener, *answers: Answer, settings: HttpSettings = ONCE, most: int = 100_000) -> UpdatedError:
    with ScriptedServer(*answers) as server:
        source = opened(server.url, settings)
        with pytest.raises(UpdatedError) as refused:
            source.read("metadata/timestamp.json", most)
        source.close()
        assert refused.value.code == "bad-redirect" or f"127.0.0.1:{server.port}" in refused.value.what
    return refused.value


def _stream(opened: Opener, start: int, length: int, *answers: Answer) -> tuple[bytes, ScriptedServer]:
    with ScriptedServer(*answers) as server:
        source = opened(server.url)
        data = b"".join(source.stream("blobs/x", start, length))
        source.close()
    return data, server


# read


def test_a_file_is_read_whole(opened: Opener) -> None:
    with ScriptedServer(body(DATA)) as server:
        source = opened(server.url + "some/repository")
        assert source.read("metadata/1.root.json", len(DATA)) == DATA
        source.close()
    (request,) = server.requests
    assert request.path == "/some/repository/metadata/1.root.json"
    assert request.headers["User-Agent"].startswith("updated/")
    assert request.headers["Accept-Encoding"] == "identity"


def test_a_chunked_body_is_read_whole(opened: Opener) -> None:
    with ScriptedServer(chunked(DATA[:5], DATA[5:])) as server:
        source = opened(server.url)
        assert source.read("x", len(DATA)) == DATA
        source.close()


def test_names_are_quoted(opened: Opener) -> None:
    with ScriptedServer(body(b"x")) as server:
        source = opened(server.url)
        source.read("metadata/1.a b?c#d%2F+ü.json", 10)
        source.close()
    assert server.requests[0].path == "/metadata/1.a%20b%3Fc%23d%252F%2B%C3%BC.json"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "", "a/\0"])
def test_names_that_lead_elsewhere_are_refused_without_a_request(opened: Opener, name: str) -> None:
    with ScriptedServer(body(b"x")) as server, pytest.raises(UpdatedError) as refused:
        opened(server.url).read(name, 10)
    assert refused.value.code == "not-found"
    assert server.requests == []


@pytest.mark.parametrize("number", [403, 404])
def test_a_missing_file_is_not_found_at_once(opened: Opener, fake_time: FakeTime, number: int) -> None:
    assert _read_error(opened, status(number), settings=HttpSettings()).code == "not-found"
    assert fake_time.pauses == []


@pytest.mark.parametrize("number", [400, 401, 410, 416, 451])
def test_other_refusals_are_not_tried_again(opened: Opener, fake_time: FakeTime, number: int) -> None:
    error = _read_error(opened, status(number), settings=HttpSettings())
    assert error.code == "http-status"
    assert str(number) in error.cause
    assert fake_time.pauses == []


@pytest.mark.parametrize("first", [status(500), status(503), status(429), hang_up, truncated(b"ab", 100)])
def test_what_may_pass_is_tried_again(opened: Opener, fake_time: FakeTime, first: Answer) -> None:
    with ScriptedServer(first, body(DATA)) as server:
        source = opened(server.url)
        assert source.read("x", len(DATA)) == DATA
        source.close()
    assert fake_time.pauses == [1.0]


def test_it_is_tried_again_ever_later_and_not_for_ever(opened: Opener, fake_time: FakeTime) -> None:
    assert _read_error(opened, status(502), settings=HttpSettings(retries=7)).code == "http-status"
    assert fake_time.pauses == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("number", "asked", "pause"),
    [
        (503, "7", 8), (429, "7", 8), (503, "0", 1), (429, "3600", MAX_PAUSE), (503, "9" * 18, MAX_PAUSE),
        (503, "9" * 4000, 1), (500, "7", 1), (503, "Wed, 21 Oct 2037 07:28:00 GMT", 1), (503, "-5", 1), (503, "٣", 1),
    ],
)
def test_a_server_that_asks_for_a_pause_gets_it_within_bounds(
    opened: Opener, fake_time: FakeTime, number: int, asked: str, pause: float
) -> None:
    with ScriptedServer(body(b"", number, Retry_After=asked.encode().decode("latin-1")), body(DATA)) as server:
        source = opened(server.url)
        assert source.read("x", len(DATA)) == DATA
        source.close()
    assert fake_time.pauses == [pause]


def test_what_was_asked_for_does_not_shorten_the_pauses_after_it(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(body(b"", 503, Retry_After=5), status(503), body(DATA)) as server:
        source = opened(server.url)
        source.read("x", len(DATA))
        source.close()
    assert fake_time.pauses == [6, 2]


def test_nothing_is_tried_again_against_the_word_of_its_owner(opened: Opener, fake_time: FakeTime) -> None:
    asked: list[str] = []

    def may_retry(name: str) -> bool:
        asked.append(name)
        return len(asked) < 3

    with ScriptedServer(status(503)) as server:
        source = opened(server.url, HttpSettings(retries=9), may_retry)
        with pytest.raises(UpdatedError):
            source.read("x", 10)
        source.close()
    assert asked == ["x", "x", "x"]
    assert len(server.requests) == 3
    assert fake_time.pauses == [1, 2]


def test_pauses_differ_between_nodes() -> None:
    pauses: list[float] = []
    with ScriptedServer(status(500)) as server:
        for chance in (0.0, 0.5):
            settings = HttpSettings(retries=1)
            source = HttpSource(server.url, settings, sleep=pauses.append, random=partial(float, chance))
            with pytest.raises(UpdatedError):
                source.read("x", 10)
            source.close()
    assert pauses == [0.5, 0.75]


@pytest.mark.parametrize(
    "answer",
    [truncated(b"abc", 100), truncated(b"", 100), chunked(b"abc", end=False)],
    ids=["short body", "no body", "broken chunks"],
)
def test_a_body_that_breaks_off_is_truncated(opened: Opener, answer: Answer) -> None:
    assert _read_error(opened, answer).code == "truncated"


@pytest.mark.parametrize("answer", [body(b"x" * 101), chunked(b"x" * 60, b"x" * 60)], ids=["declared", "chunked"])
def test_more_than_the_signed_length_is_refused(opened: Opener, answer: Answer) -> None:
    error = _read_error(opened, answer, most=100)
    assert error.code == "too-long"
    assert "100 bytes" in error.cause


def test_a_body_without_end_is_left(opened: Opener) -> None:
    assert _read_error(opened, chunked(*[b"x" * 65536] * 2000), most=1000).code == "too-long"


def test_a_drip_is_too_slow(opened: Opener, fake_time: FakeTime) -> None:
    fake_time.step = 1.0
    error = _read_error(opened, drip(b"x" * 200, 0.002))
    assert error.code == "too-slow"
    assert "less than 1024 bytes/s" in error.cause


def test_only_waiting_counts_against_the_rate(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(ranged(DATA)) as server:
        source = opened(server.url)
        got = b""
        for piece in source.stream("x", 0, len(DATA)):
            got += piece
            fake_time.now += 1000
        source.close()
    assert got == DATA


def test_a_connection_that_drips_is_broken_and_the_stream_goes_on_at_another(
    opened: Opener, fake_time: FakeTime
) -> None:
    fake_time.step = 1.0
    data, server = _stream(opened, 0, len(DATA), drip(DATA[:200], 0.002, ETag='"v1"'), ranged(DATA))
    assert data == DATA
    first = int(server.requests[1].headers["Range"].removeprefix("bytes=").partition("-")[0])
    assert 0 < first <= 30


def test_a_limit_of_bandwidth_holds_for_all_that_comes(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(ranged(DATA)) as server:
        source = opened(server.url, HttpSettings(bandwidth_limit=1024))
        source.read("x", len(DATA))
        list(source.stream("x", 0, len(DATA)))
        source.close()
    assert fake_time.now == pytest.approx(2 * len(DATA) / 1024 - BURST_SECONDS)


def test_pauses_of_the_limit_are_no_fault_of_the_server(opened: Opener) -> None:
    settings = HttpSettings(bandwidth_limit=1024, lowest_rate=2**30, window_seconds=0.01, retries=0)
    with ScriptedServer(ranged(DATA)) as server:
        source = opened(server.url, settings)
        assert b"".join(source.stream("x", 0, len(DATA))) == DATA
        source.close()


def test_a_server_that_falls_silent_is_too_slow(opened: Opener) -> None:
    settings = HttpSettings(retries=0, read_timeout=0.05)
    assert _read_error(opened, silence(0.3, b"ab"), settings=settings).code == "too-slow"


def test_a_server_that_never_answers_is_too_slow(opened: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = opened(f"http://127.0.0.1:{listener.getsockname()[1]}/", HttpSettings(retries=0, read_timeout=0.05))
        with pytest.raises(UpdatedError) as refused:
            source.read("x", 10)
    assert refused.value.code == "too-slow"


def test_a_closed_port_is_unreachable(opened: Opener, fake_time: FakeTime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpdatedError) as refused:
        opened(f"http://user:secret@127.0.0.1:{port}/").read("x", 10)
    assert refused.value.code == "unreachable"
    assert "Connection refused" in refused.value.cause
    assert "secret" not in str(refused.value)
    assert len(fake_time.pauses) == 3


@pytest.mark.parametrize("garbage", [b"220 mail ESMTP\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 100, b"x" * 70000])
def test_what_is_not_http_is_unreachable(opened: Opener, garbage: bytes) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(garbage)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with pytest.raises(UpdatedError) as refused:
            opened(f"http://127.0.0.1:{listener.getsockname()[1]}/", ONCE).read("x", 10)
        thread.join()
    assert refused.value.code in ("unreachable", "http-status")


@pytest.mark.parametrize(
    "answer",
    [
        body(b"x", Content_Encoding="gzip"),
        body(b"x", Content_Encoding="br"),
        chunked(b"x", Transfer_Encoding="gzip, chunked"),
    ],
    ids=["gzip", "br", "transfer"],
)
def test_a_body_that_was_compressed_on_the_way_is_refused(opened: Opener, answer: Answer) -> None:
    assert _read_error(opened, answer).code == "encoded"


def test_a_partial_answer_to_a_whole_request_is_refused(opened: Opener) -> None:
    assert _read_error(opened, body(b"x", 206, Content_Range="bytes 0-0/1")).code == "http-status"


def test_a_connection_is_used_again(opened: Opener) -> None:
    with ScriptedServer(ranged(DATA)) as server:
        source = opened(server.url)
        for _ in range(3):
            source.read("x", len(DATA))
            assert b"".join(source.stream("x", 10, 20)) == DATA[10:30]
        source.close()
    assert len({request.port for request in server.requests}) == 1


def test_the_environment_decides_nothing(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    with ScriptedServer(body(b"x")) as server:
        source = opened(server.url)
        assert source.read("x", 10) == b"x"
        source.close()


def test_the_configured_proxy_is_used(opened: Opener) -> None:
    with ScriptedServer(body(b"x")) as server:
        source = opened("http://updates.invalid/repository/", HttpSettings(proxy=server.url))
        assert source.read("x", 10) == b"x"
        source.close()
    assert server.requests[0].path == "http://updates.invalid/repository/x"


def test_cookies_are_not_kept(opened: Opener) -> None:
    with ScriptedServer(body(b"x", Set_Cookie="node=1")) as server:
        source = opened(server.url)
        source.read("x", 10)
        source.read("x", 10)
        source.close()
    assert "Cookie" not in server.requests[1].headers


# redirects


def test_a_redirect_to_the_same_host_is_followed(opened: Opener) -> None:
    with ScriptedServer(redirect("/elsewhere/x?key=1", 308), body(b"x")) as server:
        source = opened(server.url)
        assert source.read("x", 10) == b"x"
        source.close()
    assert server.requests[1].path == "/elsewhere/x?key=1"


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost/x",
        "http://127.0.0.2/x",
        "http://user@127.0.0.1/x",
        "http://evil\\@127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://[",
        "//evil/x",
    ],
)
def test_a_redirect_to_another_place_is_refused(opened: Opener, location: str) -> None:
    assert _read_error(opened, redirect(location)).code == "bad-redirect"


@pytest.mark.parametrize("location", ["/x", ""])
def test_a_redirect_loop_ends(opened: Opener, location: str) -> None:
    assert _read_error(opened, redirect(location)).code == "bad-redirect"


def test_the_body_of_a_redirect_is_not_read(opened: Opener) -> None:
    sent: list[int] = []

    def endless(handler: Handler) -> None:
        handler.head(302, Location="/y", Content_Length=10**12)
        while len(sent) < 1000:
            handler.wfile.write(bytes(100_000))
            sent.append(100_000)

    with ScriptedServer(endless, body(b"y")) as server:
        source = opened(server.url)
        assert source.read("x", 10) == b"y"
        source.close()
    assert sum(sent) < 50_000_000


def test_three_redirects_are_followed(opened: Opener) -> None:
    with ScriptedServer(*[redirect("/x")] * 3, body(b"x")) as server:
        source = opened(server.url)
        assert source.read("x", 10) == b"x"
        source.close()
    assert len(server.requests) == 4


# stream


def test_a_range_is_streamed_exactly(opened: Opener) -> None:
    data, server = _stream(opened, 100, 1000, ranged(DATA))
    assert data == DATA[100:1100]
    assert server.requests[0].headers["Range"] == "bytes=100-1099"


def test_nothing_is_asked_for_an_empty_range(opened: Opener) -> None:
    data, server = _stream(opened, 100, 0, ranged(DATA))
    assert (data, server.requests) == (b"", [])


def test_a_broken_connection_goes_on_where_it_stopped(opened: Opener, fake_time: FakeTime) -> None:
    data, server = _stream(opened, 10, 1000, ranged(DATA, stop_after=300), ranged(DATA, stop_after=1), ranged(DATA))
    assert data == DATA[10:1010]
    ranges = [request.headers["Range"] for request in server.requests]
    assert ranges == ["bytes=10-1009", "bytes=310-1009", "bytes=311-1009"]
    assert "If-Range" not in server.requests[0].headers
    assert server.requests[1].headers["If-Range"] == '"v1"'
    assert len(fake_time.pauses) == 2


def test_a_weak_validator_is_not_used(opened: Opener) -> None:
    data, server = _stream(opened, 0, 1000, ranged(DATA, stop_after=300, etag='W/"v1"'), ranged(DATA))
    assert data == DATA[:1000]
    assert "If-Range" not in server.requests[1].headers


def test_a_server_error_in_the_middle_is_passed_over(opened: Opener) -> None:
    data, _ = _stream(opened, 0, 1000, ranged(DATA, stop_after=500), status(503), hang_up, ranged(DATA))
    assert data == DATA[:1000]


def test_a_server_without_ranges_is_told_at_its_first_answer(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(status(503), body(DATA)) as server:
        source = opened(server.url)
        with pytest.raises(UpdatedError) as refused:
            next(iter(source.stream("x", 3000, 1000)))
        source.close()
    assert refused.value.code == "no-ranges"
    assert "bytes 3000-3999" in refused.value.cause
    assert fake_time.pauses == [1]


def test_the_beginning_of_a_file_needs_no_ranges(opened: Opener) -> None:
    data, _ = _stream(opened, 0, 4000, body(DATA))
    assert data == DATA[:4000]


def test_a_stream_from_the_beginning_goes_on_by_skipping(opened: Opener, fake_time: FakeTime) -> None:
    breaks = [truncated(DATA[:end], len(DATA)) for end in (4000, 3000, 9000)]
    data, server = _stream(opened, 0, len(DATA), *breaks, body(DATA))
    assert data == DATA
    assert len(server.requests) == 4
    assert len(fake_time.pauses) == 3


def test_ranges_that_end_in_the_middle_of_a_stream_are_replaced_by_skipping(opened: Opener) -> None:
    data, _ = _stream(opened, 100, 5000, ranged(DATA, stop_after=700), body(DATA))
    assert data == DATA[100:5100]


def test_a_resumption_that_begins_at_zero_is_not_appended(opened: Opener) -> None:
    data, _ = _stream(opened, 0, len(DATA), ranged(DATA, stop_after=5000), body(DATA))
    assert data == DATA


def test_a_file_that_changed_is_not_asked_for_with_the_old_validator_again(opened: Opener) -> None:
    newer = ranged(DATA, stop_after=600, etag='"v2"'), ranged(DATA, etag='"v2"')
    data, server = _stream(opened, 0, 1000, ranged(DATA, stop_after=300), *newer)
    assert data == DATA[:1000]
    assert server.requests[2].headers["If-Range"] == '"v2"'


def test_a_server_that_sends_more_than_asked_is_cut(opened: Opener) -> None:
    data, _ = _stream(opened, 0, 10, chunked(*[DATA] * 50))
    assert data == DATA[:10]


def test_a_shorter_range_than_asked_is_completed(opened: Opener) -> None:
    data, server = _stream(opened, 0, 100, body(DATA[:40], 206, Content_Range=f"bytes 0-39/{len(DATA)}"), ranged(DATA))
    assert data == DATA[:100]
    assert server.requests[1].headers["Range"] == "bytes=40-99"


@pytest.mark.parametrize(
    "answer",
    [
        ranged(DATA, shift=1),
        body(DATA[:100], 206),
        body(DATA[:100], 206, Content_Range="bytes 0-100/*"),
        body(DATA[:100], 206, Content_Range="bytes 5-4/100"),
        body(DATA[:100], 206, Content_Range="lines 0-99/100"),
        body(DATA[:100], 206, Content_Type="multipart/byteranges; boundary=x"),
    ],
    ids=["shifted", "missing", "too far", "backwards", "other unit", "multipart"],
)
def test_a_wrong_range_is_never_taken(opened: Opener, answer: Answer) -> None:
    with ScriptedServer(answer) as server:
        source = opened(server.url)
        with pytest.raises(UpdatedError) as refused:
            list(source.stream("x", 0, 100))
        source.close()
    assert refused.value.code == "http-status"
    assert "range" in refused.value.cause


def test_a_connection_that_breaks_ever_again_is_given_up(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(ranged(DATA, stop_after=1)) as server:
        source = opened(server.url)
        with pytest.raises(UpdatedError) as refused:
            list(source.stream("x", 0, len(DATA)))
        source.close()
    assert refused.value.code == "truncated"
    assert len(server.requests) == 4
    assert fake_time.pauses == [1, 2, 4]


def test_real_progress_makes_patience_new(opened: Opener) -> None:
    settings = HttpSettings(retries=1, lowest_rate=10, window_seconds=10)
    with ScriptedServer(ranged(DATA, stop_after=1000)) as server:
        source = opened(server.url, settings)
        assert b"".join(source.stream("x", 0, len(DATA))) == DATA
        source.close()
    assert len(server.requests) == 11


def test_a_server_without_ranges_that_breaks_before_the_place_is_given_up(opened: Opener) -> None:
    settings = HttpSettings(retries=2, lowest_rate=10, window_seconds=10)
    with ScriptedServer(truncated(DATA[:5000], len(DATA))) as server:
        source = opened(server.url, settings)
        with pytest.raises(UpdatedError) as refused:
            list(source.stream("x", 0, 6000))
        source.close()
    assert refused.value.code == "truncated"
    assert len(server.requests) == 3


def test_a_blob_that_is_shorter_than_signed_is_given_up(opened: Opener) -> None:
    with ScriptedServer(ranged(DATA)) as server:
        source = opened(server.url, HttpSettings(retries=1))
        with pytest.raises(UpdatedError) as refused:
            list(source.stream("x", 0, len(DATA) + 10))
        source.close()
    assert refused.value.code in ("truncated", "http-status")


def test_a_stream_that_is_left_closes_its_connection(opened: Opener) -> None:
    with ScriptedServer(ranged(DATA * 100)) as server:
        source = opened(server.url)
        pieces = source.stream("x", 0, len(DATA) * 100)
        assert next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert source.read("x", len(DATA) * 100) == DATA * 100
        source.close()


def test_only_the_server_itself_could_deliver_other_bytes(opened: Opener) -> None:
    assert not opened("http://127.0.0.1:1/").blame("x")


# addresses


@pytest.mark.parametrize("url", ["ftp://h/", "http:///x", "https://", "example.org", "http://[::1", "http://h/?a", ""])
def test_an_address_that_is_none_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(UpdatedError) as refused:
        open_source(url, HttpSettings())
    assert refused.value.code == "bad-config"


@pytest.mark.parametrize("url", ["/srv/repository", "file:///srv/repository", "file://localhost/srv/repository"])
def test_a_path_is_a_directory(url: str) -> None:
    source = open_source(url, HttpSettings())
    assert isinstance(source, DirectorySource)
    with pytest.raises(UpdatedError, match="/srv/repository/no-such-file"):
        source.read("no-such-file", 10)
