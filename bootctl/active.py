"""Which slot runs now, from the kernel's command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from bootctl.errors import BootError, mend_of
from bootctl.gpt import read_table, slot_partitions
from bootctl.settings import BootSettings

# Words are separated by blanks; double quotes keep blanks within a value (Linux, lib/cmdline.c).
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_SLOT: Final = re.compile(r"[a-z0-9]+")
# What a kernel is given that was started without firmware and loader.
BY_KEXEC: Final = "updated.kexec"


def running_slot(settings: BootSettings) -> str:
    """The slot that runs now. Never a guess: confirming the wrong slot would take away the way back.

    Raises BootError `active-unknown`; `no-disk`, or as `bootctl.gpt`, when the partition table is needed and not there.
    """
    named = active_slot(settings.root, {})
    try:
        slots = _slots_by_partuuid(settings)
    except BootError:
        if named is None:
            raise
        slots = {}
    mounted = _slot_of_root(_command_line(settings.root), slots)
    if named is not None and mounted is not None and named != mounted:
        raise BootError(
            "active-unknown",
            "the running slot",
            f"the kernel's command line names slot {named}, and with root= the partition of slot {mounted}",
            "Correct the configuration of the bootloader: each of its entries must name one slot.",
        )
    slot = named or mounted
    if slot is None:
        raise BootError(
            "active-unknown",
            "the running slot",
            f"{os.path.join(settings.root, 'proc/cmdline')} does not tell which one it is",
            "Let the bootloader pass updated.slot=NAME, or root=PARTUUID=… of a slot's partition.",
        )
    return slot


def _slots_by_partuuid(settings: BootSettings) -> Mapping[str, str]:
    disk = settings.image or settings.device
    if disk is None:
        return {}
    try:
        fd = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BootError(
            "no-disk", disk, f"it can't be opened ({error.strerror})",
            mend_of(error, "Set device or image in the table [disk]."),
        ) from error
    try:
        partitions = slot_partitions(read_table(fd), settings.component)
    finally:
        os.close(fd)
    return {partition.unique_guid: slot for slot, partition in partitions.items()}


def active_slot(root: str, partuuids: Mapping[str, str]) -> str | None:
    """The slot that runs now, or None when the command line doesn't tell.

    Reads ROOT/proc/cmdline: `updated.slot=NAME`, else `rauc.slot=NAME`, else `root=PARTUUID=...`, which is looked up in
    `partuuids` (PARTUUID in lower case -> slot). The last one of several equal arguments counts, as in the kernel.
    """
    arguments = _command_line(root)
    for key in ("updated.slot", "rauc.slot"):
        name = arguments.get(key, "").lower()
        if _SLOT.fullmatch(name):
            return name
    return _slot_of_root(arguments, partuuids)


def booted_by_kexec(root: str) -> bool:
    """Whether the system below `root` was started by kexec: what the firmware says of its last boot is not of this one.

    Reads ROOT/proc/cmdline.
    """
    return _command_line(root).get(BY_KEXEC) == "1"


def words_of(line: str) -> list[str]:
    """The words of a kernel's command line as they stand there, with their quotes."""
    return _WORD.findall(line)


def _slot_of_root(arguments: Mapping[str, str], partuuids: Mapping[str, str]) -> str | None:
    scheme, _, partuuid = arguments.get("root", "").partition("=")
    return partuuids.get(partuuid.lower()) if scheme == "PARTUUID" else None


def _command_line(root: str) -> dict[str, str]:
    try:
        with open(os.path.join(root, "proc/cmdline"), encoding="utf-8", errors="replace") as file:
            return _arguments(file.read())
    except OSError:
        return {}


def _arguments(line: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for word in words_of(line):
        plain = word.replace('"', "")
        if plain == "--":
            break  # what follows is for init
        key, separator, value = plain.partition("=")
        if separator:
            arguments[key] = value
    return arguments
