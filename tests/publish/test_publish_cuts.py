"""A publish that is cut anywhere leaves a repository that nodes can read, and that can be published to."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import UnsignedMetadataError

from bootctl import durable
from tests.publish.client import Client
from tests.publish.conftest import Desk
from tests.publish.synthetic import edited
from updated.core.errors import UpdatedError
from updated.core.version import Version
from updated.publish import keychange, rounds
from updated.publish.founding import initialize
from updated.publish.inspection import verify
from updated.publish.keys import KeyFolder
from updated.publish.publisher import recall, refresh
from updated.publish.repository import Repository


class Cut(BaseException):
    """The end of the process; nothing may catch it."""


class Scissors:
    """Cuts before or after the n-th durable effect."""

    NAMES = ("write_file", "rename", "sync_fd", "sync_directory", "remove")

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.count = 0
        for name in self.NAMES:
            patch.setattr(durable, name, self._cutting(getattr(durable, name), at, after))

    def _cutting(self, effect: Callable[..., Any], at: int, after: bool) -> Callable[..., Any]:
        def cutting(*arguments: Any, **named: Any) -> None:
            self.count += 1
            if self.count == at and not after:
                raise Cut
            effect(*arguments, **named)
            if self.count == at:
                raise Cut

        return cutting


def add(desk: Desk) -> None:
    desk.add("1.1.0", content=edited(desk.content(1), 100_000))


def ship(desk: Desk) -> None:
    desk.promote("stable", "1.0.0")


def take_back(desk: Desk) -> None:
    recall(desk.repository, desk.keys, "beta", "1.0.0", "bad", now=desk.now)


def renew(desk: Desk) -> None:
    refresh(desk.repository, desk.keys, now=desk.now + 500 * 86400)
    refresh(desk.repository, desk.keys, now=desk.now)


def rotation_of(role: str, old: str) -> Callable[[Desk], None]:
    def rotate(desk: Desk) -> None:
        desk.rotate(role, old, "fresh")

    return rotate


rotate_root, rotate_targets, rotate_snapshot, rotate_timestamp, rotate_stable = (
    rotation_of(role, old)
    for role, old in [("root", "root-1"), *((role, role) for role in ("targets", "snapshot", "timestamp", "stable"))]
)


def publish_request(desk: Desk) -> None:
    if desk.repository.roles.root.signed.version > 1:
        return
    file = desk.images / "request.json"
    file.unlink(missing_ok=True)
    asking = Repository(str(desk.path), request=str(file))
    fresh = desk.keys.record("fresh")
    keychange.rotate(asking, desk.keys, "targets", desk.keyid("targets"), fresh, now=desk.now)
    rounds.publish(desk.repository, desk.keys, [rounds.read(str(file))], now=desk.now)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "publish",
    [
        add, ship, take_back, renew, rotate_root, rotate_targets, rotate_snapshot, rotate_timestamp, rotate_stable,
        publish_request,
    ],
    ids=[
        "add", "ship", "take_back", "renew", "rotate_root", "rotate_targets", "rotate_snapshot", "rotate_timestamp",
        "rotate_stable", "publish_request",
    ],
)
def test_a_cut_at_any_effect_leaves_the_old_state_or_the_new_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Callable[[Desk], None], after: bool
) -> None:
    desk.add("1.0.0", seed=1)
    desk.promote("beta", "1.0.0")
    desk.key("fresh")
    shutil.copytree(desk.path, tmp_path / "before")
    for at in itertools.count(1):
        shutil.rmtree(desk.path)
        shutil.copytree(tmp_path / "before", desk.path)
        with Client(desk.path, desk.root) as client:
            client.fetch()
            with monkeypatch.context() as patch:
                scissors = Scissors(patch, at, after=after)
                with contextlib.suppress(Cut):
                    publish(desk)
            assert client.channel("beta").entries[0].version == Version("1.0.0")
            verify(desk.repository, now=desk.now)
            publish(desk)
            client.fetch()
            verify(desk.repository, now=desk.now)
        if scissors.count < at:
            break
    # Each of these writes at least two files of metadata: replaced, and its folder synced.
    assert at > 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_cut_rotation_of_a_lost_key_is_completed_by_the_next_command(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, after: bool
) -> None:
    """Nodes can't read the repository when it was cut between the new root and the timestamp."""
    desk.key("fresh")
    desk.keys = desk.without(role)
    shutil.copytree(desk.path, tmp_path / "before")
    unreadable = []
    for at in itertools.count(1):
        shutil.rmtree(desk.path)
        shutil.copytree(tmp_path / "before", desk.path)
        with monkeypatch.context() as patch:
            scissors = Scissors(patch, at, after=after)
            with contextlib.suppress(Cut):
                desk.rotate(role, role, "fresh")
        with Client(desk.path, desk.root) as client:
            try:
                client.fetch()
            except UnsignedMetadataError:
                unreadable.append(at)
            assert desk.repository.interrupted == (at in unreadable)
            desk.rotate(role, role, "fresh")
            assert not desk.repository.interrupted
            client.fetch()
            verify(desk.repository, now=desk.now)
        if scissors.count < at:
            break
    # Before the folder of the new root is synced, and before the timestamp gets its name.
    assert 1 <= len(unreadable) <= 2


