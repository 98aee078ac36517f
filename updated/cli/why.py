"""Why the node is not updating right now, each reason with its end and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from updated.cli.mends import LEAVE_RECALLED, REASONS
from updated.cli.when import moment, with_local_times

# What happens when a reason ends, where it is not just over.
_ENDS = {"hook-refused": "; tried again at"}
_PLACEHOLDER = "VERSION"


@dataclass(frozen=True)
class Obstacle:
    """What stands against an update: a code, words, and what to do (empty: nothing but to wait)."""

    code: str
    text: str
    mend: str


def obstacles(document: Mapping[str, Any], now: float) -> list[Obstacle]:
    """What stands against an update at `now` (seconds since the epoch), by a status document with `alive`."""
    found = [] if document["alive"] else [_dead()]
    if document["error"]:
        found.append(_error(document, now))
    found += [_reason(document, reason, now) for reason in document["reasons"]]
    codes = {each.code for each in found}
    hold = document["hold"]
    if hold and "held" not in codes:
        until = f"until {moment(hold['until'], now)}" if hold["until"] else "until somebody lifts it"
        found.append(Obstacle("held", f"held by {hold['by']} {until}", REASONS["held"][-1]))
    if not document["enabled"] and "disabled" not in codes:
        place = document["disabled_by"]
        text = f"updates are switched off by {place}" if place else "updates are switched off"
        found.append(Obstacle("disabled", text, REASONS["disabled"][-1]))
    return found


def title(document: Mapping[str, Any]) -> str:
    """The heading over the obstacles."""
    staged = document["phase"] in ("staged", "rebooting")
    return "Why it does not reboot now:" if staged else "Why it does not update now:"


def _dead() -> Obstacle:
    return Obstacle(
        "daemon-not-running", "the daemon does not run", "'systemctl start updated'; 'updatectl log' says why it ended"
    )


def _error(document: Mapping[str, Any], now: float) -> Obstacle:
    error = document["error"]
    text = with_local_times(f"{error['what']}: {error['cause']}", now)
    if document["alive"] and document["phase"] == "failed" and document["next_check"]:
        text += f"; tried again at {moment(document['next_check'], now)}"
    return Obstacle(error["code"], text, f"{error['mend']} 'updatectl explain {error['code']}' says more".strip())


def _reason(document: Mapping[str, Any], reason: Mapping[str, Any], now: float) -> Obstacle:
    code, text, until = str(reason["code"]), str(reason["text"]), reason["until"]
    *_, mend = REASONS.get(code, ("",))
    if until and until not in text:
        text += f"{_ENDS.get(code, ', until')} {until}"
    if code == "recalled" and _can_leave(document, text):
        mend = f"{mend}; {LEAVE_RECALLED}"
    if _PLACEHOLDER in mend:
        named = (each["version"] for each in document["denied"] if each["version"] in text.split())
        mend = mend.replace(_PLACEHOLDER, next(named, _PLACEHOLDER))
    return Obstacle(code, with_local_times(text, now), mend)


def _can_leave(document: Mapping[str, Any], text: str) -> bool:
    """Whether `text` is about the release that runs, and the other slot holds one that may boot and is wanted."""
    unwanted = {each["version"] for each in (*document["denied"], *document["recalled"])}
    others = [slot for slot in document["slots"] if not slot["running"]]
    running = (document["running"] or {}).get("version")
    return text.startswith(f"{running} was recalled") and all(
        slot["state"] == "good" and slot["version"] not in unwanted for slot in others
    )
