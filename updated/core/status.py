"""The status document: all that a person or a program asks about a node, as a pure function of its state.

Schema 1 of `/run/updated/status.json`; times are RFC 3339 in UTC, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bootctl.model import next_boot
from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.expiry import accepted, grace_text, notices
from updated.core.policy import Policy
from updated.core.probation import probation_text
from updated.core.state import Phase, State
from updated.core.windows import Windows

SCHEMA = 1
# Which steps belong to a phase: what the one before it left says nothing of it.
_STEPS: Mapping[Phase, tuple[str, ...]] = {
    Phase.FETCHING: ("compare", "copy", "download"), Phase.SEALING: ("verify",),
}  # fmt: skip

# What a state says by itself, whatever the configuration is; and what of it is also true in another boot.
OF_THE_STATE = (
    "phase", "running", "slots", "target", "hold", "denied", "recalled", "fallback", "expiries", "last_install",
    "last_check", "failures",
)  # fmt: skip
OF_ANY_BOOT = ("hold", "denied", "fallback", "expiries", "last_install", "last_check")
# What nothing that was known before says of a daemon that could not start.
_OF_A_FAULT = ("schema", "written_at", "pid", "pid_start", "phase", "summary", "error", "progress", "plan")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is. `rate` in bytes per second, 0 when not known yet."""

    step: str
    component: str
    done: int
    total: int
    rate: float

    @property
    def eta_seconds(self) -> int | None:
        """Seconds to the end at the present rate, if there is one."""
        return int((self.total - self.done) / self.rate) if self.rate >= 1 else None


@dataclass(frozen=True, slots=True)
class Report:
    """What the engine knows besides the state.

    `plan`: where the bytes that are being fetched come from, in words. `fault`: why the state can't be saved, so that
    nothing goes on.
    """

    progress: Progress | None = None
    plan: str = ""
    notes: tuple[str, ...] = ()
    health: Mapping[str, Any] | None = None
    pid: int = 0
    pid_start: int | None = None
    fault: UpdatedError | None = None


def summary(state: State, policy: Policy, report: Report) -> str:
    """One line that says where the node stands."""
    running = f"{state.facts.version} in slot {state.facts.slot}"
    target = state.target.version if state.target is not None else ""
    progress = _progress(state, report)
    if report.fault is not None:
        return f"runs {running}; {report.fault}"
    match state.phase:
        case Phase.IDLE:
            silent = state.last_check is None and not state.reasons
            return f"runs {running}" + ("" if silent else f"; {_first(state, 'nothing to do')}")
        case Phase.CHECKING:
            return f"runs {running}; asks for releases of channel {policy.followed(state)}"
        case Phase.WAITING if state.offer is not None:
            return f"runs {running}; {state.offer.version} waits: {_first(state, 'see the reasons')}"
        case Phase.WAITING:
            wave = next((reason.text for reason in state.reasons if reason.code == "wave"), None)
            return f"runs {running}; no update now: {wave or _first(state, 'see the reasons')}"
        case Phase.FETCHING:
            step = {"compare": "compares slot with", "copy": "copies what is the same in", "download": "downloads"}.get(
                progress.step if progress is not None else "", "prepares"
            )
            return f"runs {running}; {step} {target}"
        case Phase.SEALING:
            return f"runs {running}; reads {target} back and verifies it"
        case Phase.STAGED:
            armed = state.target is not None and state.target.armed
            how = "boots next" if armed else "is verified, and not in the boot reference yet"
            return f"runs {running}; {target} is staged and {how}" + (
                f"; {state.reasons[0].text}" if state.reasons else ""
            )
        case Phase.REBOOTING:
            return f"runs {running}; {'makes ready for the reboot' if state.preparing else 'reboots'}"
        case Phase.TRIAL if probation := probation_text(report.health):
            return f"runs {running}, {probation}"
        case Phase.TRIAL:
            return f"runs {running} on trial; health has not confirmed it yet"
        case Phase.FALLEN_BACK if state.fallback is not None and state.fallback.by:
            return f"runs {running}; rolled back from {state.fallback.version} by {state.fallback.by}{_found(state)}"
        case Phase.FALLEN_BACK if state.fallback is not None:
            return f"runs {running}; fell back from {state.fallback.version}: {state.fallback.reason}{_found(state)}"
        case Phase.FAILED if state.error is not None:
            return f"runs {running}; {state.error}"
        case _:
            return f"runs {running}"


def _progress(state: State, report: Report) -> Progress | None:
    """How far the step is that the phase is about, if one has begun."""
    progress = report.progress
    return progress if progress is not None and progress.step in _STEPS.get(state.phase, ()) else None


def _found(state: State) -> str:
    """What a look found since the node left a release, but for that it does not take that one again."""
    left = state.fallback.version if state.fallback is not None else ""
    found = next((reason.text for reason in state.reasons if not reason.text.startswith(f"{left} ")), None)
    return f"; {found}" if found is not None else ""


