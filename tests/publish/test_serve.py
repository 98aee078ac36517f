"""The server to try things out, judged by the node's own source, by curl, and by bytes on a socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.repository import RepositorySimulator
from tests.processes import INTERRUPTIBLE
from updated.core.errors import UpdatedError
from updated.http import HttpSettings, HttpSource
from updated.publish.serve import RepositoryServer
from updated.trust import Clock, Trust

NOW = 1_800_000_000
BODY = bytes(range(256)) * 2000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    simulator = RepositorySimulator(tmp_path / "repository", now=NOW)
    simulator.set_target("channels/stable.json", b"stable")
    simulator.publish()
    made = Path(simulator.directory)
    (made / "blobs").mkdir()
    (made / "blobs/data").write_bytes(BODY)
    (made / "blobs/empty").write_bytes(b"")
    (made / "blobs/.unfinished-x").write_bytes(b"half")
    (made / "secret").write_bytes(b"secret")
    (tmp_path / "secret").write_bytes(b"secret")
    (made / "blobs/leak").symlink_to(tmp_path / "secret")
    os.mkfifo(made / "blobs/pipe")
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[RepositoryServer]:
    with RepositoryServer(str(folder), "127.0.0.1:0") as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def source(server: RepositoryServer) -> Iterator[HttpSource]:
    made = HttpSource(server.url, HttpSettings())
    yield made
    made.close()


def curl(server: RepositoryServer, path: str, *options: str) -> tuple[str, dict[str, str], bytes]:
    """Status, head (in lower case) and body of an answer."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--path-as-is", "--include", "--max-time", "20", *options,
         server.url.rstrip("/") + path],
        capture_output=True, check=True,
    )  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status.split()[1], {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}, body


# ---------------------------------------------------------------------------------------------------------- a node


def test_a_node_follows_it(server: RepositoryServer, source: HttpSource, folder: Path, tmp_path: Path) -> None:
    root = (folder / "metadata/1.root.json").read_bytes()
    with Trust(source, str(tmp_path / "store"), root, Clock(NOW, NOW)) as trust:
        trust.refresh()
        assert trust.target("channels/stable.json", 100) == b"stable"


def test_a_node_gets_ranges_and_goes_on_where_it_stopped(source: HttpSource) -> None:
    assert b"".join(source.stream("blobs/data", 1000, 300_000)) == BODY[1000:301_000]
    pieces = source.stream("blobs/data", 0, len(BODY))
    begun = next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert begun + b"".join(source.stream("blobs/data", len(begun), len(BODY) - len(begun))) == BODY
    with pytest.raises(UpdatedError) as caught:
        source.read("blobs/other", 10)
    assert caught.value.code == "not-found"


def test_many_ranges_at_once(source: HttpSource) -> None:
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda start: b"".join(source.stream("blobs/data", start, 1000)), range(0, len(BODY), 1000))
        assert b"".join(parts) == BODY


# ---------------------------------------------------------------------------------------------------------- ranges


def test_a_whole_file(server: RepositoryServer) -> None:
    status, head, body = curl(server, "/blobs/data")
    assert (status, body) == ("200", BODY)
    assert head["content-length"] == str(len(BODY))
    assert head["accept-ranges"] == "bytes"
    assert head["etag"].startswith('"')
    assert curl(server, "/blobs/empty")[2] == b""


