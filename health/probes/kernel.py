"""Whether the kernel of this boot is sound: its taints, and what it logged."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from health import keys
from health.check import Attempt
from health.probes import Surroundings, cause, nothing_told, of_the_kernel
from health.rootdir import below

TAINTED = "/proc/sys/kernel/tainted"
LOG = "/dev/kmsg"
TAINTS = "PFSRMBUDAWCIOELKXTNJ"
"""The letter of each bit, from bit 0 on (Documentation/admin-guide/tainted-kernels.rst of the kernel)."""
ALARM = re.compile(
    r"Kernel panic|kernel BUG at|\bBUG: |\bOops\b|^Internal error: |^Unable to handle kernel |^general protection fault"
)
"""How the kernel begins the report of its own fault, on x86, ARM, MIPS, RISC-V and POWER."""
RECORD_LIMIT = 8192
"""Bytes that hold any record: the kernel refuses to read one in parts."""
TOLD = 5
"""Lines of the log that are told, the first ones: later faults often follow from them."""


@dataclass(frozen=True, slots=True)
class KernelProbe:
    """No taint but those of `taint_allowed`, and no report of an oops, BUG or panic in the log of this boot.

    Lines that a shell pattern of `ignore` matches as a whole are passed over. What programs wrote into the kernel's log
    does not count.
    """

    type: ClassVar[str] = "kernel"
    taint_allowed: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        from fnmatch import fnmatchcase

        value = of_the_kernel(around, TAINTED)
        if value is None:
            return nothing_told(around, TAINTED)
        problems = [f"tainted {letter}" for letter in taints(int(value)) if letter not in self.taint_allowed]
        try:
            text = _read(below(around.root, LOG), time.monotonic() + timeout)
        except TimeoutError:
            return Attempt("timeout", f"{LOG} was not read to its end within {timeout:g} s")
        except OSError as error:
            problems.append(f"{LOG} can't be read: {cause(error)}")
            text = ""
        alarms = [
            message
            for message in messages(text)
            if ALARM.search(message) and not any(fnmatchcase(message, pattern) for pattern in self.ignore)
        ]
        problems += alarms[:TOLD]
        # Neither a taint nor a line of the log goes away again.
        return Attempt("fail", "\n".join(problems), final=True) if problems else Attempt("pass")


def taints(value: int) -> list[str]:
    """The letters of the bits that are set; of a bit without a letter, its number."""
    bits = [bit for bit in range(value.bit_length()) if value >> bit & 1]
    return [TAINTS[bit] if bit < len(TAINTS) else str(bit) for bit in bits]


def messages(text: str) -> Iterator[str]:
    """The kernel's own messages in records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg of the kernel)."""
    for line in text.split("\n"):
        head, separator, message = line.partition(";")
        priority = head.split(",")[0]
        # The facility stands above the lowest three bits; 0 is the kernel, which programs can't claim.
        if separator and priority.isdecimal() and int(priority) >> 3 == 0:
            yield message


def _read(path: str, deadline: float) -> str:
    log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kept = bytearray()
    try:
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError
            try:
                block = os.read(log, RECORD_LIMIT)
            except BrokenPipeError:  # the oldest records were overwritten meanwhile; the next read goes on
                continue
            except BlockingIOError:
                break
            if not block:
                break
            kept += block
    finally:
        os.close(log)
    return kept.decode(errors="replace")


def _letters(value: object) -> tuple[str, ...]:
    letters = keys.texts(value)
    unknown = [letter for letter in letters if len(letter) != 1 or letter not in TAINTS]
    if unknown:
        raise keys.BadValue(f"{unknown[0]!r} is no taint", f'Write letters of {TAINTS}, such as ["P", "O"].')
    return letters


TYPES = {KernelProbe.type: keys.Type(KernelProbe, {"taint_allowed": _letters, "ignore": keys.texts})}
