"""A bad disk, partition table or boot reference: the node refuses to guess, and mends what it can."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootctl.settings import BootSettings
from tests.fakes import firmware
from tests.node.bench import FAILED, WAITING, Bench, bench
from updated.core.errors import UpdatedError
from updated.disk import Disk

SECTOR = 512
SLOT_TYPE = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"  # what gptprio.next of GRUB looks for


def spoil(path: Path, offset: int, data: bytes) -> bytes:
    """Overwrites bytes of the disk; what was there."""
    with path.open("r+b") as file:
        if offset < 0:
            offset += file.seek(0, os.SEEK_END)
        before = os.pread(file.fileno(), len(data), offset)
        os.pwrite(file.fileno(), data, offset)
    return before


# --------------------------------------------------------------------------------------------- the disk, the table


def test_a_disk_that_is_not_there_is_named(shared: Bench) -> None:
    (shared.root / "disk.img").rename(shared.root / "away.img")
    shared.tells(shared.once(FAILED), "boot-reference", "disk.img", "No such file", "Set backend in the table [boot]")
    (shared.root / "away.img").rename(shared.root / "disk.img")


@pytest.mark.parametrize(
    ("sector", "damage"), [(1, bytes(SECTOR)), (2, b"\xff" * SECTOR)], ids=["no header", "garbage for entries"]
)
def test_with_a_damaged_first_table_the_node_updates_and_mends_it(node: Bench, sector: int, damage: bytes) -> None:
    disk = node.machine.disk
    spoil(disk, sector * SECTOR, damage)
    assert not firmware.kernel_finds_partitions(disk)
    before = node.active()
    node.updates()
    after = node.active()
    assert (after.content, before.boots_next, after.boots_next) == (before.content, "rootfs-a", "rootfs-b")
    assert firmware.kernel_finds_partitions(disk)
    assert "No problems found" in subprocess.run(
        ["sgdisk", "-v", str(disk)], capture_output=True, text=True, check=True
    ).stdout


def test_with_a_damaged_backup_table_the_node_updates_and_mends_it(node: Bench) -> None:
    spoil(node.machine.disk, -SECTOR, bytes(SECTOR))
    node.updates()
    assert "No problems found" in subprocess.run(
        ["sgdisk", "-v", str(node.machine.disk)], capture_output=True, text=True, check=True
    ).stdout


def test_without_any_whole_table_nothing_is_touched(shared: Bench) -> None:
    disk = shared.machine.disk
    whole = [(at, spoil(disk, at, bytes(SECTOR))) for at in (SECTOR, -SECTOR)]
    text = shared.refuses_untouched("boot-reference", "no copy of it is whole", "no header was found")
    assert text.count("\n") == 1
    for at, data in whole:
        spoil(disk, at, data)


def change_partition(node: Bench, number: int, name: str, *options: str) -> None:
    """Lets the tool of ChromeOS name a partition anew."""
    command = ["cgpt", "add", "-i", str(number), "-l", name, *options, str(node.machine.disk)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (3, "other", "the boot reference has 1 slots"),
        (2, "other", "the running slot a: has no partition on the disk"),
        (4, "rootfs-c", "the boot reference has 3 slots"),
        (4, "rootfs-b", "has this name more than once"),
    ],
)
def test_a_disk_that_does_not_have_just_two_slots_is_refused(
    tmp_path: Path, number: int, name: str, words: str
) -> None:
    with bench(tmp_path) as node:
        change_partition(node, number, name, *(("-t", SLOT_TYPE) if name.startswith("rootfs") else ()))
        before = node.disk_content()
        text = node.once(FAILED)
        error = node.status()["error"]
        assert error["code"] in ("boot-reference", "slot-running", "slot-missing"), error
        assert words in text
        assert node.disk_content() == before


# -------------------------------------------------------------------------------------------------- the running slot


def say(node: Bench, command_line: str) -> None:
    (node.root / "proc/cmdline").write_text(command_line + "\n")


@pytest.mark.parametrize("command_line", ["", "ro quiet", "root=/dev/sda2 ro", "root=PARTUUID=00000000-0000 ro"])
def test_a_command_line_that_does_not_tell_the_slot_is_no_reason_to_guess(shared: Bench, command_line: str) -> None:
    right = (shared.root / "proc/cmdline").read_text()
    say(shared, command_line)
    shared.refuses_untouched("slot-running", "the running slot", "updated.slot=")
    (shared.root / "proc/cmdline").unlink()
    shared.refuses_untouched("slot-running", "the running slot")
    say(shared, right)


def test_a_slot_that_the_disk_does_not_have_is_no_reason_to_guess(shared: Bench) -> None:
    right = (shared.root / "proc/cmdline").read_text()
    say(shared, "updated.slot=c")
    text = shared.once(FAILED)
    assert shared.status()["error"]["code"] in ("slot-running", "slot-missing")
    assert "slot c" in text
    say(shared, right)


def test_when_b_runs_unconfirmed_nothing_is_written_at_all(node: Bench) -> None:
    say(node, "updated.slot=b")
    before = node.disk_content()
    assert "on trial; health has not confirmed it yet" in node.once(WAITING)
    assert node.disk_content() == before


def test_the_running_slot_is_never_opened_even_when_it_is_asked_for(shared: Bench) -> None:
    disk = Disk(BootSettings(root=str(shared.root), image=str(shared.machine.disk)))
    before = shared.disk_content()
    with pytest.raises(UpdatedError, match="slot a: is the running one, and is never written"):
        disk.open_slot("a", write=True).__enter__()
    assert shared.disk_content() == before


@pytest.mark.parametrize("device", ["7:3", "259:5"])
def test_a_mounted_slot_is_not_written_and_keeps_its_place_in_the_boot_reference(node: Bench, device: str) -> None:
    """The kernel has the disk image on a loop device, and something of it is mounted."""
    loop = node.root / "sys/block/loop3"
    for path, text in {"loop/backing_file": str(node.machine.disk), "dev": "7:3", "loop3p3/dev": "259:5"}.items():
        (loop / path).parent.mkdir(parents=True, exist_ok=True)
        (loop / path).write_text(f"{text}\n")
    mounts = node.root / "proc/self/mountinfo"
    mounts.parent.mkdir()
    mounts.write_text(f"22 1 254:0 / / ro - erofs /dev/root ro\n36 22 {device} / /mnt/other ro - erofs /dev/loop3 ro\n")
    node.refuses_untouched("slot-in-use", "partition rootfs-b", "mounted on /mnt/other", "Unmount it")
    mounts.write_text("22 1 254:0 / / ro - erofs /dev/root ro\n")
    node.updates()


def test_a_loop_device_of_another_image_is_no_obstacle(node: Bench) -> None:
    loop = node.root / "sys/block/loop3"
    (loop / "loop").mkdir(parents=True)
    (loop / "loop/backing_file").write_text("/elsewhere/disk.img\n")
    (loop / "dev").write_text("7:3\n")
    (node.root / "proc/self").mkdir()
    (node.root / "proc/self/mountinfo").write_text("36 22 7:3 / /mnt/other ro - erofs /dev/loop3 ro\n")
    node.updates()


# ------------------------------------------------------------------------------------------- GRUB's environment block


def editenv(path: Path, *words: str) -> str:
    done = subprocess.run(["grub-editenv", str(path), *words], check=True, capture_output=True, text=True)
    return done.stdout


def boots_by_grub(node: Bench) -> Path:
    """Gives the node an environment block; its disk still holds the slots."""
    node.machine.write_config(node.machine.config.partition("\n[boot]")[0] + '\n[boot]\nbackend = "grub"\n')
    path = node.root / "boot/grub/grubenv"
    path.parent.mkdir(parents=True, exist_ok=True)
    editenv(path, "create")
    editenv(path, "set", "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0", "foreign=kept")
    return path


@pytest.fixture
def grub(node: Bench) -> Path:
    return boots_by_grub(node)


@pytest.fixture
def shared_grub(shared_by_grub: Bench) -> Path:
    """The block, whole again, and without a copy."""
    path = boots_by_grub(shared_by_grub)
    path.with_name("grubenv.backup").unlink(missing_ok=True)
    return path


@pytest.fixture(scope="module")
def shared_by_grub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("grub")) as made:
        made.ship()
        yield made


def staged(node: Bench, path: Path) -> None:
    assert "1.1.0 is staged and boots next" in node.once()
    lines = editenv(path, "list").split("\n")
    assert {"ORDER=B A", "A_OK=1", "B_OK=1", "B_TRIES=3", "foreign=kept"} <= set(lines)


def test_a_whole_block_is_changed_and_the_partition_table_is_not(node: Bench, grub: Path) -> None:
    attributes = [node.attributes(slot) for slot in "ab"]
    staged(node, grub)
    assert [node.attributes(slot) for slot in "ab"] == attributes


GARBAGE = {
    "no byte": b"", "zeros": bytes(1024), "noise": bytes(range(256)) * 4, "half": b"# GRUB Environment Block\n" * 20,
}


@pytest.mark.parametrize("garbage", ["no byte", "noise"])
def test_a_corrupt_block_is_read_from_its_copy_and_mended(node: Bench, grub: Path, garbage: str) -> None:
    grub.with_name("grubenv.backup").write_bytes(grub.read_bytes())
    grub.write_bytes(GARBAGE[garbage])
    staged(node, grub)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("copies", [1, 2])
def test_without_a_whole_block_the_node_refuses_and_leaves_it_for_a_look(
    shared_by_grub: Bench, shared_grub: Path, garbage: str, copies: int
) -> None:
    for path in (shared_grub, shared_grub.with_name("grubenv.backup"))[:copies]:
        path.write_bytes(GARBAGE[garbage])
    text = shared_by_grub.refuses_untouched("boot-reference", str(shared_grub), "grub-editenv FILE create")
    assert text.count("\n") == 1
    assert shared_grub.read_bytes() == GARBAGE[garbage]


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["ORDER=A"], "the boot reference has 1 slots"),
        (["ORDER=A B C"], "the boot reference has 3 slots"),
        (["ORDER=B C"], "is not in the boot reference"),
        (["ORDER=A A"], "which is no list of slots"),
        (["ORDER="], "it names no slot"),
    ],
)
def test_a_block_that_does_not_name_just_two_slots_is_refused(
    shared_by_grub: Bench, shared_grub: Path, assignments: list[str], words: str
) -> None:
    editenv(shared_grub, "unset", "A_OK", "A_TRY", "B_OK", "B_TRY")
    editenv(shared_grub, "set", *assignments)
    before = shared_grub.read_bytes()
    text = shared_by_grub.once(FAILED)
    assert shared_by_grub.status()["error"]["code"] in ("boot-reference", "slot-running")
    assert words in text
    assert shared_grub.read_bytes() == before


def test_a_partition_name_that_is_there_twice_is_refused_with_grub_too(
    shared_by_grub: Bench, shared_grub: Path
) -> None:
    change_partition(shared_by_grub, 4, "rootfs-b")
    shared_by_grub.refuses_untouched("boot-reference", "partition rootfs-b", "more than once")
    change_partition(shared_by_grub, 4, "state")


def test_a_component_whose_partition_is_missing_or_there_twice_is_not_guessed_at(
    shared_by_grub: Bench, shared_grub: Path
) -> None:
    drop_in = shared_by_grub.root / "etc/updated/updated.toml.d/10-verity.toml"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text('[disk]\ncomponents = ["rootfs", "verity"]\n')
    shared_by_grub.refuses_untouched("slot-missing", "partition verity-b", "the partition table has only")
    for number in (1, 4):
        change_partition(shared_by_grub, number, "verity-b")
    shared_by_grub.refuses_untouched("boot-reference", "partition verity-b", "more than once")
    for number, name in ((1, "esp"), (4, "state")):
        change_partition(shared_by_grub, number, name)
    drop_in.unlink()
