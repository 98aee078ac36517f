"""Why the node waits for what goes on around it, as pure rules."""

from __future__ import annotations

from collections.abc import Sequence

from updated.core.document import format_time
from updated.core.selection import Reason
from updated.core.surroundings import Care, Grace, Surroundings

# So many are named.
MOST_NAMES = 3


def before_install(around: Surroundings, care: Care) -> tuple[Reason, ...]:
    """Why nothing is to be downloaded and written now."""
    return (*_metered(around, care), *_battery(around, care))


def before_reboot(around: Surroundings, care: Care) -> tuple[Reason, ...]:
    """Why the machine is not to reboot now, but for people who are logged in."""
    return (*inhibited(around), *_battery(around, care))


def _metered(around: Surroundings, care: Care) -> tuple[Reason, ...]:
    if not (around.metered and care.metered):
        return ()
    return (Reason("metered", "the network is metered, and [updates] metered is \"wait\""),)


def _battery(around: Surroundings, care: Care) -> tuple[Reason, ...]:
    if not (around.on_battery and care.battery):
        return ()
    return (Reason("battery", "the machine runs on battery, and [updates] battery is \"wait\""),)


def inhibited(around: Surroundings) -> tuple[Reason, ...]:
    """Who asked logind to keep the machine up, and why; a person's plain request to reboot heeds it too."""
    if not around.inhibitors:
        return ()
    names = _several([f"{each.who} ({each.why})" for each in around.inhibitors])
    keep = "keeps" if len(around.inhibitors) == 1 else "keep"
    return (Reason("inhibited", f"{names} {keep} the machine up"),)


def time_to_leave(around: Surroundings, care: Care, grace: Grace | None, version: str, now: int) -> int:
    """How many seconds people who are logged in still have until the reboot into `version`; 0 without any.

    A time that ends later than any begun now would is that of another clock or configuration, and begins anew.
    """
    if not around.users:
        return 0
    until = now + care.grace
    if grace is not None and grace.version == version and grace.until <= until:
        until = grace.until
    return max(until - now, 0)


def users_leave(around: Surroundings, care: Care, grace: Grace | None, version: str, now: int) -> tuple[Reason, ...]:
    """That people are logged in, until their time before the reboot into `version` is over."""
    until = now + time_to_leave(around, care, grace, version, now)
    if until == now:
        return ()
    names = _several([f"{each.user} ({each.place})" for each in around.users])
    are = "is" if len(around.users) == 1 else "are"
    return (Reason("users", f"{names} {are} logged in; the reboot comes at {format_time(until)}", until),)


def _several(names: Sequence[str]) -> str:
    named, more = list(names[:MOST_NAMES]), len(names) - MOST_NAMES
    last = f"{more} more" if more > 0 else named.pop()
    return f"{', '.join(named)} and {last}" if named else last
