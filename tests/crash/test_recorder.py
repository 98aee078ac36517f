"""The recorder itself, against strace: what it writes down is all that happens to the folder, and in the same order.

One child process commits with each back-end and records that; strace watches it. `python -m tests.crash.test_recorder`
is that child.
"""

from __future__ import annotations

import ast
import json
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from bootctl import durable
from tests.crash.recorder import Create, Log, Rename, Sync, SyncFolder, Truncate, Unlink, Write, recorded
from tests.crash.subjects import SUBJECTS
from tests.crash.sweep import OPERATIONS, Operation, Subject

REPOSITORY = Path(__file__).parents[2]
MARK = "/the-recorder"

Effect = tuple[str | int, ...]


WATCHED: Final[Mapping[str, Subject]] = {subject.name: subject for subject in SUBJECTS}
CASES: Final[Mapping[str, tuple[Subject, Operation]]] = {
    f"{name}, {operation}": (subject, OPERATIONS[operation])
    for name, subject in WATCHED.items()
    for operation in ("arm", "confirm")
}


# ------------------------------------------------------------------------- what leaves the folder as the log has it


def _write_past_durable(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(path.read_bytes())


def _rename_and_back(path: Path) -> None:
    os.rename(path, path.with_name("other"))
    os.rename(path.with_name("other"), path)


def _make_and_remove(path: Path) -> None:
    path.with_name("other").touch()
    path.with_name("other").unlink()


def _lengthen_and_shorten(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, size + 1)
    os.truncate(path, size)


def _map(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:1] = memory[:1]


def _write_elsewhere(path: Path) -> None:
    (path.parents[1] / "other").touch()


def _flush(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


ESCAPES: Final[Mapping[str, Callable[[Path], None]]] = {
    "a write": _write_past_durable, "a rename": _rename_and_back, "another file": _make_and_remove,
    "another length": _lengthen_and_shorten, "memory": _map, "another folder": _write_elsewhere,
    "a flush": _flush,
}  # fmt: skip


# ------------------------------------------------------------------------------------------ what the recorder tells


def told(log: Log) -> list[Effect]:
    """The effects of a log, with names instead of numbers."""
    names = {number: name for name, number in log.names.items()}
    effects: list[Effect] = []
    for effect in log.effects:
        match effect:
            case Write(file, offset, data):
                effects.append(("write", names[file], offset, data.hex()))
            case Truncate(file, length):
                effects.append(("truncate", names[file], length))
            case Sync(file):
                effects.append(("sync", names[file]))
            case SyncFolder():
                effects.append(("sync folder",))
            case Create(name, file):
                names[file] = name
                effects.append(("create", name))
            case Unlink(name):
                effects.append(("unlink", name))
            case Rename(source, target):
                names = {file: name for file, name in names.items() if name != target}
                names = {file: target if name == source else name for file, name in names.items()}
                effects.append(("rename", source, target))
    return effects


# ------------------------------------------------------------------------------------------------ what strace tells

_CALL: Final = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_DESCRIPTOR: Final = re.compile(r"(-?\d+)<(.*?)>")
# Nothing of the bytes and names changes by these; the model has no permissions.
_HARMLESS: Final = frozenset({
    "access", "chmod", "close", "fadvise64", "faccessat", "faccessat2", "fchmod", "fchmodat", "fcntl", "flock", "fstat",
    "fstatfs", "getdents64", "lstat", "newfstatat", "pread64", "readlink", "readlinkat", "stat", "statfs", "statx",
})  # fmt: skip
_HARMLESS_REQUESTS: Final = ("BLKGETSIZE64", "BLKSSZGET", "FS_IOC_GETFLAGS", "FS_IOC_SETFLAGS", "TCGETS")


@dataclass
class Watch:
    """Turns system calls on the files of `folder`, whose `sizes` are those before, into effects.

    Elsewhere below `around` nothing may change at all.
    """

    folder: str
    around: str
    sizes: dict[str, int]
    effects: list[Effect] = field(default_factory=list)
    _positions: dict[int, int] = field(default_factory=dict)
    _appending: set[int] = field(default_factory=set)

    def see(self, line: str) -> None:
        """A call that is not known for sure to be harmless is an effect, too."""
        if self.around not in line:
            return
        found = _CALL.match(line)
        if found is None:
            self.effects.append(("unknown", line))
            return
        name, arguments, result = found[1], found[2], int(found[3])
        if result < 0 or name in _HARMLESS:
            return
        reader = getattr(self, f"_{name.removesuffix('64').removesuffix('at2').removesuffix('at')}", None)
        effects = reader(arguments, result) if reader else None
        self.effects += [("unknown", line)] if effects is None else effects

    # Each of these gives the effects of a call, or None for one that it does not understand.

    def _open(self, arguments: str, fd: int) -> list[Effect] | None:
        name, flags = self._name_of_string(arguments), arguments.rpartition('"')[2]
        if "O_TMPFILE" in flags or (name is None and re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", flags)):
            return None
        effects: list[Effect] = []
        self._positions[fd] = 0
        self._appending.discard(fd)
        if "O_APPEND" in flags:
            self._appending.add(fd)
        if name is not None and "O_CREAT" in flags and name not in self.sizes:
            effects.append(("create", name))
            self.sizes[name] = 0
        if name is not None and "O_TRUNC" in flags:
            effects.append(("truncate", name, 0))
            self.sizes[name] = 0
        return effects

    def _pwrite(self, arguments: str, written: int) -> list[Effect] | None:
        _, name = self._descriptor(arguments)
        return self._written(name, int(arguments.rpartition(", ")[2]), arguments, written)

    def _write(self, arguments: str, written: int) -> list[Effect] | None:
        fd, name = self._descriptor(arguments)
        at = self.sizes.get(name or "", 0) if fd in self._appending else self._positions.get(fd, 0)
        self._positions[fd] = at + written
        return self._written(name, at, arguments, written)

    def _written(self, name: str | None, at: int, arguments: str, written: int) -> list[Effect] | None:
        data = _STRING.search(arguments)
        if name is None or data is None or data[2]:
            return None
        content: bytes = ast.literal_eval(f'b"{data[1]}"')
        self.sizes[name] = max(self.sizes.get(name, 0), at + written)
        return [("write", name, at, content[:written].hex())]

    def _read(self, arguments: str, count: int) -> list[Effect] | None:
        fd, _ = self._descriptor(arguments)
        self._positions[fd] = self._positions.get(fd, 0) + count
        return []

    def _lseek(self, arguments: str, position: int) -> list[Effect] | None:
        fd, _ = self._descriptor(arguments)
        self._positions[fd] = position
        return []

    def _ftruncate(self, arguments: str, _: int) -> list[Effect] | None:
        return self._cut(self._descriptor(arguments)[1], arguments)

    def _truncate(self, arguments: str, _: int) -> list[Effect] | None:
        return self._cut(self._name_of_string(arguments), arguments)

    def _cut(self, name: str | None, arguments: str) -> list[Effect] | None:
        if name is None:
            return None
        self.sizes[name] = int(arguments.rpartition(", ")[2])
        return [("truncate", name, self.sizes[name])]

    def _fsync(self, arguments: str, _: int) -> list[Effect] | None:
        descriptor = _DESCRIPTOR.match(arguments)
        if descriptor is not None and descriptor[2] == self.folder:
            return [("sync folder",)]
        _, name = self._descriptor(arguments)
        return None if name is None else [("sync", name)]

    _fdatasync = _fsync

    def _rename(self, arguments: str, _: int) -> list[Effect] | None:
        source, target = (self._name(path) for path in self._strings(arguments))
        if source is None or target is None or "RENAME_" in arguments:
            return None
        self.sizes[target] = self.sizes.pop(source)
        return [("rename", source, target)]

    def _unlink(self, arguments: str, _: int) -> list[Effect] | None:
        name = self._name_of_string(arguments)
        if name is None:
            return None
        del self.sizes[name]
        return [("unlink", name)]

    def _mmap(self, arguments: str, _: int) -> list[Effect] | None:
        return None if "MAP_SHARED" in arguments and "PROT_WRITE" in arguments else []

    def _ioctl(self, arguments: str, _: int) -> list[Effect] | None:
        return [] if arguments.split(", ")[1] in _HARMLESS_REQUESTS else None

    def _descriptor(self, arguments: str) -> tuple[int, str | None]:
        found = _DESCRIPTOR.match(arguments)
        return (-1, None) if found is None else (int(found[1]), self._name(found[2]))

    def _name_of_string(self, arguments: str) -> str | None:
        paths = self._strings(arguments)
        return self._name(paths[0]) if len(paths) == 1 else None

    @staticmethod
    def _strings(arguments: str) -> list[str]:
        return [found[1] for found in _STRING.finditer(arguments)]

    def _name(self, path: str) -> str | None:
        parent, name = os.path.split(path)
        return name if parent == self.folder else None


# ------------------------------------------------------------------------------------------------- the two together


def places(root: Path) -> dict[str, Path]:
    """A folder for each case and each escape, where systemd-boot has its entries."""
    return {name: root / str(number) / "loader/entries" for number, name in enumerate([*CASES, *ESCAPES])}


def mark_of(place: Path) -> str:
    return place.parents[1].name


@contextmanager
def marked(place: Path) -> Iterator[None]:
    """What happens in between stands between two marks in the log of strace."""
    os.access(f"{MARK}/begin/{mark_of(place)}", os.F_OK)
    yield
    os.access(f"{MARK}/end/{mark_of(place)}", os.F_OK)


def child(root: Path) -> None:
    """Commits, and lets things escape; prints what the recorder told of each."""
    answers = {}
    for name, place in places(root).items():
        if name in CASES:
            subject, operation = CASES[name]
            with subject.on_its_file_system():
                new = operation.transition(subject.open(place).read())
                with marked(place):
                    log = subject.committed(place, new)
        else:
            # The content is the same afterwards: the recorder's own comparison of it finds nothing.
            with marked(place), recorded(place) as log:
                durable.write_file(place / "file", b"new content")
                ESCAPES[name](place / "file")
        answers[name] = told(log)
    print(json.dumps(answers))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Effect], list[Effect]]]:
    """Of each case and escape what the recorder told, and what strace saw."""
    root, log = tmp_path_factory.mktemp("watched").resolve(), tmp_path_factory.mktemp("strace") / "log"
    watches = {}
    for name, place in places(root).items():
        place.mkdir(parents=True)
        if name in CASES:
            subject, operation = CASES[name]
            with subject.on_its_file_system():
                subject.prepared(place, operation)
        else:
            (place / "file").write_bytes(b"old content")
        watches[mark_of(place)] = Watch(
            str(place), str(place.parents[1]), {path.name: path.stat().st_size for path in place.iterdir()}
        )
    done = subprocess.run(
        ["strace", "-f", "-qq", "-y", "-s", "100000", "--seccomp-bpf", "-o", log, "-e", "trace=%file,%desc,sync",
         sys.executable, "-m", "tests.crash.test_recorder", root],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    follow(log.read_text().splitlines(), watches)
    answers = json.loads(done.stdout)
    return {
        name: ([tuple(effect) for effect in answers[name]], watches[mark_of(place)].effects)
        for name, place in places(root).items()
    }


def follow(lines: Iterable[str], watches: Mapping[str, Watch]) -> None:
    """Let each watch see what happened between its marks."""
    watch: Watch | None = None
    for line in lines:
        mark = re.search(rf'"{MARK}/(begin|end)/(\w+)"', line)
        if mark is not None:
            watch = watches[mark[2]] if mark[1] == "begin" else None
        elif watch is not None:
            watch.see(line)


@pytest.mark.parametrize("name", CASES)
def test_strace_sees_what_the_recorder_tells_and_nothing_else(
    observed: dict[str, tuple[list[Effect], list[Effect]]], name: str
) -> None:
    recorder_told, seen = observed[name]
    assert seen == recorder_told
    assert recorder_told


@pytest.mark.parametrize("name", ESCAPES)
def test_what_goes_past_durable_would_be_found(
    observed: dict[str, tuple[list[Effect], list[Effect]]], name: str
) -> None:
    recorder_told, seen = observed[name]
    assert seen[: len(recorder_told)] == recorder_told
    assert len(seen) > len(recorder_told)


if __name__ == "__main__":
    child(Path(sys.argv[1]))
