"""The settings of the table [health], which the daemon checks as well, so that a mistake is told before a reboot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from bootctl.settings import Layered, table_of
from bootctl.toml_value import toml

TABLE: Final = "health"
# From the lowest to the highest value of each number.
RANGES: Final = {
    "probation_seconds": (0, 86400),
    "probation_interval_seconds": (1, 600),
    "deadline_seconds": (0, 86400),
    "reboots_per_release": (1, 100),
    "reboots_per_day": (1, 100),
}


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What follows from the checks, and when.

    `probation_seconds` (0: confirm at once) is how long a slot on trial is watched after its checks passed, with a look
    each `probation_interval_seconds`; `deadline_seconds` (0: off) from the start of the kernel is how long a boot may
    take to its verdict. `reboots_per_release` and `reboots_per_day` bound what reboots by itself. `greenboot` and
    `health_checker`: whether the folders of these two are used.
    """

    probation_seconds: int = 300
    probation_interval_seconds: int = 60
    deadline_seconds: int = 900
    reboots_per_release: int = 3
    reboots_per_day: int = 5
    greenboot: bool = True
    health_checker: bool = True


def health_settings(layered: Layered) -> HealthSettings:
    """The settings of the table [health]. Raises ConfigError for an unknown key and for a value that can't be."""
    given = table_of(layered, TABLE, [field.name for field in fields(HealthSettings)])
    for key, value in given.items():
        if key not in RANGES:
            if type(value) is not bool:
                raise layered.error(f"{TABLE}.{key}", f"{toml(value)} is neither true nor false", "Give true or false.")
            continue
        least, most = RANGES[key]
        if type(value) is not int or not least <= value <= most:
            raise layered.error(
                f"{TABLE}.{key}", f"{toml(value)} is not accepted", f"Give a whole number from {least} to {most}."
            )
    return HealthSettings(**given)
