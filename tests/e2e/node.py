"""A machine that runs updated, with short times, and what scenarios ask it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from bootctl import gpt
from tests.e2e.hardware import GUEST_URL
from tests.e2e.images import Loader, Release
from tests.e2e.vm import Machine, Status

UPDATE_LIMIT: Final = 600.0

_CONFIG: Final = """\
[repository]
url = "{url}"
channel = "stable"

[updates]
interval_seconds = {interval}
reboot = "{reboot}"
users_grace_minutes = 0

[health]
probation_seconds = {probation}
probation_interval_seconds = 5
deadline_seconds = {deadline}
"""
_PLACE: Final = "/etc/updated/updated.toml.d/60-e2e.toml"
_BLOCK: Final = 1 << 20


class Node(Machine):
    """A machine of the reference image."""

    loader: Loader = "systemd-boot"
    requests: Path

    def configure(
        self, *, interval: int = 3600, reboot: str = "reboot", probation: int = 20, deadline: int = 900, more: str = ""
    ) -> None:
        """Write the site's configuration, and let the daemon read it; times in seconds.

        The daemon looks by itself soon after its start and every `interval`; `updatectl check` makes it look now.
        """
        text = _CONFIG.format(url=GUEST_URL, interval=interval, reboot=reboot, probation=probation, deadline=deadline)
        self.write(_PLACE, text + more)
        self.run("systemctl reload-or-restart updated")
        self.wait_for(lambda status: status["next_check"], UPDATE_LIMIT, what="that the daemon has a repository")

    def check(self) -> None:
        """Let the daemon look for a release now."""
        self.run("updatectl check --no-wait")

    def wait_for_reboot(self, limit: float = UPDATE_LIMIT) -> str:
        """Wait until the machine reboots by itself, and for a shell afterwards; the slot."""
        self.wait_reset(limit)
        return self.wait_boot(limit)

    def wait_confirmed(self, version: str, limit: float = UPDATE_LIMIT) -> Status:
        """Wait until `version` runs and health has confirmed it, through reboots."""
        return self.wait_for(
            lambda status: status["running"]["version"] == version and status["running"]["confirmed"]
            and status["phase"] == "idle", limit, what=f"that {version} is confirmed",
        )  # fmt: skip

    def wait_fallen_back(self, version: str, limit: float = UPDATE_LIMIT) -> Status:
        """Wait until the machine runs something else after `version`, and tells why, through reboots."""
        return self.wait_for(
            lambda status: (status["fallback"] or {}).get("version") == version
            and status["running"]["version"] != version, limit, what=f"that {version} is left",
        )  # fmt: skip

    # ------------------------------------------------------------------------------------- from outside, at any time

    def slot_digest(self, slot: str) -> str:
        """The SHA-256 of a slot's partition as it is on the disk."""
        return self._digest(slot, None)

    def holds(self, slot: str, release: Release) -> bool:
        """Whether a slot's partition begins with the image of `release`."""
        with release.rootfs.open("rb") as file:
            expected = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digest(slot, release.rootfs.stat().st_size) == expected

    def _digest(self, slot: str, length: int | None) -> str:
        digest = hashlib.sha256()
        with self.disk.open("rb") as disk:
            table = gpt.read_table(disk.fileno())
            partition = table.partition(f"rootfs-{slot}")
            disk.seek(partition.offset(table.sector_size))
            left = partition.size(table.sector_size) if length is None else length
            while left:
                data = disk.read(min(left, _BLOCK))
                digest.update(data)
                left -= len(data)
        return digest.hexdigest()
