"""A model of the Raspberry Pi's firmware as far as it chooses what to start, and of what its kernel tells it.

It follows the documentation (github.com/raspberrypi/documentation, documentation/asciidoc/computers):

- config_txt/autoboot.adoc: at most 512 bytes; `boot_partition` counts unless the reboot named a partition; partition 0
  is the first one that can boot; a bootable partition has a `config.txt` (Raspberry Pi 5).
- config_txt/conditional.adoc: filters of different kinds add up until [all]; those of one kind replace each other;
  [none] lets nothing pass; [partition=N] compares with the partition that the reboot asked for.
- config_txt/what_is_config_txt.adoc: one `property=value` on a line, of which the last one counts; a line that begins
  with `#` is a comment; what stands beyond 98 characters of a line is ignored.
- raspberry-pi/bootflow-eeprom.adoc: the tryboot flag is cleared before anything is started; without tryboot_a_b a
  tryboot needs `tryboot.txt` instead of `config.txt`.
- raspberry-pi/eeprom-bootloader.adoc: PARTITION_WALK=1 looks at all partitions when the chosen one can't boot. Without
  it, partition 1 is tried (release notes of 2022-10-18).
- configuration/device-tree.adoc: /chosen/bootloader/{partition,tryboot}, 32-bit cells.

The argument of a reboot is read as drivers/firmware/raspberrypi.c (" tryboot" anywhere in it) and
drivers/watchdog/bcm2835_wdt.c (the number before it) of github.com/raspberrypi/linux do.

Where the documentation is silent, the model is strict: too long a file, one with a byte of zero, a filter that
autoboot.txt does not support and a number that is none count for nothing.

Its code shares nothing with bootctl.tryboot, so that a mistake there does not cancel itself out here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MOST_BYTES = 512
MOST_CHARACTERS = 98
MOST_PARTITIONS = 8


@dataclass
class RaspberryPi:
    """A board. `first` is the folder of the first FAT partition, `root` that of the system that runs, for its /proc.

    `partitions` has the names of the files on each boot partition.
    """

    first: Path
    root: Path
    partitions: Mapping[int, frozenset[str]] = field(
        default_factory=lambda: {2: frozenset({"config.txt"}), 3: frozenset({"config.txt"})}
    )
    partition_walk: bool = False
    capabilities: int | None = 0x7F

    def power_on(self) -> int | None:
        """After a power cut or a reset by the watchdog, neither of which keeps the flag: the partition that starts."""
        return self._start(requested=0, tryboot=False)

    def reboot(self, argument: str = "") -> int | None:
        """After reboot(2) with `argument`: the partition that starts, or None when nothing does."""
        number = argument.split(" ")[0]
        return self._start(int(number) if number.isdecimal() else 0, " tryboot" in argument)

    def _start(self, requested: int, tryboot: bool) -> int | None:
        settings = effective(self._autoboot(), tryboot=tryboot, requested=requested)
        wanted = requested or number(settings.get("boot_partition", "0"))
        config = "tryboot.txt" if tryboot and number(settings.get("tryboot_a_b", "0")) != 1 else "config.txt"
        for partition in self._candidates(wanted):
            if config in self.partitions.get(partition, ()):
                self._tell_the_kernel(partition, tryboot)
                return partition
        return None

    def _autoboot(self) -> bytes:
        try:
            return (self.first / "autoboot.txt").read_bytes()
        except FileNotFoundError:
            return b""

    def _candidates(self, wanted: int) -> list[int]:
        around = [(wanted + step) % (MOST_PARTITIONS + 1) for step in range(MOST_PARTITIONS + 1)]
        if wanted == 0 or self.partition_walk:
            return around
        return [wanted, 1]

    def _tell_the_kernel(self, partition: int, tryboot: bool) -> None:
        chosen = self.root / "proc/device-tree/chosen/bootloader"
        chosen.mkdir(parents=True, exist_ok=True)
        cells = {"partition": partition, "tryboot": int(tryboot), "capabilities": self.capabilities}
        for name, value in cells.items():
            if value is not None:
                (chosen / name).write_bytes(value.to_bytes(4, "big"))
        random = self.root / "proc/sys/kernel/random"
        random.mkdir(parents=True, exist_ok=True)
        (random / "boot_id").write_text(f"{uuid.uuid4()}\n")


def effective(content: bytes, *, tryboot: bool, requested: int) -> dict[str, str]:
    """The settings of an autoboot.txt that apply to a boot."""
    if len(content) > MOST_BYTES or b"\0" in content:
        return {}
    settings: dict[str, str] = {}
    passes: dict[str, bool] = {}
    for raw in content.decode("latin-1").split("\n"):
        line = raw.rstrip("\r")[:MOST_CHARACTERS].strip(" \t")
        if line.startswith("[") and line.endswith("]"):
            kind, _, value = line[1:-1].partition("=")
            if kind == "all":
                passes = {}
            elif kind == "tryboot":
                passes[kind] = tryboot
            elif kind == "partition":
                passes[kind] = number(value) == requested
            else:
                passes[kind] = False
        elif "=" in line and not line.startswith("#") and all(passes.values()):
            name, _, value = line.partition("=")
            settings[name] = value
    return settings


def number(text: str) -> int:
    """A number of a setting; 0 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() else 0