class Death:
    """Kills the process at the n-th fsync or rename: from then on nothing has an effect, and nothing is cleaned up."""

    NAMES = ("fsync", "rename", "unlink", "pwrite")

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.count = 0
        for name in self.NAMES:
            patch.setattr(os, name, self._deadly(name, getattr(os, name), at))

    def _deadly(self, name: str, effect: Callable[..., Any], at: int) -> Callable[..., Any]:
        def deadly(*arguments: Any, **named: Any) -> Any:
            self.count += name in ("fsync", "rename")
            if self.count >= at:
                raise Cut
            return effect(*arguments, **named)

        return deadly


def test_a_killed_add_leaves_a_valid_repository_and_the_next_one_no_leftovers(desk: Desk, tmp_path: Path) -> None:
    desk.add("1.0.0", seed=1)
    shutil.copytree(desk.path, tmp_path / "before")
    unfinished = set()
    for at in itertools.count(1):
        shutil.rmtree(desk.path)
        shutil.copytree(tmp_path / "before", desk.path)
        with pytest.MonkeyPatch.context() as patch:
            death = Death(patch, at)
            with contextlib.suppress(Cut):
                add(desk)
        unfinished |= {file.parent.name for file in desk.path.rglob(".*")}
        verify(desk.repository, now=desk.now)
        add(desk)
        assert list(desk.path.rglob(".*")) == []
        blobs = sum(file.stat().st_size for file in (desk.path / "blobs").iterdir())
        assert verify(desk.repository, now=desk.now).stored_bytes == blobs
        if death.count < at:
            break
    assert unfinished == {"blobs", "metadata", "releases"}


def test_an_init_that_is_killed_anywhere_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    """Each key that it had made is used; none is left without a record, and none is made twice."""
    path, folder = tmp_path / "repository", tmp_path / "keys"
    taken = 0
    for at in itertools.count(1):
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

        def found() -> None:
            initialize(str(path), KeyFolder(str(folder)), ["stable"], days={}, now=time.time())

        with pytest.MonkeyPatch.context() as patch:
            death = Death(patch, at)
            with contextlib.suppress(Cut):
                found()
        made = {file.name: file.read_bytes() for file in folder.glob("*.pem")}
        if (path / "metadata" / "timestamp.json").exists():
            with pytest.raises(UpdatedError, match="is a repository already"):
                found()
        else:
            found()
        taken += bool(made)
        verify(Repository(str(path)), now=time.time())
        assert {name: (folder / name).read_bytes() for name in made} == made
        assert len(KeyFolder(str(folder)).records()) == len(list(folder.glob("*.pem"))) == 8
        assert [*path.rglob(".*"), *folder.glob(".*")] == []
        if death.count < at:
            break
    assert taken > 20


def test_a_key_that_the_interrupted_init_did_not_make_is_never_taken(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Cut):
        Death(patch, 12)
        initialize(str(path), KeyFolder(str(tmp_path / "keys")), ["stable"], days={}, now=time.time())
    assert not (path / "metadata").exists()
    other = KeyFolder(str(tmp_path / "other"))
    other.generate("stable")
    with pytest.raises(UpdatedError, match="is there already"):
        initialize(str(path), other, ["stable"], days={}, now=time.time())


def test_a_failed_add_leaves_no_unfinished_blob(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync_fd", full)
    with pytest.raises(OSError, match="No space"):
        desk.add("1.0.0")
    assert os.listdir(desk.path / "blobs") == []


def test_files_are_readable_for_a_web_server(desk: Desk) -> None:
    desk.add("1.0.0")
    for file in Path(desk.path).rglob("*"):
        assert file.stat().st_mode & 0o444 == 0o444, file
