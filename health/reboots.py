"""How often the machine rebooted by itself: the count, which is on disk before each such reboot, and its limits.

What a person or the daemon asks for is not counted. A count that can't be read or written allows nothing: rather up and
sick, where somebody can log in, than rebooting for ever.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bootctl import durable
from health import journal, system
from health.rootdir import below

LEDGER = "/var/lib/updated/health/reboots.json"
MOTD = "/run/motd.d/updated-reboots"
SCHEMA = 1
DAY_SECONDS = 86400
KEPT_RELEASES = 20
KEPT_TIMES = 100


@dataclass(frozen=True, slots=True)
class Ledger:
    """`releases`: reboots out of each release since it was last found good; `times`: of the last ones, in seconds since
    the epoch; `boot_id`: the boot that the last one ended."""

    releases: Mapping[str, int] = field(default_factory=dict)
    times: tuple[int, ...] = ()
    boot_id: str | None = None


def refusal(ledger: Ledger, release: str, now: int, *, per_release: int, per_day: int) -> str | None:
    """Why there must be no further reboot by itself; None when it may be.

    A clock that was set back or forward counts as far as it was off by less than a day; the limit per release has no
    clock.
    """
    count = ledger.releases.get(release, 0)
    if count >= per_release:
        return f"{release} has rebooted the machine {count} times already, and {per_release} are allowed"
    recent = sum(abs(now - time) < DAY_SECONDS for time in ledger.times)
    if recent >= per_day:
        return f"the machine has rebooted by itself {recent} times within a day, and {per_day} are allowed"
    return None


def with_reboot(ledger: Ledger, release: str, boot_id: str | None, now: int) -> Ledger:
    """The ledger with one more reboot out of `release`."""
    others = {name: count for name, count in ledger.releases.items() if name != release}
    counted = {**others, release: ledger.releases.get(release, 0) + 1}
    newest = dict(list(counted.items())[-KEPT_RELEASES:])
    return Ledger(newest, (*ledger.times, now)[-KEPT_TIMES:], boot_id)


def without(ledger: Ledger, release: str) -> Ledger:
    """The ledger after `release` was found good."""
    return replace(ledger, releases={name: count for name, count in ledger.releases.items() if name != release})


def ask(
    root: str,
    release: str,
    boot_id: str | None,
    now: int,
    *,
    per_release: int,
    per_day: int,
    way_out: bool = False,
    bounded: bool = False,
) -> str | None:
    """Counts the reboot that follows; the reason, if there must be none. A boot is counted once, however often it asks.

    `way_out`: it leads for the first time from a rejected slot to one that was confirmed, where no checker reboots any
    more. That is counted, and never refused. `bounded`: the loader's own tries end a row of such reboots, so that one
    which can't be counted, or was not, may be: what hangs may be the state partition.
    """
    ledger = read(root)
    if ledger is not None and boot_id is not None and ledger.boot_id == boot_id:
        return None
    if not way_out and not (bounded and ledger is None):
        why = (
            f"{LEDGER} is damaged"
            if ledger is None
            else refusal(ledger, release, now, per_release=per_release, per_day=per_day)
        )
        if why is not None:
            return why
    try:
        write(root, with_reboot(ledger or Ledger(), release, boot_id, now))
    except OSError as error:
        return None if way_out or bounded else f"{LEDGER} can't be written ({error.strerror})"
    return None


def settle(root: str, release: str) -> None:
    """Notes that `release` was found good, and begins anew what is damaged; nobody is told any more that the machine
    stays up. Raises OSError."""
    ledger = read(root)
    if ledger is None or release in ledger.releases:
        write(root, without(ledger or Ledger(), release))
    durable.remove(below(root, MOTD))


def read(root: str) -> Ledger | None:
    """The ledger, empty when there is none yet; None when it is damaged."""
    try:
        with open(below(root, LEDGER), "rb") as file:
            return parse(file.read())
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError):
        return None


def parse(data: bytes) -> Ledger:
    """The ledger in a document. Raises ValueError, and nothing else whatever the bytes are."""
    try:
        value = json.loads(data)
        releases, times, boot_id = value["releases"], value["times"], value["boot_id"]
        right = (
            value["schema"] == SCHEMA
            and all(isinstance(name, str) and _is_count(count) for name, count in releases.items())
            and all(_is_count(time) for time in times)
            and isinstance(boot_id, str | None)
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is no ledger of reboots") from error
    if not right:
        raise ValueError("a value is of another type than it should be")
    return Ledger(releases, tuple(times), boot_id)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def write(root: str, ledger: Ledger) -> None:
    """Keeps the ledger, durably. Raises OSError."""
    value = {
        "schema": SCHEMA, "releases": ledger.releases, "times": list(ledger.times), "boot_id": ledger.boot_id,
    }  # fmt: skip
    system.store(root, LEDGER, json.dumps(value).encode(errors="replace") + b"\n")


def announce(root: str, subject: str, wanted: str, why: str, *, rejected: bool) -> str:
    """Tells everybody that the machine stays up although it `wanted` a reboot, and what ends that; the message.

    `rejected`: the boot reference gives the slot up, and no check can change that any more.
    """
    first = "confirm the slot ('updated-bootctl confirm'), then " if rejected else ""
    message = (
        f"updated: {subject} {wanted}, and the machine stays up all the same: {why}. It does not reboot by itself any "
        f"more. See updatectl status and journalctl -u updated-health. Reboot it, or after a repair {first}"
        "run systemctl restart updated-health."
    )
    journal.send(journal.STAYS, journal.CRITICAL, message, {"UPDATED_REASON": why}, root)
    with contextlib.suppress(OSError):  # it is in the journal, and on the terminals
        system.store(root, MOTD, message.encode(errors="replace") + b"\n")
    if root == "/" and os.path.exists("/usr/bin/wall"):
        from health.commands import Commands

        with contextlib.suppress(OSError):
            Commands().run(("/usr/bin/wall", message), timeout_seconds=10)
    return message
