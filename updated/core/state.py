"""The state of a node: what the machine knows between two events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from bootctl.model import BootView
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import LastInstall
from updated.core.selection import Reason
from updated.core.surroundings import Grace, Surroundings

# So begins the reason of a denial that a person's roll back left, before the name of that person.
ROLLED_BACK = "rolled back by "
MOST_REASON = 120


class Phase(StrEnum):
    """Where the node stands in the order of an update."""

    IDLE = "idle"
    CHECKING = "checking"
    WAITING = "waiting"
    FETCHING = "fetching"
    SEALING = "sealing"
    STAGED = "staged"
    REBOOTING = "rebooting"
    TRIAL = "trial"
    FALLEN_BACK = "fallen-back"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Offer:
    """A release that the channel has for this node. `manifest` is the SHA-256 of its manifest; `size` in bytes.

    `urgent`: the publisher calls it so.
    """

    version: str
    manifest: str
    size: int
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The release that is on its way into `slot`.

    `tries`: how many trial boots it was armed with, 0 until then. `ignored`: how many boots did not start the slot
    though it was first. `withdrawn`: why it is to be taken out of the boot reference again, if it is. `urgent`: the
    seal found that the publisher calls it so. `doubted`: when the seal found that it is not, though the downloader had
    said so; `staged`: when it was armed first; in seconds since the epoch, and 0 until then.
    """

    version: str
    manifest: str
    slot: str
    tries: int = 0
    ignored: int = 0
    withdrawn: str = ""
    urgent: bool = False
    staged: int = 0
    doubted: int = 0

    @property
    def armed(self) -> bool:
        """Whether the boot reference was seen to name it."""
        return self.tries > 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A person's pause; without `until` (epoch) it has no end."""

    by: str
    until: int | None = None

    def active(self, now: int) -> bool:
        """Whether it still holds at `now`."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Denial:
    """A release that failed here, or that a person rolled back."""

    version: str
    manifest: str
    reason: str
    at: int

    @property
    def text(self) -> str:
        """Why the release is not taken again, in a short sentence."""
        if self.reason.startswith(ROLLED_BACK):
            return f"{self.version} was rolled back here by {self.reason.removeprefix(ROLLED_BACK)}"
        return f"{self.version} failed here: {shorten(self.reason)}"


@dataclass(frozen=True, slots=True)
class Fallback:
    """The release that was left last. `by`: the person who rolled back; empty when the node fell back by itself."""

    version: str
    reason: str
    at: int
    by: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What health said when it last rejected a slot, from its file."""

    slot: str
    version: str
    boot_id: str
    verdict: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Ending:
    """What health found in this boot of the trial before it, which had no verdict: a line on what ended that."""

    slot: str
    version: str
    cause: str


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What is true of this boot: the running slot and its version, the boot's id, the boot reference, the verdict, and
    what ended the trial before."""

    slot: str
    version: str
    boot_id: str
    view: BootView
    verdict: Verdict | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that the machine keeps. Times are in seconds since the epoch.

    From `seed` in [0, 1) come the node's places in rollouts. `versions` says which release each slot holds. `judged` is
    the boot id of the last verdict that was taken into account. `channel` is a person's choice, empty without one.
    `manifests` says which manifest each slot was installed from. `leaving` is the slot that a person wants to leave.
    `failing` is the manifest whose installation failed last; `since`: when the command to reboot was given, while it is
    rebooting; 0 before that. `highest` is the newest version that was seen confirmed. `importing`: the release comes
    from what a person handed over. `expiries`, by role, and `recalled`, why each version in a slot was recalled that
    was, are of the last check that succeeded. `reboots_took`: from the
    command to the confirmation, in seconds, of the last ones. `grace` is the time that people who are logged in have
    until the reboot; `last_install` is what the last installation cost, for people alone. `around` is what was last
    seen around the node: not saved.
    """

    facts: BootFacts
    seed: float
    channel: str = ""
    phase: Phase = Phase.IDLE
    target: Target | None = None
    offer: Offer | None = None
    insist: bool = False
    reasons: tuple[Reason, ...] = ()
    error: UpdatedError | None = field(default=None, compare=False)
    failures: int = 0
    next_check: int = 0
    last_check: int | None = None
    hold: Hold | None = None
    denied: tuple[Denial, ...] = ()
    fallback: Fallback | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    judged: str = ""
    leaving: str = ""
    failing: str = ""
    since: int = 0
    highest: str = ""
    importing: bool = False
    expiries: Mapping[str, Expiry] = field(default_factory=dict)
    recalled: Mapping[str, str] = field(default_factory=dict)
    reboots_took: tuple[int, ...] = ()
    grace: Grace | None = None
    last_install: LastInstall | None = None
    around: Surroundings = field(default_factory=Surroundings, compare=False)

    @property
    def passive(self) -> str:
        """The slot that does not run."""
        return self.facts.view.other(self.facts.slot)

    @property
    def confirmed(self) -> bool:
        """Whether the running slot is confirmed."""
        return self.facts.view.state(self.facts.slot).confirmed

    @property
    def preparing(self) -> bool:
        """Whether the baseline is being taken or the hooks are being asked, before the command to reboot."""
        return self.phase is Phase.REBOOTING and self.since == 0

    @property
    def denials(self) -> Mapping[str, str]:
        """By version and by manifest of each denied release: why it is not taken again."""
        return {key: denial.text for denial in self.denied for key in (denial.version, denial.manifest) if key}

    def with_changes(self, **changes: Any) -> State:
        """A copy with `changes`."""
        return replace(self, **changes)


def shorten(reason: str) -> str:
    """`reason` in at most `MOST_REASON` characters; history has all of it."""
    return reason if len(reason) <= MOST_REASON else reason[: MOST_REASON - 1].rstrip() + "…"
