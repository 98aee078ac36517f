"""Lays out a disk for two slots with libparted; the only module that imports parted.

libparted 3.5 can set neither type GUIDs nor the attribute bits of the boot reference: `bootctl.gpt` adds those, and
what the disk then holds is read by both and compared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import parted

from bootctl import durable, gpt, model
from bootctl.gptprio import SLOT_TYPE_GUID, GptPrio
from bootctl.model import BootView, SlotState
from updated.core.errors import UpdatedError
from updated.readback import READ_LENGTH
from updated.record import storage_error
from updated.region import Region

MEBIBYTE = 1024 * 1024
ESP_SIZE = 64 * MEBIBYTE
# The first and the last mebibyte are left to the partition table and its backup.
MARGIN = MEBIBYTE
DEVICES = "/dev"


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in bytes; each becomes a multiple of a mebibyte."""

    slot_size: int
    state_size: int
    esp_size: int = ESP_SIZE

    def partitions(self) -> list[tuple[str, int]]:
        """Name and size of each partition, in their order on the disk."""
        slots = [("rootfs-a", self.slot_size), ("rootfs-b", self.slot_size)]
        return [("esp", self.esp_size), *slots, ("state", self.state_size)]

    def disk_size(self) -> int:
        """The size of a disk image that holds it."""
        return 2 * MARGIN + sum(_rounded(size) for _, size in self.partitions())


def _rounded(size: int) -> int:
    return -(-size // MEBIBYTE) * MEBIBYTE


def provision(path: str, layout: Layout, *, image: str | None = None, force: bool = False) -> None:
    """Makes a partition table on the block device or image file `path`; an image file is created, sparse.

    Below /dev nothing is created. The file `image`, if given, is looked at before anything is written, and then
    installed into slot a. Raises `UpdatedError`: "not-possible-now" when the disk holds something already (and not
    `force`), "bad-request" when it or its folder is not there, or too small, or the image does not fit, "disk-error".
    """
    if image is not None:
        _look_at(image, layout)
    try:
        if not os.path.exists(path):
            _refuse_a_file_among_devices(path)
            _refuse_a_file_without_its_folder(path)
            with open(path, "xb") as file:
                file.truncate(layout.disk_size())
        else:
            _refuse_what_is_in_use(path, layout, force=force)
        _lay_out(path, layout)
        _set_types(path)
        _cross_check(path)
    except OSError as error:
        raise storage_error(f"the disk {path}", error) from None
    if image is not None:
        _install_image(path, image)


def _look_at(image: str, layout: Layout) -> None:
    try:
        with open(image, "rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UpdatedError(
            "bad-request", f"the image {image}", error.strerror or str(error), "Name the image of the first release."
        ) from None
    if size > _rounded(layout.slot_size):
        raise UpdatedError(
            "bad-request", f"the image {image}", f"has {size} bytes, and the slot would hold {layout.slot_size}",
            "Give a larger --slot-size, or make a smaller image.",
        )


def _install_image(path: str, image: str) -> None:
    """Writes the file `image` into slot a of the disk `path`, durably, and then confirms slot a."""
    disk = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        table = gpt.read_table(disk)
        partition = table.partition("rootfs-a")
        with open(image, "rb") as file:
            region = Region(disk, partition.offset(table.sector_size), partition.size(table.sector_size))
            start = 0
            while data := file.read(READ_LENGTH):
                region.write(start, memoryview(data))
                start += len(data)
        durable.sync_fd(disk)
    except OSError as error:
        raise storage_error(f"the disk {path}", error) from None
    finally:
        os.close(disk)
    boot = GptPrio(path)
    boot.commit(model.confirm(BootView((("a", SlotState()), ("b", SlotState()))), "a"))


def _refuse_a_file_among_devices(path: str) -> None:
    """A name that was mistyped must not fill the memory that /dev lies in."""
    if os.path.realpath(path).startswith(f"{DEVICES}/"):
        raise UpdatedError("bad-request", f"the disk {path}", "is not there", "'lsblk' lists the disks.")


def _refuse_a_file_without_its_folder(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UpdatedError(
            "bad-request", f"the disk {path}", f"there is no folder {folder}", "Make it, or name another place."
        )


def _refuse_what_is_in_use(path: str, layout: Layout, *, force: bool) -> None:
    """Partition tables, file systems, volumes and encrypted disks all begin or end within `MARGIN` of an end."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < layout.disk_size():
            raise UpdatedError(
                "bad-request", f"the disk {path}", f"has {size} bytes, and {layout.disk_size()} are needed",
                "Name a larger disk, or smaller slots with --slot-size and --state-size.",
            )
        found = b""
        for place in (0, size - MARGIN):
            file.seek(place)
            found += file.read(MARGIN)
    if any(found) and not force:
        raise UpdatedError(
            "not-possible-now", f"the disk {path}", "holds something already: its first or last mebibyte is not empty",
            "Name another disk, or repeat with --force: all that is on it is lost then.",
        )


def _lay_out(path: str, layout: Layout) -> None:
    try:
        device = parted.getDevice(path)
        disk = parted.freshDisk(device, "gpt")
        start = MARGIN // device.sectorSize
        for name, size in layout.partitions():
            length = _rounded(size) // device.sectorSize
            geometry = parted.Geometry(device=device, start=start, length=length)
            partition = parted.Partition(disk=disk, type=parted.PARTITION_NORMAL, geometry=geometry)
            disk.addPartition(partition=partition, constraint=parted.Constraint(exactGeom=geometry))
            partition.name = name
            if name == "esp":
                partition.setFlag(parted.PARTITION_BOOT)  # on a GPT this makes it the EFI system partition
            start += length
        disk.commitToDevice()
    except (parted.PartitionException, parted.DiskException, parted.IOException, ValueError) as error:
        raise UpdatedError(
            "bad-request", f"the disk {path}", f"can not be laid out: {error}", "Give a larger disk or smaller sizes."
        ) from None


def _set_types(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        table = gpt.read_table(fd)
        for partition in gpt.slot_partitions(table).values():
            table = table.with_type(partition.number, SLOT_TYPE_GUID)
        gpt.write_table(fd, table)
    finally:
        os.close(fd)


def _cross_check(path: str) -> None:
    """Both readers must see the same names at the same places."""
    seen = parted.newDisk(parted.getDevice(path))
    theirs = [(part.name, part.geometry.start, part.geometry.end) for part in seen.partitions]
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        table = gpt.read_table(fd)
    finally:
        os.close(fd)
    ours = [(part.name, part.first_lba, part.last_lba) for part in table.partitions]
    if ours != theirs or table.damage:
        raise UpdatedError(
            "disk-error", f"the partition table of {path}", f"reads as {ours} and as {theirs}",
            "Look at the kernel log for disk errors.",
        )


