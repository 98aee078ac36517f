"""A machine in QEMU: each boot is bounded, has no network, and ends with this process at the latest.

QEMU translates the processor's code (TCG): it needs neither root nor KVM. Its virtual clock follows the instructions
that were executed and not the time (`-icount`), so that a firmware that waits for seconds waits for a moment.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Firmware = Literal["seabios", "ovmf", "u-boot"]
Ending = Literal["off", "prompt", "time limit"]

# What a payload says as soon as it runs: the slot that it belongs to.
STARTED: Final = "slot {} has started."
LIMIT: Final = 60.0

_STARTED: Final = re.compile(STARTED.format("([a-z0-9]+)").replace(".", r"\."))
_PROMPT: Final = re.compile(
    r"^(?:grub> |grub rescue> |=> |Shell> )|Minimal BASH-like line editing|No loader found|"
    r"No bootable (?:option|device)|Boot Manager Menu|Failed to boot both default and fallback",
    re.MULTILINE,
)
_ESCAPE_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|c)")
_TIME_TO_SWITCH_OFF: Final = 2.0
_STEP: Final = 0.02
_OVMF: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_OVMF_VARIABLES: Final = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_U_BOOT: Final = Path("/usr/lib/u-boot/qemu-x86/u-boot.rom")
_COMMON: Final = (
    "qemu-system-x86_64", "-accel", "tcg,thread=single", "-icount", "shift=7,sleep=off", "-nodefaults",
    "-display", "none", "-no-reboot", "-net", "none",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Booted:
    """One boot. `slot` is None if no payload was started; `log` is what the machine said on its serial line."""

    slot: str | None
    ending: Ending
    log: str
    seconds: float


class Machine:
    """A machine whose disk is disk.img in `folder`.

    If there is a starter.img too, it comes first and the firmware starts from it. OVMF keeps its variables in vars.fd,
    from boot to boot.
    """

    def __init__(self, folder: Path, firmware: Firmware, *, limit: float = LIMIT) -> None:
        self._log = folder / "serial.log"
        self._limit = limit
        self._command = [*_COMMON, "-serial", f"file:{self._log}", *_firmware(firmware, folder)]
        disks = [path for path in (folder / "starter.img", folder / "disk.img") if path.exists()]
        for number, path in enumerate(disks):
            self._command += ["-drive", f"if=none,id=d{number},format=raw,cache=unsafe,file={path}", "-device"]
            kind = f"ide-hd,bus=ide.{number}" if firmware == "u-boot" else "virtio-blk-pci"
            self._command.append(f"{kind},drive=d{number},bootindex={number}")

    def boot(self) -> Booted:
        """Switch on, and wait until a payload has started, a prompt appears, or the time is up."""
        self._log.write_bytes(b"")
        begin = time.monotonic()
        with _process(self._command) as process:
            ending = self._follow(process, begin + self._limit)
        log = self._said()
        found = _STARTED.search(log)
        return Booted(found[1] if found else None, ending, log, time.monotonic() - begin)

    def _follow(self, process: subprocess.Popen[bytes], deadline: float) -> Ending:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return "off"
            log = self._said()
            if _STARTED.search(log):
                # What the loader wrote is on the disk by now, so that nothing is lost if it doesn't switch off.
                _wait(process, min(_TIME_TO_SWITCH_OFF, deadline - time.monotonic()))
                return "off"
            if _PROMPT.search(log):
                return "prompt"
            time.sleep(_STEP)
        return "time limit"

    def _said(self) -> str:
        return _ESCAPE_SEQUENCE.sub("", self._log.read_text(errors="replace").replace("\r", ""))


def new_variables(folder: Path) -> Path:
    """vars.fd in `folder`, made as that of a new machine if there is none."""
    path = folder / "vars.fd"
    if not path.exists():
        path.write_bytes(_OVMF_VARIABLES.read_bytes())
    return path


def _firmware(firmware: Firmware, folder: Path) -> Sequence[str]:
    match firmware:
        case "seabios":
            return ("-M", "pc", "-m", "64")
        case "ovmf":
            return (
                "-M", "q35", "-m", "256",
                "-drive", f"if=pflash,format=raw,readonly=on,file={_OVMF}",
                "-drive", f"if=pflash,format=raw,file={new_variables(folder)}",
            )  # fmt: skip
        case "u-boot":
            return ("-M", "q35", "-m", "512", "-bios", str(_U_BOOT))


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and with the thread that started it even if that is killed."""
    # PR_SET_PDEATHSIG outlives exec. A child's function between fork and exec, where Python could set it, may block
    # when there are threads.
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        yield process
        if process.poll() not in (None, 0):
            raise RuntimeError(f"QEMU failed: {process.stderr.read().decode(errors='replace')}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        return


def children(parent: int) -> set[int]:
    """The processes of QEMU that the process `parent` has started and that still live."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            # proc(5): the name is in parentheses, the parent is the second field after it.
            program, _, rest = stat.partition("(")[2].rpartition(")")
            if program.startswith("qemu-system") and int(rest.split()[1]) == parent:
                found.add(int(name))
    return found
