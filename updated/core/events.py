"""What can happen to a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import LastInstall
from updated.core.selection import Reason
from updated.core.state import BootFacts, Offer
from updated.core.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `now` (epoch seconds). `chance` in [0, 1) is drawn by the engine."""

    now: int
    chance: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The daemon started; what it was doing before is over."""

    facts: BootFacts


@dataclass(frozen=True, slots=True)
class Observed(Event):
    """The boot reference and the verdict were read again."""

    facts: BootFacts


@dataclass(frozen=True, slots=True)
class Surrounded(Event):
    """What goes on around the node changed: inhibitors, people, network, power."""

    around: Surroundings


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time passed."""


@dataclass(frozen=True, slots=True)
class CheckRequested(Event):
    """A person asks what there is."""

    by: str


@dataclass(frozen=True, slots=True)
class InstallRequested(Event):
    """A person wants the newest release now: no wave, no hold."""

    by: str


@dataclass(frozen=True, slots=True)
class ImportRequested(Event):
    """A person hands a bundle or a directory over, to install the newest release in it now."""

    by: str


@dataclass(frozen=True, slots=True)
class RebootRequested(Event):
    """A person wants the reboot into what is staged now; with `force` the hooks are not asked."""

    by: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class RollbackRequested(Event):
    """A person wants the other slot back; with `force` also one whose release was denied or recalled."""

    by: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class ChannelRequested(Event):
    """A person chose a channel."""

    by: str
    channel: str


@dataclass(frozen=True, slots=True)
class HoldRequested(Event):
    """A person pauses updates, until a time or without end."""

    by: str
    until: int | None


@dataclass(frozen=True, slots=True)
class UnholdRequested(Event):
    """A person ends the pause."""

    by: str


@dataclass(frozen=True, slots=True)
class AllowRequested(Event):
    """A person takes a release off the denylist."""

    by: str
    version: str


@dataclass(frozen=True, slots=True)
class Reconfigured(Event):
    """The configuration was read again, and says otherwise which releases are taken.

    `followed` is the channel that was followed before.
    """

    followed: str


@dataclass(frozen=True, slots=True)
class CheckDone(Event):
    """The channel was read: there is an offer, or there are reasons why not.

    `withdrawn`: why the release that is staged is not shipped any more, if that is so. `expiries`: by role. `recalled`:
    of the versions in the slots, why each that was recalled was so.
    """

    offer: Offer | None
    reasons: tuple[Reason, ...]
    withdrawn: str | None = None
    expiries: Mapping[str, Expiry] = field(default_factory=dict)
    recalled: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FetchDone(Event):
    """The release is written to the passive slot; `installed`: what that cost."""

    installed: LastInstall | None = None


@dataclass(frozen=True, slots=True)
class SealDone(Event):
    """The passive slot was read back, and is what was signed.

    `accepted`: the roles whose metadata had expired, and was accepted all the same. `urgent`: the publisher calls the
    release so. `peak_memory`: of the process that read it, in bytes.
    """

    accepted: tuple[str, ...] = ()
    urgent: bool = False
    peak_memory: int | None = None


@dataclass(frozen=True, slots=True)
class ArmDone(Event):
    """The boot reference names the passive slot, with so many tries."""

    tries: int


@dataclass(frozen=True, slots=True)
class HooksPassed(Event):
    """No hook refused the reboot; `reason` and `insist` are those of the effect."""

    reason: str
    insist: bool


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """An effect of the present phase failed."""

    error: UpdatedError
