"""The judge of disks against disks that are really damaged, by writes of QEMU."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from bootctl.grub import Grub
from bootctl.model import arm_trial
from tests.e2e.images import LOADERS, Loader, Release
from tests.e2e.offline import Judge
from tests.e2e.test_writelog import write
from tests.e2e.writelog import Replay

MEBIBYTE = 1 << 20
LAYOUT = """\
label: gpt
start=1MiB, size=34MiB, name=esp, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=35MiB, size=1MiB, name=rootfs-a
start=36MiB, size=1MiB, name=rootfs-b
start=37MiB, size=8MiB, name=state
"""
ESP, ROOT_A, ROOT_B, STATE = (start * MEBIBYTE for start in (1, 35, 36, 37))
ENTRY = "title Slot {0}\nsort-key updated\nversion 000000000{1}\nlinux /EFI/updated/{0}.efi\noptions updated.slot={0}\n"


def run(*command: str | Path, text: str = "") -> str:
    return subprocess.run(command, input=text, text=True, check=True, capture_output=True).stdout


def make_release(folder: Path, version: str) -> Release:
    folder.mkdir()
    chance = random.Random(version)
    (folder / "rootfs.img").write_bytes(chance.randbytes(600_000))
    (folder / "kernel.efi").write_bytes(chance.randbytes(100_000))
    return Release(version, "good", folder)


class Disk:
    """A small disk with 1.0.0 in slot a, and 1.1.0 in slot b, which is empty to the loader."""

    def __init__(self, folder: Path, loader: Loader) -> None:
        self.folder, self.loader = folder, loader
        self.base, self.log = folder / "base.img", folder / "log"
        self.releases = [make_release(folder / version, version) for version in ("1.0.0", "1.1.0")]
        with self.base.open("xb") as file:
            file.truncate(47 * MEBIBYTE)
        run("sfdisk", "--quiet", self.base, text=LAYOUT)
        self.esp = f"{self.base}@@{ESP}"
        run("mformat", "-i", self.esp, "-T", "69632", "-h", "64", "-s", "32", "-H", "2048", "-c", "1", "-F", "::")
        self.put_folders("EFI", "EFI/updated", "loader", "loader/entries", "grub")
        for slot, release, place in zip("ab", self.releases, (ROOT_A, ROOT_B), strict=True):
            self.put_file(f"EFI/updated/{slot}.efi", release.kernel.read_bytes())
            with self.base.open("r+b") as file:
                file.seek(place)
                file.write(release.rootfs.read_bytes())
        if loader == "systemd-boot":
            self.put_file("loader/loader.conf", b"timeout 0\n")
            self.put_file("loader/entries/updated-a.conf", ENTRY.format("a", 2).encode())
            self.put_file("loader/entries/updated-b+0-0.conf", ENTRY.format("b", 1).encode())
        else:
            environment = folder / "grubenv"
            run("grub-editenv", environment, "create")
            run("grub-editenv", environment, "set", "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0")
            self.put_file("grub/grubenv", environment.read_bytes())
        run("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={STATE}", self.base, "8M")

    def put_folders(self, *names: str) -> None:
        run("mmd", "-i", self.esp, *(f"::/{name}" for name in names))

    def put_file(self, name: str, data: bytes) -> None:
        source = self.folder / "file"
        source.write_bytes(data)
        run("mcopy", "-o", "-i", self.esp, source, f"::/{name}")

    def judged(self, *commands: str) -> list[str]:
        """What the judge says after these commands of qemu-io."""
        disk = self.folder / "disk.img"
        disk.write_bytes(self.base.read_bytes())
        write(disk, self.log, commands or ["write -P 0 35651584 0"])
        with Replay(self.base, self.log, self.folder / "parts") as replay:
            judge = Judge(replay, self.loader, self.releases)
            assert judge.problems() == []
            assert (judge.boots(), judge.holds("a"), judge.holds("b")) == ("a", "1.0.0", "1.1.0")
            replay.forward(len(replay.entries))
            return judge.problems()

    def place_on_esp(self, data: bytes) -> int:
        """Where the clusters of a file begin on the disk."""
        return self.base.read_bytes().index(data, ESP, ROOT_A)


@pytest.fixture(params=LOADERS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return Disk(tmp_path, request.param)


def test_a_write_to_the_slot_that_does_not_boot_is_no_problem(disk: Disk) -> None:
    assert disk.judged(f"write -P 7 {ROOT_B} 64k", "flush") == []


def test_a_write_to_the_slot_that_boots_is_one(disk: Disk) -> None:
    assert disk.judged(f"write -P 7 {ROOT_A + 599_552} 512") == ["slot a, which boots next, holds no whole release"]


def test_what_lies_behind_the_image_in_its_slot_does_not_matter(disk: Disk) -> None:
    assert disk.judged(f"write -P 7 {ROOT_A + 600_064} 512") == []


def test_a_kernel_of_another_release_is_a_problem(disk: Disk) -> None:
    place = disk.place_on_esp(disk.releases[0].kernel.read_bytes()[:512])
    assert disk.judged(f"write -P 7 {place} 512") == ["slot a, which boots next, holds no whole release"]


def test_a_lost_boot_reference_is_a_problem(disk: Disk) -> None:
    if disk.loader == "grub":
        place = disk.place_on_esp(b"# GRUB Environment Block\n")
        assert "nothing boots" in disk.judged(f"write -P 0 {place} 512")[0]
    else:
        place = disk.place_on_esp(b"title Slot a\n")
        assert "nothing boots" in disk.judged(f"write -P 0 {place} 512")[0]


def test_an_entry_that_is_not_whole_is_a_problem(tmp_path: Path) -> None:
    disk = Disk(tmp_path, "systemd-boot")
    place = disk.place_on_esp(b"title Slot a\n")
    text = tmp_path / "text"
    text.write_bytes(ENTRY.format("a", 2).encode().partition(b"options")[0].ljust(512))
    assert "nothing boots: systemd-boot starts updated-a.conf" in disk.judged(f"write -s {text} {place} 512")[0]


def test_a_broken_table_state_or_file_system_is_a_problem(disk: Disk) -> None:
    assert "sgdisk" in disk.judged("write -P 7 512 512")[0]
    assert "e2fsck" in disk.judged(f"write -P 7 {STATE} 1M")[0]
    assert disk.judged(f"write -P 7 {ESP + 32 * 512} 4k") != []  # the first FAT


def test_the_slot_that_was_armed_is_the_one_that_must_be_whole(tmp_path: Path) -> None:
    disk = Disk(tmp_path, "grub")
    environment = disk.folder / "grubenv"
    before = environment.read_bytes()
    backend = Grub(str(environment))
    backend.commit(arm_trial(backend.read(), "b", active="a", tries=3))
    sector = disk.folder / "sector"
    sector.write_bytes(environment.read_bytes()[:512])
    arm = f"write -s {sector} {disk.place_on_esp(before[:512])} 512"
    assert disk.judged(arm) == []
    assert disk.judged(f"write -P 7 {ROOT_B} 512", "flush", arm) == ["slot b, which boots next, holds no whole release"]