def _first(state: State, otherwise: str) -> str:
    return state.reasons[0].text if state.reasons else otherwise


def status_document(state: State, policy: Policy, report: Report, now: int) -> dict[str, Any]:
    """The status document at `now` (seconds since the epoch)."""
    starts, _ = next_boot(state.facts.view)
    progress, fault = _progress(state, report), report.fault or state.error
    late = accepted(state.expiries)
    return {
        "schema": SCHEMA,
        "written_at": format_time(now),
        "pid": report.pid,
        "pid_start": report.pid_start,
        "phase": state.phase.value,
        "summary": summary(state, policy, report),
        "running": {
            "slot": state.facts.slot, "version": state.facts.version, "confirmed": state.confirmed,
        },
        "slots": [
            {
                "slot": name, "version": state.versions.get(name), "state": slot.condition,
                "tries_left": slot.tries_left, "running": name == state.facts.slot, "next": name == starts,
            }
            for name, slot in state.facts.view.slots
        ],
        "channel": policy.followed(state),
        "enabled": policy.enabled,
        "disabled_by": None if policy.enabled else policy.disabled_by or None,
        "target": None if state.target is None else {
            "version": state.target.version, "slot": state.target.slot, "armed": state.target.armed,
        },
        "offer": None if state.offer is None else {"version": state.offer.version, "size": state.offer.size},
        "progress": None if progress is None else {
            "step": progress.step, "component": progress.component, "done": progress.done, "total": progress.total,
            "rate": int(progress.rate), "eta_seconds": progress.eta_seconds,
        },
        "plan": report.plan if progress is not None and report.plan else None,
        "windows": {
            "download": _opening(policy.downloads, now), "reboot": _opening(policy.reboots, now),
        },
        "reasons": [
            {"code": reason.code, "text": reason.text, "until": _time(reason.until)} for reason in state.reasons
        ],
        "error": None if fault is None else fault.to_json(),
        "failures": state.failures,
        "last_check": _time(state.last_check),
        "next_check": _time(state.next_check or None) if policy.repository else None,
        "hold": None if state.hold is None or not state.hold.active(now) else {
            "by": state.hold.by, "until": _time(state.hold.until),
        },
        "denied": [
            {"version": each.version, "reason": each.reason, "at": format_time(each.at)} for each in state.denied
        ],
        "recalled": [
            {"slot": slot, "version": version, "reason": state.recalled[version], "running": slot == state.facts.slot}
            for slot, version in sorted({**state.versions, state.facts.slot: state.facts.version}.items())
            if version in state.recalled
        ],
        "fallback": None if state.fallback is None else {
            "version": state.fallback.version, "reason": state.fallback.reason, "at": format_time(state.fallback.at),
            "by": state.fallback.by,
        },
        "expiries": {role: format_time(expiry.at) for role, expiry in sorted(state.expiries.items())},
        "expiry_warnings": [
            {"role": each.role, "expired": each.expired, "accepted": each.role in late, "text": each.text}
            for each in notices(state.expiries, now, policy.warn_early)
        ],
        "notes": [*report.notes, *([grace_text(late)] if late else [])],
        "last_install": None if state.last_install is None else state.last_install.to_json(),
        "health": report.health,
    }


def fault_document(
    fault: UpdatedError, now: int, known: Mapping[str, Any] | None = None, failed: str = "could not start"
) -> dict[str, Any]:
    """The status document of a node whose daemon could not start at `now`, or what else `failed` says in words.

    `known` are the fields of a status document that are known all the same.
    """
    nothing = (
        "running", "target", "offer", "progress", "plan", "windows", "last_check", "hold", "fallback",
        "last_install", "health", "disabled_by",
    )  # fmt: skip
    document: dict[str, Any] = {
        "schema": SCHEMA, "written_at": format_time(now), "next_check": format_time(now), "pid": 0, "pid_start": None,
        "phase": Phase.FAILED.value, "summary": f"{failed}; {fault}", "error": fault.to_json(),
        "failures": 1, "channel": "", "enabled": True, "slots": [], "reasons": [], "denied": [], "recalled": [],
        "expiries": {}, "expiry_warnings": [], "notes": [], **dict.fromkeys(nothing),
    }  # fmt: skip
    if known is None:
        return document
    lasting = {key: value for key, value in known.items() if key in document and key not in _OF_A_FAULT}
    target = lasting.get("target")
    phase = Phase.FAILED
    if known.get("phase") == Phase.TRIAL.value:
        phase = Phase.TRIAL
    elif isinstance(target, dict) and target.get("armed"):
        phase = Phase.STAGED
    return {**document, **lasting, "phase": phase.value}


def _opening(windows: Windows, now: int) -> dict[str, Any] | None:
    if not windows.windows:
        return None
    opening = windows.opening(now)
    return {"open": opening.open, "until": _time(opening.until)}


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else format_time(seconds)
