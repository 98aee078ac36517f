"""The boot reference in autoboot.txt, which the Raspberry Pi's firmware reads, and the reboot that begins a trial.

The format is in bootctl/autoboot.py. What the firmware tells stands in the device tree: device-tree.adoc
(computers/configuration) of github.com/raspberrypi/documentation; the reboot argument is read by
drivers/firmware/raspberrypi.c of github.com/raspberrypi/linux.
"""

from __future__ import annotations

import os
import re
from typing import Final

from bootctl import durable, model
from bootctl.autoboot import (
    AUTOBOOT,
    BOOT_ID_DIGITS,
    LAYOUT,
    MOST_BYTES,
    Autoboot,
    confirmed_and_other,
    contradictions,
    decode,
    encode,
    meaning,
    parse,
)
from bootctl.errors import BootError, naming
from bootctl.file_pair import FilePair
from bootctl.model import BootView

TRYBOOT_ARGUMENT: Final = "0 tryboot"

# One byte below the limit, in case that a firmware counts the end of the text as well.
_GROWN: Final = MOST_BYTES - 1
_TRYBOOT_A_B_CAPABILITY: Final = 1 << 2
_LIMITS: Final = (
    (
        "A trial gets one boot, by the reboot that `updated` asks for (updatectl reboot): any other starts the "
        "confirmed slot, and the trial waits. Once that was asked for, its one boot is used up, even if it is cut off."
    ),
    "The boots of a confirmed slot are not counted: nothing falls back from one that breaks later.",
    (
        "A boot that hangs is ended by the hardware watchdog alone: set kernel_watchdog_timeout in config.txt (on old "
        "firmware dtparam=watchdog=on), and RuntimeWatchdogSec= in systemd's system.conf."
    ),
    (
        "The firmware reads one copy of autoboot.txt: set PARTITION_WALK=1 in the configuration of its EEPROM, so that "
        "it looks for a partition that boots when that copy is lost."
    ),
)
_TOO_OLD: Final = "This firmware is too old for tryboot_a_b, so that no trial begins: update it (rpi-eeprom-update -a)."


