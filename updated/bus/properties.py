"""The properties of our interface, each a function of the status document.

An absent string is "", an absent time 0: D-Bus has no null. Times are seconds since 1970, sizes bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from updated.bus.interface import NAME, Interface, Property, Signal
from updated.bus.methods import DEEDS
from updated.core.document import dump, parse_time

Document = Mapping[str, Any]
# Neither is a character of a string on the bus; who sends one is thrown off it.
_NO_CHARACTER = re.compile("[\x00\ud800-\udfff]")


def _seconds(time: str | None) -> int:
    return 0 if time is None else max(parse_time(time), 0)


def _at(*keys: str) -> Callable[[Document], Any]:
    def value(document: Document) -> Any:
        found: Any = document
        for key in keys:
            found = None if found is None else found[key]
        return found

    return value


def _text(*keys: str) -> Callable[[Document], str]:
    take = _at(*keys)
    return lambda document: take(document) or ""


def _time(*keys: str) -> Callable[[Document], int]:
    take = _at(*keys)
    return lambda document: _seconds(take(document))


def _slots(document: Document) -> list[list[Any]]:
    return [
        [each["slot"], each["version"] or "", each["state"], each["tries_left"], each["running"], each["next"]]
        for each in document["slots"]
    ]


def _step(document: Document) -> list[Any]:
    step = document["progress"]
    return ["", "", 0, 0, 0] if step is None else [step[key] for key in ("step", "component", "done", "total", "rate")]


def _windows(document: Document) -> list[list[Any]]:
    return [
        [kind, opening["open"], _seconds(opening["until"])]
        for kind, opening in document["windows"].items()
        if opening is not None
    ]


def _reasons(document: Document) -> list[list[Any]]:
    return [[each["code"], each["text"], _seconds(each["until"])] for each in document["reasons"]]


def _error(document: Document) -> str:
    error = document["error"]
    return f"{error['what']}: {error['cause']}. {error['mend']}" if error else ""


def _denied(document: Document) -> list[list[Any]]:
    return [[each["version"], each["reason"], _seconds(each["at"])] for each in document["denied"]]


def _recalled(document: Document) -> list[list[Any]]:
    return [[each["slot"], each["version"], each["reason"], each["running"]] for each in document["recalled"]]


def _fallback(document: Document) -> list[Any]:
    fell = document["fallback"]
    return ["", "", "", 0] if fell is None else [fell["version"], fell["reason"], fell["by"], _seconds(fell["at"])]


def _last_install(document: Document) -> list[Any]:
    installed = document["last_install"]
    return ["", 0.0] if installed is None else [installed["version"], float(installed["seconds"])]


def _expiries(document: Document) -> dict[str, int]:
    return {role: _seconds(at) for role, at in document["expiries"].items()}


def _health(document: Document) -> list[str]:
    health = document["health"] or {}
    return [str(health.get(key) or "") for key in ("verdict", "reason")]


PROPERTIES = (
    Property("Phase", "s", "what the node does, see [states](states.md)", _at("phase")),
    Property("Summary", "s", "the first line of the status", _at("summary")),
    Property("Version", "s", "the version that runs", _at("running", "version")),
    Property("Slot", "s", "the slot that runs", _at("running", "slot")),
    Property("Confirmed", "b", "whether that slot is confirmed", _at("running", "confirmed")),
    Property(
        "Slots", "a(sssubb)", "each slot: name, version, state (`good`, `trial`, `bad` or `empty`), tries left, "
        "whether it runs, whether it boots next", _slots,
    ),
    Property("Channel", "s", "the channel that is followed", _at("channel")),
    Property("Enabled", "b", "whether updates are switched on", _at("enabled")),
    Property("DisabledBy", "s", "file and line that switched them off", _text("disabled_by")),
    Property("Target", "s", "the version on its way", _text("target", "version")),
    Property("TargetSlot", "s", "the slot that it goes to", _text("target", "slot")),
    Property("Armed", "b", "whether it boots next", lambda document: bool(_at("target", "armed")(document))),
    Property("Offer", "s", "the version that the channel offers", _text("offer", "version")),
    Property("OfferSize", "t", "its size in bytes", lambda document: _at("offer", "size")(document) or 0),
    Property(
        "Step", "(ssttt)", "how far the present step is: step, component, bytes done, bytes in all, bytes per second; "
        "between steps empty", _step,
    ),
    Property("Plan", "s", "where the bytes that are fetched come from", _text("plan")),
    Property("Windows", "a(sbt)", "each kind of window that is set: `download` or `reboot`, whether it is open, until "
             "when", _windows),
    Property(
        "Reasons", "a(sst)", "why the node waits: [code](operating.md#reasons), text, until when if that is known",
        _reasons,
    ),
    Property("Error", "s", "the last error", _error),
    Property("ErrorCode", "s", "its [code](errors.md)", _text("error", "code")),
    Property("Failures", "u", "how often in a row it failed", _at("failures")),
    Property("LastCheck", "t", "when a release was looked for", _time("last_check")),
    Property("NextCheck", "t", "when that is done again", _time("next_check")),
    Property("HeldBy", "s", "who paused updates", _text("hold", "by")),
    Property("HeldUntil", "t", "until when; 0 with `HeldBy` set: without end", _time("hold", "until")),
    Property("Denied", "a(sst)", "each release that is not taken again: version, reason, since when", _denied),
    Property("Recalled", "a(sssb)", "each slot whose release the publisher recalled: slot, version, reason, whether it "
             "runs", _recalled),
    Property("Fallback", "(ssst)", "the last fallback or roll back: version, reason, who asked for it, when",
             _fallback),
    Property("Expiries", "a{st}", "when the trusted metadata expires, by role", _expiries),
    Property("ExpiryWarnings", "as", "which of it expires soon, or has",
             lambda document: [each["text"] for each in document["expiry_warnings"]]),
    Property("Notes", "as", "what else a person should know", lambda document: list(document["notes"])),
    Property("LastInstall", "(sd)", "what was written last: version, seconds", _last_install),
    Property("Health", "(ss)", "the last verdict on this boot, and its reason; see [health](health.md)", _health),
    Property(
        "Status", "s", "the whole [status](formats.md#status) as JSON", lambda document: dump(document).decode(),
        "invalidates",
    ),
)  # fmt: skip

SIGNALS = (
    Signal(
        "Progress", (("step", "s"), ("component", "s"), ("done", "t"), ("total", "t")),
        "a step went on, in bytes; at most twice a second, and what came last is always told",
    ),
    Signal("StateChanged", (("before", "s"), ("after", "s")), "the phase changed"),
)  # fmt: skip

INTERFACE = Interface(NAME, tuple(deed.method for deed in DEEDS.values()), PROPERTIES, SIGNALS)
BY_NAME: Mapping[str, Property] = {each.name: each for each in PROPERTIES}


def values(document: Document) -> dict[str, Any]:
    """Each property of the node with `document`."""
    return {each.name: clean(each.value(document)) for each in PROPERTIES}


def clean(value: Any) -> Any:
    """`value` without what no string on the bus may hold."""
    match value:
        case str():
            return _NO_CHARACTER.sub("\ufffd", value)
        case list():
            return [clean(each) for each in value]
        case dict():
            return {clean(key): clean(each) for key, each in value.items()}
        case _:
            return value
