"""A mirror: verified on the way, valid at every instant, never older than it was, and no byte fetched twice."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from tests.fakes import nginx
from tests.fakes.repository import RepositorySimulator
from tests.publish.conftest import Desk
from tests.publish.synthetic import edited, noise
from tests.publish.test_publish_cuts import Cut, Scissors
from updated.core.errors import UpdatedError
from updated.core.release import MAX_MANIFEST_LENGTH, Blob, Channel, Component, Release, channel_target, release_target
from updated.directory import DirectorySource
from updated.http import HttpSettings, HttpSource
from updated.ports import Source
from updated.publish.inspection import verify
from updated.publish.mirror import Mirrored, mirror
from updated.publish.publisher import recall, refresh
from updated.publish.repository import Repository, locked
from updated.trust import Clock, Trust

DAY = 86400


class Fleet:
    """The mirror below `folder`, the nodes that follow it, and what the person who makes it was warned of."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.folder = folder / "mirror"
        self.stores = folder / "stores"
        self.warnings: list[str] = []

    def mirror(
        self, *channels: str, source: Source | None = None, root: bytes | None = None, reread: bool = False,
        later: float = 0, connections: int = 1,
    ) -> Mirrored:
        return mirror(
            source or DirectorySource(str(self.desk.path)), str(self.folder), channels=channels, root=root,
            now=self.desk.now + later, connections=connections, reread=reread, warn=self.warnings.append,
        )

    @contextlib.contextmanager
    def node(self, name: str = "node", *, root: bytes | None = None, later: float = 0) -> Iterator[Trust]:
        """A node that pins the first root; one of the same name is the same node."""
        pinned = root or self.desk.root
        source = DirectorySource(str(self.folder))
        with Trust(source, str(self.stores / name), pinned, Clock(self.desk.now + later, 0)) as trust:
            trust.refresh()
            yield trust

    def channel(self, name: str, node: str = "node") -> Channel:
        with self.node(node) as trust:
            return Channel.parse(trust.target(channel_target(name), MAX_MANIFEST_LENGTH))

    def component(self, version: str) -> Component:
        with self.node() as trust:
            data = trust.target(release_target(version), MAX_MANIFEST_LENGTH)
            return Release.parse(data).components["rootfs"]

    def has(self, part: Blob) -> bool:
        return self.blob(part).exists()

    def blob(self, part: Blob) -> Path:
        return self.folder / "blobs" / part.sha256

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }


@pytest.fixture
def fleet(desk: Desk, tmp_path: Path) -> Fleet:
    """Two releases in stable, of which the second has a patch, and another one in alpha."""
    desk.add("1.0.0", seed=1)
    desk.promote("stable", "1.0.0")
    desk.add("1.1.0", content=edited(desk.content(1), 100_000))
    desk.promote("stable", "1.1.0")
    desk.add("2.0.0", seed=2)
    desk.promote("alpha", "2.0.0")
    return Fleet(desk, tmp_path)


