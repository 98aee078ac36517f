"""The slots on the disk: finds a component's partition or file, makes sure that nobody uses it, and opens it.

On a block device the partition's own device node is opened, so that the kernel keeps writes inside it. In a disk image
there is only the file and a window into it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from bootctl import gpt
from bootctl.active import running_slot
from bootctl.errors import BootError, mend_of
from bootctl.settings import SLOT_IN_PATH, BootSettings, below
from updated.core.errors import UpdatedError
from updated.record import storage_error
from updated.region import Region, Room
from updated.slot_file import SlotFile, rooms


def boot_error(error: BootError) -> UpdatedError:
    """What went wrong with the boot reference or the partition table, as an error of this program."""
    code = "slot-missing" if error.code == "no-such-partition" else "boot-reference"
    return UpdatedError(code, error.what, error.cause, error.mend)


class Disk:
    """The disk that the settings name."""

    def __init__(self, settings: BootSettings) -> None:
        self._settings = settings

    @property
    def path(self) -> str:
        """The path of the device or image. Raises `UpdatedError` ("bad-config") when none is set."""
        path = self._settings.image or self._settings.device
        if path is None:
            raise UpdatedError(
                "bad-config", "the configuration", "names no disk",
                'Set device = "/dev/..." or image = "/path" in the table [disk].',
            )
        return path

    def running_slot(self) -> str:
        """The slot that runs, from the kernel's command line.

        Raises `UpdatedError`: "slot-running" when it can't be told, "slot-missing" when it is not on the disk.
        """
        try:
            slot = running_slot(self._settings)
            slots = gpt.slot_partitions(self._table(), self._settings.component)
        except BootError as error:
            if error.code == "active-unknown":
                raise UpdatedError("slot-running", error.what, error.cause, error.mend) from None
            raise boot_error(error) from None
        if slot not in slots:
            raise UpdatedError(
                "slot-missing", f"the running slot {slot}", "has no partition on the disk",
                "Correct device or image in the table [disk].",
            )
        return slot

    def component_sizes(self, slot: str) -> dict[str, int]:
        """How many bytes each component of `slot` can have; files of one `Room` can not have that all at once."""
        table = self._table()
        partitions = {name: part.size(table.sector_size) for name, part in self._components(table, slot).items()}
        return partitions | _sizes(self.rooms(slot))

    def rooms(self, slot: str) -> tuple[Room, ...]:
        """What the components of `slot` that are files can have together, by file system. Raises `UpdatedError`."""
        return rooms(self._files(slot))

    def check_slot(self, slot: str) -> None:
        """Raises what `open_slot` for writing would raise, and changes nothing."""
        running = self._refuse_running(slot)
        with self._opened(slot, os.O_RDWR | os.O_EXCL):
            for file in self._files(slot, running).values():
                file.check()

    @contextlib.contextmanager
    def open_slot(self, slot: str, *, write: bool) -> Iterator[dict[str, Region]]:
        """The components of the passive `slot`, open, with nobody else using them; closed at the end.

        With `write`, files that are missing are made; not before the boot reference has left the slot. What was written
        to files is on the medium when the body ends without an error.
        Raises `UpdatedError`: "slot-missing", "slot-running" (it is the running one), "slot-in-use" (it is mounted).
        """
        running = self._refuse_running(slot)
        with self._opened(slot, (os.O_RDWR if write else os.O_RDONLY) | os.O_EXCL) as regions:
            with contextlib.ExitStack() as opened:
                files = self._files(slot, running)
                most = _sizes(rooms(files)) if write else {}
                for name, file in files.items():
                    regions[name] = file.open_passive(most=most.get(name))
                    opened.callback(os.close, regions[name].fd)
                yield regions
            for file in files.values() if write else ():
                file.settle()

    @contextlib.contextmanager
    def open_running(self) -> Iterator[dict[str, Region]]:
        """The components of the running slot, open for reading; closed at the end. Raises `UpdatedError`."""
        slot = self.running_slot()
        with self._opened(slot, os.O_RDONLY) as regions, contextlib.ExitStack() as opened:
            for name, file in self._files(slot).items():
                regions[name] = file.open_running()
                opened.callback(os.close, regions[name].fd)
            yield regions

    def _refuse_running(self, slot: str) -> str:
        """The running slot, which is another one."""
        running = self.running_slot()
        if slot == running:
            raise UpdatedError(
                "slot-running", f"slot {slot}", "is the running one, and is never written", "Report it."
            )
        return running

    @contextlib.contextmanager
    def _opened(self, slot: str, flags: int) -> Iterator[dict[str, Region]]:
        """The components that are partitions."""
        table = self._table()
        with contextlib.ExitStack() as opened:
            regions: dict[str, Region] = {}
            for name, partition in self._components(table, slot).items():
                regions[name] = self._open(table, partition, flags)
                opened.callback(os.close, regions[name].fd)
            yield regions

    def _files(self, slot: str, running: str | None = None) -> Mapping[str, SlotFile]:
        """The components that are files; `running` is the slot that runs, if this is another one."""
        root, files = self._settings.root, self._settings.files
        others = [path.replace(SLOT_IN_PATH, running) for _, path in files] if running is not None else []
        return {name: SlotFile(root, path.replace(SLOT_IN_PATH, slot), others) for name, path in files}

    def _components(self, table: gpt.Table, slot: str) -> Mapping[str, gpt.Partition]:
        try:
            return {name: table.partition(f"{name}-{slot}") for name in self._settings.components}
        except BootError as error:
            raise boot_error(error) from None

    def _open(self, table: gpt.Table, partition: gpt.Partition, flags: int) -> Region:
        size = partition.size(table.sector_size)
        alone = flags & os.O_EXCL
        try:
            if not stat.S_ISBLK(os.stat(self.path).st_mode):
                if alone:
                    self._refuse_mounted_image(partition)
                fd = os.open(self.path, flags & ~os.O_EXCL | os.O_CLOEXEC)
                return Region(fd, partition.offset(table.sector_size), size)
            node = below(self._settings.root, f"/dev/disk/by-partuuid/{partition.unique_guid}")
            if alone:
                self._refuse_mounted(os.stat(node).st_rdev, partition.name)
            # O_EXCL on a block device fails while it is mounted, held by device-mapper (open(2)), or still open in a
            # process that a downloader left behind.
            fd = os.open(node, flags | os.O_CLOEXEC)
            disk = os.stat(self.path).st_rdev
            offset = partition.offset(table.sector_size)
            if not is_partition_of(self._settings.root, os.fstat(fd).st_rdev, disk, partition.number, offset, size):
                os.close(fd)
                raise UpdatedError(
                    "slot-missing", f"partition {partition.name}", f"is not what {node} leads to",
                    "Another disk may have the same identifiers: take it out.",
                )
            return Region(fd, 0, size)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise _in_use(partition.name, "is held by the kernel") from None
            raise storage_error(f"partition {partition.name}", error) from None

    def _refuse_mounted(self, device: int, name: str) -> None:
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in self._lines("/proc/self/mountinfo"):
            fields = line.split()
            if len(fields) > 4 and fields[2] == number:
                raise _in_use(name, f"is mounted on {fields[4]}")

    def _refuse_mounted_image(self, partition: gpt.Partition) -> None:
        """A loop device over this image would let the kernel write to it behind our back."""
        devices = below(self._settings.root, "/sys/block")
        for name in glob.glob("loop*", root_dir=devices):
            device = os.path.join(devices, name)
            backing = _text(os.path.join(device, "loop/backing_file"))
            if not backing or not _same_file(backing, self.path):
                continue
            parts = ["dev", *glob.glob("loop*p*/dev", root_dir=device)]
            numbers = {_text(os.path.join(device, part)) for part in parts}
            for line in self._lines("/proc/self/mountinfo"):
                fields = line.split()
                if len(fields) > 4 and fields[2] in numbers:
                    raise _in_use(partition.name, f"lies in an image that is mounted on {fields[4]}")

    def _lines(self, path: str) -> list[str]:
        return _text(below(self._settings.root, path)).splitlines()

    def _table(self) -> gpt.Table:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UpdatedError(
                "slot-missing", f"the disk {self.path}", error.strerror or str(error),
                mend_of(error, "Correct device or image in the table [disk]."),
            ) from None
        try:
            return gpt.read_table(fd)
        except BootError as error:
            raise boot_error(error) from None
        finally:
            os.close(fd)


def _sizes(found: Iterable[Room]) -> dict[str, int]:
    return {name: room.size for room in found for name in room.components}


def is_partition_of(root: str, device: int, disk: int, number: int, offset: int, size: int) -> bool:
    """Whether block device `device` is partition `number` of `disk`, `size` bytes at byte `offset` (sysfs, in sectors
    of 512 bytes). Disks that were cloned have the same PARTUUIDs, and udev links one of them."""
    folder = os.path.realpath(below(root, f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
    seen = [_text(os.path.join(folder, name)) for name in ("partition", "start", "size", "../dev")]
    return seen == [str(number), str(offset // 512), str(size // 512), f"{os.major(disk)}:{os.minor(disk)}"]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _in_use(name: str, cause: str) -> UpdatedError:
    return UpdatedError("slot-in-use", f"partition {name}", cause, "Unmount it; then the update goes on by itself.")
