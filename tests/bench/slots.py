"""The slots: block devices where the machine allows it, so that the kernel counts what all tools write."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
_BLKFLSBUF = 0x1261
_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Image:
    """The image of a release, in a file."""

    name: str
    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, path: Path) -> Image:
        """The image in `path`; its digest is kept beside it."""
        kept = path.with_name(f"{path.name}.sha256")
        if not kept.exists() or kept.stat().st_mtime < path.stat().st_mtime:
            with path.open("rb") as file:
                kept.write_text(hashlib.file_digest(file, "sha256").hexdigest())
        return cls(name, path, path.stat().st_size, kept.read_text())


class Slot:
    """A block device over a file, or the file itself where there are no loop devices."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        # What it holds: an image's digest, "" for zeros, None when that is not known.
        self._content: str | None = None

    @property
    def is_device(self) -> bool:
        """Whether the kernel counts what is written to it."""
        return self.path.startswith("/dev/")

    def written(self) -> int | None:
        """The bytes that were ever written to it; None where nobody counts."""
        if not self.is_device:
            return None
        statistics = Path("/sys/block", os.path.basename(self.path), "stat").read_text().split()
        return int(statistics[6]) * SECTOR

    def empty(self) -> None:
        """Makes it hold zeros, all of them written to the disk."""
        if self._content != "":
            self._copy("/dev/zero", self.size)
            self._content = ""

    def fill(self, image: Image) -> None:
        """Makes it hold `image`, and zeros behind it."""
        if self._content != image.sha256:
            self.empty()
            self._copy(str(image.path), image.size)
            self._content = image.sha256

    def check(self, image: Image) -> None:
        """Raises `WrongContent` when it does not hold `image`, byte for byte, on the medium itself."""
        self.forget()
        empty_cache(self.path)
        digest = hashlib.sha256()
        left = image.size
        with open(self.path, "rb", buffering=0) as file:
            while left and (data := file.read(min(left, 1 << 22))):
                digest.update(data)
                left -= len(data)
        if left or digest.hexdigest() != image.sha256:
            raise WrongContent(f"the slot does not hold {image.name}")
        self._content = image.sha256

    def forget(self) -> None:
        """Something else writes to it."""
        self._content = None

    def _copy(self, source: str, size: int) -> None:
        _dd(source, self.path, size, *(["oflag=direct"] if self.is_device and size % SECTOR == 0 else []))


class WrongContent(Exception):
    """A tool said that all is well, and it is not."""


@contextmanager
def open_slot(file: Path, size: int) -> Iterator[Slot]:
    """A slot of `size` bytes over `file`, which is made and written once, so that its blocks are all there.

    Raises SystemExit when another benchmark uses it.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(file.with_suffix(".lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"another benchmark uses {file.name}; wait for its end") from None
        if not file.exists() or file.stat().st_size != size:
            with file.open("wb") as new:
                new.truncate(size)
            _dd("/dev/zero", str(file), size)
        yield Slot(stack.enter_context(_device(file, write=True)), size)


@contextmanager
def running_slot(image: Image) -> Iterator[str]:
    """The path of the slot that runs, which holds `image` and can't be written."""
    with _device(image.path, write=False) as path:
        yield path


@contextmanager
def _device(file: Path, *, write: bool) -> Iterator[str]:
    device = _attach(file, write=write)
    try:
        yield device or str(file)
    finally:
        if device is not None:
            subprocess.run(["losetup", "--detach", device], check=False, timeout=60)


def _attach(file: Path, *, write: bool) -> str | None:
    """A loop device over the file, past the page cache of the file system below; None where that can't be had."""
    if os.geteuid() != 0:
        return None
    command = ["losetup", "--find", "--show", *([] if write else ["--read-only"])]
    for options in (["--direct-io=on"], []):
        done = subprocess.run([*command, *options, str(file)], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def _dd(source: str, target: str, size: int, *options: str) -> None:
    subprocess.run(
        [
            "dd", f"if={source}", f"of={target}", "bs=4M", f"count={size}", "iflag=count_bytes,fullblock",
            "conv=notrunc,fsync", "status=none", *options,
        ],
        check=True, timeout=_SECONDS,
    )  # fmt: skip


def empty_cache(path: str) -> None:
    """Makes the next reader of a device or file read from the disk."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
        if path.startswith("/dev/"):
            fcntl.ioctl(file, _BLKFLSBUF, 0)
        else:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
