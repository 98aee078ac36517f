"""What health found, for people: the last verdict with each check, and the verdicts before. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from updated.core.probation import probation_text

_GLYPHS = {"pass": "✓", "skip": "–"}
_RESULTS = {"pass": "passed", "skip": "skipped", "fail": "failed", "timeout": "timed out"}


def health_text(
    health: Mapping[str, Any] | None, verdicts: Sequence[Mapping[str, Any]], *, damaged: bool = False
) -> str:
    """What `healthfiles` gives as lines of text: `read_health` and `read_verdicts`.

    `damaged`: there is a verdict that can't be told, which is an error for the caller to tell.
    """
    lines = [] if health is None else [_verdict_line(health)]
    if health is None and not damaged:
        lines.append("No verdict on this machine yet.")
    if health is not None:
        if health["reason"]:
            lines.append(f"  Reason:   {_plain(str(health['reason']))}")
        lines += [f"  Baseline: {_plain(_baseline_text(health['baseline']))}", ""]
        width = max((len(check["name"]) for check in health["checks"]), default=0)
        for check in health["checks"]:
            lines += _check_lines(check, width)
        if not health["checks"]:
            lines.append("  there were no checks")
    if verdicts:
        lines += [*([""] if lines else []), "Verdicts:", *(_history_line(verdict) for verdict in verdicts)]
    return "\n".join(lines)


def well_formed(verdicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `read_verdicts` whose values are texts, as health writes them; another line was damaged."""
    return [
        verdict for verdict in verdicts
        if all(isinstance(verdict[key], str) for key in ("at", "slot", "verdict"))
        and all(isinstance(verdict[key], str | None) for key in ("version", "reason"))
    ]  # fmt: skip


def _verdict_line(health: Mapping[str, Any]) -> str:
    version = f" ({health['version']})" if health["version"] else ""
    verdict = probation_text(health) or health["verdict"]
    when = "" if health["this_boot"] else ", in a boot before this one"
    return f"slot {health['slot']}{version}: {verdict}, as of {health['finished']}{when}"


def _baseline_text(baseline: Any) -> str:
    if not isinstance(baseline, dict):
        return "none"
    if baseline.get("time"):
        return f"{baseline.get('version') or 'the other slot'} at {baseline['time']}, before the reboot"
    reason = baseline.get("reason")
    return f"nothing was compared, as {reason}" if reason else "nothing was compared"


def _check_lines(check: Mapping[str, Any], width: int) -> list[str]:
    words = [f"{_result(check['result'])} in {check['duration_seconds']:.1f} s"]
    passed = check["result"] in _GLYPHS
    if check["before"] is not None and not check["note"]:
        words.append(f"{_result(check['before'])} before the update")
    if not passed:
        words.append("counts" if check["counts"] else "does not count")
    if check["note"]:
        words.append(f"it {check['note']}")
    glyph = _GLYPHS.get(check["result"], "✗")
    lines = [f"  {glyph} {check['kind']:<8} {check['name']:<{width}}  {', '.join(words)}"]
    return lines if passed else [*lines, *(f"      {_plain(line)}" for line in check["output"].strip().splitlines())]


def _plain(text: str) -> str:
    """What a check wrote may hold anything, also what a terminal obeys."""
    return "".join(each if each.isprintable() else " " for each in text)


def _result(result: str) -> str:
    return _RESULTS.get(result, result)


def _history_line(verdict: Mapping[str, Any]) -> str:
    at, slot, version, said, reason = (
        _plain(verdict[key] or "") for key in ("at", "slot", "version", "verdict", "reason")
    )
    place = f"slot {slot}" if slot else ""
    return f"  {at}  {place:<6}  {version:<12} {said:<12} {reason}".rstrip()
