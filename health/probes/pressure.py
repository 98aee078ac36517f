"""Whether the machine suffocates: the kernel's pressure stall information, and the load."""

import errno
import os
from dataclasses import dataclass
from typing import ClassVar

from health import keys
from health.check import Attempt
from health.probes import Surroundings, of_the_kernel

LOADAVG = "/proc/loadavg"
_FIELD_OF_LOAD = {10: 0, 60: 0, 300: 1}
"""/proc/loadavg averages over 1, 5 and 15 minutes (proc(5))."""


@dataclass(frozen=True, slots=True)
class PressureProbe:
    """The share of time in which some tasks (`full`: all) waited, and the load per CPU, must not exceed the limits.

    Percent, averaged by the kernel over the last `window_seconds` (10, 60 or 300); the load over 1 or 5 minutes. Limits
    of what the kernel does not measure are passed over.
    """

    type: ClassVar[str] = "pressure"
    cpu_percent: float | None = None
    memory_percent: float | None = None
    memory_full_percent: float | None = None
    io_percent: float | None = None
    io_full_percent: float | None = None
    load_per_cpu: float | None = None
    window_seconds: int = 60

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        measured = [
            (name, value, limit)
            for name, limit, value in (
                ("cpu some", self.cpu_percent, self._stalled(around, "cpu", "some")),
                ("memory some", self.memory_percent, self._stalled(around, "memory", "some")),
                ("memory full", self.memory_full_percent, self._stalled(around, "memory", "full")),
                ("io some", self.io_percent, self._stalled(around, "io", "some")),
                ("io full", self.io_full_percent, self._stalled(around, "io", "full")),
                ("load per CPU", self.load_per_cpu, self._load(around)),
            )
            if limit is not None and value is not None
        ]
        if not measured:
            return Attempt("skip", "the kernel measures none of this")
        told = ", ".join(f"{name} {value:.2f} of at most {limit:g}" for name, value, limit in measured)
        return Attempt("fail" if any(value > limit for _, value, limit in measured) else "pass", told)

    def _stalled(self, around: Surroundings, resource: str, share: str) -> float | None:
        try:
            text = of_the_kernel(around, f"/proc/pressure/{resource}")
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # the kernel was started with psi=0
                return None
            raise
        for line in (text or "").splitlines():
            kind, *averages = line.split()
            if kind == share:
                return float(dict(field.split("=", 1) for field in averages)[f"avg{self.window_seconds}"])
        return None

    def _load(self, around: Surroundings) -> float | None:
        text = of_the_kernel(around, LOADAVG)
        if text is None:
            return None
        return float(text.split()[_FIELD_OF_LOAD[self.window_seconds]]) / (os.cpu_count() or 1)


_PERCENT = keys.number(0, 100)
_LIMITS = {
    "cpu_percent": _PERCENT,
    "memory_percent": _PERCENT,
    "memory_full_percent": _PERCENT,
    "io_percent": _PERCENT,
    "io_full_percent": _PERCENT,
    "load_per_cpu": keys.number(0, 100000),
}

TYPES = {
    PressureProbe.type: keys.Type(
        PressureProbe, {**_LIMITS, "window_seconds": keys.one_of(10, 60, 300)}, one_of=tuple(_LIMITS)
    )
}
