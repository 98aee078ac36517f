"""The boot reference of this machine, whatever its bootloader."""

from __future__ import annotations

import os
from typing import Final, Protocol

from bootctl.errors import BootError
from bootctl.gptprio import GptPrio
from bootctl.grub import Grub
from bootctl.model import BootView
from bootctl.settings import BootSettings

BACKENDS: Final = ("gptprio", "grub")


class Backend(Protocol):
    """Reads and changes what the bootloader will start. All methods raise BootError."""

    name: str

    def read(self) -> BootView:
        """The boot reference as the bootloader would read it now."""

    def commit(self, view: BootView) -> None:
        """Make `view` the boot reference.

        Durable when it returns, and at every cut before that the loader sees the old reference or the new one. Writes
        nothing when nothing changes, and reads back what it wrote (`read-back-differs`).
        """


def open_backend(settings: BootSettings) -> Backend:
    """The backend that `settings` names or, for `auto`, the one whose boot reference is there.

    Raises BootError `unknown-backend`, `no-disk`, `no-backend`.
    """
    disk = settings.image or settings.device
    if settings.backend == "grub":
        return Grub(settings.grubenv)
    if settings.backend == "gptprio":
        if disk is None:
            raise BootError(
                "no-disk",
                "the configuration",
                "the backend gptprio needs a disk, and none is set",
                "Set device or image in the table [disk].",
            )
        return GptPrio(disk, settings.component)
    if settings.backend != "auto":
        raise BootError(
            "unknown-backend",
            f"backend {settings.backend}",
            "there is no such backend",
            f"Use one of: auto, {', '.join(BACKENDS)}.",
        )
    reason = "no disk is set"
    if disk is not None:
        # The type of its partitions says more than a file: only disks made for gptprio have it.
        backend = GptPrio(disk, settings.component)
        try:
            backend.read()
        except BootError as error:
            reason = f"{error.what}: {error.cause}"
        else:
            return backend
    if os.path.exists(settings.grubenv):
        return Grub(settings.grubenv)
    raise BootError(
        "no-backend",
        "the boot reference",
        f"it is neither in a partition table ({reason}) nor in {settings.grubenv} (there is no such file)",
        "Set backend in the table [boot], and device or image in the table [disk].",
    )
