"""The exit statuses of `python -m health`; the units and updated-health-end act on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from health.judgement import Verdict

EXIT_FAILED = 1
"""A hook that stands in the way of a reboot, or a baseline that could not be kept."""
EXIT_USAGE = 2
EXIT_REBOOT = 3
EXIT_BOOT_REFERENCE = 5
EXIT_STAYS = 6
"""A reboot is wanted, but there were too many of them: the machine stays up."""
EXIT_INTERRUPTED = 128
"""Plus the number of the signal, as a shell has it. No slot was confirmed or given up."""
EXIT_OF: dict[Verdict, int] = {
    "confirmed": 0, "probation": 0, "healthy": 0, "sick": 1, "rejected": EXIT_REBOOT, "no-fallback": 4,
}  # fmt: skip
