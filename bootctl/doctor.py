"""Says what is wrong with the boot reference, mends it, and foretells which slot boots next, and next, and next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootctl import model
from bootctl.backend import Backend
from bootctl.model import BootView


@dataclass(frozen=True, slots=True)
class Findings:
    """`found` are damages, `mended` those that are gone now; `boots` the slots that start, each after the failure of
    the one before. `warnings` are about the boot reference, `limits` about the loader."""

    backend: str
    view: BootView
    found: tuple[str, ...]
    mended: tuple[str, ...]
    boots: tuple[str | None, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether something boots, and nothing is damaged any more."""
        return self.boots[0] is not None and self.mended == self.found

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "backend": self.backend, "well": self.well, "found": list(self.found), "mended": list(self.mended),
            "boots": list(self.boots), "warnings": list(self.warnings), "limits": list(self.limits),
            "slots": {name: state.condition for name, state in self.view.slots},
        }  # fmt: skip

    def text(self) -> str:
        """For people."""
        slots = ", ".join(f"{name} {state.condition}" for name, state in self.view.slots)
        lines = [f"{self.backend}: {slots}"]
        lines += [f"damaged, {'mended' if text in self.mended else 'not mended'}: {text}" for text in self.found]
        boots = " ".join(slot or "(none)" for slot in self.boots)
        lines.append(f"next boots, if each of them fails: {boots}")
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [f"limit: {text}" for text in self.limits]
        return "\n".join(lines)


def examine(backend: Backend, *, failures: int, mend: bool) -> Findings:
    """Look, mend if that is wanted, and foretell `failures` boots after the next one. Raises BootError as `backend`."""
    view = backend.read()
    found = backend.problems()
    if found and mend:
        backend.commit(view)
    left = backend.problems() if found and mend else found
    boots = model.boot_sequence(view, max(0, failures))
    mended = tuple(text for text in found if text not in left)
    return Findings(backend.name, view, found, mended, boots, tuple(_warnings(view, boots)), backend.limits())


def _warnings(view: BootView, boots: tuple[str | None, ...]) -> list[str]:
    good = [name for name, state in view.slots if state.condition == "good"]
    warnings = []
    if boots[0] is None:
        warnings.append("no slot may boot; confirm the one that is known to work (confirm SLOT)")
    elif not good:
        warnings.append("no slot is confirmed: there is nothing to fall back to before health confirms one")
    elif len(good) == 1 and all(slot == good[0] for slot in boots):
        warnings.append(f"slot {good[0]} is the only one that can boot")
    return warnings
