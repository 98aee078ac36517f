"""The parts of a machine, as arguments of QEMU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.qemu.machine import new_variables

# What a machine reaches at GUEST_URL is the port of the host's loopback that it was given, and nothing else.
GUEST_URL: Final = "http://10.0.2.100/"
# The log of writes is a sparse file of this size; QEMU doesn't let it grow.
LOG_SIZE: Final = 64 << 30

_OVMF: Final = "/usr/share/OVMF/OVMF_CODE_4M.fd"
_RELAY: Final = Path(__file__).with_name("relay.py")
# The processor has no vectors but those of each: with more of them dm-verity and Python hash in instructions that QEMU
# has to emulate one by one, and a boot takes a quarter more.
_COMMON: Final = (
    "qemu-system-x86_64", "-nodefaults", "-display", "none", "-M", "q35", "-accel", "tcg,thread=multi",
    "-cpu", "qemu64", "-smp", "2", "-m", "1024", "-device", "i6300esb", "-action", "watchdog=reset,reboot=shutdown",
)  # fmt: skip


def machine(folder: Path) -> list[str]:
    """Processor, memory, firmware (its variables in vars.fd in `folder`), a watchdog; it ends instead of resetting."""
    return [
        *_COMMON,
        "-drive", f"if=pflash,format=raw,readonly=on,file={_OVMF}",
        "-drive", f"if=pflash,format=raw,file={new_variables(folder)}",
    ]  # fmt: skip


def disk(path: Path, log: Path | None, *, again: bool) -> list[str]:
    """The disk to boot from; its writes are logged in `log`, behind those that are there if it is `again`."""
    arguments = _file("disk", path)
    device = "nvme,serial=e2e,drive=disk"
    if log is not None:
        if not again:
            with log.open("wb") as file:
                file.truncate(LOG_SIZE)
        how = "log-append=on" if again else "log-sector-size=512"
        arguments += [*_file("log", log), "-blockdev"]
        arguments += [f"driver=blklogwrites,node-name=logged,file=disk,log=log,{how}"]
        # QEMU's NVMe drops the flag of a write that has to be durable (FUA), which the log needs. Linux knows that
        # this disk has no such flag, and flushes.
        device = "virtio-blk-pci,serial=e2e,drive=logged"
    # An index of 0 is the one of -kernel.
    return [*arguments, "-device", f"{device},bootindex=1"]


def more_disks(paths: Sequence[Path]) -> list[str]:
    """Disks besides: /dev/nvme1n1 and so on."""
    arguments = []
    for number, path in enumerate(paths, 1):
        arguments += [*_file(f"drive{number}", path), "-device", f"nvme,serial=more{number},drive=drive{number}"]
    return arguments


def network(port: int | None) -> list[str]:
    """A card that reaches `port` of the host's loopback as GUEST_URL, if one is given."""
    reach = ""
    if port is not None:
        reach = f",guestfwd=tcp:10.0.2.100:80-cmd:{sys.executable} -SE {_RELAY} {port}"
    # Without its ROM the card can't boot from the network, which would take minutes.
    return ["-netdev", f"user,id=net,restrict=on{reach}", "-device", "virtio-net-pci,id=card,netdev=net,romfile="]


def _file(name: str, path: Path) -> list[str]:
    """A block device of QEMU. Flushes stay in QEMU: only a power cut of the host would need them on its disk."""
    places = f"file.driver=file,file.filename={path},file.discard=unmap,discard=unmap,cache.no-flush=on"
    return ["-blockdev", f"driver=raw,node-name={name},{places}"]
