"""When signed metadata expires, and when people shall hear of it: before it does, and as long as it is so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from updated.core.document import format_time

DAY = 86400
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Expiry:
    """When the metadata of a role expires, in seconds since the epoch, as of the last check that succeeded.

    `lifetime`: for how many seconds a signature of the role lasts, if the publisher says so. `accepted`: it had
    expired already, and the grace of the configuration let it pass.
    """

    at: int
    lifetime: int | None = None
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """That the metadata of `role` is `expired`, or close to it, in words."""

    role: str
    expired: bool
    text: str


def is_close(expiry: Expiry, now: int, early: int) -> bool:
    """Whether less than `early` seconds are left, but never more than a third of the lifetime; or nothing is.

    A publisher renews a signature when a third of its time is left, so what has more than that is healthy.
    """
    most = early if expiry.lifetime is None else min(early, expiry.lifetime // 3)
    return expiry.at <= now or expiry.at - now < most


def notices(expiries: Mapping[str, Expiry], now: int, early: int) -> tuple[Notice, ...]:
    """What people shall know at `now`, by role; `early` as for `is_close`."""
    return tuple(
        Notice(role, expiry.at <= now, _text(role, expiry, now))
        for role, expiry in sorted(expiries.items())
        if is_close(expiry, now, early)
    )


def accepted(expiries: Mapping[str, Expiry]) -> tuple[str, ...]:
    """The roles whose expired metadata was accepted."""
    return tuple(role for role, expiry in sorted(expiries.items()) if expiry.accepted)


def grace_text(roles: Sequence[str]) -> str:
    """That the expired metadata of `roles` was accepted, in words."""
    return f"expired metadata was accepted, since [repository] expired_grace_days allows it: {', '.join(roles)}"


def _text(role: str, expiry: Expiry, now: int) -> str:
    left = expiry.at - now
    when = f"in {_length(left)}" if left > 0 else f"{_length(-left)} ago"
    return (
        f"the metadata of {role} {'expires' if left > 0 else 'expired'} {when} ({format_time(expiry.at)}); "
        "the publisher must refresh it"
    )


def _length(seconds: int) -> str:
    # Coarse, so that the words change as rarely as they may.
    if seconds >= 2 * DAY:
        return f"{seconds // DAY} days"
    return f"{seconds // _HOUR} hours" if seconds >= 2 * _HOUR else "less than 2 hours"
