"""Whether the clock follows a source of time, whichever program sees to it."""

import ctypes
import os
from dataclasses import dataclass
from typing import ClassVar

from health import keys
from health.check import Attempt
from health.probes import Surroundings

ERROR_LIMIT = 16_000_000
"""Microseconds of possible error at which the kernel takes the clock for lost (NTP_PHASE_LIMIT); it grows to that by
itself while nothing disciplines the clock. systemd's NTPSynchronized is told in the same way."""


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class TimeProbe:
    """The kernel holds the clock for synchronised, as chrony, ntpd, systemd-timesyncd and others tell it."""

    type: ClassVar[str] = "time-synchronised"

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        error = greatest_error()
        if error < ERROR_LIMIT:
            return Attempt("pass", f"the clock is off by at most {error / 1e6:.3f} s")
        return Attempt("fail", "the clock is not synchronised")


def greatest_error() -> int:
    """How far the clock may be off, in microseconds; `ERROR_LIMIT` and more: nobody knows. Raises OSError."""
    asked = _Timex()  # modes 0: nothing is changed
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(asked.maxerror)


TYPES = {TimeProbe.type: keys.Type(TimeProbe, {})}
