"""The status for people: where the node stands at a glance, why it waits, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from updated.cli.paper import Paper, plain
from updated.cli.when import epoch, length, moment, with_local_times
from updated.cli.why import obstacles, title
from updated.core.errors import UpdatedError
from updated.core.probation import probation_text

SCHEMA = 1
_GLYPHS = {"running": "●", "next": "↻", "bad": "×", "other": "○"}
_STEPS = {"compare": "comparing", "copy": "copying", "download": "downloading", "verify": "verifying"}
# What a status may lack that another version of the daemon wrote.
_ABSENT: Mapping[str, Any] = {
    "alive": False, "slots": [], "reasons": [], "denied": [], "recalled": [], "running": None, "notes": [],
    "expiry_warnings": [], "target": None, "progress": None, "plan": None, "windows": None, "error": None, "hold": None,
    "fallback": None, "last_install": None, "health": None, "last_check": None, "next_check": None, "enabled": True,
    "disabled_by": None, "channel": "", "offer": None,
}  # fmt: skip


def status_text(
    document: Mapping[str, Any], *, now: float, paper: Paper | None = None, slots_alone: bool = False
) -> str:
    """`document` as lines of text at `now` (seconds since the epoch). `slots_alone`: nothing else is known.

    Raises `UpdatedError` ("state-corrupt") for one that this version does not understand.
    """
    schema = document.get("schema")
    if schema != SCHEMA:
        newer = "newer" if isinstance(schema, int) and schema > SCHEMA else "unknown"
        raise UpdatedError(
            "state-corrupt", "the status file", f"has the {newer} schema {schema}, and this updatectl knows {SCHEMA}",
            "Restart the daemon, so that both are of one version: systemctl restart updated.",
        )
    try:
        return "\n".join(_lines({**_ABSENT, **document}, now, paper or Paper(), slots_alone=slots_alone))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise UpdatedError(
            "state-corrupt", "the status file", "is not as a daemon writes it",
            "Restart the daemon, which writes it anew: systemctl restart updated.",
        ) from None


def _lines(document: Mapping[str, Any], now: float, paper: Paper, *, slots_alone: bool) -> list[str]:
    summary = paper.wrapped("", plain(with_local_times(document["summary"], now)))
    lines = [paper.paint(line, "bold") for line in summary]
    if not document["alive"] and not slots_alone:
        since = f"The daemon does not run; this is from {moment(document['written_at'], now)}."
        lines += [paper.paint(line, "bad") for line in paper.wrapped("", since)]
    if document["slots"]:
        width = max(len(slot["version"] or "-") for slot in document["slots"])
        lines += ["", *("  " + _slot_line(document, slot, width, paper) for slot in document["slots"])]
    if slots_alone:
        return lines
    lines += ["", *paper.rows((name, plain(text)) for name, text in _rows(document, now))]
    found = obstacles(document, now)
    if found:
        lines += ["", paper.paint(title(document), "bold")]
        for each in found:
            colour = "bad" if each.code == "daemon-not-running" or document["error"] else "warning"
            head = f"  {each.code}: "
            first, *more = paper.wrapped(head, plain(each.text))
            lines += [first.replace(each.code, paper.paint(each.code, colour), 1), *more]
            lines += paper.wrapped("    → ", plain(each.mend)) if each.mend else []
    return lines


def _slot_line(document: Mapping[str, Any], slot: Mapping[str, Any], width: int, paper: Paper) -> str:
    kinds = ("running" if slot["running"] else "", "next" if slot["next"] else "", slot["state"], "other")
    glyph = next(_GLYPHS[kind] for kind in kinds if kind in _GLYPHS)
    words = []
    if slot["running"]:
        words.append("running")
    if slot["next"]:
        words.append("boots next")
    if slot["state"] == "trial":
        words.append(f"{slot['tries_left']} {'try' if slot['tries_left'] == 1 else 'tries'} left")
    if document["phase"] in ("fetching", "sealing") and slot["slot"] == (document["target"] or {}).get("slot"):
        words.append("being written")
    state = paper.paint(slot["state"], slot["state"]) + " " * (5 - len(slot["state"]))
    head = f"{paper.paint(glyph, slot['state'])} slot {slot['slot']}  {plain(slot['version'] or '-'):<{width}}"
    return f"{head}  {state}  {', '.join(words)}".rstrip()


def _rows(document: Mapping[str, Any], now: float) -> list[tuple[str, str]]:
    rows = [("Channel", document["channel"]), ("Phase", document["phase"])]
    if document["target"] and document["phase"] != "trial":
        target = document["target"]
        armed = "boots next" if target["armed"] else "not in the boot reference yet"
        rows.append(("Release", f"{target['version']} into slot {target['slot']}, {armed}"))
    elif document["offer"] and document["phase"] != "trial":
        rows.append(("Release", f"{document['offer']['version']}, at most {amounts(document['offer']['size'])}"))
    if on_probation := document["phase"] == "trial" and probation_text(document["health"]):
        rows.append(("Health", f"{with_local_times(on_probation, now)}; 'updatectl health' shows the checks"))
    if document["progress"]:
        rows.append(("Progress", progress_text(document["progress"])))
    rows.append(("Plan", document["plan"] or ""))
    if document["fallback"]:
        fallback = document["fallback"]
        when = moment(fallback["at"], now)
        if fallback["by"]:
            rows.append(("Rolled back", f"from {fallback['version']} by {fallback['by']}, {when}"))
        else:
            rows.append(("Fell back", f"from {fallback['version']}, {when}: {fallback['reason']}"))
    for each in document["recalled"]:
        place = "runs here" if each["running"] else f"is in slot {each['slot']}"
        rows.append(("Recalled", f"{each['version']}, which {place}: {each['reason']}"))
    rows += _denied(document)
    if document["last_install"]:
        rows.append(("Installed", _install_text(document["last_install"])))
    rows += [("Expiry", with_local_times(warning["text"], now)) for warning in document["expiry_warnings"]]
    rows.append(("Windows", _windows_text(document, now)))
    rows.append(("Checked", _checked(document, now)))
    rows += [("Note", with_local_times(note, now)) for note in document["notes"]]
    return rows


def _denied(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row for each denied release that may be allowed; one for all others that the same keeps away."""
    if not document["denied"]:
        return []
    from updated.cli.denied import why_not_taken  # hardly ever needed, and the status shall start at once

    left = (document["fallback"] or {}).get("version")
    rows = []
    kept: dict[str, list[str]] = {}
    for each in document["denied"]:
        version = each["version"]
        if anyway := why_not_taken(document, version):
            kept.setdefault(anyway, []).append(version)
            continue
        why = "" if version == left else f" ({each['reason']})"  # the row of the fallback says it already
        rows.append(("Denied", f"{version}{why}; 'updatectl allow {version}' tries it again"))
    return rows + [("Denied", f"{', '.join(versions)}, {anyway}") for anyway, versions in kept.items()]


