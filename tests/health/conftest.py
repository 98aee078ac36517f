"""What the tests of health share: trees of files, and real processes to look at."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

Put = Callable[..., Path]

SLOT_TYPE = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"
REPOSITORY = Path(__file__).parent.parent.parent

# Priority, tries and the mark "successful" in bits 48-51, 52-55 and 56 of a partition's attributes.
GOOD, GOOD_FIRST, TRIAL, LAST_TRY, EMPTY, REJECTED = (
    "0101000000000000",
    "0102000000000000",
    "0022000000000000",
    "0002000000000000",
    "0000000000000000",
    "0010000000000000",
)
CHECKS = "etc/updated/health.d"

Disks = Callable[[str, str], bytes]

FAKES = Path(__file__).parent.parent / "fakes"


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file below the test's root directory: put("etc/x", "text", mode=0o755)."""

    def write(path: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(mode)
        return file

    return write


def ends(pid: int) -> bool:
    """Whether a process is gone or goes within a few seconds, since SIGKILL works soon but not at once."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5)[0])
    finally:
        os.close(descriptor)


def copy_program(program: str, root: Path) -> None:
    """Puts a program and the libraries that it loads at the same places below `root`."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    for path in (program, *libraries):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(path).read_bytes())
        target.chmod(0o755)


class Machine:
    """A root directory with a disk image, a configuration and a kernel command line; slot b runs."""

    def __init__(self, root: Path, disks: Disks) -> None:
        self.root = root
        self.disks = disks
        self.disk = root / "disk.img"
        self.set(GOOD, TRIAL)
        self.configure('[disk]\nimage = "/disk.img"\n')
        self.write("etc/os-release", "IMAGE_VERSION=1.2.0\n")
        self.write("proc/cmdline", "quiet updated.slot=b\n")
        self.write("proc/sys/kernel/random/boot_id", "6f2c\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def configure(self, text: str, probation_seconds: int = 0) -> None:
        """Without a probation, unless a test is about that."""
        self.write("etc/updated/updated.toml", f"{text}[health]\nprobation_seconds = {probation_seconds}\n")

    def also_in_health(self, line: str) -> None:
        """Adds a line to the table [health], with which the configuration ends."""
        with (self.root / "etc/updated/updated.toml").open("a") as file:
            file.write(f"{line}\n")

    def came_to(self, **results: str) -> None:
        """The baseline: what required checks of free space came to on slot a, by name, before it was left."""
        checks = [
            {"kind": "required", "name": name, "type": "disk-space", "result": result, "output": ""}
            for name, result in results.items()
        ]
        about = {"slot": "a", "version": "1.1.0", "boot_id": None, "target": None, "time": "2024-01-01T00:00:00Z"}
        self.write("var/lib/updated/health/baseline.json", json.dumps({"schema": 1, **about, "checks": checks}))

    def sgdisk(self, *arguments: str) -> str:
        command = ["sgdisk", *arguments, str(self.disk)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def set(self, a: str, b: str) -> "Machine":
        """Gives the two slots these attributes."""
        self.disk.write_bytes(self.disks(a, b))
        return self

    def damage_primary_table(self) -> None:
        with self.disk.open("r+b") as file:
            file.seek(512)
            file.write(bytes(512))

    @property
    def attributes(self) -> tuple[str, str]:
        """Of the slots a and b."""
        lines = (self.sgdisk("-i1") + self.sgdisk("-i2")).splitlines()
        a, b = (line.split(": ")[1] for line in lines if line.startswith("Attribute flags"))
        return a, b

    def required(self, passes: bool, name: str = "it") -> "Machine":
        """A required check that needs no program inside of the root."""
        self.write(
            f"{CHECKS}/required.d/{name}.toml",
            f'type = "disk-space"\npath = "/"\nretries = 0\nfree_bytes = {0 if passes else 2**60}\n',
        )
        return self

    def command(self, *arguments: str, verb: str = "") -> list[str]:
        """Without a verb it judges."""
        verbs = [verb] if verb else []
        return [sys.executable, "-W", "error", "-m", "health", *verbs, "--root", str(self.root), *arguments]

    def health(
        self, *arguments: str, verb: str = "", prefix: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        made = subprocess.run(
            [*prefix, *self.command(*arguments, verb=verb)], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in made.stderr
        return made

    @property
    def verdict_file(self) -> Path:
        return self.root / "var/lib/updated/health/verdict.json"

    @property
    def baseline_file(self) -> Path:
        return self.root / "var/lib/updated/health/baseline.json"

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.verdict_file.read_text())
        return document

    @property
    def motd(self) -> Path:
        return self.root / "run/motd.d/updated-health"


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    """Makes each disk once, since sgdisk sleeps for a second after each write."""

    @cache
    def made(a: str, b: str) -> bytes:
        disk = tmp_path_factory.mktemp("disk") / "disk.img"
        with disk.open("wb") as file:
            file.truncate(4 * 1024 * 1024)
        first, second = (f"{number}:{SLOT_TYPE}" for number in (1, 2))
        names = ("-n1:64:+512", f"-t{first}", "-c1:rootfs-a", "-n2:1024:+512", f"-t{second}", "-c2:rootfs-b")
        command = ["sgdisk", "--clear", "-a1", *names, f"-A1:=:{a}", f"-A2:=:{b}", str(disk)]
        subprocess.run(command, check=True, capture_output=True)
        return disk.read_bytes()

    return made


@pytest.fixture
def machine(tmp_path: Path, disks: Disks) -> Machine:
    return Machine(tmp_path, disks)
