"""Files of slots: they get the length of the image, keep room for others, and are found only where they should be."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bootctl import durable
from bootctl.settings import BootSettings
from tests.fakes.sources import WatchedSource
from tests.releases import Repository, noise
from updated.cli.__main__ import main
from updated.core.errors import UpdatedError
from updated.disk import Disk
from updated.install import Installed, Line, install
from updated.region import BLOCK, Region, Room
from updated.slot_file import ROOM_FOR_OTHERS, SlotFile, rooms

IMAGE = noise(1, 700_000) + bytes(900_000) + noise(2, 300_123) + bytes(200_000)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@contextmanager
def mounted(folder: Path, kind: str, *options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", kind, *options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def opened(path: Path, most: int = 1 << 30) -> Iterator[Region]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield Region(fd, 0, most, whole=True)
    finally:
        os.close(fd)


def installed(tmp_path: Path, file: Path, image: bytes = IMAGE) -> Installed:
    """What it cost to make `file` the image."""
    folder = tmp_path / "repository"
    folder.mkdir()
    made = Repository(folder).publish(image)
    with opened(file) as region:
        done = install(
            WatchedSource(folder), made.blob, made.index, region, Line(2, 0.01, 1e6), lambda *step: None,
            lambda plan: None,
        )  # fmt: skip
    assert file.read_bytes() == image
    return done


CHECKS = """
import contextlib, sys, time
from updated.core.errors import UpdatedError
from updated.slot_file import SlotFile
file, end = SlotFile("/nowhere", sys.argv[1]), time.monotonic() + 3
while time.monotonic() < end:
    with contextlib.suppress(UpdatedError):
        file.check()
"""


def test_who_opens_the_file_while_it_is_looked_at_ends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "b.efi"
    file.write_bytes(b"kernel")
    looking = subprocess.Popen([sys.executable, "-c", CHECKS, file])
    while looking.poll() is None:
        with suppress(BlockingIOError):
            os.close(os.open(file, os.O_RDWR | os.O_NONBLOCK))
    assert looking.returncode == 0


@pytest.mark.parametrize("before", [b"", IMAGE[:1_000_000], IMAGE + b"more", noise(3, 5_000_000)])
def test_the_file_becomes_the_image_whatever_it_was(tmp_path: Path, before: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(before)
    installed(tmp_path, file)


def test_an_image_without_a_byte_is_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"what was there")
    with opened(file) as region:
        assert region.sized(0).size == 0
    assert file.read_bytes() == b""


@needs_root
@pytest.mark.parametrize("before", [b"", noise(3, 5_000_000)], ids=["new", "foreign"])
def test_zeros_are_written_where_the_file_system_can_not_punch_as_fat_can_not(tmp_path: Path, before: bytes) -> None:
    with mounted(tmp_path / "mount", "ramfs") as folder:
        file = folder / "file"
        file.write_bytes(before)
        with opened(file) as region:
            assert not region.punch(0, BLOCK)
        done = installed(tmp_path, file)
        assert done.discarded == 0
        assert done.written >= len(IMAGE)


@needs_root
def test_a_file_system_without_room_is_full_and_says_so(tmp_path: Path) -> None:
    with mounted(tmp_path / "mount", "tmpfs", "-o", "size=400k") as folder:
        with pytest.raises(UpdatedError) as caught:
            installed(tmp_path, folder / "file")
        assert (caught.value.code, caught.value.cause) == ("disk-full", "there is no space left on its file system")


@needs_root
def test_it_may_have_what_it_has_and_what_is_free_but_for_the_room_of_others(tmp_path: Path) -> None:
    with mounted(tmp_path / "mount", "tmpfs", "-o", "size=4M") as folder:
        file = SlotFile("/", str(folder / "b.efi"))

        def capacity() -> int:
            (room,) = rooms({"kernel": file})
            return room.size

        assert capacity() == (4 << 20) - ROOM_FOR_OTHERS
        (folder / "a.efi").write_bytes(bytes(1 << 20))
        (folder / "b.efi").write_bytes(bytes(1 << 20))
        assert capacity() == (3 << 20) - ROOM_FOR_OTHERS
        (folder / "other").write_bytes(bytes(2 << 20))
        assert capacity() == 1 << 20, "what is in it fits"


@needs_root
def test_files_of_one_file_system_share_what_is_free(tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "mount", "tmpfs", "-o", "size=4M") as folder,
        mounted(tmp_path / "other", "tmpfs", "-o", "size=1M") as other,
    ):
        files = {
            name: SlotFile("/", str(place / f"b.{name}"))
            for name, place in (("kernel", folder), ("initrd", folder), ("dtb", other))
        }
        (folder / "b.kernel").write_bytes(bytes(2 << 20))
        alone = Room(("dtb",), (1 << 20) - ROOM_FOR_OTHERS)
        assert rooms(files) == (Room(("kernel", "initrd"), (4 << 20) - ROOM_FOR_OTHERS), alone)
        (folder / "other").write_bytes(bytes(2 << 20))
        assert rooms(files)[0] == Room(("kernel", "initrd"), 2 << 20), "what is in them fits"


def test_a_partition_keeps_its_length(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * BLOCK))
    with opened(file) as whole:
        window = Region(whole.fd, BLOCK, BLOCK)
        assert window.sized(100) == window
        assert (window.fits(0), window.fits(BLOCK), window.fits(BLOCK + 1)) == (True, True, False)
        assert (whole.fits(3 * BLOCK - 1), whole.fits(3 * BLOCK), whole.fits(3 * BLOCK + 1)) == (False, True, False)
    assert file.stat().st_size == 3 * BLOCK


def test_a_folder_of_the_running_system_is_not_written(tmp_path: Path) -> None:
    """As when the EFI system partition is not mounted, and the image has the folder."""
    if tmp_path.stat().st_dev != os.stat("/").st_dev:
        pytest.skip("the temporary folder is a file system of its own")
    with pytest.raises(UpdatedError, match="lies in the running slot") as caught:
        SlotFile("/", str(tmp_path / "b.efi")).open_passive(most=1)
    assert caught.value.code == "slot-missing"
    assert not (tmp_path / "b.efi").exists()


def test_what_is_only_looked_at_is_not_made(tmp_path: Path) -> None:
    file = SlotFile(str(tmp_path), str(tmp_path / "b.efi"))
    file.check()
    with pytest.raises(UpdatedError, match="is not there") as caught:
        file.open_passive()
    assert caught.value.code == "slot-missing"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A machine that runs slot a, with a kernel of each slot on its EFI system partition."""
    sizes = ("--slot-size", "1M", "--state-size", "1M")
    assert main(["provision", *sizes, str(tmp_path / "disk.img")]) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("updated.slot=a\n")
    (tmp_path / "efi").mkdir()
    for slot in "ab":
        (tmp_path / f"efi/{slot}.efi").write_bytes(slot.encode())
    files = (("kernel", str(tmp_path / "efi/{slot}.efi")),)
    return Disk(BootSettings(root=str(tmp_path), image=str(tmp_path / "disk.img"), files=files))


