"""What a power cut can leave behind: records the effects of bootctl.durable in one folder and rebuilds each state.

The model of the disk is a harsh one. Until the fsync of a file any subset of its written sectors may have arrived; only
a sector of 512 bytes is written as a whole. Until the fsync of the folder only some of the changes of its names have
happened, in their order. An fsync waits for what it names and for nothing else.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

from bootctl import durable

SECTOR: Final = 512
EXHAUSTIVE_UP_TO: Final = 6  # pending sectors: all subsets of them
SAMPLES: Final = 24  # subsets of more than these, beside the regular ones

Folder = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    length: int


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class Create:
    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Rename:
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str


@dataclass(frozen=True, slots=True)
class SyncFolder:
    pass


Effect = Write | Truncate | Sync | Create | Rename | Unlink | SyncFolder
Data = Write | Truncate
Names = Create | Rename | Unlink


@dataclass(frozen=True, slots=True)
class Log:
    """The folder before, and the effects on it in their order. Files are numbered; `names` tells those from before."""

    before: Folder
    names: dict[str, int]
    effects: list[Effect]

    def final(self) -> Folder:
        """The folder after all effects."""
        return self._folder(self._renamed(self.names, [e for e in self.effects if isinstance(e, Names)]), self.effects)

    def cuts(self, *, unit: int = SECTOR, torn_renames: bool = False) -> Iterator[Folder]:
        """Each different folder that a cut can leave. With `torn_renames` (FAT) a rename may lose both names."""
        seen: set[int] = set()
        for length in range(len(self.effects) + 1):
            done = self.effects[:length]
            for names in self._possible_names(done, torn_renames):
                for effects in _possible_data(done, unit):
                    folder = self._folder(names, effects)
                    key = hash(tuple(sorted(folder.items())))
                    if key not in seen:
                        seen.add(key)
                        yield folder

    def _possible_names(self, done: list[Effect], torn_renames: bool) -> Iterator[dict[str, int]]:
        last = max((at for at, effect in enumerate(done) if isinstance(effect, SyncFolder)), default=-1)
        certain = [effect for effect in done[: last + 1] if isinstance(effect, Names)]
        pending = [effect for effect in done[last + 1 :] if isinstance(effect, Names)]
        for count in range(len(pending) + 1):
            names = self._renamed(self.names, certain + pending[:count])
            yield names
            if torn_renames and count and isinstance(pending[count - 1], Rename):
                yield {name: file for name, file in names.items() if name != pending[count - 1].target}  # type: ignore[union-attr]

    @staticmethod
    def _renamed(names: dict[str, int], changes: list[Names]) -> dict[str, int]:
        names = dict(names)
        for change in changes:
            match change:
                case Create(name, file):
                    names[name] = file
                case Rename(source, target):
                    names[target] = names.pop(source)
                case Unlink(name):
                    del names[name]
        return names

    def _folder(self, names: dict[str, int], effects: list[Effect]) -> Folder:
        contents = {file: bytearray(self.before[name]) for name, file in self.names.items()}
        for effect in effects:
            match effect:
                case Write(file, offset, data):
                    content = contents.setdefault(file, bytearray())
                    content.extend(bytes(max(0, offset - len(content))))
                    content[offset : offset + len(data)] = data
                case Truncate(file, length):
                    del contents.setdefault(file, bytearray())[length:]
                case _:
                    pass
        return {name: bytes(contents.get(file, b"")) for name, file in names.items()}


def _possible_data(done: list[Effect], unit: int) -> Iterator[list[Effect]]:
    """The writes that certainly arrived, with each choice among those that may have."""
    synced = {effect.file: at for at, effect in enumerate(done) if isinstance(effect, Sync)}
    data = [(at, effect) for at, effect in enumerate(done) if isinstance(effect, Data)]
    certain: list[Effect] = [effect for at, effect in data if at < synced.get(effect.file, -1)]
    pending: list[Effect] = []
    for at, effect in data:
        if at >= synced.get(effect.file, -1):
            pending += _sectors(effect, unit) if isinstance(effect, Write) else [effect]
    for chosen in _subsets(len(pending)):
        yield certain + [pending[index] for index in chosen]


def _sectors(write: Write, unit: int) -> Iterator[Write]:
    start = 0
    while start < len(write.data):
        end = min(len(write.data), start + unit - (write.offset + start) % unit)
        yield Write(write.file, write.offset + start, write.data[start:end])
        start = end


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    everything = tuple(range(count))
    if count <= EXHAUSTIVE_UP_TO:
        for size in range(count + 1):
            yield from combinations(everything, size)
        return
    for index in range(count + 1):
        yield everything[:index]
        yield everything[index:]
        yield everything[:index] + everything[index + 1 :]
    chance = random.Random(count)
    for _ in range(SAMPLES):
        yield tuple(index for index in everything if chance.random() < 0.5)


class _Os:
    """Stands in for the module `os` in bootctl.durable: does what is asked, and writes it down."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._folder = os.path.realpath(folder)
        self._log = log
        self._names = dict(log.names)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _name(self, path: str | os.PathLike[str]) -> str:
        folder, name = os.path.split(os.path.abspath(path))
        assert os.path.realpath(folder) == self._folder, f"{path} is outside of the folder that is recorded"
        return name

    def _file(self, fd: int) -> int:
        return self._names[self._name(os.readlink(f"/proc/self/fd/{fd}"))]

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        creates = flags & os.O_CREAT and not os.path.exists(path)
        assert not flags & os.O_TRUNC
        fd = os.open(path, flags, mode)
        if creates:
            file = max(self._names.values(), default=0) + len(self._log.effects) + 1
            self._names[self._name(path)] = file
            self._log.effects.append(Create(self._name(path), file))
        return fd

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        written = os.pwrite(fd, data, offset)
        self._log.effects.append(Write(self._file(fd), offset, bytes(data[:written])))
        return written

    def write(self, fd: int, data: bytes) -> int:
        end = os.fstat(fd).st_size  # durable writes without an offset only to append
        written = os.write(fd, data)
        self._log.effects.append(Write(self._file(fd), end, data[:written]))
        return written

    def ftruncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)
        self._log.effects.append(Truncate(self._file(fd), length))

    def fsync(self, fd: int) -> None:
        os.fsync(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        self._log.effects.append(SyncFolder() if path == self._folder else Sync(self._file(fd)))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)
        self._names[self._name(target)] = self._names.pop(self._name(source))
        self._log.effects.append(Rename(self._name(source), self._name(target)))

    def unlink(self, path: str) -> None:
        os.unlink(path)
        del self._names[self._name(path)]
        self._log.effects.append(Unlink(self._name(path)))


@contextmanager
def recorded(folder: Path) -> Iterator[Log]:
    """Record what bootctl.durable does to the files in `folder` meanwhile; fails if it is not all that happens."""
    before = contents(folder)
    log = Log(before, {name: number for number, name in enumerate(sorted(before), start=1)}, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "os", _Os(folder, log))
        # It only adds to what is durable, so the states without it are a superset.
        patch.setattr(durable, "sync_filesystem", lambda fd: None)
        yield log
    assert log.final() == contents(folder)


def contents(folder: Path) -> Folder:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def lay_out(folder: Path, files: Folder) -> None:
    """Make `folder` hold exactly these files."""
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
