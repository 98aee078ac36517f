"""The facts of this boot, read from the machine: slot, version, boot id, boot reference, verdict."""

from __future__ import annotations

import os

from bootctl.backend import Backend, open_backend
from bootctl.errors import BootError
from bootctl.settings import BootSettings, below
from updated.core.errors import UpdatedError
from updated.core.state import BootFacts
from updated.disk import Disk, boot_error
from updated.healthfiles import read_ending, read_rejection
from updated.processes import boot_id

MAX_RELEASE_LENGTH = 65536


def open_boot(settings: BootSettings) -> Backend:
    """The boot reference of the node. Raises `UpdatedError` ("boot-reference")."""
    try:
        return open_backend(settings)
    except BootError as error:
        raise boot_error(error) from None


def read_facts(root: str, disk: Disk, boot: Backend) -> BootFacts:
    """What is true now below `root`. Raises `UpdatedError` when boot reference or running slot can't be told."""
    try:
        view = boot.read()
        slot = disk.running_slot()
        if slot not in view.names:
            raise UpdatedError(
                "slot-running", f"slot {slot}", "runs, and is not in the boot reference",
                "See 'updated-bootctl show'.",
            )
        view.other(slot)
    except BootError as error:
        raise boot_error(error) from None
    boot_now = boot_id(root)
    return BootFacts(slot, os_version(root), boot_now, view, read_rejection(root), read_ending(root, boot_now))


def os_version(root: str) -> str:
    """IMAGE_VERSION, or else VERSION_ID, of os-release(5) below `root`. Raises `UpdatedError` ("bad-config")."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = _text(below(root, path))
        values = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        version = values.get("IMAGE_VERSION") or values.get("VERSION_ID")
        if version:
            return version.strip("\"'")
    raise UpdatedError(
        "bad-config", below(root, "/etc/os-release"), "does not say which version runs",
        "Put IMAGE_VERSION=... into the os-release file of the image.",
    )


def build_time(root: str) -> int:
    """When the running image was built, in seconds since the epoch: the clock can't be earlier.

    The modification time of /usr/lib/clock-epoch, which systemd reads for the same purpose, or else of os-release.
    """
    for path in ("/usr/lib/clock-epoch", "/usr/lib/os-release"):
        try:
            return int(os.stat(below(root, path)).st_mtime)
        except OSError:
            continue
    return 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_RELEASE_LENGTH)
    except OSError:
        return ""
