"""The same against the web server that people run."""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path

import pytest
import requests

from tests.fakes.nginx import serve
from tests.fakes.repository import RepositorySimulator
from tests.http.conftest import Opener
from updated.core.errors import UpdatedError
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
