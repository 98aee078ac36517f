"""A publisher, a web server and a machine, with real parts, for tests of the whole node.

What most tests begin with is made once for each process, and copied for each test: see `shipped` and `make_machine`.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import requests

import bootctl
import updated
from tests.fakes.machine import Machine, remove_tree
from tests.node.images import make_image
from updated.publish.__main__ import main as releasectl

COMPATIBLE = "test-machine"
CHANNELS = ("alpha", "beta", "stable")
FACTORY = "1.0.0"
CONFIG = """\
[repository]
url = "{url}"
channel = "stable"

[identity]
compatible = "{compatible}"

[updates]
interval_seconds = 3600

[health]
probation_seconds = 0

[fetch]
user = ""

[metrics]
listen = "off"
"""


class Publisher:
    """A repository below `folder`, made with releasectl if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.keys = folder / "keys"
        self.images = {path.stem: path for path in folder.glob("*.erofs")}
        if not self.repository.exists():
            self.call("init", str(self.repository), "--keys", str(self.keys))

    def call(self, *arguments: str) -> None:
        """Runs releasectl; raises AssertionError when it fails."""
        status = releasectl(arguments)
        assert status == 0, f"releasectl {arguments} ended with {status}"

    def image(self, version: str, *, sick: bool = False, size: int = 3_000_000) -> Path:
        """The image of `version`, made once."""
        if version not in self.images:
            self.images[version] = make_image(self.folder, version, sick=sick, size=size)
        return self.images[version]

    def release(
        self, version: str, *, sick: bool = False, size: int = 3_000_000, compatible: str = COMPATIBLE,
        channels: tuple[str, ...] = CHANNELS, patches: int = 2, **files: Path | None,
    ) -> None:
        """Builds, adds and promotes a release, with a component of each of `files` that is given."""
        image = self.image(version, sick=sick, size=size)
        more = [part for name, path in files.items() if path for part in ("--component", f"{name}={path}")]
        self.call(
            "add", str(self.repository), "--keys", str(self.keys), "--version", version, "--compatible", compatible,
            "--component", f"rootfs={image}", *more, "--level", "1", "--patches", str(patches),
        )
        for channel in channels:
            self.promote(version, channel)

    def promote(self, version: str, channel: str, *options: str) -> None:
        """Ships a release in a channel."""
        self.call(
            "promote", str(self.repository), "--keys", str(self.keys), "--channel", channel, "--version", version,
            *options,
        )

    def refresh(self) -> None:
        """Signs snapshot and timestamp anew."""
        self.call("refresh", str(self.repository), "--keys", str(self.keys))

    def root_of_trust(self) -> bytes:
        """What images pin."""
        path = self.folder / "root.json"
        if not path.exists():
            self.call("export-root", str(self.repository), str(path))
        return path.read_bytes()


def shipped(
    folder: Path, *, size: int = 3_000_000, channels: tuple[str, ...] = CHANNELS, kernel: bytes | None = None
) -> Publisher:
    """A publisher below `folder` that has shipped 1.0.0, as by `Publisher.release`; others like it have its keys."""
    made = _shipped(size, channels, kernel)
    shutil.copytree(made.folder, folder, ignore=shutil.ignore_patterns("tree-*"))
    return Publisher(folder)


@functools.cache
def _shipped(size: int, channels: tuple[str, ...], kernel: bytes | None) -> Publisher:
    made = Publisher(_new_folder())
    path = None
    if kernel is not None:
        path = made.folder / f"{FACTORY}.efi"
        path.write_bytes(kernel)
    made.release(FACTORY, size=size, channels=channels, kernel=path)
    made.root_of_trust()
    return made


def config(url: str) -> str:
    """The configuration of a node that follows stable at `url`."""
    return CONFIG.format(url=url, compatible=COMPATIBLE)


def program_for_everybody(folder: Path) -> Path:
    """A copy of the program below `folder`, for the system's Python: the checkout may be out of reach for other users.

    Skips the test where that Python can't load it.
    """
    system = subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, text=True, check=True).stdout
    if not system.startswith(f"Python {sys.version_info.major}.{sys.version_info.minor}."):
        pytest.skip("the system's Python can not load the libraries of the one that runs the tests")
    program = folder / "program"
    libraries = Path(requests.__file__).parent.parent
    left_out = shutil.ignore_patterns("mypy*", "numpy*", "ruff*", "hypothesis*", "pip*", "__editable__*", "__pycache__")
    shutil.copytree(libraries, program, ignore=left_out)
    for package in (bootctl, updated):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, program / source.name, ignore=left_out)
    return program


def make_machine(folder: Path, publisher: Publisher, url: str, *, slot_size: str = "8M") -> Machine:
    """A machine with 1.0.0 in slot a, from the factory, switched on."""
    image, root_of_trust = publisher.image(FACTORY), publisher.root_of_trust()
    key = (hashlib.sha256(image.read_bytes()).digest(), root_of_trust, slot_size)
    if key not in _machines:
        machine = Machine(_new_folder(), config(url), root_of_trust)
        machine.provision(image, slot_size)
        assert machine.power_on() == "a"
        _machines[key] = machine
    return _machines[key].clone(folder, config(url))


# By the digest of the image, the root of trust and the size of the slots.
_machines: dict[tuple[bytes, bytes, str], Machine] = {}


def _new_folder() -> Path:
    """A folder that is removed when the tests are over."""
    folder = Path(tempfile.mkdtemp(prefix="updated-factory-"))
    atexit.register(remove_tree, folder)
    return folder / "made"