def refused(code: str, call: Callable[[], object]) -> UpdatedError:
    with pytest.raises(UpdatedError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


# ------------------------------------------------------------------------------------------------ what it holds


def test_a_whole_mirror_is_a_repository(fleet: Fleet) -> None:
    mirrored = fleet.mirror()
    assert mirrored.channels == ("alpha", "beta", "stable")
    assert mirrored.releases == 3
    original = verify(fleet.desk.repository, now=fleet.desk.now)
    assert verify(Repository(str(fleet.folder)), now=fleet.desk.now) == original
    assert mirrored.downloaded == original.stored_bytes
    assert fleet.channel("alpha") == fleet.desk.repository.channel("alpha")


def test_a_mirror_of_a_channel_has_what_its_nodes_need_and_no_more(fleet: Fleet) -> None:
    mirrored = fleet.mirror("stable")
    assert (mirrored.channels, mirrored.releases) == (("stable",), 2)
    assert [entry.version.text for entry in fleet.channel("stable").entries] == ["1.0.0", "1.1.0"]
    for version in ("1.0.0", "1.1.0"):
        component = fleet.component(version)
        assert fleet.has(component.index)
        assert fleet.has(component.blob)
    (patch,) = fleet.component("1.1.0").patches
    assert fleet.has(patch.table)
    assert fleet.has(patch.blob)
    assert patch.index is not None
    assert fleet.has(patch.index)
    assert not fleet.has(fleet.desk.component("2.0.0").index)
    assert not [name for name in fleet.files() if "alpha" in name or "beta" in name]


def test_of_a_recalled_release_only_the_index_goes_along(fleet: Fleet) -> None:
    """A node that runs it has to know what it has; nobody may take it."""
    recall(fleet.desk.repository, fleet.desk.keys, "stable", "1.0.0", "bad", now=fleet.desk.now)
    fleet.mirror("stable")
    assert fleet.has(fleet.component("1.0.0").index)
    assert not fleet.has(fleet.component("1.0.0").blob)
    assert fleet.has(fleet.component("1.1.0").patches[0].blob)


def test_channels_can_be_added_later(fleet: Fleet) -> None:
    fleet.mirror("stable")
    fleet.mirror("stable", "alpha")
    assert fleet.has(fleet.component("2.0.0").blob)


def test_a_mirror_is_a_source_for_another_mirror(fleet: Fleet, tmp_path: Path) -> None:
    fleet.mirror("stable")
    second = Fleet(fleet.desk, tmp_path / "second")
    source = DirectorySource(str(fleet.folder))
    assert "name these" in refused("not-found", lambda: second.mirror(source=source)).mend
    second.mirror("stable", source=source)
    assert second.files() == fleet.files()


def test_an_unknown_channel_is_refused(fleet: Fleet) -> None:
    assert "alpha, beta, stable" in refused("unknown-channel", lambda: fleet.mirror("gamma")).cause


def test_a_channel_that_expired_is_left_out_and_told(fleet: Fleet) -> None:
    simulator, root = simulated(fleet)
    simulator.set_expiry("alpha", int(fleet.desk.now + DAY))
    simulator.publish()
    mirrored = fleet.mirror(source=DirectorySource(simulator.directory), root=root, later=2 * DAY)
    assert mirrored.channels == ("beta", "stable")
    assert any("channel alpha is left out" in text and "expired" in text for text in fleet.warnings)


def test_an_expired_repository_is_not_mirrored(fleet: Fleet) -> None:
    refused("metadata-expired", lambda: fleet.mirror(later=4 * DAY))


def test_a_mirror_that_expired_is_brought_up_to_date(fleet: Fleet) -> None:
    fleet.mirror("stable")
    refresh(fleet.desk.repository, fleet.desk.keys, now=fleet.desk.now + 20 * DAY)
    fleet.mirror("stable", later=20 * DAY)
    with fleet.node(later=20 * DAY) as trust:
        trust.target(channel_target("stable"), MAX_MANIFEST_LENGTH)


# -------------------------------------------------------------------------------------------------------- trust


def test_the_first_run_says_whose_root_it_trusts_and_later_ones_keep_it(fleet: Fleet, tmp_path: Path) -> None:
    fleet.mirror("stable")
    assert fleet.warnings == [
        "no root of trust is named, and the mirror is new: the first root of the source is trusted."
    ]
    before = fleet.files()
    foreign = RepositorySimulator(tmp_path / "foreign", now=fleet.desk.now)
    foreign.set_target(channel_target("stable"), Channel("stable").format())
    foreign.publish()
    refused("metadata-invalid", lambda: fleet.mirror("stable", source=DirectorySource(foreign.directory)))
    error = refused(
        "bad-repository",
        lambda: fleet.mirror("stable", source=DirectorySource(foreign.directory), root=foreign.root_of_trust),
    )
    assert "another root 1" in error.cause
    assert fleet.files() == before


def test_a_source_that_another_root_signed_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    foreign = RepositorySimulator(tmp_path / "foreign", now=fleet.desk.now)
    refused("metadata-invalid", lambda: fleet.mirror(root=_published(foreign).root_of_trust))


def _published(simulator: RepositorySimulator) -> RepositorySimulator:
    for name in ("stable", "beta", "alpha"):
        simulator.set_target(channel_target(name), Channel(name).format())
    simulator.publish()
    return simulator


def simulated(fleet: Fleet) -> tuple[RepositorySimulator, bytes]:
    """A repository of empty channels whose keys can be rotated, and its first root."""
    simulator = _published(RepositorySimulator(fleet.folder.parent / "simulated", now=fleet.desk.now))
    return simulator, simulator.root_of_trust


def test_a_newer_root_of_trust_still_brings_the_older_ones_along(fleet: Fleet) -> None:
    """A node pins the root of its image, however old that is."""
    simulator, first = simulated(fleet)
    for _ in range(2):
        simulator.rotate_key("root")
        simulator.publish()
    third = (Path(simulator.directory) / "metadata/3.root.json").read_bytes()
    fleet.mirror(source=DirectorySource(simulator.directory), root=third)
    for root in (first, third):
        with fleet.node(str(len(root)), root=root) as trust:
            assert trust.versions()["root"] == 3


def test_an_older_root_that_does_not_lead_to_the_trusted_one_is_refused(fleet: Fleet) -> None:
    simulator, _ = simulated(fleet)
    simulator.rotate_key("root")
    simulator.publish()
    metadata = Path(simulator.directory) / "metadata"
    shutil.copy(fleet.desk.path / "metadata/1.root.json", metadata)
    trusted = (metadata / "2.root.json").read_bytes()
    refused("metadata-invalid", lambda: fleet.mirror(source=DirectorySource(simulator.directory), root=trusted))
    assert not (fleet.folder / "metadata/timestamp.json").exists()


def test_versions_never_go_back(fleet: Fleet, tmp_path: Path) -> None:
    shutil.copytree(fleet.desk.path, tmp_path / "old")
    refresh(fleet.desk.repository, fleet.desk.keys, now=fleet.desk.now)
    fleet.mirror("stable")
    before = fleet.files()
    refused("metadata-rolled-back", lambda: fleet.mirror("stable", source=DirectorySource(str(tmp_path / "old"))))
    assert fleet.files() == before


def test_a_damaged_file_of_the_source_ends_the_run_and_changes_nothing_for_nodes(fleet: Fleet) -> None:
    fleet.mirror("stable")
    fleet.desk.add("1.2.0", seed=3)
    fleet.desk.promote("stable", "1.2.0")
    damaged = fleet.desk.blob(fleet.desk.component("1.2.0").blob)
    whole = damaged.read_bytes()
    damaged.write_bytes(edited(whole, 1000))
    refused("wrong-digest", lambda: fleet.mirror("stable"))
    assert not (fleet.folder / "blobs" / damaged.name).exists()
    assert len(fleet.channel("stable").entries) == 2
    damaged.write_bytes(whole)
    fleet.mirror("stable")
    assert len(fleet.channel("stable").entries) == 3


def test_a_damaged_manifest_in_the_mirror_is_fetched_again(fleet: Fleet) -> None:
    fleet.mirror("stable")
    (manifest,) = (fleet.folder / "targets/releases").glob("*.1.0.0.json")
    manifest.write_bytes(b"")
    fleet.mirror("stable")
    fleet.component("1.0.0")


def test_only_a_run_that_rereads_mends_a_damaged_blob(fleet: Fleet) -> None:
    fleet.mirror("stable")
    blob = fleet.blob(fleet.component("1.0.0").blob)
    whole = blob.read_bytes()
    blob.write_bytes(edited(whole, 1000))
    assert fleet.mirror("stable").files == 0
    assert fleet.mirror("stable", reread=True).files == 1
    assert blob.read_bytes() == whole


def test_a_second_run_at_the_same_time_is_refused(fleet: Fleet) -> None:
    fleet.mirror("stable")
    with locked(str(fleet.folder)):
        refused("already-running", lambda: fleet.mirror("stable"))


# ------------------------------------------------------------------------------------------------------ resumption


class Breaking(DirectorySource):
    """A source that breaks off each file of `blobs/` that is longer than `length` after so many bytes."""

    def __init__(self, directory: str, length: int) -> None:
        super().__init__(directory)
        self._most = length

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        yield from super().stream(name, start, min(length, self._most - start))
        if length > self._most - start:
            raise UpdatedError("truncated", name, "broke off", "Try again.")


def interrupted(fleet: Fleet, length: int) -> Path:
    """Breaks the first mirroring off; the file with what came of the longest blob."""
    refused("truncated", lambda: fleet.mirror("stable", source=Breaking(str(fleet.desk.path), length)))
    (unfinished,) = (fleet.folder / "blobs").glob(".unfinished-*")
    assert unfinished.stat().st_size == length
    return unfinished


class Asked:
    """What nginx was asked for, from two logs with a line for each request."""

    def __init__(self, folder: Path) -> None:
        self._paths, self._ranges = folder / "paths", folder / "ranges"
        self.directives = f"access_log {self._paths} sent; access_log {self._ranges} connections;"

    def blobs(self) -> list[tuple[str, str]]:
        """The name and the range of each blob, in order."""
        paths = [line.split()[0] for line in self._paths.read_text().splitlines()]
        ranges = [line.split()[-1] for line in self._ranges.read_text().splitlines()]
        both = zip(paths, ranges, strict=True)
        return [(path.removeprefix("/blobs/"), asked) for path, asked in both if path.startswith("/blobs/")]


def test_an_interrupted_download_goes_on_by_range_and_nothing_is_fetched_twice(fleet: Fleet, tmp_path: Path) -> None:
    unfinished = interrupted(fleet, 200_000)
    digest = unfinished.name.removeprefix(".unfinished-")
    there = {path.name for path in (fleet.folder / "blobs").iterdir()}
    asked = Asked(tmp_path)
    with nginx.serve(fleet.desk.path, more=asked.directives) as url:
        source = HttpSource(url, HttpSettings())
        first = fleet.mirror("stable", source=source)
        blobs = asked.blobs()
        again = fleet.mirror("stable", source=source)
        source.close()
    length = (fleet.desk.path / "blobs" / digest).stat().st_size
    assert (digest, f"bytes=200000-{length - 1}") in blobs
    assert not there & dict(blobs).keys()
    assert len(blobs) == len(dict(blobs)) == first.files
    assert asked.blobs() == blobs
    assert (again.files, again.downloaded) == (0, 0)
    assert not list(fleet.folder.rglob(".*"))


def test_what_a_power_cut_left_of_a_download_is_not_trusted(fleet: Fleet) -> None:
    unfinished = interrupted(fleet, 200_000)
    unfinished.write_bytes(bytes(200_000))
    fleet.mirror("stable")
    assert fleet.has(fleet.component("1.1.0").blob)
    unfinished.write_bytes(noise(1, 10_000_000))
    fleet.mirror("stable")
    assert not unfinished.exists(), "no release needs it any more"


def test_what_killed_runs_left_is_swept_and_what_a_person_put_there_stays(fleet: Fleet) -> None:
    fleet.mirror("stable")
    for name in ("metadata/.x.json.1.tmp", "targets/channels/.x.2.tmp", "blobs/.unfinished-x", "blobs/.htaccess"):
        (fleet.folder / name).write_text("")
    fleet.mirror("stable")
    assert [path.name for path in fleet.folder.rglob(".*")] == [".htaccess"]


def test_several_files_come_at_once_and_the_first_fault_ends_them_all(fleet: Fleet) -> None:
    damaged = fleet.desk.blob(fleet.desk.component("1.1.0").blob)
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:1000])
    refused("truncated", lambda: fleet.mirror(connections=4))
    assert not (fleet.folder / "metadata/timestamp.json").exists()
    damaged.write_bytes(whole)
    fleet.mirror(connections=4)
    verify(Repository(str(fleet.folder)), now=fleet.desk.now)


