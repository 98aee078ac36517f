"""A publisher's desk: a repository, its keys, an image, and a node that trusts it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.publish.client import Client
from updated.core.release import Release
from updated.core.version import Version
from updated.publish.founding import initialize
from updated.publish.keys import KeyFolder
from updated.publish.publisher import Shipping, add, promote
from updated.publish.repository import Repository


@dataclass
class Desk:
    """What a publisher has at hand. Each call opens the repository anew, as each run of the command does."""

    path: Path
    keys: KeyFolder
    images: Path
    now: float

    @property
    def repository(self) -> Repository:
        return Repository(str(self.path))

    @property
    def root(self) -> bytes:
        return (self.path / "metadata" / "1.root.json").read_bytes()

    def image(self, seed: int, length: int = 300_000) -> str:
        file = self.images / f"{seed}.img"
        file.write_bytes(b"image " * 1000 + random.Random(seed).randbytes(length) + bytes(100_000))
        return str(file)

    def add(self, version: str, *, seed: int = 1, notes: str = "") -> bool:
        draft = Release(Version(version), "demo", int(self.now), {}, notes)
        return add(self.repository, self.keys, draft, {"rootfs": self.image(seed)}, now=self.now, level=1)

    def promote(self, channel: str, version: str, shipping: Shipping | None = None) -> None:
        promote(self.repository, self.keys, channel, version, shipping or Shipping(), now=self.now)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    images = tmp_path / "images"
    images.mkdir()
    made = Desk(tmp_path / "repository", KeyFolder(str(tmp_path / "keys")), images, time.time())
    initialize(str(made.path), made.keys, ["stable", "beta", "alpha"], days={}, now=made.now)
    return made


@pytest.fixture
def client(desk: Desk) -> Iterator[Client]:
    with Client(desk.path, desk.root) as made:
        yield made
