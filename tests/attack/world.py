"""A node, its publisher, and whoever stands between them or stole keys: real releases, real HTTP, real children.

The releases, a repository and a machine are made once (`Workshop`); each test gets its own copy of repository, keys and
machine. Time is the test's: `node.clock`, in seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from tests.attack.node import Node
from tests.attack.signing import DAY, NOW, Pretender, copied, entry, publish, ship, stamp
from tests.fakes.machine import Machine
from tests.fakes.repository import RepositorySimulator
from tests.http.server import Answer, Handler, ScriptedServer, ranged, status
from tests.node.bench import IMAGE_SIZE, SLOT_SIZE
from tests.node.images import make_image
from tests.node.world import Publisher, config
from updated.core.release import ChannelEntry, release_target
from updated.publish.founding import CHANNEL_DAYS, DAYS

GENUINE = ("1.0.0", "1.1.0", "1.2.0")
FORGED = ("1.0.0", "1.1.0", "9.9.9")


class Workshop:
    """What takes long to make: genuine releases, forged ones, and a repository with a machine that has seen it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.genuine = Publisher(folder / "genuine")
        for version in GENUINE:
            self.genuine.release(version, size=IMAGE_SIZE, channels=(), patches=0)
        self.genuine.release("1.3.0", size=IMAGE_SIZE, channels=(), patches=0, compatible="toaster")
        self.forged = Publisher(folder / "forged")
        for version in FORGED:
            self.forged.images[version] = make_image(self.forged.folder, version, size=IMAGE_SIZE, seed=666)
            self.forged.release(version, channels=(), patches=0)
        self.publisher = founded(self, folder / "publisher")
        mirror = Mirror(self, folder / "publisher")
        with mirror.server as server:
            self.machine = Machine(folder / "machine", config(server.url), self.publisher.root_of_trust)
            self.machine.provision(self.genuine.image("1.0.0"), SLOT_SIZE)
            assert self.machine.power_on() == "a"
            node = Node(self.machine, self.genuine)
            node.finds_nothing("1.0.0 is the newest release of channel stable")
            node.close()

    def manifest(self, version: str) -> bytes:
        """The manifest of a genuine release."""
        return manifest_of(self.genuine, version)

    def forged_manifest(self, version: str) -> bytes:
        """The manifest of a release that the attacker built."""
        return manifest_of(self.forged, version)

    def blob(self, name: str) -> bytes | None:
        """What anybody can serve below `blobs/`: names are digests there."""
        for publisher in (self.genuine, self.forged):
            path = publisher.repository / name
            if path.is_file():
                return path.read_bytes()
        return None

    def forged_parts_in(self, content: bytes) -> list[bytes]:
        """Samples of the forged images that are in `content`, and in no genuine image."""
        genuine = b"".join(path.read_bytes() for path in self.genuine.images.values())
        images = [path.read_bytes() for path in self.forged.images.values()]
        samples = {image[at : at + 32] for image in images for at in range(0, len(image), 8192)}
        return [sample for sample in samples if sample in content and sample not in genuine]

    def clone(self, folder: Path, url: str, mirrors: tuple[str, ...]) -> Machine:
        """The machine once more."""
        text = config(url).replace("[updates]\n", '[updates]\nreboot = "sentinel"\n')
        text = text.replace("channel =", f"mirrors = {json.dumps(mirrors)}\nchannel =")
        return self.machine.clone(folder, text)


def manifest_of(publisher: Publisher, version: str) -> bytes:
    """The manifest that `publisher` signed for `version`."""
    (path,) = (publisher.repository / "targets/releases").glob(f"*.{version}.json")
    return path.read_bytes()


def blobs_of(manifest: bytes) -> tuple[str, str]:
    """The names of the index and of the blob of a release's image."""
    part = json.loads(manifest)["components"]["rootfs"]
    return f"blobs/{part['index']['sha256']}", f"blobs/{part['blob']['sha256']}"


def founded(workshop: Workshop, folder: Path) -> RepositorySimulator:
    """A published repository with all genuine releases; each channel ships 1.0.0. It lasts as one of `releasectl`."""
    made = RepositorySimulator(folder, now=NOW)
    for role in made.expiries:
        made.expiries[role] = NOW + DAYS.get(role, CHANNEL_DAYS) * DAY
    for version in (*GENUINE, "1.3.0"):
        made.set_target(release_target(version), workshop.manifest(version))
    for channel in ("alpha", "beta", "stable"):
        ship(made, channel, entry("1.0.0", workshop.manifest("1.0.0")))
    publish(made)
    return made


# -------------------------------------------------------------------------------------------------- the web server