class Tryboot:
    """The backend for the file `autoboot`, of which a second copy is kept beside it.

    `partitions` gives each of the two slots the number of its boot partition. /proc is looked for below `root`. The
    file knows an order and no numbers: what was committed with the priorities 1 and 0 is read back as 2 and 0.
    """

    def __init__(self, autoboot: str, partitions: tuple[tuple[str, int], ...], root: str) -> None:
        self.name = "tryboot"
        self.most_tries = 1
        self.counts_confirmed = False
        self._partitions = partitions
        self._files = FilePair(
            autoboot, "autoboot", most_bytes=MOST_BYTES, parse=self._parse, meaning=Autoboot.format,
            overwrite=_overwrite, mend_missing=f"Create it ({LAYOUT}), or set autoboot in the table [boot].",
        )  # fmt: skip
        self._root = root

    def read(self) -> BootView:
        """From the second copy if the first one is damaged; the firmware does not do that, and `problems` tells.

        Raises BootError `autoboot-missing`, `autoboot-unreadable`, `autoboot-corrupt`, `no-slots`.
        """
        with naming(self._files.path, AUTOBOOT):
            return self._view(self._files.read())

    def commit(self, view: BootView) -> None:
        """Also mends a damaged copy, the one of the firmware first. Raises BootError: what `read` raises, `bad-tries`,
        `no-confirmed-slot`, `autoboot-full`, `autoboot-not-writable`, `unknown-slot`, `read-back-differs`.
        """
        with naming(self._files.path, AUTOBOOT):
            file = self._files.read()
            current = self._view(file)
            for name in {*current.names, *view.names}:
                for one in (current, view):
                    one.state(name)
            unchanged = meaning(view) == meaning(current) and not contradictions(file, self._partitions)
            data = file.format() if unchanged else encode(file, self._partitions, view)
            self._files.write(data, data)

    def problems(self) -> tuple[str, ...]:
        """Raises BootError as `read`."""
        with naming(self._files.path, AUTOBOOT):
            file = self._files.read()
            damages = dict(self._files.damages())
        if self._files.path in damages:
            damages[self._files.path] += (
                "; the firmware can't use it, and starts whatever partition it finds first, until the next change "
                f"writes it anew from {self._files.backup}"
            )
        found = [f"{path}: {damage}" for path, damage in damages.items()]
        found += [f"{self._files.path}: {text}" for text in contradictions(file, self._partitions)]
        return tuple(found)

    def limits(self) -> tuple[str, ...]:
        capabilities = self._property("capabilities")
        too_old = capabilities is not None and not capabilities & _TRYBOOT_A_B_CAPABILITY
        return (*_LIMITS, _TOO_OLD) if too_old else _LIMITS

    def begin_reboot(self) -> str:
        """Mark the trial that starts next as begun: it is used up in any other boot than this one.

        Writes as `commit`: durable when it returns, and nothing when there is no trial or it is marked already. Raises
        BootError: what `read` raises, `boot-id-unreadable`, `autoboot-full`, `autoboot-not-writable`,
        `read-back-differs`.
        """
        with naming(self._files.path, AUTOBOOT):
            file = self._files.read()
            view = self._view(file)
            slot, _ = model.next_boot(view)
            if slot is None or view.state(slot).condition != "trial":
                return ""
            data = file.format()
            if not file.boot:
                data = encode(file, self._partitions, view, begun_in=self._require_boot_id())
            self._files.write(data, data)
            return TRYBOOT_ARGUMENT

    def booted(self) -> tuple[int, bool] | None:
        """The boot partition that the firmware started, and whether by tryboot; None where it doesn't tell."""
        partition, tryboot = self._property("partition"), self._property("tryboot")
        return None if partition is None or tryboot is None else (partition, tryboot == 1)

    def _property(self, name: str) -> int | None:
        """A number that the firmware left in the device tree, where its cells are big-endian."""
        try:
            with open(os.path.join(self._root, "proc/device-tree/chosen/bootloader", name), "rb") as file:
                cell = file.read(5)
        except OSError:
            return None
        return int.from_bytes(cell, "big") if len(cell) == 4 else None

    def _boot_id(self) -> str:
        for root in (self._root, "/"):
            try:
                with open(os.path.join(root, "proc/sys/kernel/random/boot_id"), "rb") as file:
                    text = file.read(64).decode("latin-1").lower()
            except OSError:
                continue
            if boot := re.sub(r"[^0-9a-z]", "", text)[:BOOT_ID_DIGITS]:
                return boot
        return ""

    def _require_boot_id(self) -> str:
        boot = self._boot_id()
        if not boot:
            raise BootError(
                "boot-id-unreadable",
                "/proc/sys/kernel/random/boot_id",
                "it can't be read, so that nobody could tell later whether the trial was used up",
                "Mount /proc.",
            )
        return boot

    def _view(self, file: Autoboot) -> BootView:
        partition, tryboot = self.booted() or (0, False)
        return decode(file, self._partitions, boot=self._boot_id(), trial_runs=partition if tryboot else None)

    def _parse(self, data: bytes) -> Autoboot:
        file = parse(data)
        confirmed_and_other(file, self._partitions)
        return file


def _overwrite(fd: int, data: bytes) -> bool:
    """The text is within one sector, which a disk writes as a whole.

    A longer text must not come together with the new size, which stands in another sector: first the file grows by
    empty lines, which mean nothing, and then its text is replaced within that size.
    """
    size = os.fstat(fd).st_size
    if size > MOST_BYTES:
        return False
    if size < len(data):
        grown = max(_GROWN, len(data))
        durable.overwrite(fd, size, b"\n" * (grown - size))
        size = grown
    durable.overwrite(fd, 0, data.ljust(size, b"\n"))
    return True
