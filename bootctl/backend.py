"""The boot reference of this machine, whatever its bootloader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from bootctl.active import booted_by_kexec
from bootctl.errors import BootError
from bootctl.model import BootView
from bootctl.settings import BACKENDS, BootSettings, ConfigError, load

NOTHING_HERE: Final = "no bootloader keeps one here"
SET_BACKEND: Final = "Set backend in the table [boot], and device or image in the table [disk]."
# What a machine with another bootloader says as well: what this one keeps is not there at all.
_OF_ANOTHER: Final = ("no-disk", "slot-type")


class NoBackend(BootError):
    """No boot reference is here. `lacks`: by the name of each backend that was looked for, why it is not this one."""

    def __init__(self, lacks: Mapping[str, BootError]) -> None:
        self.lacks = lacks
        telling = [
            _line(name, error) for name, error in lacks.items()
            if not error.code.endswith("-missing") and error.code not in _OF_ANOTHER
        ]  # fmt: skip
        super().__init__(
            "no-backend", "the boot reference", NOTHING_HERE + (f" ({'; '.join(telling)})" if telling else ""),
            f"{SET_BACKEND} 'updated-bootctl doctor' says what each backend lacks.",
        )  # fmt: skip

    def lines(self) -> list[str]:
        """What each backend lacks, a line for each."""
        return [_line(name, error) for name, error in self.lacks.items()]


def _line(name: str, error: BootError) -> str:
    return f"{name}: {error.what}, {error.cause}"


class Backend(Protocol):
    """Reads and changes what the bootloader will start. All methods raise BootError.

    `most_tries` (1..15) is how many boots of a trial its loader can count, and `counts_confirmed` says whether it can
    count those of a confirmed slot too.
    """

    name: str
    most_tries: int
    counts_confirmed: bool

    def read(self) -> BootView:
        """The boot reference as the bootloader would read it now."""

    def commit(self, view: BootView) -> None:
        """Make `view` the boot reference, and mend what `problems` found.

        Durable when it returns, and at every cut before that the loader sees the old reference or the new one. Writes
        nothing when nothing changes, and reads back what it wrote (`read-back-differs`).
        """

    def problems(self) -> tuple[str, ...]:
        """What is damaged and does not count at the moment, such as a second copy; one line each."""

    def limits(self) -> tuple[str, ...]:
        """What this loader, as it is here, does not do for the machine's safety; one line each."""

    def begin_reboot(self) -> str:
        """Prepare for the reboot that follows at once; what it has to pass to the firmware so that the boot reference
        counts (reboot(2)), or ''."""


def _gptprio(settings: BootSettings) -> Backend:
    disk = settings.image or settings.device
    if disk is None:
        raise BootError(
            "no-disk",
            "the configuration",
            "the backend gptprio needs a disk, and none is set",
            "Set device or image in the table [disk].",
        )
    from bootctl.gptprio import GptPrio

    return GptPrio(disk, settings.component)


def _uboot(settings: BootSettings) -> Backend:
    from bootctl.uboot import UBoot

    return UBoot(settings.fw_env_config, settings.root)


def _tryboot(settings: BootSettings) -> Backend:
    from bootctl.tryboot import Tryboot

    return Tryboot(settings.autoboot, settings.tryboot_partitions, settings.root)


def _systemd_boot(settings: BootSettings) -> Backend:
    from bootctl.systemd_boot import SystemdBoot

    return SystemdBoot(settings.esp, settings.efivars)


def _grub(settings: BootSettings) -> Backend:
    from bootctl.grub import Grub

    return Grub(settings.grubenv)


def _efi(settings: BootSettings) -> Backend:
    from bootctl.efi import Efi

    return Efi(settings.efivars, settings.efi_backup, by_firmware=not booted_by_kexec(settings.root))


# In the order in which they are looked for: what only a machine that was set up for it has comes first. Each is loaded
# when it is opened: health starts in the middle of a boot, and one of them is enough.
_OPENERS: Final[Mapping[str, Callable[[BootSettings], Backend]]] = {
    "gptprio": _gptprio,
    "uboot": _uboot,
    "tryboot": _tryboot,
    "systemd_boot": _systemd_boot,
    "grub": _grub,
    "efi": _efi,
}


def open_backend(settings: BootSettings) -> Backend:
    """The backend that `settings` names or, for `auto`, the first one whose boot reference is there.

    Raises BootError `unknown-backend`, `no-disk`, `no-backend`.
    """
    if settings.backend in _OPENERS:
        return _OPENERS[settings.backend](settings)
    if settings.backend != "auto":
        raise BootError(
            "unknown-backend",
            f"backend {settings.backend}",
            "there is no such backend",
            f"Use one of: auto, {', '.join(BACKENDS)}.",
        )
    lacks: dict[str, BootError] = {}
    for name, opener in _OPENERS.items():
        try:
            backend = opener(settings)
            backend.read()
        except BootError as error:
            if error.code.endswith("-corrupt"):
                return backend  # it is this one, and says what is wrong with it when it is used
            lacks[name] = error
        else:
            return backend
    if (nothing := _unset(settings.root)) is not None:
        raise BootError("no-backend", nothing.file, nothing.cause, nothing.mend)
    raise NoBackend(lacks)


def _unset(root: str) -> ConfigError | None:
    # Only where something is wrong: health starts in the middle of a boot.
    from bootctl.first_steps import unset

    try:
        return unset(load(root), root)
    except ConfigError:
        return None


def boots_of_confirmed(settings: BootSettings, backend: Backend) -> int:
    """How many boots a confirmed slot gets until somebody says that the machine came up; 0: they are not counted."""
    if not (settings.count_confirmed and backend.counts_confirmed):
        return 0
    return min(settings.tries, backend.most_tries)
