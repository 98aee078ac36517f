"""Laying out a disk: what parted makes, what the GPT tools read, and that a mistake costs no disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from bootctl import gpt
from bootctl.gptprio import GptPrio
from bootctl.model import SlotState
from updated.cli.__main__ import main
from updated.cli.exits import DONE, REFUSED, USAGE

SIZES = ("--slot-size", "4M", "--state-size", "2M")


def call(*arguments: object) -> int:
    return main(["provision", *SIZES, *map(str, arguments)])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"a system" * 1000)
    return path


def test_sgdisk_and_cgpt_read_the_layout(tmp_path: Path, image: Path) -> None:
    disk = tmp_path / "disk.img"
    assert call(disk, "--image", image) == DONE
    judged = subprocess.run(["sgdisk", "--verify", disk], capture_output=True, text=True, check=True)
    assert "No problems found" in judged.stdout
    kinds = [
        subprocess.run(["cgpt", "show", "-i", str(number), "-t", disk], capture_output=True, text=True, check=True)
        for number in (1, 2, 3)
    ]
    slot = "5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6"
    assert [kind.stdout.strip() for kind in kinds] == ["C12A7328-F81F-11D2-BA4B-00A0C93EC93B", slot, slot]


@pytest.mark.parametrize(("options", "mebibytes"), [([], 64), (["--esp-size", "40M"], 40)])
def test_the_system_partition_is_as_large_as_it_shall_be(tmp_path: Path, options: list[str], mebibytes: int) -> None:
    disk = tmp_path / "disk.img"
    assert call(disk, *options) == DONE
    sectors = subprocess.run(["cgpt", "show", "-i", "1", "-s", disk], capture_output=True, text=True, check=True).stdout
    assert int(sectors) * 512 == mebibytes << 20


def test_the_first_image_is_in_slot_a_which_is_confirmed(tmp_path: Path, image: Path) -> None:
    disk = tmp_path / "disk.img"
    assert call(disk, "--image", image) == DONE
    view = GptPrio(str(disk)).read()
    assert view.state("a") == SlotState(2, 0, True)
    assert not view.state("b").bootable
    with disk.open("rb") as file:
        table = gpt.read_table(file.fileno())
        file.seek(table.partition("rootfs-a").offset(table.sector_size))
        assert file.read(8000) == image.read_bytes()


@pytest.mark.parametrize("place", [0, 5000, -1], ids=["the first byte", "an early one", "the last one"])
def test_what_holds_anything_is_kept_without_force(
    tmp_path: Path, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as an encrypted disk, which no partitioning tool knows."""
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(400 * 1024 * 1024)
        file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
        file.write(b"L")
    before = digest(disk)
    assert call(disk) == REFUSED
    assert "holds something already" in capsys.readouterr().err
    assert digest(disk) == before
    assert call(disk, "--force") == DONE


@pytest.mark.parametrize("name", ["/dev/nope-updated", "a link"])
def test_no_file_is_made_for_a_device_that_is_not_there(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a link").symlink_to("/dev/nope-updated")
    assert call(tmp_path / name) == USAGE
    assert not Path("/dev/nope-updated").exists()
    told = capsys.readouterr()
    assert "is not there" in told.err
    assert "'lsblk' lists the disks" in told.err
    assert told.out == ""


def test_a_folder_that_is_not_there_is_named_and_no_disk_is_blamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path / "nowhere/disk.img") == USAGE
    told = f"updatectl: the disk {tmp_path}/nowhere/disk.img: there is no folder {tmp_path}/nowhere. "
    assert capsys.readouterr().err == f"{told}Make it, or name another place.\n"


def test_it_says_when_the_disk_is_a_file_that_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk.img"
    assert call(disk) == DONE
    assert capsys.readouterr().out.startswith(f"The image file {disk} is made and laid out: esp")
    assert call(disk, "--force") == DONE
    assert capsys.readouterr().out.startswith(f"{disk} is laid out: esp")


@pytest.mark.parametrize("disk", ["/dev/null", "small"])
def test_a_disk_that_is_too_small_is_refused_and_says_what_is_needed(
    tmp_path: Path, disk: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small").write_bytes(b"precious")
    assert call(tmp_path / disk, "--force") == USAGE
    assert "bytes, and " in capsys.readouterr().err
    assert (tmp_path / "small").read_bytes() == b"precious"


def test_a_disk_that_has_a_table_is_kept_without_force(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk.img"
    call(disk, "--image", image)
    before = digest(disk)
    assert call(disk) == REFUSED
    assert "holds something already" in capsys.readouterr().err
    assert digest(disk) == before
    assert call(disk, "--force") == DONE


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_mistake_in_the_image_costs_no_disk(
    tmp_path: Path, image: Path, force: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk.img"
    call(disk, "--image", image)
    before = digest(disk)
    assert call(disk, "--image", tmp_path / "typo", *force) == USAGE
    assert f"the image {tmp_path / 'typo'}: No such file" in capsys.readouterr().err
    large = tmp_path / "large"
    large.write_bytes(bytes(5_000_000))
    assert call(disk, "--image", large, *force) == USAGE
    assert digest(disk) == before


def test_a_mistake_in_the_image_leaves_no_half_made_disk(tmp_path: Path) -> None:
    assert call(tmp_path / "disk.img", "--image", tmp_path / "typo") == USAGE
    assert not (tmp_path / "disk.img").exists()


@pytest.mark.parametrize("size", ["0", "-1", "4X", ""])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str) -> None:
    assert main(["provision", f"--slot-size={size}", str(tmp_path / "disk.img")]) == USAGE
