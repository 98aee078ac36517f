"""A bundle: one file, the same bytes each time, from which a node without a network gets what it needs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.publish.conftest import Desk
from tests.publish.synthetic import edited
from tests.releases import Window
from updated.bundle import open_source_at
from updated.core.errors import UpdatedError
from updated.core.release import MAX_MANIFEST_LENGTH, Blob, Channel, Component, Release, channel_target, release_target
from updated.core.state import Target
from updated.core.version import Version
from updated.directory import DirectorySource
from updated.fetch import fetch
from updated.ports import Source
from updated.publish.bundle import Bundled, bundle
from updated.publish.mirror import mirror
from updated.publish.publisher import Shipping, recall
from updated.seal import seal
from updated.task import Connection, Task
from updated.trust import Clock, Trust

SLOT_SIZE = 1024 * 1024


class Stick:
    """A publisher with three releases, and the bundle that goes to nodes."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.folder = folder
        self.file = folder / "stable.bundle"

    def write(self, *bases: str, version: str | None = None, source: Path | None = None) -> Bundled:
        read = DirectorySource(str(source or self.desk.path))
        return bundle(read, str(self.file), "stable", version=version, bases=bases, now=self.desk.now)

    def names(self) -> list[str]:
        with tarfile.open(self.file) as tar:
            return tar.getnames()

    def has(self, part: Blob) -> bool:
        return f"blobs/{part.sha256}" in self.names()

    def is_whole(self, version: str) -> bool:
        return self.has(self.desk.component(version).blob)

    @contextmanager
    def node(self, source: Source) -> Iterator[Trust]:
        with Trust(source, str(self.folder / "store"), self.desk.root, Clock(self.desk.now, 0)) as trust:
            trust.refresh()
            yield trust

    def unpacked(self) -> Path:
        folder = self.folder / "unpacked"
        folder.mkdir()
        subprocess.run(["tar", "--extract", f"--file={self.file}", f"--directory={folder}"], check=True)
        return folder


@pytest.fixture
def stick(desk: Desk, tmp_path: Path) -> Stick:
    """1.1.0 has a patch from 1.0.0, and 1.2.0 from both."""
    content = desk.content(1)
    for version, data in (
        ("1.0.0", content), ("1.1.0", edited(content, 100_000)), ("1.2.0", edited(content, 100_000, 200_000)),
    ):
        desk.add(version, content=data)
        desk.promote("stable", version)
    return Stick(desk, tmp_path)


def refused(code: str, stick: Stick, *bases: str, version: str | None = None) -> str:
    with pytest.raises(UpdatedError) as caught:
        stick.write(*bases, version=version)
    assert caught.value.code == code, caught.value
    assert not stick.file.exists()
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------- the format


def test_a_bundle_is_a_plain_tar_of_regular_files_with_the_metadata_first(stick: Stick) -> None:
    stick.write("1.0.0")
    with tarfile.open(stick.file, "r:") as tar:
        members = tar.getmembers()
    folders = [member.name.split("/")[0] for member in members]
    assert sorted(set(folders), key=folders.index) == ["metadata", "targets", "blobs"]
    assert [each for each in folders if each == "metadata"] == folders[: folders.count("metadata")]
    assert [member.name for member in members][:2] == ["metadata/1.root.json", "metadata/timestamp.json"]
    for member in members:
        assert member.isreg()
        assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
        assert member.uname == member.gname == ""
    assert len(set(stick.names())) == len(members)


def test_the_longest_names_are_read_back(stick: Stick) -> None:
    version = "1.3.0-" + "x" * 58
    stick.desk.add(version, seed=5)
    stick.desk.promote("stable", version)
    assert stick.write().releases == (version,)
    assert max(map(len, stick.names())) > 100
    with stick.node(open_source_at(str(stick.file))) as trust:
        assert Release.parse(trust.target(release_target(version), MAX_MANIFEST_LENGTH)).version == Version(version)


