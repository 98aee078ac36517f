"""`updated fetch install` and `updated seal` with a release of several components."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.releases import Window, noise
from updated.core.errors import UpdatedError
from updated.core.state import Target
from updated.fetch import fetch
from updated.publish.__main__ import main as releasectl
from updated.seal import seal
from updated.task import Connection, Task

SIZES = {"kernel": 300_000, "rootfs": 2_000_000}
SLOT_SIZE = 3 * 1024 * 1024
DAY = 86400
OLD = {name: noise(number, size) for number, (name, size) in enumerate(SIZES.items())}
# A kernel that is new as a whole, and a root file system of which a part is.
NEW = {"kernel": noise(7, 310_000), "rootfs": OLD["rootfs"][:1_500_000] + noise(8, 500_000)}


class Desk:
    """A publisher with two releases of two components."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self._folder = folder
        self._call("init", "--channels", "stable")
        for version, images in (("1.0.0", OLD), ("1.1.0", NEW)):
            parts = []
            for name, data in images.items():
                (folder / name).write_bytes(data)
                parts += ["--component", f"{name}={folder / name}"]
            self._call("add", "--version", version, "--compatible", "box", *parts)
            self._call("promote", "--channel", "stable", "--version", version)
        self._quietly("export-root", str(self.repository), str(folder / "root.json"))

    def _call(self, verb: str, *options: str) -> None:
        self._quietly(verb, str(self.repository), "--keys", str(self._folder / "keys"), *options)

    def _quietly(self, *arguments: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert releasectl(arguments) == 0

    def task(self, node: Path, slot: Mapping[str, Window], running: Mapping[str, Window], store: str) -> Task:
        """To install release 1.1.0 on the `node`; each process of it has a `store` of its own."""
        version = "1.1.0"
        (manifest,) = (self.repository / "targets/releases").glob(f"*.{version}.json")
        return Task(
            store=str(node / store), export=str(node / "export"),
            root_of_trust=(self._folder / "root.json").read_text(), system_time=time.time(), built=0, channel="stable",
            running="1.0.0", floor="1.0.0" if running else "", compatible="box", any_wave=True,
            sizes=dict.fromkeys(SIZES, SLOT_SIZE), connection=Connection(self.repository.as_uri()),
            target=Target(version, manifest.name.partition(".")[0], "b"),
            regions={name: window.region for name, window in slot.items()},
            seeds={name: window.region for name, window in running.items()}, parent=os.getpid(),
        )  # fmt: skip


Slots = tuple[dict[str, Window], dict[str, Window]]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    """The passive slot, empty, and the running one, with the old release."""
    with ExitStack() as stack:

        def windows(slot: str, content: Mapping[str, bytes]) -> dict[str, Window]:
            made = {name: Window(tmp_path / f"{name}-{slot}", content.get(name, b""), SLOT_SIZE) for name in SIZES}
            for window in made.values():
                stack.callback(window.close)
            return made

        yield windows("b", {}), windows("a", OLD)


def test_each_component_is_fetched_for_itself_and_sealed(desk: Desk, slots: Slots, tmp_path: Path) -> None:
    passive, running = slots
    answer = fetch(desk.task(tmp_path, passive, running, "fetch"))
    for name, data in NEW.items():
        assert passive[name].content(len(data)) == data
        assert running[name].content(len(OLD[name])) == OLD[name]
    rootfs, kernel = answer["installed"]["rootfs"], answer["installed"]["kernel"]
    assert rootfs["copied"] > 1_400_000 > 600_000 > rootfs["downloaded"]
    assert kernel["copied"] == 0
    assert kernel["downloaded"] > len(NEW["kernel"])
    seal(desk.task(tmp_path, passive, running, "seal"))


def test_one_damaged_component_is_not_sealed(desk: Desk, slots: Slots, tmp_path: Path) -> None:
    passive, running = slots
    fetch(desk.task(tmp_path, passive, running, "fetch"))
    passive["kernel"].change(1000, bytes([NEW["kernel"][1000] ^ 1]))
    with pytest.raises(UpdatedError) as caught:
        seal(desk.task(tmp_path, passive, running, "seal"))
    assert (caught.value.code, caught.value.what) == ("slot-differs", "component kernel in slot b")


def test_the_seal_asks_for_the_grace_itself(desk: Desk, slots: Slots, tmp_path: Path) -> None:
    passive, running = slots
    later = time.time() + 4 * DAY  # a timestamp lasts three

    def task(store: str, grace: int) -> Task:
        return replace(desk.task(tmp_path, passive, running, store), system_time=later, grace=grace)

    with pytest.raises(UpdatedError) as caught:
        fetch(task("refused", 0))
    assert caught.value.code == "metadata-expired"
    fetch(task("fetch", 2 * DAY))
    with pytest.raises(UpdatedError) as caught:
        seal(task("strict", 0))
    assert caught.value.code == "metadata-expired"
    assert set(seal(task("seal", 2 * DAY))["expired"]) == {"timestamp"}


def test_what_is_there_of_all_components_is_not_fetched_again(desk: Desk, slots: Slots, tmp_path: Path) -> None:
    passive, running = slots
    fetch(desk.task(tmp_path, passive, running, "fetch"))
    again = fetch(desk.task(tmp_path, passive, running, "later"))
    assert {name: part["downloaded"] for name, part in again["installed"].items()} == dict.fromkeys(SIZES, 0)
    assert {name: part["written"] for name, part in again["installed"].items()} == dict.fromkeys(SIZES, 0)
