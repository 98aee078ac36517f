"""A publisher's desk: a repository, its keys, an image, and a node that trusts it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.publish.client import Client
from tests.publish.node import Node
from tests.publish.synthetic import noise
from updated.core.release import Blob, Component, Release
from updated.core.version import Version
from updated.publish import keychange
from updated.publish.adding import PATCHES, add
from updated.publish.founding import initialize
from updated.publish.keyrecord import KeyRecord
from updated.publish.keys import KeyFolder
from updated.publish.publisher import Shipping, promote
from updated.publish.repository import Repository
from updated.publish.store import Stored


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

    def content(self, seed: int) -> bytes:
        return b"image " * 1000 + noise(seed, 300_000) + bytes(100_000)

    def add(
        self, version: str, *, seed: int = 1, notes: str = "", content: bytes | None = None, patches: int = PATCHES,
        component: str = "rootfs", compatible: str = "demo", warn: Callable[[str], None] = lambda text: None,
    ) -> Mapping[str, Stored]:
        """Publishes `content`, else an image that is made of `seed`."""
        image = self.images / f"{version}-{component}.img"
        image.write_bytes(self.content(seed) if content is None else content)
        draft = Release(Version(version), compatible, int(self.now), {}, notes)
        images = {component: str(image)}
        return add(self.repository, self.keys, draft, images, now=self.now, level=1, patches=patches, warn=warn)

    def component(self, version: str, name: str = "rootfs") -> Component:
        """The component of a published release."""
        return self.repository.release(version)[0].components[name]

    def blob(self, part: Blob) -> Path:
        """The path of a file in `blobs/`."""
        return self.path / "blobs" / part.sha256

    def key(self, name: str, scheme: str = "ed25519") -> KeyRecord:
        """A new key in the folder."""
        return self.keys.generate(name, scheme)

    def keyid(self, name: str) -> str:
        return self.keys.record(name).keyid

    def rotate(self, role: str, old: str, new: str) -> bool:
        """Takes the key `new` of the folder into the role, and `old` out."""
        record = self.keys.record(new)
        return keychange.rotate(self.repository, self.keys, role, self.keyid(old), record, now=self.now)

    def without(self, *names: str) -> KeyFolder:
        """The key folder of somebody who doesn't have these private keys, but their records."""
        folder = Path(tempfile.mkdtemp(prefix="keys-", dir=self.images))
        shutil.copytree(self.keys.path, folder, dirs_exist_ok=True)
        for name in names:
            (folder / f"{name}.pem").unlink(missing_ok=True)
        return KeyFolder(str(folder))

    def only(self, *names: str) -> KeyFolder:
        """The key folder of somebody who has these private keys alone, and the records of all."""
        return self.without(*(name for name in self.keys.records() if name not in names))

    def node(self, name: str = "node") -> Node:
        """A node that pins the first root; a new one for each name."""
        return Node(self.path, self.images / f"store-{name}", self.root, self.now)

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
