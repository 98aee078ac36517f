"""The same against the web server that people run."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import requests

from tests.fakes.nginx import serve
from tests.fakes.repository import RepositorySimulator
from tests.http.conftest import Opener
from updated.core.errors import UpdatedError
from updated.http import HttpSettings, HttpSource
from updated.mirrors import MAX_FAILURES, MirroredSource
from updated.trust import Clock, Trust

NOW = 1_800_000_000


def test_nginx_serves_ranges_and_resumption(tmp_path: Path, opened: Opener) -> None:
    data = os.urandom(300_000)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/x y").write_bytes(data)
    with serve(tmp_path) as url:
        source = opened(url)
        assert source.read("blobs/x y", len(data)) == data
        assert b"".join(source.stream("blobs/x y", 1000, 250_000)) == data[1000:251_000]
        pieces = source.stream("blobs/x y", 0, len(data))
        begun = b"".join(islice(pieces, 2))
        pieces.close()  # type: ignore[attr-defined]
        assert begun + b"".join(source.stream("blobs/x y", len(begun), len(data) - len(begun))) == data
        with pytest.raises(UpdatedError) as refused:
            source.read("blobs/y", 10)
        assert refused.value.code == "not-found"
        source.close()


def _in_four_threads(source: HttpSource, data: bytes, length: int) -> list[bytes]:
    """`data` in ranges of `length` bytes, each of them streamed by one of four threads."""
    with ThreadPoolExecutor(4) as pool:
        ranges = ((start, min(length, len(data) - start)) for start in range(0, len(data), length))
        return list(pool.map(lambda part: b"".join(source.stream("x", *part)), ranges))


def test_four_threads_fetch_many_ranges_over_no_more_than_four_connections(tmp_path: Path, opened: Opener) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    with serve(tmp_path, log=tmp_path / "log") as url:
        source = opened(url)
        assert b"".join(_in_four_threads(source, data, 10_007)) == data
        assert b"".join(_in_four_threads(source, data, 200_003)) == data
        source.close()
    answers = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    ranges = [(number, status) for number, status, asked in answers if asked != "-"]
    assert len(ranges) == 300 + 15
    assert {status for _, status in ranges} == {"206"}
    assert len({number for number, _ in ranges}) <= 4


def test_nginx_without_ranges_is_told_at_once(tmp_path: Path, opened: Opener) -> None:
    data = os.urandom(300_000)
    (tmp_path / "x").write_bytes(data)
    with serve(tmp_path, more="max_ranges 0;") as url:
        source = opened(url)
        with pytest.raises(UpdatedError) as refused:
            next(iter(source.stream("x", 1, 10)))
        assert refused.value.code == "no-ranges"
        assert b"".join(source.stream("x", 0, len(data))) == data
        source.close()


def test_a_limit_of_bandwidth_holds_for_all_threads_together(tmp_path: Path, opened: Opener) -> None:
    data = os.urandom(400_000)
    (tmp_path / "x").write_bytes(data)
    with serve(tmp_path) as url:
        source = HttpSource(url, HttpSettings(bandwidth_limit=500_000))
        begun = time.monotonic()
        assert b"".join(_in_four_threads(source, data, 30_000)) == data
        source.close()
    assert time.monotonic() - begun >= 0.65


def test_a_mirror_takes_over_where_a_server_stops(tmp_path: Path, opened: Opener) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    with ExitStack() as first, serve(tmp_path, log=tmp_path / "log") as second:
        url = first.enter_context(serve(tmp_path, rate_limit="500k"))
        patient = HttpSettings(retries=MAX_FAILURES - 1)
        source = MirroredSource([partial(opened, each, patient) for each in (url, second)])
        pieces = source.stream("x", 0, len(data))
        begun = next(pieces)
        first.close()
        assert begun + b"".join(pieces) == data
    (asked,) = [line.split()[2] for line in (tmp_path / "log").read_text().splitlines() if "bytes" in line]
    assert int(asked.removeprefix("bytes=").partition("-")[0]) >= len(begun)


def test_nginx_agrees_about_if_range(tmp_path: Path) -> None:
    """The judge of the scripted server: a validator that matches gives 206, another one 200."""
    (tmp_path / "x").write_bytes(b"0123456789")
    with serve(tmp_path) as url, requests.Session() as session:
        session.trust_env = False
        tag = session.get(url + "x").headers["ETag"]
        for validator, expected in ((tag, (206, b"345")), ('"other"', (200, b"0123456789"))):
            answer = session.get(url + "x", headers={"Range": "bytes=3-5", "If-Range": validator})
            assert (answer.status_code, answer.content) == expected


def test_a_trust_cycle_over_nginx(tmp_path: Path, opened: Opener) -> None:
    repository = RepositorySimulator(tmp_path / "repository", now=NOW)
    repository.set_target("channels/stable.json", b"stable")
    repository.publish()
    with serve(repository.directory) as url:
        source = opened(url)
        for _ in range(2):
            with Trust(source, str(tmp_path / "store"), repository.root_of_trust, Clock(NOW, NOW)) as trust:
                trust.refresh()
                assert trust.target("channels/stable.json", 100) == b"stable"
            repository.rotate_key("root")
            repository.publish()
        source.close()


def test_the_rate_limit_holds_the_server_back(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "x").write_bytes(bytes(150_000))
    with serve(tmp_path, rate_limit="100k") as url:
        source = opened(url)
        begun = time.monotonic()
        source.read("x", 200_000)
        source.close()
    assert time.monotonic() - begun > 0.2


def test_a_server_that_can_t_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="limit_rate"), serve(tmp_path, rate_limit="nonsense"):
        pass
