"""What every verb has to know of the machine below a root: which slot runs, by which settings, with which loader."""

import os
import time
from dataclasses import dataclass

from bootctl.active import running_slot
from bootctl.backend import Backend, boots_of_confirmed, open_backend
from bootctl.health_settings import HealthSettings, health_settings
from bootctl.settings import boot_settings, load
from health import system


@dataclass(frozen=True, slots=True)
class Machine:
    """`root` is absolute; `version` and `boot_id` may be unknown; `counted` is as in `bootctl.model.confirm`.

    `proxy` is that of the repository, or nothing.
    """

    root: str
    slot: str
    version: str | None
    boot_id: str | None
    backend: Backend
    counted: int
    settings: HealthSettings
    proxy: str

    @property
    def release(self) -> str:
        """What runs, by a name that there always is."""
        return self.version or f"slot {self.slot}"

    @property
    def systemd(self) -> bool:
        """Whether systemd runs this very system, as sd_booted(3) tells it."""
        return self.root == "/" and os.path.isdir("/run/systemd/system")


def open_machine(root: str) -> Machine:
    """The machine below `root`. Raises ConfigError, BootError, OSError."""
    layered = load(root)
    settings = boot_settings(layered, root)
    health = health_settings(layered)
    backend = open_backend(settings)
    slot = running_slot(settings)
    repository = layered.values.get("repository")
    proxy = repository.get("proxy") if isinstance(repository, dict) else None
    return Machine(
        root, slot, system.image_version(root), system.boot_id(root), backend, boots_of_confirmed(settings, backend),
        health, proxy if isinstance(proxy, str) else "",
    )  # fmt: skip


def now(later: float = 0) -> str:
    """The time, or that `later` seconds later, as all files of health have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + later))