def _windows_text(document: Mapping[str, Any], now: float) -> str:
    """`closed for reboots until …; open for downloads until …`; nothing where the configuration has no windows."""
    if not (document["windows"] and document["alive"]):
        return ""  # without a daemon nothing opens
    told = []
    for kind in ("reboot", "download"):
        if opening := document["windows"][kind]:
            until = f" until {moment(opening['until'], now)}" if opening["until"] else ""
            told.append(f"{'open' if opening['open'] else 'closed'} for {kind}s{until}")
    return "; ".join(told)


def _checked(document: Mapping[str, Any], now: float) -> str:
    if not document["slots"]:
        return ""  # a daemon that could not start knows only why
    checked = moment(document["last_check"], now) if document["last_check"] else "never"
    follows = document["next_check"] if document["alive"] else None
    if not follows or epoch(follows) <= now:  # whose time has come is looked at in this moment
        return checked
    return f"{checked}; next at {moment(follows, now)}"


def _install_text(install: Mapping[str, Any]) -> str:
    plans = [
        part["plan"] if len(install["components"]) == 1 else f"{name}: {part['plan']}"
        for name, part in install["components"].items()
    ]
    return f"{install['version']} in {install['seconds']:.1f} s, {'; '.join(plans)}"


def progress_text(progress: Mapping[str, Any]) -> str:
    """`downloading  37 %, 12.1 of 32.6 MB, 9.8 MB/s, 2 s left`."""
    done, total = progress["done"], progress["total"]
    # 100 % is said only when nothing is left to do.
    percent = 100 if done >= total else min(99, done * 100 // total)
    text = f"{_STEPS.get(progress['step'], progress['step'])} {percent:>3} %, {amounts(done, total)}"
    if progress["rate"]:
        text += f", {amounts(progress['rate'])}/s"
    if progress["eta_seconds"] is not None and done < total:
        text += f", {length(progress['eta_seconds'])} left"
    return text


def amounts(*sizes: int) -> str:
    """Bytes in the unit of the last of them: `12.1 of 32.6 MB`."""
    units = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB"))
    size, unit = next((each for each in units if sizes[-1] >= each[0]), (1, "bytes"))
    return " of ".join(f"{each / size:.1f}" if size > 1 else str(each) for each in sizes) + f" {unit}"


def progress_bar(progress: Mapping[str, Any], width: int = 30) -> str:
    """A bar in front of `progress_text`."""
    return f"{bar(progress, width)} {progress_text(progress)}"


def bar(progress: Mapping[str, Any], width: int) -> str:
    """A bar of `width` columns between brackets; full when nothing is left to do."""
    share = progress["done"] / progress["total"] if progress["total"] else 1.0
    full = int(share * width)
    return f"[{'█' * full}{'·' * (width - full)}]"
