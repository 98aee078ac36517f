"""The boot reference in U-Boot's environment.

The formats are in bootctl/uboot_env.py, what the variables mean in bootctl/uboot_variables.py, and which copy counts
and what is written in bootctl/uboot_copies.py.
"""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from bootctl import uboot_env
from bootctl.errors import BootError, mend_of, naming
from bootctl.file_pair import BACKUP_SUFFIX
from bootctl.model import BootView
from bootctl.settings import below
from bootctl.uboot_copies import Copy, Found, Kind, found_in, overlap
from bootctl.uboot_env import Place
from bootctl.uboot_files import content_of, is_whole_file, locked, size_of, unreadable, write
from bootctl.uboot_variables import MOST_TRIES

# That of fw_printenv and fw_setenv, which take it for reading too.
LOCK_FILE: Final = "/var/lock/fw_printenv.lock"

_LARGEST_CONFIG: Final = 1 << 16
_FLASH: Final = ("/dev/mtd", "/dev/ubi")


class UBoot:
    """The backend for the environment that the fw_env.config at `config` tells of; the paths in it lie below `root`.

    The environment knows an order and no numbers: what was committed with the priorities 1 and 0 is read back as 2 and
    0.
    """

    def __init__(self, config: str, root: str = "/") -> None:
        self.name = "uboot"
        self.most_tries = MOST_TRIES
        self.counts_confirmed = True
        self._config = config
        self._root = root

    def read(self) -> BootView:
        """From the second copy of a file if the first one is corrupt, as boot.cmd does.

        Raises BootError `uboot-config-missing`, `uboot-config-unreadable`, `uboot-config-corrupt`,
        `uboot-device-unsupported`, `uboot-env-missing`, `uboot-env-unreadable`, `uboot-env-corrupt`, `no-slots`,
        `uboot-busy`.
        """
        with self._locked():
            return self._find().view

    def commit(self, view: BootView) -> None:
        """All of a change is one write of one copy. Raises BootError: what `read` raises, `uboot-env-full`,
        `uboot-env-not-writable`, `unknown-slot`, `bad-tries`, `read-back-differs`.
        """
        with self._locked():
            found = self._find()
            for name in {*found.view.names, *view.names}:
                for one in (found.view, view):
                    one.state(name)
            wanted = found.changed(view)
            writes = found.writes(wanted)
            for copy, data in writes:
                write(copy, data, found.kind)
            after = self._find() if writes else found
            if after.environment.entries != wanted.entries or after.damages:
                raise BootError(
                    "read-back-differs",
                    str(after.copy),
                    "it does not hold what was written to it",
                    "The disk doesn't keep what is written to it: replace it.",
                )

    def problems(self) -> tuple[str, ...]:
        with self._locked():
            found = self._find()
        return tuple(f"{found.copies[index]}: {damage}" for index, damage in found.damages.items())

    def limits(self) -> tuple[str, ...]:
        with self._locked():
            found = self._find()
        limits = []
        count = uboot_env.boot_count(found.environment.variables)
        if count is not None:
            limits.append(_words(count))
        if found.kind == "file":
            limits.append(
                f"U-Boot writes {found.copies[0]} in place when it counts, and reads no second copy by itself: let "
                f"boot.cmd read {found.copies[1]}, or give U-Boot a redundant environment"
            )
        if found.kind == "raw":
            limits.append(
                f"{found.copy} is the only copy of U-Boot's environment: if it is damaged, U-Boot starts with the "
                "variables that it was built with; give it a redundant environment"
            )
            if not found.is_confined():
                limits.append(
                    f"the next change of {found.copy} goes beyond its first sector, because of variables of others: a "
                    "power cut during it would damage the environment; later changes stay within, if nobody else adds "
                    "variables"
                )
        return tuple(limits)

    def begin_reboot(self) -> str:
        return ""

    def _find(self) -> Found:
        copies = [self._copy(place) for place in self._places()]
        kind: Kind = "redundant" if len(copies) == 2 else "file" if is_whole_file(copies[0]) else "raw"
        if kind == "redundant" and overlap(copies[0], copies[1]):
            raise BootError(
                "uboot-config-corrupt", self._config, "its two places overlap", "Give each copy a place of its own."
            )
        if kind == "file":
            copies.append(replace(copies[0], path=copies[0].path + BACKUP_SUFFIX))
        contents = tuple(content_of(copy, redundant=kind == "redundant") for copy in copies)
        return found_in(kind, tuple(copies), contents)

    def _places(self) -> tuple[Place, ...]:
        try:
            with open(self._config, "rb") as file:
                data = file.read(_LARGEST_CONFIG)
        except FileNotFoundError:
            raise BootError(
                "uboot-config-missing",
                self._config,
                "there is no such file",
                "Write it (packaging/uboot/README.md), or set fw_env_config in the table [boot].",
            ) from None
        except OSError as error:
            raise BootError(
                "uboot-config-unreadable", self._config, f"it can't be read ({error.strerror})", mend_of(error)
            ) from error
        with naming(self._config, uboot_env.CONFIG):
            return uboot_env.parse_config(data)

    def _copy(self, place: Place) -> Copy:
        # A link is followed, as fw_setenv does; a rename would replace it.
        path = os.path.realpath(below(self._root, place.device))
        try:
            mode = os.stat(path).st_mode
            size = size_of(path) if place.offset < 0 else 0
        except FileNotFoundError:
            mode, size = stat.S_IFREG, 0
        except OSError as error:
            raise unreadable(path, error) from error
        # Flash has to be erased before it is written, past bad blocks, and UBI volumes are written by ioctl.
        if place.device.startswith(_FLASH) or not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise BootError(
                "uboot-device-unsupported",
                path,
                "it is neither a disk nor a file, and flash is not written by this program",
                "Keep U-Boot's environment on a disk, eMMC or file system; for flash there are only the tools of "
                "libubootenv (fw_printenv, fw_setenv).",
            )
        offset = place.offset + size if place.offset < 0 else place.offset
        if offset < 0:
            raise BootError(
                "uboot-config-corrupt",
                self._config,
                f"the offset {place.offset} lies before the beginning of {path}",
                "Give an offset within it.",
            )
        return Copy(path, offset, place.size)

    def _locked(self) -> AbstractContextManager[None]:
        return locked(below(self._root, LOCK_FILE))


def _words(count: uboot_env.BootCount) -> str:
    words = [f"U-Boot itself {'counts' if count.counting else 'does not count now'}: bootcount {count.count}"]
    words[0] += f" of bootlimit {count.limit}" if count.limit else " without bootlimit"
    if count.upgrade_available is not None:
        words.append(f"upgrade_available={count.upgrade_available}")
    if count.limit:
        words.append("then altbootcmd" if count.alternative else "then nothing, since altbootcmd is not set")
    return ", ".join(words)
