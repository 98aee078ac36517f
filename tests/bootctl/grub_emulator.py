"""GRUB itself, run as a program: it sources updated.cfg and saves into a file system of its own."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SNIPPET = Path(__file__).parents[2] / "packaging" / "grub" / "updated.cfg"

_GRUB_CFG = """\
set updated_env="(hd0)/grubenv"
source $prefix/updated.cfg
echo
echo "slot=$updated_slot default=$default fallback=$fallback."
exit
"""


@dataclass(frozen=True, slots=True)
class Booted:
    """What GRUB chose, and the files of its folder afterwards."""

    slot: str
    default: str
    fallback: str
    files: dict[str, bytes]


def boot(files: Mapping[str, bytes]) -> Booted:
    """Start GRUB with `files` (grubenv, grubenv.backup) on its disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        work = Path(folder)
        for name in ("grub", "files"):
            (work / name).mkdir()
        (work / "grub" / "grub.cfg").write_text(_GRUB_CFG)
        (work / "grub" / "updated.cfg").write_bytes(SNIPPET.read_bytes())
        for name, data in files.items():
            (work / "files" / name).write_bytes(data)
        image = work / "disk.img"
        _run("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", str(work / "files"), str(image), "256")
        (work / "device.map").write_text(f"(hd0) {image}\n")
        shown = _run(
            "grub-emu", "-m", str(work / "device.map"), "-d", str(work / "grub"), "-r", "host", timeout=30
        ).decode("ascii", errors="replace")
        match = re.search(r"slot=(\S*) default=(\S*) fallback=(\S*)\.", shown)
        assert match, shown
        for name in files:
            _run("debugfs", "-R", f"dump /{name} {work / 'files' / name}", str(image))
        return Booted(match[1], match[2], match[3], {name: (work / "files" / name).read_bytes() for name in files})


def grubenv(variables: Mapping[str, str]) -> bytes:
    """A block with `variables`, made by grub-editenv."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/grubenv"
        _run("grub-editenv", path, "create")
        if variables:
            _run("grub-editenv", path, "set", *(f"{name}={value}" for name, value in variables.items()))
        return Path(path).read_bytes()


def listed(block: bytes) -> dict[str, str]:
    """The variables of a block without newlines in them, as grub-editenv lists them."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(block)
        file.flush()
        lines = _run("grub-editenv", file.name, "list").decode().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _run(*command: str, timeout: int | None = None) -> bytes:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout).stdout