def test_a_server_without_ranges_begins_again(fleet: Fleet) -> None:
    interrupted(fleet, 200_000)
    with nginx.serve(fleet.desk.path, more="max_ranges 0;") as url:
        source = HttpSource(url, HttpSettings())
        fleet.mirror("stable", source=source)
        source.close()
    assert fleet.has(fleet.component("1.1.0").blob)


# ------------------------------------------------------------------------------------------------------- atomicity


def sweep(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object], check: Callable[[], None]) -> int:
    """Cuts `run` before each durable effect, checks what is left, and that another run ends well; how many there are.

    The process ends here, and not the power: so nothing has to wait for the medium.
    """
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    before = fleet.folder.with_name("before")
    fleet.folder.mkdir(exist_ok=True)
    shutil.copytree(fleet.folder, before)
    run()
    done = fleet.files()
    for at in itertools.count(1):
        shutil.rmtree(fleet.folder)
        shutil.copytree(before, fleet.folder)
        with monkeypatch.context() as patch:
            scissors = Scissors(patch, at, after=False)
            with contextlib.suppress(Cut):
                run()
        check()
        run()
        assert fleet.files() == done
        if scissors.count < at:
            break
    return at


def test_a_run_that_is_cut_anywhere_leaves_the_old_state_or_the_new_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.mirror("stable")
    before = fleet.channel("stable", "old")
    followed = shutil.copytree(fleet.stores, fleet.folder.with_name("followed"))
    fleet.desk.add("1.2.0", seed=3)
    fleet.desk.promote("stable", "1.2.0")
    promoted = fleet.desk.repository.channel("stable")

    def check() -> None:
        shutil.rmtree(fleet.stores)
        shutil.copytree(followed, fleet.stores)
        for node in ("old", "new"):
            channel = fleet.channel("stable", node)
            assert channel in (before, promoted)
            for entry in channel.entries:
                component = fleet.desk.component(entry.version.text)
                assert fleet.has(component.index)
                assert fleet.has(component.blob)

    assert sweep(fleet, monkeypatch, lambda: fleet.mirror("stable"), check) > 15
    assert fleet.channel("stable") == promoted


