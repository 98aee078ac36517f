"""The form on disk of the state of a node: a JSON document, with what a newer or older version may have written."""

from __future__ import annotations

from typing import Any

from bootctl.model import BootView, SlotState
from updated.core.document import Misfit, Object, parsed
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import LastInstall
from updated.core.selection import Reason
from updated.core.state import BootFacts, Denial, Fallback, Hold, Offer, Phase, State, Target
from updated.core.surroundings import Grace

SCHEMA = 1


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
            "doubted": state.target.doubted,
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
        "last_install": None if state.last_install is None else state.last_install.to_json(),
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
            target.number("doubted") if target.has("doubted") else 0,
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
        last_install=_last_install(document),
    )
    names = state.facts.view.names
    if len(names) != 2 or len(set(names)) != 2 or state.facts.slot not in names:
        raise Misfit("facts.view does not hold the running slot and one other")
    return state


def _last_install(document: Object) -> LastInstall | None:
    try:
        return LastInstall.parse(document.object("last_install"))
    except Misfit:
        return None  # a state from before this key; and figures for people are no reason to lose all the rest


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
