"""What the last verdict says of a probation. Apart, since `updatectl` loads it at each call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def probation_text(health: Mapping[str, Any] | None) -> str:
    """That the slot is on probation, if `health` put it there in this boot."""
    if health is None or not health.get("this_boot") or health["verdict"] != "probation":
        return ""
    until = health.get("probation_until")
    return f"on probation until {until}" if until else "on probation"
