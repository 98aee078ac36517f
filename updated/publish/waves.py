"""How a rollout begins, and how it goes on: nothing here takes a release away from a node that may have it already."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from typing import Final

from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.core.rollout import Curve, Rollout, decimal, percent

MOST_HOURS: Final = 366 * 24
_WAVE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)%(?:@(\d{1,6}(?:\.\d{1,4})?)([mhd]))?", re.ASCII)
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400}


def hours(text: str) -> float:
    """Hours such as `48` or `1.5`, from 0 to `MOST_HOURS`. Raises `UpdatedError` ("bad-request")."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if 0 <= number <= MOST_HOURS:
        return number
    cause = "is no number" if math.isnan(number) else "is less than 0" if number < 0 else "is more than a year"
    raise UpdatedError(
        "bad-request", f"the hours {text!r}", cause, f"Write hours from 0 to {MOST_HOURS}, such as 48 or 1.5."
    )


def ramp(hours: float) -> Curve:
    """Evenly to all nodes within `hours`, up to `MOST_HOURS`; none is at once."""
    return ((0, 0.0), (round(hours * 3600), 1.0))


def waves(text: str) -> Curve:
    """Steps such as `1%,10%@24h,100%@3d`: a share of the nodes, and when it may; without a time at once.

    Raises `UpdatedError` ("bad-request").
    """
    points: list[tuple[int, float]] = [(0, 0.0)]
    for wave in text.split(","):
        match = _WAVE.fullmatch(wave.strip())
        if match is None:
            raise _wrong(text, f"has {wave.strip()!r}, which is no wave")
        share, seconds = float(match[1]), round(float(match[2] or 0) * _UNITS[match[3] or "m"])
        if share > 100 or seconds > MOST_HOURS * 3600:
            raise _wrong(text, "goes beyond all nodes or a year")
        points += [(seconds, points[-1][1]), (seconds, round(share / 100, 6))]
    if any(later < then or more < less for (then, less), (later, more) in itertools.pairwise(points)):
        raise _wrong(text, "goes back in time or share")
    return _plain(points)


def _wrong(text: str, cause: str) -> UpdatedError:
    return UpdatedError("bad-request", f"the waves {text!r}", cause, "Write them so: 1%,10%@24h,100%@3d (m, h or d).")


def paused(rollout: Rollout, now: int) -> Rollout:
    """The rollout at rest from `now` on (seconds since the epoch). Raises `UpdatedError` ("bad-request")."""
    if rollout.next_point(now) is None:
        raise _impossible(rollout, now, "and nothing is to come that could be paused")
    return replace(rollout, paused=max(now, rollout.start))


def resumed(rollout: Rollout, now: int) -> Rollout:
    """The rollout after its pause, which ends at `now`: all that is to come is as much later as the pause was long.

    Raises `UpdatedError` ("bad-request").
    """
    if rollout.paused is None:
        raise _impossible(rollout, now, "and is not paused")
    stopped = rollout.paused - rollout.start
    rest = tuple((seconds - stopped, share) for seconds, share in rollout.curve if seconds > stopped)
    return continued(rollout, rest, max(now, rollout.paused))


def continued(rollout: Rollout, curve: Curve, now: int) -> Rollout:
    """The rollout with `curve` from `now` on in place of what was to come; its share never falls.

    To the first point of `curve` it grows evenly from the present share.
    """
    elapsed = max(now - rollout.start, 0)
    stopped = elapsed if rollout.paused is None else min(elapsed, rollout.paused - rollout.start)
    # Rounded up: who may take the release at this moment may do so afterwards.
    share = math.ceil(rollout.share(now) * 10**6) / 10**6
    past = [point for point in rollout.curve if point[0] <= stopped]
    ahead = [(elapsed + seconds, max(share, more)) for seconds, more in curve]
    return Rollout(rollout.start, _plain([*past, (stopped, share), (elapsed, share), *ahead]))


def _plain(points: list[tuple[int, float]]) -> Curve:
    """Without points that say nothing: between two of the same share, or of the same time."""
    kept: list[tuple[int, float]] = []
    for point in points:
        while len(kept) > 1 and (kept[-2][0] == kept[-1][0] == point[0] or kept[-2][1] == kept[-1][1] == point[1]):
            kept.pop()
        if not kept or kept[-1] != point:
            kept.append(point)
    if len(kept) > 1 and kept[0][0] == kept[1][0]:
        kept.pop(0)  # nothing comes before the first point
    return tuple(kept)


def _impossible(rollout: Rollout, now: int, cause: str) -> UpdatedError:
    return UpdatedError(
        "bad-request", "the rollout", f"stands at {percent(rollout.share(now))} of the nodes, {cause}",
        "Look at `releasectl status`; --hours, --waves and --all go on from there.",
    )


def described(rollout: Rollout | None, now: int) -> str:
    """Where a rollout stands at `now`, what comes next, and where it ends before all nodes."""
    if rollout is None:
        return "all nodes"
    share = rollout.share(now)
    words = f"{percent(share)} of the nodes"
    if share == 1:
        return words
    ahead = rollout.next_point(now)
    if ahead is None and rollout.paused is not None:
        return f"{words}, paused"
    _, end = rollout.curve[-1]
    if ahead is not None:
        words += f", {percent(decimal(ahead[1]))} by {format_time(ahead[0])}"
        if end == 1:
            return words
        if end > ahead[1]:
            words += f", {percent(decimal(end))} in the end"
    return f"{words}, and no more without `releasectl rollout`"
