"""The state of a node: what the machine knows between two events, and its form on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from bootctl.model import BootView, SlotState
from updated.core.document import Misfit, Object, parsed
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.selection import Reason
from updated.core.surroundings import Grace, Surroundings

SCHEMA = 1
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
    seal found that the publisher calls it so. `staged`: when it was armed first, in seconds since the epoch; 0 until
    then.
    """

    version: str
    manifest: str
    slot: str
    tries: int = 0
    ignored: int = 0
    withdrawn: str = ""
    urgent: bool = False
    staged: int = 0

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
    until the reboot; `around` is what was last seen around the node: not saved.
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


def format_state(state: State) -> dict[str, Any]:
    """The state as a JSON document; `parse_state` reads it back."""
    facts = state.facts
    return {
        "schema": SCHEMA,
        "phase": state.phase.value,
        "channel": state.channel,
        "seed": state.seed,
        "facts": {
            "slot": facts.slot,
            "version": facts.version,
            "boot_id": facts.boot_id,
            "view": [
                {"slot": name, "priority": slot.priority, "tries_left": slot.tries_left, "confirmed": slot.confirmed}
                for name, slot in facts.view.slots
            ],
        },
        "target": None if state.target is None else {
            "version": state.target.version, "manifest": state.target.manifest,
            "slot": state.target.slot, "tries": state.target.tries, "ignored": state.target.ignored,
            "withdrawn": state.target.withdrawn, "urgent": state.target.urgent, "staged": state.target.staged,
        },
        "offer": None if state.offer is None else {
            "version": state.offer.version, "manifest": state.offer.manifest, "size": state.offer.size,
            "urgent": state.offer.urgent,
        },
        "insist": state.insist,
        "reasons": [{"code": each.code, "text": each.text, "until": each.until} for each in state.reasons],
        "error": None if state.error is None else state.error.to_json(),
        "failures": state.failures,
        "next_check": state.next_check,
        "last_check": state.last_check,
        "hold": None if state.hold is None else {"by": state.hold.by, "until": state.hold.until},
        "denied": [
            {"version": each.version, "manifest": each.manifest, "reason": each.reason, "at": each.at}
            for each in state.denied
        ],
        "fallback": None if state.fallback is None else {
            "version": state.fallback.version, "reason": state.fallback.reason, "at": state.fallback.at,
            "by": state.fallback.by,
        },
        "versions": dict(state.versions),
        "manifests": dict(state.manifests),
        "judged": state.judged,
        "leaving": state.leaving,
        "failing": state.failing,
        "since": state.since,
        "highest": state.highest,
        "importing": state.importing,
        "expiries": {
            role: {"at": each.at, "lifetime": each.lifetime, "accepted": each.accepted}
            for role, each in state.expiries.items()
        },
        "recalled": dict(state.recalled),
        "reboots_took": [{"seconds": seconds} for seconds in state.reboots_took],
        "grace": None if state.grace is None else {
            "version": state.grace.version, "until": state.grace.until, "last": state.grace.last,
        },
    }


def parse_state(document: Object) -> State:
    """The state in `document`. Raises `UpdatedError` ("state-corrupt").

    A newer version of this program may have written it, and then fallen back: keys and phases that are not known are
    passed over.
    """
    return parsed(
        lambda: _state(document), what="the saved state", code="state-corrupt",
        mend="It is set aside and begun anew; set channel, hold and denied releases again.",
    )


def _state(document: Object) -> State:
    facts = document.object("facts")
    target = _optional(document, "target")
    offer = _optional(document, "offer")
    hold = _optional(document, "hold")
    fallback = _optional(document, "fallback")
    grace = _optional(document, "grace")
    versions = document.object("versions")
    manifests = document.object("manifests")
    error = _optional(document, "error")
    phase = next((phase for phase in Phase if phase.value == document.text("phase")), Phase.IDLE)
    state = State(
        facts=BootFacts(
            facts.text("slot"), facts.text("version"), facts.text("boot_id"),
            BootView(tuple((each.text("slot"), _slot_state(each)) for each in facts.objects("view", most=16))),
        ),
        channel=document.text("channel"),
        seed=document.real("seed", least=0, most=1),
        phase=phase,
        target=None if target is None else Target(
            target.text("version"), target.text("manifest"), target.text("slot"), target.number("tries", most=15),
            target.number("ignored"), target.text("withdrawn"), _urgent(target),
            target.number("staged") if target.has("staged") else 0,
        ),
        offer=None if offer is None else Offer(
            offer.text("version"), offer.text("manifest"), offer.number("size"), _urgent(offer),
        ),
        insist=document.flag("insist"),
        reasons=tuple(
            Reason(each.text("code"), each.text("text"), _epoch(each, "until")) for each in document.objects("reasons")
        ),
        error=None if error is None else UpdatedError.from_json(
            {key: error.text(key) for key in ("code", "what", "cause", "mend")}
        ),
        failures=document.number("failures"),
        next_check=document.number("next_check"),
        last_check=_epoch(document, "last_check"),
        hold=None if hold is None else Hold(hold.text("by"), _epoch(hold, "until")),
        denied=tuple(
            Denial(each.text("version"), each.text("manifest"), each.text("reason"), each.number("at"))
            for each in document.objects("denied")
        ),
        fallback=None if fallback is None else Fallback(
            fallback.text("version"), fallback.text("reason"), fallback.number("at"),
            fallback.text("by"),
        ),
        versions=_texts(versions),
        manifests=_texts(manifests),
        judged=document.text("judged"),
        leaving=document.text("leaving"),
        failing=document.text("failing"),
        since=document.number("since"),
        # A state from before these keys is whole without them.
        highest=document.text("highest") if document.has("highest") else "",
        importing=document.has("importing") and document.flag("importing"),
        expiries=_expiries(document.object("expiries")) if document.has("expiries") else {},
        recalled=_texts(document.object("recalled")) if document.has("recalled") else {},
        reboots_took=tuple(
            each.number("seconds") for each in document.objects("reboots_took", most=16)
        ) if document.has("reboots_took") else (),
        grace=None if grace is None else Grace(grace.text("version"), grace.number("until"), grace.flag("last")),
    )
    names = state.facts.view.names
    if len(names) != 2 or len(set(names)) != 2 or state.facts.slot not in names:
        raise Misfit("facts.view does not hold the running slot and one other")
    return state


def _urgent(document: Object) -> bool:
    return document.has("urgent") and document.flag("urgent")  # not in a state from before this key


def _slot_state(document: Object) -> SlotState:
    return SlotState(
        document.number("priority", most=15), document.number("tries_left", most=15), document.flag("confirmed")
    )


def _expiries(document: Object) -> dict[str, Expiry]:
    roles = {role: document.object(role) for role in document.keys()}  # noqa: SIM118
    return {
        role: Expiry(each.number("at"), _epoch(each, "lifetime"), each.flag("accepted"))
        for role, each in roles.items()
    }


def _texts(document: Object) -> dict[str, str]:
    return {key: document.text(key) for key in document.keys()}  # noqa: SIM118


def _optional(document: Object, key: str) -> Object | None:
    return document.object(key) if document.has(key) else None


def _epoch(document: Object, key: str) -> int | None:
    return document.number(key) if document.has(key) else None
