"""A downloader that was taken over: neither what lies in its folder, nor what it leaves or says, makes a slot boot.

It may write its folder and the passive slot. `seal` has a store of its own, and believes only signatures.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.attack.signing import DAY, NOW, ONLINE
from tests.attack.world import Workshop, World, blobs_of
from tests.attack.world import world as make_world
from updated import record
from updated.children import Children, Message
from updated.task import Task

SECRET = "only root may read this"


class TakenOver:
    """The children, of which `fetch` does an attacker's will: `instead` of its work, or `after` it."""

    def __init__(
        self, children: Children, *, after: Callable[[Task], None] | None = None,
        instead: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._children = children
        self._after = after
        self._instead = instead or {}

    async def run(
        self, arguments: list[str], task: Task, progress: Callable[[Message], None],
        user: tuple[int, int] | None = None,
    ) -> Message:
        """As that of `Children`."""
        if arguments[-1] in self._instead:
            result: Message = {"type": "result", "peak_memory_bytes": 0, **self._instead[arguments[-1]]}
        else:
            result = await self._children.run(arguments, task, progress, user)
        if arguments == ["fetch", "install"] and self._after is not None:
            self._after(task)
        return result

    def kill(self) -> None:
        """As that of `Children`."""
        self._children.kill()


def take_over(world: World, **deeds: Any) -> None:
    """From now on, until the daemon starts again."""
    steps = world.node.engine._steps
    steps.children = TakenOver(steps.children, **deeds)  # type: ignore[assignment]


def offer(version: str, manifest: bytes) -> dict[str, Any]:
    """The answer to a check that offers a release."""
    digest = hashlib.sha256(manifest).hexdigest()
    offered = {"version": version, "manifest": digest, "size": 1, "urgent": False}
    return {
        "offer": offered, "reasons": [], "expiries": {}, "lifetimes": {}, "expired": {}, "notes": [],
        "withdrawn": None,
    }  # fmt: skip


INSTALLED = {"installed": {"rootfs": dict.fromkeys(
    ("image", "in_place", "copied", "downloaded", "blob", "patch", "index", "written", "skipped", "discarded"), 0
) | {"plan": "nothing"}}}  # fmt: skip


# ------------------------------------------------------------------------------------------ what lies in its folder


def plant(world: World, directory: str) -> None:
    """Puts the repository in `directory` into the downloader's cache, as if it had been verified."""
    store = world.node.machine.state / "fetch/store"
    for path in Path(directory, "metadata").iterdir():
        number, _, role = path.name.partition(".") if path.name != "timestamp.json" else ("", "", path.name)
        if role == "root.json":
            shutil.copy(path, store / "root_history" / path.name)
        elif not number or not (store / role).exists() or path.stat().st_mtime >= (store / role).stat().st_mtime:
            shutil.copy(path, store / role)


def test_a_planted_cache_of_forged_metadata_is_not_trusted(world: World) -> None:
    thief = world.thief()
    for role in ("root", *ONLINE, "targets", "releases", "stable"):
        thief.rotate_key(role)
    world.forge(thief)
    thief.publish()
    plant(world, thief.directory)
    world.mirror.shows(thief)
    world.node.refuses_untouched("metadata-invalid", "metadata/2.root.json: does not verify")
    world.ship("1.0.0", "1.1.0")
    world.end_attack()
    world.node.sees("1.1.0")


def test_planted_manifests_and_indexes_are_fetched_again(world: World) -> None:
    world.ship("1.0.0", "1.1.0")
    folder = world.node.machine.state / "fetch"
    manifest = world.workshop.manifest("1.1.0")
    (folder / "store/targets" / hashlib.sha256(manifest).hexdigest()).write_bytes(
        world.workshop.forged_manifest("1.1.0")
    )
    (folder / "indexes").mkdir()
    genuine, forged = blobs_of(manifest)[0], blobs_of(world.workshop.forged_manifest("1.1.0"))[0]
    (folder / "indexes" / genuine[6:]).write_bytes(world.workshop.blob(forged) or b"")
    world.node.updates()


@pytest.mark.parametrize("planted", ["the older cache", "lower floors"])
def test_an_older_repository_passes_a_downloader_without_memory_and_not_seal(world: World, planted: str) -> None:
    """`seal` has seen the newer one. The release of the older one was taken back since."""
    world.ship("1.0.0", "1.1.0")
    older = world.thief()
    world.ship("1.0.0", "1.2.0")
    world.node.updates("1.2.0")
    running = world.node.slot("a")
    store = world.node.machine.state / "fetch/store"
    shutil.rmtree(store)
    if planted == "the older cache":
        (store / "root_history").mkdir(parents=True)
        plant(world, older.directory)
    else:
        versions = dict.fromkeys(("root", "timestamp", "snapshot", "targets"), 1)
        time = "2020-01-01T00:00:00Z"
        record.write(str(store / "floors"), {"schema": 1, "versions": versions, "keys": {}, "time": time})
    world.mirror.shows(older)
    world.node.cycle()
    assert world.node.may_boot() == {"a"}  # what the channel seems to have withdrawn is not booted
    document = world.node.cycle()
    assert document["error"]["code"] == "metadata-rolled-back"
    assert world.node.slot("a") == running
    assert world.node.may_boot() == {"a"}
    world.end_attack()
    world.node.sees("1.2.0")


def test_a_clock_set_back_passes_a_downloader_without_memory_and_not_seal(world: World) -> None:
    world.ship("1.0.0", "1.1.0", at=NOW + 80 * DAY)
    world.node.updates("1.1.0", at=NOW + 80 * DAY)
    shutil.rmtree(world.node.machine.state / "fetch/store")
    world.ship("1.0.0", "1.1.0", "1.2.0", at=NOW + 10 * DAY)
    error = world.node.cycle(at=NOW + 10 * DAY)["error"]
    assert error["code"] == "metadata-expired"
    assert "by the last trusted time" in error["cause"]
    assert world.node.may_boot() == {"a"}


def test_floors_that_were_raised_block_the_downloader_and_are_told(world: World) -> None:
    path = world.node.machine.state / "fetch/store/floors"
    for name in ("floors", "floors.previous"):
        path.with_name(name).unlink(missing_ok=True)
    document = {"schema": 1, "versions": {"timestamp": 10**9}, "keys": {}, "time": "2020-01-01T00:00:00Z"}
    record.write(str(path), document)
    world.ship("1.0.0", "1.1.0")
    world.node.refuses_untouched("metadata-rolled-back", "'timestamp'", "and version 1000000000 was trusted")
    shutil.rmtree(path.parent)
    world.node.sees("1.1.0")


# ---------------------------------------------------------------------------------------- what it leaves for `seal`


def exported(task: Task, name: str) -> Path:
    """A file that it left, of which the digits in the name don't matter."""
    (path,) = Path(task.export).glob(name)
    return path


def replaced(name: str, make: Callable[[Path], None]) -> Callable[[World, Task], None]:
    """Puts something else in the place of an exported file."""

    def deed(world: World, task: Task) -> None:
        path = exported(task, name)
        path.unlink()
        make(path)

    return deed


def forged_repository(world: World, task: Task) -> None:
    """The attacker's repository, with the image that belongs to it in the slot."""
    thief = world.thief()
    thief.rotate_key("root")
    world.forge(thief)
    thief.publish()
    shutil.rmtree(task.export)
    shutil.copytree(thief.directory, task.export)
    forged_image(world, task)


def write(world: World, task: Task, data: bytes, at: int = 0) -> None:
    """Writes to the slot, as the holder of its open file can."""
    with world.node.machine.disk.open("r+b") as disk:
        disk.seek(task.regions["rootfs"].offset + at)
        disk.write(data)


def forged_image(world: World, task: Task) -> None:
    """The attacker's image in the slot."""
    write(world, task, world.workshop.forged.images["1.1.0"].read_bytes())


def forged_manifest(world: World, task: Task) -> None:
    """The attacker's manifest under the name of the genuine one, and his image."""
    exported(task, "targets/releases/*.1.1.0.json").write_bytes(world.workshop.forged_manifest("1.1.0"))
    forged_image(world, task)


def one_bit(world: World, task: Task) -> None:
    """The slot as it should be, but for one bit."""
    byte = world.node.slot("b")[100_000]
    write(world, task, bytes([byte ^ 1]), 100_000)


def secret(path: Path) -> None:
    """A link to what the downloader itself may not read."""
    (path.parent / "secret").write_text(SECRET)
    path.symlink_to("secret")


def sparse(path: Path) -> None:
    """A file without end, almost."""
    with path.open("wb") as file:
        file.truncate(2**40)


TIMESTAMP = "metadata/timestamp.json"
DEEDS: dict[str, tuple[Callable[[World, Task], None], str]] = {
    "a forged repository": (forged_repository, "metadata-invalid"),
    "a forged image": (forged_image, "slot-differs"),
    "a forged image with its manifest": (forged_manifest, "wrong-digest"),
    "an image with one other bit": (one_bit, "slot-differs"),
    "nothing": (lambda world, task: shutil.rmtree(task.export), "not-found"),
    "a link to a secret": (replaced(TIMESTAMP, secret), "metadata-invalid"),
    "a link to a device": (replaced(TIMESTAMP, lambda path: path.symlink_to("/dev/zero")), "not-found"),
    "a link to itself": (replaced(TIMESTAMP, lambda path: path.symlink_to(path.name)), "disk-error"),
    "a pipe": (replaced(TIMESTAMP, os.mkfifo), "not-found"),
    "a huge timestamp": (replaced(TIMESTAMP, sparse), "too-long"),
    "a huge manifest": (replaced("targets/releases/*.1.1.0.json", sparse), "too-long"),
}


class Kept:
    """A node with a taken over downloader, which can put the genuine export and image in place at any time."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self._folder = folder
        self._image = b""
        world.ship("1.0.0", "1.1.0")
        take_over(world, after=self._keep)
        world.node.refuses("slot-differs", "component rootfs in slot b")

    def _keep(self, task: Task) -> None:
        shutil.copytree(task.export, self._folder)
        self._image = self.world.node.slot("b")
        forged_image(self.world, task)

    def is_taken_over(self, deed: Callable[[World, Task], None]) -> None:
        """From now on: all is genuine, and then `deed` is done."""

        def install(task: Task) -> None:
            shutil.rmtree(task.export, ignore_errors=True)
            shutil.copytree(self._folder, task.export)
            write(self.world, task, self._image)
            deed(self.world, task)

        self.world.node.forget()
        genuine = offer("1.1.0", self.world.workshop.manifest("1.1.0"))
        take_over(self.world, instead={"check": genuine, "install": INSTALLED}, after=install)


@pytest.fixture(scope="module")
def kept(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("store")
    with make_world(workshop, folder) as made:
        yield Kept(made, folder / "kept")


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_downloader_leaves_for_seal_is_verified_again(kept: Kept, deed: str) -> None:
    do, code = DEEDS[deed]
    kept.is_taken_over(do)
    document = kept.world.node.refuses(code)
    assert SECRET not in str(document)


def test_when_the_downloader_is_itself_again_the_update_goes_on(world: World) -> None:
    world.ship("1.0.0", "1.1.0")
    take_over(world, after=lambda task: forged_repository(world, task))
    world.node.refuses("metadata-invalid", "does not verify")
    world.node.restart()
    world.node.updates()
    assert world.node.slot("b").startswith(world.workshop.genuine.image("1.1.0").read_bytes())


# ----------------------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize("version", ["1.1.0", "9.9.9"])
def test_a_release_that_only_the_downloader_offers_is_not_booted(kept: Kept, version: str) -> None:
    """It says that there is one, and that it lies in the slot; what it exported ships no such release."""
    kept.is_taken_over(forged_image)
    forged = offer(version, kept.world.workshop.forged_manifest(version))
    take_over(kept.world, instead={"check": forged})
    kept.world.node.refuses("no-such-target", f"release {version}: is not shipped by channel stable any more")


def test_seal_says_yes_to_what_is_genuine(kept: Kept) -> None:
    """Wherever it comes from; else the refusals above would mean nothing."""
    kept.is_taken_over(lambda world, task: None)
    kept.world.node.updates()


@pytest.mark.parametrize("version", ["1.0.0", "../1.1.0", "1.1.0\n"])
def test_an_offer_that_does_not_fit_is_no_offer(world: World, version: str) -> None:
    take_over(world, instead={"check": offer(version, b"")})
    world.node.refuses_untouched("child-failed", "gave an answer that does not fit: offer.version ")
