"""The verbs that bring a repository to nodes, as a person or a timer runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.publish.conftest import Desk
from updated.publish.__main__ import main

Run = Callable[..., tuple[int, str, str]]
FIRST = "releasectl: no root of trust is named, and the mirror is new: the first root of the source is trusted.\n"


@pytest.fixture
def releasectl(desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run beside a repository with the release 1.0.0 in stable."""
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_mirror_says_what_it_has_and_what_was_fetched(releasectl: Run) -> None:
    code, out, error = releasectl("mirror", "repository", "made/mirror", "--channel", "stable")
    assert (code, error) == (0, FIRST)
    assert re.fullmatch(
        r"made/mirror has 1 releases of stable, valid until \S+Z; 3 files were fetched, 0\.3 MB\.\n", out
    )
    for address in ("repository", str(Path("repository").resolve()), Path("repository").resolve().as_uri()):
        code, out, error = releasectl("mirror", address, "made/mirror", "--channel", "stable")
        assert (code, error) == (0, "")
        assert "0 files were fetched" in out


def test_a_named_root_of_trust_is_not_warned_of(releasectl: Run) -> None:
    root = "repository/metadata/1.root.json"
    assert releasectl("mirror", "repository", "mirror", "--root", root)[::2] == (0, "")
    Path("other.json").write_text(json.dumps({}))
    code, _, error = releasectl("mirror", "repository", "other", "--root", "other.json")
    assert (code, error.count("\n")) == (1, 1)
    assert "the pinned root metadata" in error


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere", "mirror"], "the folder nowhere: does not exist"),
        (["keys", "mirror"], "the folder keys: is not a repository"),
        (["repository", "keys/none"], "lies inside of the key folder"),
        (["ftp://example.org", "mirror"], "is not one of a repository"),
        (["repository", "mirror", "--channel", "gamma"], "the repository has only alpha, beta, stable"),
        (["repository", "mirror", "--root", "missing"], "the root missing: No such file"),
        (["repository", "keys/releases.pem"], "keys/releases.pem"),
    ],
)
def test_a_mirror_that_can_not_be_is_one_line(releasectl: Run, arguments: list[str], part: str) -> None:
    code, out, error = releasectl("mirror", *arguments)
    assert (code, out) == (1, "")
    assert part in error.removeprefix(FIRST)
    assert error.removeprefix(FIRST).count("\n") == 1


def test_a_terminal_sees_how_far_a_mirror_is(releasectl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "\rblobs: 0 of 0 MiB" in releasectl("mirror", "repository", "mirror")[2]


def test_bundle_says_what_it_holds(releasectl: Run, desk: Desk) -> None:
    desk.add("1.1.0", content=desk.content(1) + b"more")
    desk.promote("stable", "1.1.0")
    code, out, error = releasectl("bundle", "repository", "b.tar", "--channel", "stable", "--from", "1.0.0")
    assert (code, error) == (0, "")
    length = Path("b.tar").stat().st_size
    assert re.fullmatch(
        r"b\.tar: release 1\.1\.0 of channel stable\.\n"
        r"  for nodes that run 1\.0\.0 \(\d patches\), and whole for others\n"
        rf"  {length} bytes, SHA-256 [0-9a-f]{{64}}\n"
        r"  valid until \S+Z: make it anew for nodes that get it later\n",
        out,
    )


def test_a_bundle_that_can_not_be_is_one_line(releasectl: Run) -> None:
    for arguments, part in (
        (["repository", "missing/b.tar", "--channel", "stable"], "the bundle missing/b.tar: there is no folder "),
        (["repository", "b.tar", "--channel", "alpha"], "ships no release"),
        (["nowhere", "b.tar", "--channel", "stable"], "the folder nowhere: does not exist"),
    ):
        code, out, error = releasectl("bundle", *arguments)
        assert (code, out, error.count("\n")) == (1, "", 1)
        assert part in error
    for option in ("--from", "--version"):
        code, out, error = releasectl("bundle", "repository", "b.tar", "--channel", "stable", option, "1.x")
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert f"{option} 1.x: is not a version" in error


def test_refresh_ends_with_3_when_a_key_that_is_soon_needed_is_elsewhere(
    releasectl: Run, monkeypatch: pytest.MonkeyPatch, desk: Desk
) -> None:
    """What a timer signs with has the online keys alone; a person must notice before the others are too late."""
    Path("online").mkdir()
    for name in ("snapshot", "timestamp"):
        for ending in ("pem", "json"):
            Path(f"keys/{name}.{ending}").rename(f"online/{name}.{ending}")
    assert releasectl("refresh", "repository", "--keys", "online") == (0, "Signed anew: snapshot, timestamp.\n", "")
    monkeypatch.setattr("time.time", lambda: desk.now + 70 * 86400)
    code, out, error = releasectl("refresh", "repository", "--keys", "online")
    assert (code, out) == (3, "Signed anew: snapshot, timestamp.\n")
    assert "stable, beta, alpha: close to expiry, and the keys are not in online" in error
