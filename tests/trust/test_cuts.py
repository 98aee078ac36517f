"""A power cut at any write of a cycle: the next one goes on, and still refuses what is older than what was trusted."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootctl import durable
from tests.crash.recorder import Folder, Log, SyncFolder, _Os
from tests.trust.world import STABLE, World
from updated.core.errors import UpdatedError


class Tree(_Os):
    """Writes down what is done below a folder, too; each name is a path from there."""

    def _name(self, path: str | os.PathLike[str]) -> str:
        name = os.path.relpath(os.path.realpath(path), self._folder)
        assert not name.startswith(".."), f"{path} is outside of the folder that is recorded"
        return name

    def fsync(self, fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.fsync(fd)
            self._log.effects.append(SyncFolder())
        else:
            super().fsync(fd)


def contents(store: Path) -> Folder:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "lock"
    }


@contextmanager
def recorded(store: Path) -> Iterator[Log]:
    store.mkdir(exist_ok=True)
    before = contents(store)
    log = Log(before, {name: number for number, name in enumerate(sorted(before), start=1)}, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "os", Tree(store, log))
        yield log
    # All that a cycle writes goes through bootctl.durable; but for the lock, and a link that only people follow.
    assert log.final() == contents(store)


def states(log: Log) -> list[Folder]:
    """What a cut can leave, each once; what is left in temporary files makes no difference, since nobody reads it."""
    found: dict[int, Folder] = {}
    for state in log.cuts():
        whole = {name: data for name, data in state.items() if not name.endswith(".tmp")}
        left = {name: data[:10] for name, data in state.items() if name.endswith(".tmp")}
        found.setdefault(hash((frozenset(whole.items()), frozenset(left))), whole | left)
    return list(found.values())


def lay_out(store: Path, files: Folder) -> None:
    shutil.rmtree(store, ignore_errors=True)
    for name, data in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(data)


def cycle(world: World) -> bytes:
    with world.cycle() as trust:
        trust.raise_release_floor("1.0.0")
        return trust.target(STABLE, 100)


def test_the_first_cycle_can_be_cut_anywhere(world: World) -> None:
    with recorded(world.store) as log:
        cycle(world)
    found = states(log)
    assert len(found) > 10
    for state in found:
        lay_out(world.store, state)
        assert cycle(world) == b"stable, first"


def test_wherever_a_cycle_is_cut_the_next_goes_on_and_what_is_older_is_refused(world: World) -> None:
    cycle(world)
    oldest = world.repository.saved()
    world.change(b"stable, second")
    cycle(world)
    middle = world.repository.saved()
    world.repository.rotate_key("root")
    world.change(b"stable, third")
    newest = world.repository.saved()
    with recorded(world.store) as log:
        cycle(world)
    found = states(log)
    assert len(found) > 10
    for state in found:
        for older in (oldest, middle):
            # From the moment on when the cycle has written down a version, the one before it is too old.
            if older is middle and json.loads(state["timestamp.json"])["signed"]["version"] == 2:
                continue
            lay_out(world.store, state)
            world.repository.restore(older)
            with pytest.raises(UpdatedError) as refused:
                cycle(world)
            assert refused.value.code == "metadata-rolled-back"
        world.repository.restore(newest)
        with world.cycle() as trust:
            assert trust.notes == []
            assert trust.release_floor == "1.0.0"
            assert trust.target(STABLE, 100) == b"stable, third"
        for older in (oldest, middle):
            world.repository.restore(older)
            with pytest.raises(UpdatedError):
                cycle(world)


def test_a_cut_within_the_recovery_from_stolen_keys_does_not_end_it(world: World) -> None:
    """TUF specification, 5.3.11: the cached timestamp and snapshot go when their keys were rotated."""
    repository = world.repository
    repository.versions |= {"timestamp": 1_000_000, "snapshot": 1_000_000}
    repository.publish()
    cycle(world)
    repository.versions |= {"timestamp": 10, "snapshot": 10}
    repository.rotate_key("timestamp")
    repository.rotate_key("snapshot")
    repository.publish()
    with recorded(world.store) as log:
        cycle(world)
    for state in states(log):
        lay_out(world.store, state)
        with world.cycle() as trust:
            assert trust.versions()["timestamp"] == 11


@pytest.mark.parametrize("at", range(5))
def test_a_disk_that_fills_up_leaves_a_store_that_works_later(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    cycle(world)
    old = world.repository.saved()
    world.change()
    real, left = durable.write_file, at

    def write_file(path: str, data: bytes, *, mode: int = 0o644) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, mode=mode)

    monkeypatch.setattr(durable, "write_file", write_file)
    with pytest.raises(UpdatedError) as refused:
        cycle(world)
    assert refused.value.code == "disk-full"
    monkeypatch.setattr(durable, "write_file", real)
    assert cycle(world) == b"stable, changed"
    world.repository.restore(old)
    with pytest.raises(UpdatedError, match="version"):
        cycle(world)