def access(region: Region) -> int:
    return fcntl.fcntl(region.fd, fcntl.F_GETFL) & os.O_ACCMODE


def test_a_slot_is_its_partitions_and_its_files_and_each_is_closed_again(disk: Disk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with disk.open_slot("b", write=True) as regions, disk.open_running() as running:
        assert regions.keys() == running.keys() == disk.component_sizes("b").keys() == {"rootfs", "kernel"}
        assert (access(regions["kernel"]), access(running["kernel"])) == (os.O_RDWR, os.O_RDONLY)
        assert os.pread(running["kernel"].fd, 9, 0) == b"a"
        assert regions["kernel"].size > 1, "it may become longer"
    with disk.open_slot("b", write=False) as regions:
        assert (access(regions["kernel"]), regions["kernel"].size) == (os.O_RDONLY, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_file_of_the_running_slot_is_opened_for_reading_alone(disk: Disk) -> None:
    refusals: list[Callable[[], object]] = [
        lambda: disk.open_slot("a", write=True).__enter__(), lambda: disk.check_slot("a"),
    ]  # fmt: skip
    for refused in refusals:
        with pytest.raises(UpdatedError, match="slot a: is the running one, and is never written"):
            refused()


def test_what_was_written_to_a_file_is_where_a_loader_finds_it_when_the_slot_is_closed(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[object] = []
    monkeypatch.setattr(durable, "sync_filesystem_of", synced.append)
    with disk.open_slot("b", write=True):
        assert not synced
    assert synced == [str(tmp_path / "efi/b.efi")]
    with disk.open_slot("b", write=False):
        pass
    disk.check_slot("b")
    assert len(synced) == 1


@needs_root
def test_a_file_system_that_is_mounted_to_be_read_is_told_before_anything_changes(tmp_path: Path) -> None:
    with mounted(tmp_path / "mount", "tmpfs", "-o", "ro") as folder, pytest.raises(UpdatedError) as caught:
        SlotFile("/", str(folder / "b.efi")).check()
    assert caught.value.code == "disk-error"
    assert "can't be written here" in str(caught.value)


def test_the_name_of_a_new_file_is_durable_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_fd", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for expected in ([str(tmp_path)], []):
        synced.clear()
        os.close(SlotFile(str(tmp_path), str(tmp_path / "b.efi")).open_passive(most=1).fd)
        assert synced == expected