def test_head_gives_the_head_alone(server: RepositoryServer) -> None:
    status, head, body = curl(server, "/blobs/data", "--head", "--range", "0-3")
    assert (status, head["content-length"], body) == ("200", str(len(BODY)), b"")
    assert curl(server, "/blobs/other", "--head")[0] == "404"


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("5-9", 5, 10), ("511990-", 511_990, 512_000), ("-4", 511_996, 512_000),
                                ("511990-600000", 511_990, 512_000), ("-600000", 0, 512_000)],
)  # fmt: skip
def test_a_range(server: RepositoryServer, asked: str, start: int, end: int) -> None:
    status, head, body = curl(server, "/blobs/data", "--range", asked)
    assert (status, body) == ("206", BODY[start:end])
    assert head["content-range"] == f"bytes {start}-{end - 1}/512000"
    assert head["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["512000-", "600000-700000", "-0"])
def test_a_range_that_the_file_does_not_have(server: RepositoryServer, asked: str) -> None:
    status, head, body = curl(server, "/blobs/data", "--range", asked)
    assert (status, head["content-range"], body) == ("416", "bytes */512000", b"")


@pytest.mark.parametrize("field", ["bytes=1-2,5-6", "bytes=9-5", "bytes=-", "bytes=x", "lines=1-2"])
def test_a_range_of_another_form_is_passed_over(server: RepositoryServer, field: str) -> None:
    status, _, body = curl(server, "/blobs/data", "--header", f"Range: {field}")
    assert (status, body) == ("200", BODY)


def test_if_range_gives_the_rest_of_the_same_file_or_all_of_another(server: RepositoryServer, folder: Path) -> None:
    tag = curl(server, "/blobs/data")[1]["etag"]
    condition = ("--range", "5-9", "--header", f"If-Range: {tag}")
    assert curl(server, "/blobs/data", *condition)[0] == "206"
    (folder / "new").write_bytes(BODY)
    (folder / "new").rename(folder / "blobs/data")
    assert curl(server, "/blobs/data", *condition)[0] == "200"
    assert curl(server, "/blobs/data", "--range", "5-9", "--header", f"If-Range: W/{tag}")[0] == "200"


# ------------------------------------------------------------------------------------------------------ boundaries


@pytest.mark.parametrize(
    "path",
    ["/", "/secret", "/metadata", "/metadata/", "/blobs/", "/blobs//data", "/blobs/../secret", "/blobs/%2e%2e/secret",
     "/blobs/..%2fsecret", "/../secret", "/blobs/leak", "/blobs/pipe", "/blobs/.unfinished-x", "/blobs/%00",
     "/blobs/./data"],
)  # fmt: skip
def test_nothing_but_files_of_the_repository(server: RepositoryServer, path: str) -> None:
    status, _, body = curl(server, path)
    assert (status, body) == ("404", b"no such file in the repository\n")


def test_other_methods_are_refused(server: RepositoryServer) -> None:
    assert curl(server, "/blobs/data", "--data", "x")[0] == "501"
    assert curl(server, "/blobs/data", "--request", "DELETE")[0] == "501"


def answers(server: RepositoryServer, requests: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as connection:
        connection.sendall(requests)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while piece := connection.recv(65536):
            data += piece
        return data


def test_a_connection_is_kept_also_after_a_missing_file(server: RepositoryServer) -> None:
    request = b"GET /metadata/2.root.json HTTP/1.1\r\nHost: x\r\n\r\n"
    assert answers(server, request + request.replace(b"2", b"1", 1)).count(b"HTTP/1.1 ") == 2


def test_a_body_is_not_taken_for_a_request(server: RepositoryServer) -> None:
    hidden = b"GET /blobs/data HTTP/1.1\r\n\r\n"
    request = b"GET /blobs/empty HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    with contextlib.suppress(ConnectionResetError):
        assert answers(server, request + hidden).count(b"HTTP/1.1 ") == 1


# ------------------------------------------------------------------------------------------------------- the verb


@pytest.mark.parametrize("address", ["8080", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", "nowhere.invalid:80"])
def test_an_address_that_is_none_is_refused(folder: Path, address: str) -> None:
    with pytest.raises(UpdatedError) as caught, RepositoryServer(str(folder), address):
        pass
    assert caught.value.code == "bad-request"


def test_an_address_that_is_taken_is_refused(server: RepositoryServer, folder: Path) -> None:
    taken = f"127.0.0.1:{server.server_address[1]}"
    with pytest.raises(UpdatedError, match="in use"), RepositoryServer(str(folder), taken):
        pass


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpdatedError) as caught, RepositoryServer(str(tmp_path), "127.0.0.1:0"):
        pass
    assert caught.value.code == "bad-repository"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_use_it_and_ends_cleanly(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [*INTERRUPTIBLE, sys.executable, "-m", "updated.publish", "serve", str(folder), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = ""
            while "export-root" not in said:
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                said += line
            url = said.split(" is at ")[1].split()[0]
            assert f'url = "{url}"' in said
            source = HttpSource(url, HttpSettings())
            assert source.read("blobs/data", len(BODY)) == BODY
            process.send_signal(number)
            out, error = process.communicate(timeout=20)
            source.close()
        finally:
            process.kill()
    assert (process.returncode, out.strip()) == (0, "Ended.")
    assert "Traceback" not in error