class Mirror:
    """A web server of the repository, in whoever's hands.

    `folder` is what it shows. `lies`: by pattern of names, what it answers instead, given the true content; empty when
    there is none. `asked`: all names that were asked for, in order.
    """

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        self._workshop = workshop
        self.folder = folder
        self.lies: dict[str, Callable[[bytes], Answer]] = {}
        self.asked: list[str] = []
        self.server = ScriptedServer(self._answer)

    def shows(self, repository: RepositorySimulator) -> None:
        """From now on, the files of this one."""
        self.folder = Path(repository.directory)

    def content(self, name: str) -> bytes | None:
        """The file `name`; None when there is none."""
        path = self.folder / name
        return path.read_bytes() if path.is_file() else self._workshop.blob(name)

    def replace(self, pattern: str, data: bytes) -> None:
        """Gives out `data` for the names of the pattern."""
        self.lies[pattern] = lambda true: ranged(data)

    def hide(self, pattern: str) -> None:
        """Says that these files are not there."""
        self.lies[pattern] = lambda true: status(404)

    def _answer(self, handler: Handler) -> None:
        name = handler.path.lstrip("/")
        self.asked.append(name)
        data = self.content(name)
        for pattern, lie in self.lies.items():
            if fnmatch.fnmatchcase(name, pattern):
                lie(data or b"")(handler)
                return
        (status(404) if data is None else ranged(data))(handler)


# ---------------------------------------------------------------------------------------------------- all together


class World:
    """The publisher, the node, and `mirror`, which it asks; `mirrors` are all that it knows."""

    def __init__(
        self, workshop: Workshop, folder: Path, publisher: RepositorySimulator, mirrors: list[Mirror], node: Node
    ) -> None:
        self.workshop = workshop
        self.folder = folder
        self.publisher = publisher
        self.mirrors = mirrors
        self.mirror = mirrors[0]
        self.node = node
        self._thieves = 0

    def thief(self, *stolen: str) -> RepositorySimulator:
        """Somebody who goes on from what is published now, and has only the keys of the roles `stolen`.

        Where others are needed, he signs with his own, in their name. "root" stands for one of the three.
        """
        self._thieves += 1

        def key(role: str, number: int, true: CryptoSigner) -> CryptoSigner:
            return true if role in stolen and (role, number) not in (("root", 1), ("root", 2)) else Pretender(true)

        return copied(self.publisher, self.folder / f"thief-{self._thieves}", key)

    def entry(self, version: str, **more: Any) -> ChannelEntry:
        """The line of a channel that ships a genuine release."""
        return entry(version, self.workshop.manifest(version), **more)

    def ship(self, *versions: str, channel: str = "stable", at: float = NOW) -> None:
        """The publisher ships these releases in a channel, and publishes."""
        ship(self.publisher, channel, *map(self.entry, versions))
        publish(self.publisher, at=at)

    def forge(self, thief: RepositorySimulator, version: str = "1.1.0", *, channel: str | None = "stable") -> bytes:
        """The thief has a forged release in his repository, and in a channel of it; the manifest."""
        manifest = self.workshop.forged_manifest(version)
        thief.set_target(release_target(version), manifest)
        if channel is not None:
            ship(thief, channel, entry(version, manifest))
        return manifest

    def attack(self, thief: RepositorySimulator, *, at: float = NOW) -> None:
        """The thief signs what he changed, with snapshot and timestamp, and the mirror shows what is his."""
        publish(thief, at=at)
        self.mirror.shows(thief)

    def freeze(self, thief: RepositorySimulator, *, at: float = NOW) -> None:
        """The thief signs a timestamp and nothing else, and the mirror shows what is his."""
        stamp(thief, at=at)
        self.mirror.shows(thief)

    def end_attack(self) -> None:
        """The mirror is honest again."""
        self.mirror.lies.clear()
        self.mirror.shows(self.publisher)

    def revoke(self, *roles: str, at: float = NOW) -> None:
        """The publisher gives these roles new keys, publishes, and has the mirror again."""
        for role in roles:
            self.publisher.rotate_key(role)
        publish(self.publisher, at=at)
        self.end_attack()


@contextmanager
def world(workshop: Workshop, folder: Path, *, mirrors: int = 1, known: bool = True) -> Iterator[World]:
    """A world below `folder`. `mirrors`: how many the node knows; all are honest at first.

    `known`: the node has seen the repository once; else it comes from the factory.
    """
    publisher = copied(workshop.publisher, folder / "publisher", lambda role, number, true: true)
    with contextlib.ExitStack() as stack:
        servers = [Mirror(workshop, Path(publisher.directory)) for _ in range(mirrors)]
        urls = [stack.enter_context(mirror.server).url for mirror in servers]
        node = Node(workshop.clone(folder / "machine", urls[0], tuple(urls[1:])), workshop.genuine)
        stack.callback(node.close)
        if not known:
            node.forget()
        yield World(workshop, folder, publisher, servers, node)
