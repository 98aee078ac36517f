"""Which slot runs now. Never a guess: confirming the wrong slot would take away the way back."""

import os
from collections.abc import Mapping

from bootctl.active import active_slot
from bootctl.errors import BootError
from bootctl.gpt import read_table, slot_partitions
from bootctl.settings import BootSettings


def running_slot(settings: BootSettings, backend: str) -> str:
    """The slot that the kernel's command line tells of. Raises BootError `active-unknown`, or as bootctl.gpt."""
    slot = active_slot(settings.root, _slots_by_partuuid(settings) if backend == "gptprio" else {})
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
            "no-disk", disk, f"it can't be opened ({error.strerror})", "Set device or image in the table [disk]."
        ) from error
    try:
        partitions = slot_partitions(read_table(fd), settings.component)
    finally:
        os.close(fd)
    return {partition.unique_guid: slot for slot, partition in partitions.items()}