def test_a_first_run_that_is_cut_leaves_no_timestamp_or_a_whole_mirror(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        if (fleet.folder / "metadata/timestamp.json").exists():
            shutil.rmtree(fleet.stores, ignore_errors=True)
            assert fleet.has(fleet.component("1.1.0").blob)

    assert sweep(fleet, monkeypatch, lambda: fleet.mirror("stable"), check) > 25


def rotated(simulator: RepositorySimulator, *, overlap: bool) -> None:
    """Gives timestamp and snapshot new keys; with `overlap`, a root between has the old ones and the new ones."""
    roles = ("timestamp", "snapshot")
    old = {role: simulator.keys[role] for role in roles}
    new = {role: [CryptoSigner.generate_ed25519()] for role in roles}
    if overlap:
        simulator.keys |= {role: old[role] + new[role] for role in roles}
        simulator.rotate_key("root")
        simulator.publish()
    simulator.keys |= new
    simulator.rotate_key("root")
    simulator.publish()


def test_a_rotation_of_keys_that_overlap_is_valid_at_every_instant(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, root = simulated(fleet)
    source = DirectorySource(simulator.directory)
    fleet.mirror(source=source)
    rotated(simulator, overlap=True)

    def check() -> None:
        shutil.rmtree(fleet.stores, ignore_errors=True)
        with fleet.node(root=root) as trust:
            assert trust.versions()["timestamp"] in (1, 3)

    assert sweep(fleet, monkeypatch, lambda: fleet.mirror(source=source), check) > 6
    with fleet.node(root=root) as trust:
        assert (trust.versions()["root"], trust.versions()["timestamp"]) == (3, 3)


def test_a_rotation_without_overlap_is_mended_by_the_next_run(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    simulator, root = simulated(fleet)
    source = DirectorySource(simulator.directory)
    fleet.mirror(source=source)
    rotated(simulator, overlap=False)
    states = []

    def check() -> None:
        shutil.rmtree(fleet.stores, ignore_errors=True)
        states.append(0)
        with contextlib.suppress(UpdatedError), fleet.node(root=root) as trust:
            states[-1] = trust.versions()["timestamp"]

    sweep(fleet, monkeypatch, lambda: fleet.mirror(source=source), check)
    # Only between the root and the timestamp nodes refuse: before the folder is synced, and before the next file.
    assert states == sorted(states, key=[1, 0, 2].index)
    assert states.count(0) == 2


def test_a_node_in_the_middle_of_an_update_finds_all_that_it_began_with(fleet: Fleet) -> None:
    fleet.mirror("stable")
    with fleet.node("slow") as trust:
        fleet.desk.add("1.2.0", seed=3)
        fleet.desk.promote("stable", "1.2.0")
        recall(fleet.desk.repository, fleet.desk.keys, "stable", "1.0.0", "bad", now=fleet.desk.now)
        fleet.mirror("stable")
        channel = Channel.parse(trust.target(channel_target("stable"), MAX_MANIFEST_LENGTH))
        assert len(channel.entries) == 2
        for entry in channel.entries:
            data = trust.target(release_target(entry.version.text), MAX_MANIFEST_LENGTH)
            assert fleet.has(Release.parse(data).components["rootfs"].blob)


def test_a_web_server_can_read_all_of_it(fleet: Fleet) -> None:
    fleet.mirror()
    for path in fleet.folder.rglob("*"):
        assert path.stat().st_mode & 0o444 == 0o444, path
    assert os.listdir(fleet.folder / "targets/channels")
