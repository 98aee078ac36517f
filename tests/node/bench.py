"""One small node on a bench: what a cycle of it says, and what no bad input may change on its disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootctl import gpt
from tests.fakes import firmware, nginx
from tests.fakes.machine import Machine
from tests.http.server import Answer, Handler, ranged, status
from tests.node.world import COMPATIBLE, Publisher, make_machine, shipped
from tests.processes import INTERRUPTIBLE

IMAGE_SIZE = 200_000
SLOT_SIZE = "1M"
OLD, NEW = "1.0.0", "1.1.0"
DONE, FAILED, USAGE, WAITING = 0, 1, 2, 4


@dataclass(frozen=True)
class Active:
    """What must stay, byte for byte: the running slot, its entry in the boot reference, and what boots next."""

    content: bytes
    attributes: int
    boots_next: str


@dataclass
class Bench:
    """A publisher that ships 1.0.0, its web server, and a machine that runs 1.0.0 in slot a."""

    publisher: Publisher
    machine: Machine

    @property
    def root(self) -> Path:
        """The root tree of the node."""
        return self.machine.root

    @property
    def repository(self) -> Path:
        """The folder that the web server shows."""
        folder: Path = self.publisher.repository
        return folder

    def ship(self, version: str = NEW, *, size: int = IMAGE_SIZE, compatible: str = COMPATIBLE) -> None:
        """Publishes a release for the node, without patches: each of its files is needed."""
        self.publisher.release(version, size=size, compatible=compatible, channels=("stable",), patches=0)

    def component(self, version: str = NEW) -> dict[str, Any]:
        """What the manifest of a release says about its image."""
        (manifest,) = (self.repository / "targets/releases").glob(f"*.{version}.json")
        part: dict[str, Any] = json.loads(manifest.read_text())["components"]["rootfs"]
        return part

    def blob(self, part: str, version: str = NEW) -> Path:
        """The file of the `index` or `blob` of a release."""
        digest: str = self.component(version)[part]["sha256"]
        return self.repository / "blobs" / digest

    def active(self) -> Active:
        """What is on the disk of the slot that runs."""
        with self.machine.disk.open("rb") as disk:
            table = gpt.read_table(disk.fileno())
            partition = table.partition("rootfs-a")
            disk.seek(partition.offset(table.sector_size))
            content = disk.read(partition.size(table.sector_size))
        copy = self.machine.folder / "copy.img"  # the firmware counts on the disk that it reads
        subprocess.run(["cp", "--sparse=always", str(self.machine.disk), str(copy)], check=True)
        boots = firmware.next_boot(copy)
        copy.unlink()
        return Active(content, partition.attributes, boots.name if boots else "nothing")

    def disk_content(self) -> list[tuple[int, bytes]]:
        """All that was ever written to the disk, by offset; most of it is a hole."""
        content = []
        with self.machine.disk.open("rb", buffering=0) as disk:
            end = 0
            with contextlib.suppress(OSError):  # ENXIO: nothing but a hole is left
                while True:
                    start = os.lseek(disk.fileno(), end, os.SEEK_DATA)
                    end = os.lseek(disk.fileno(), start, os.SEEK_HOLE)
                    content.append((start, os.pread(disk.fileno(), end - start, start)))
        return content

    def attributes(self, slot: str) -> int:
        """The attribute bits of a slot's partition."""
        with self.machine.disk.open("rb") as disk:
            return gpt.read_table(disk.fileno()).partition(f"rootfs-{slot}").attributes

    def once(self, expected: int = DONE) -> str:
        """One cycle: all that it printed."""
        return self.judged(self.machine.run("updated", "--root", str(self.root), "--once", check=False), expected)

    def judged(self, done: subprocess.CompletedProcess[str], expected: int) -> str:
        """What a cycle printed, which ended as expected and without a traceback."""
        text = done.stdout + done.stderr
        assert done.returncode == expected, f"{done.returncode}\n{text}"
        assert "Traceback" not in text, text
        return text

    def status(self) -> dict[str, Any]:
        """The status file."""
        document: dict[str, Any] = json.loads((self.root / "run/updated/status.json").read_text())
        return document

    def refuses(
        self, code: str, *words: str, expected: int = FAILED, run: Callable[[int], str] | None = None
    ) -> str:
        """A cycle that ends in the error `code`, tells it in a line with `words`, and leaves the active slot alone."""
        before = self.active()
        text = (run or self.once)(expected)
        self.tells(text, code, *words)
        assert self.active() == before
        return text

    def tells(self, text: str, code: str, *words: str) -> None:
        """`text` and the status file name the same error."""
        error = self.status()["error"]
        assert error is not None, text
        assert error["code"] == code, error
        line = f"{error['what']}: {error['cause']}. {error['mend']}"
        assert all(error[part] for part in ("what", "cause", "mend"))
        assert line in text, f"{line!r} is not a line of\n{text}"
        for word in words:
            assert word in line, f"{word!r} is not in {line!r}"

    def refuses_untouched(self, code: str, *words: str, expected: int = FAILED) -> str:
        """As `refuses`, and no byte of the disk changes."""
        before = self.disk_content()
        text = self.once(expected)
        self.tells(text, code, *words)
        assert self.disk_content() == before
        return text

    def updates(self, version: str = NEW) -> None:
        """The next cycle stages the release: nothing of the fault stayed behind."""
        assert f"{version} is staged and boots next" in self.once()
        assert self.status()["error"] is None
        assert self.active().boots_next == "rootfs-b"


@contextmanager
def bench(folder: Path, url: str | None = None) -> Iterator[Bench]:
    """A bench below `folder`, with nginx or whatever answers at `url`."""
    publisher = shipped(folder / "publisher", size=IMAGE_SIZE, channels=("stable",))
    with (
        nginx.serve(publisher.repository) as own,
        make_machine(folder / "machine", publisher, url or own, slot_size=SLOT_SIZE) as machine,
    ):
        yield Bench(publisher, machine)


def flip(path: Path, at: int | None = None) -> None:
    """Turns all bits of one byte of a file; by default of some all over it, of which a node does not need each."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 64, len(data), len(data) // 32 + 1) if at is None else [at]:
        data[place] ^= 0xFF
    path.write_bytes(data)


def files_except(folder: Callable[[], Path], spoil: Callable[[Handler, bytes], Answer | None]) -> Answer:
    """Serves the files below a folder; `spoil` gives another answer than the file's content where it wants to."""

    def answer(handler: Handler) -> None:
        path = folder() / handler.path.lstrip("/")
        if not path.is_file():
            status(404)(handler)
            return
        data = path.read_bytes()
        (spoil(handler, data) or ranged(data))(handler)

    return answer


def start_once(machine: Machine) -> subprocess.Popen[str]:
    """A cycle in the background, which SIGINT ends all the same."""
    return subprocess.Popen(
        [*INTERRUPTIBLE, sys.executable, "-m", "updated", "--root", str(machine.root), "--once"],
        env={**os.environ, **machine.environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )


def copied(folder: Path, to: Path) -> None:
    """Makes `to` what `folder` is."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
