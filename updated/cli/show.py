"""The status for people: where the node stands at a glance, why it waits, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from updated.core.probation import probation_text

_GLYPHS = {"running": "●", "next": "↻", "bad": "×", "other": "○"}
_COLOURS = {"good": "32", "trial": "33", "bad": "31", "empty": "2", "bold": "1"}


def status_text(document: Mapping[str, Any], *, colours: bool) -> str:
    """`document` as lines of text."""

    def paint(text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colours else text

    lines = [paint(document["summary"], "bold")]
    if not document["alive"]:
        lines.append(paint(f"The daemon does not run; this is from {document['written_at']}.", "bad"))
    if not document["slots"]:
        return "\n".join(lines)  # a daemon that could not start knows only why
    lines.append("")
    lines += ["  " + _slot_line(slot, paint) for slot in document["slots"]]
    lines.append("")
    rows = [("Channel", document["channel"]), ("Phase", document["phase"])]
    if document["target"]:
        armed = "boots next" if document["target"]["armed"] else "not in the boot reference yet"
        rows.append(("Release", f"{document['target']['version']} into slot {document['target']['slot']}, {armed}"))
    if on_probation := document["phase"] == "trial" and probation_text(document["health"]):
        rows.append(("Health", f"{on_probation}; 'updatectl health' shows the checks"))
    if document["progress"]:
        rows.append(("Progress", progress_text(document["progress"])))
    if document["plan"]:
        rows.append(("Plan", document["plan"]))
    rows += [("Reason", reason["text"]) for reason in document["reasons"]]
    if document["error"]:
        error = document["error"]
        rows.append(("Error", f"{error['what']}: {error['cause']}. {error['mend']}"))
    if document["fallback"]:
        fallback = document["fallback"]
        if fallback["by"]:
            rows.append(("Rolled back", f"from {fallback['version']} at {fallback['at']}, by {fallback['by']}"))
        else:
            rows.append(("Fell back", f"from {fallback['version']} at {fallback['at']}: {fallback['reason']}"))
    rows += [("Denied", f"{each['version']} ({each['reason']})") for each in document["denied"]]
    if document["hold"]:
        rows.append(("Held", f"by {document['hold']['by']}, until {document['hold']['until'] or 'somebody lifts it'}"))
    if document["last_install"]:
        rows.append(("Installed", _install_text(document["last_install"])))
    rows += [("Expiry", warning["text"]) for warning in document["expiry_warnings"]]
    next_check = f"; next at {document['next_check']}" if document["next_check"] else ""
    rows.append(("Checked", f"{document['last_check'] or 'never'}{next_check}"))
    rows += [("Note", note) for note in document["notes"]]
    width = max(len(name) for name, _ in rows) + 1
    lines += [f"  {name + ':':<{width}} {text}" for name, text in rows]
    return "\n".join(lines)


def _slot_line(slot: Mapping[str, Any], paint: Any) -> str:
    if slot["running"]:
        glyph = _GLYPHS["running"]
    elif slot["next"]:
        glyph = _GLYPHS["next"]
    elif slot["state"] == "bad":
        glyph = _GLYPHS["bad"]
    else:
        glyph = _GLYPHS["other"]
    words = []
    if slot["running"]:
        words.append("running")
    if slot["next"]:
        words.append("boots next")
    if slot["state"] == "trial":
        words.append(f"{slot['tries_left']} tries left")
    state = paint(f"{slot['state']:<6}", slot["state"])
    return f"{glyph} slot {slot['slot']}  {slot['version'] or '-':<12} {state} {', '.join(words)}".rstrip()


def _install_text(install: Mapping[str, Any]) -> str:
    plans = [
        part["plan"] if len(install["components"]) == 1 else f"{name}: {part['plan']}"
        for name, part in install["components"].items()
    ]
    return f"{install['version']} in {install['seconds']:.1f} s, {'; '.join(plans)}"


def progress_text(progress: Mapping[str, Any]) -> str:
    """`download 37 %, 12.1 of 32.6 MB, 9.8 MB/s, 2 s left`."""
    done, total = progress["done"], progress["total"]
    # 100 % is said only when nothing is left to do.
    percent = 100 if done >= total else min(99, done * 100 // total)
    text = f"{progress['step']} {percent:>3} %, {done / 1e6:.1f} of {total / 1e6:.1f} MB"
    if progress["rate"]:
        text += f", {progress['rate'] / 1e6:.1f} MB/s"
    if progress["eta_seconds"] is not None and done < total:
        text += f", {_length(progress['eta_seconds'])} left"
    return text


def _length(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def progress_bar(progress: Mapping[str, Any], width: int = 30) -> str:
    """A bar in front of `progress_text`."""
    share = progress["done"] / progress["total"] if progress["total"] else 1.0
    full = int(share * width)
    return f"[{'█' * full}{'·' * (width - full)}] {progress_text(progress)}"
