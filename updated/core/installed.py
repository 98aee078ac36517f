"""What the installation of a release cost: for people, and kept with the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from updated.core.document import Object

COSTS = (
    "image", "in_place", "copied", "downloaded", "blob", "patch", "index", "written", "skipped", "discarded",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LastInstall:
    """The release that was written last: how long that took, and the peak memory of the downloader in bytes.

    `components`: of each its `plan` in words, and `COSTS` in bytes. `seal_peak_memory`: of the process that read it
    back, in bytes; None until it has.
    """

    version: str
    seconds: float
    peak_memory: int
    components: Mapping[str, Mapping[str, int | str]]
    seal_peak_memory: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The form in the status file and in the saved state."""
        sealed = {} if self.seal_peak_memory is None else {"seal_peak_memory_bytes": self.seal_peak_memory}
        return {
            "version": self.version, "seconds": self.seconds, "peak_memory_bytes": self.peak_memory, **sealed,
            "components": {name: dict(part) for name, part in self.components.items()},
        }

    @classmethod
    def parse(cls, document: Object) -> LastInstall:
        """What `to_json` gave. Raises `Misfit`."""
        components = document.object("components")
        parts = {name: components.object(name) for name in components.keys()}  # noqa: SIM118
        return cls(
            document.text("version"), document.real("seconds", least=0, most=2**53),
            document.number("peak_memory_bytes"),
            {
                name: {"plan": part.text("plan"), **{cost: part.number(cost) for cost in COSTS}}
                for name, part in parts.items()
            },
            document.number("seal_peak_memory_bytes") if document.has("seal_peak_memory_bytes") else None,
        )