def test_the_same_repository_gives_the_same_bytes(stick: Stick, tmp_path: Path) -> None:
    """Also from a mirror of the channel, and at another time."""
    first = stick.write("1.0.0")
    data = stick.file.read_bytes()
    mirror(DirectorySource(str(stick.desk.path)), str(tmp_path / "mirror"), channels=["stable"], now=stick.desk.now)
    stick.desk.now += 3600
    assert stick.write("1.0.0", source=tmp_path / "mirror") == first
    assert stick.file.read_bytes() == data
    assert (first.length, first.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_it_says_until_when_nodes_accept_it(stick: Stick) -> None:
    assert stick.write().expires == int(stick.desk.now) + 3 * 86400


# ---------------------------------------------------------------------------------------------------- the content


def test_the_newest_release_goes_along_whole_and_nothing_of_others(stick: Stick) -> None:
    bundled = stick.write()
    assert (bundled.releases, bundled.bases, bundled.patches) == (("1.2.0",), (), 0)
    assert stick.is_whole("1.2.0")
    assert not stick.is_whole("1.1.0")
    assert not stick.has(stick.desk.component("1.1.0").index)
    assert not [name for name in stick.names() if "alpha" in name or "1.1.0" in name]


def test_for_a_version_that_nodes_run_its_index_and_the_patch_go_along(stick: Stick) -> None:
    bundled = stick.write("1.0.0")
    assert (bundled.releases, bundled.bases, bundled.patches) == (("1.2.0",), ("1.0.0",), 1)
    new, old = stick.desk.component("1.2.0"), stick.desk.component("1.0.0")
    patch = new.patch_from(old)
    other = new.patch_from(stick.desk.component("1.1.0"))
    assert patch is not None
    assert other is not None
    assert stick.has(patch.table)
    assert stick.has(patch.blob)
    assert not stick.has(other.table)
    assert stick.has(old.index)
    assert not stick.has(old.blob)


def test_another_release_can_be_named(stick: Stick) -> None:
    assert stick.write(version="1.1.0").releases == ("1.1.0",)
    assert stick.is_whole("1.1.0")


def test_barriers_on_the_way_go_along_whole_with_the_patches_between(stick: Stick) -> None:
    stick.desk.promote("stable", "1.1.0", Shipping(barrier=True))
    assert stick.write("1.0.0").releases == ("1.1.0", "1.2.0")
    assert stick.is_whole("1.1.0")
    between = stick.desk.component("1.2.0").patch_from(stick.desk.component("1.1.0"))
    assert between is not None
    assert stick.has(between.blob)
    assert stick.write("1.1.0").releases == ("1.2.0",), "nodes that run the barrier are past it"
    assert stick.write().releases == ("1.1.0", "1.2.0"), "nobody knows what the nodes run"


def test_what_nodes_could_not_take_is_refused(stick: Stick) -> None:
    assert "is not in the repository" in refused("bad-request", stick, "0.9.0")
    assert "is no update" in refused("bad-request", stick, "1.2.0")
    assert "does not ship release 3.0.0" in refused("bad-request", stick, version="3.0.0")
    recall(stick.desk.repository, stick.desk.keys, "stable", "1.2.0", "bad", now=stick.desk.now)
    refused("bad-request", stick, version="1.2.0")
    assert stick.write().releases == ("1.1.0",)


def test_a_replacement_goes_along_for_nodes_that_run_what_was_recalled(stick: Stick) -> None:
    recall(
        stick.desk.repository, stick.desk.keys, "stable", "1.2.0", "bad", replacement="1.1.0", now=stick.desk.now
    )
    assert stick.write("1.2.0").releases == ("1.1.0",)


def test_a_release_that_is_out_of_reach_is_refused(stick: Stick) -> None:
    stick.desk.promote("stable", "1.2.0", Shipping(minimum=Version("1.1.0")))
    assert "only be reached from 1.1.0 on" in refused("bad-request", stick, "1.0.0")
    assert stick.write("1.1.0").releases == ("1.2.0",)


def test_an_expired_repository_makes_no_bundle(stick: Stick) -> None:
    stick.desk.now += 4 * 86400
    refused("metadata-expired", stick)


def test_a_damaged_blob_makes_no_bundle_and_leaves_the_old_one(stick: Stick) -> None:
    blob = stick.desk.blob(stick.desk.component("1.2.0").blob)
    blob.write_bytes(edited(blob.read_bytes(), 1000))
    refused("wrong-digest", stick)
    stick.file.write_bytes(b"the old one")
    with pytest.raises(UpdatedError):
        stick.write()
    assert stick.file.read_bytes() == b"the old one"
    assert not list(stick.folder.glob(".unfinished-*"))


# ------------------------------------------------------------------------------------------------------- the node


def everything(stick: Stick, source: Source) -> None:
    """What a node on 1.0.0 reads, by the trust that it has."""
    with stick.node(source) as trust:
        channel = Channel.parse(trust.target(channel_target("stable"), MAX_MANIFEST_LENGTH))
        assert channel == stick.desk.repository.channel("stable")
        releases = [
            Release.parse(trust.target(release_target(version), MAX_MANIFEST_LENGTH)) for version in ("1.0.0", "1.2.0")
        ]
    old, new = (release.components["rootfs"] for release in releases)
    patch = new.patch_from(old)
    assert patch is not None
    for part in (old.index, new.index, new.blob, patch.table, patch.blob):
        data = b"".join(source.stream(f"blobs/{part.sha256}", 0, part.length))
        assert hashlib.sha256(data).hexdigest() == part.sha256


def test_a_node_trusts_the_file_itself(stick: Stick) -> None:
    stick.write("1.0.0")
    everything(stick, open_source_at(str(stick.file)))


def test_a_node_trusts_the_unpacked_folder(stick: Stick) -> None:
    stick.write("1.0.0")
    everything(stick, DirectorySource(str(stick.unpacked())))


def task(stick: Stick, place: Path, store: str, regions: dict[str, Window], seeds: dict[str, Window]) -> Task:
    manifest = stick.desk.repository.release("1.2.0")[1]
    return Task(
        store=str(stick.folder / store), export=str(stick.folder / "export"), root_of_trust=stick.desk.root.decode(),
        system_time=time.time(), built=0, channel="stable", running="1.0.0", floor="1.0.0", compatible="demo",
        any_wave=True, sizes={"rootfs": SLOT_SIZE}, connection=Connection("", path=str(place)),
        target=Target("1.2.0", manifest, "b"), regions={name: window.region for name, window in regions.items()},
        seeds={name: window.region for name, window in seeds.items()}, parent=os.getpid(),
    )  # fmt: skip


@pytest.mark.parametrize("unpacked", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("bases", [[], ["1.0.0"]], ids=["whole", "patch"])
def test_a_node_installs_from_it_with_the_patch_if_there_is_one(
    stick: Stick, bases: list[str], unpacked: bool
) -> None:
    stick.write(*bases)
    old, new = ((stick.desk.images / f"{version}-rootfs.img").read_bytes() for version in ("1.0.0", "1.2.0"))
    passive = {"rootfs": Window(stick.folder / "b", b"", SLOT_SIZE)}
    running = {"rootfs": Window(stick.folder / "a", old, SLOT_SIZE)}
    try:
        place = stick.unpacked() if unpacked else stick.file
        done = fetch(task(stick, place, "fetch", passive, running))["installed"]["rootfs"]
        assert passive["rootfs"].content(len(new)) == new
        component: Component = stick.desk.component("1.2.0")
        assert (done["patch"] > 0) == bool(bases)
        assert (done["blob"] == component.blob.length) == (not bases)
        seal(task(stick, place, "seal", passive, running))
    finally:
        for window in (*passive.values(), *running.values()):
            window.close()
