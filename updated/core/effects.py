"""What a node does: the machine asks for it, and the engine does it. Each may run twice."""

from __future__ import annotations

from dataclasses import dataclass

from updated.core.state import Target


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that the engine does; each may run twice."""


@dataclass(frozen=True, slots=True)
class Check(Effect):
    """Ask the repository what the channel has."""

    any_wave: bool


@dataclass(frozen=True, slots=True)
class Invalidate(Effect):
    """Make the passive slot unbootable."""

    slot: str


@dataclass(frozen=True, slots=True)
class Fetch(Effect):
    """Write the release to the passive slot."""

    target: Target


@dataclass(frozen=True, slots=True)
class Seal(Effect):
    """Verify the signatures again and read the slot back."""

    target: Target


@dataclass(frozen=True, slots=True)
class Baseline(Effect):
    """Keep what the health checks say of the running slot, for the judgement of `version`; never fails."""

    version: str


@dataclass(frozen=True, slots=True)
class Arm(Effect):
    """Let the passive slot boot on trial."""

    slot: str
    tries: int


@dataclass(frozen=True, slots=True)
class Reject(Effect):
    """Take a slot that failed out of the boot reference."""

    slot: str


@dataclass(frozen=True, slots=True)
class RollBack(Effect):
    """Let the boot reference name the other, confirmed slot."""


@dataclass(frozen=True, slots=True)
class AskHooks(Effect):
    """Run the programs that have a say in the reboot for `reason`; `insist`: a person wants it, whatever pauses."""

    reason: str
    insist: bool


@dataclass(frozen=True, slots=True)
class Warn(Effect):
    """Tell all who are logged in that the machine reboots into `version` at `until`, in `seconds`; never fails."""

    version: str
    until: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Reboot(Effect):
    """Reboot the machine; `onward`: into the release that is staged, and not out of one that failed or is left."""

    reason: str
    onward: bool


@dataclass(frozen=True, slots=True)
class Stop(Effect):
    """End the child process that runs."""


@dataclass(frozen=True, slots=True)
class Record(Effect):
    """Write a line of history."""

    kind: str
    version: str
    text: str
