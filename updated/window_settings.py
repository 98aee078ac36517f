"""The windows of the configuration, and the time zone by which their clock goes."""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any

from bootctl.errors import in_words
from bootctl.settings import Layered, below
from bootctl.toml_value import toml
from updated.core.windows import DAYS, WEEK_MINUTES, Rate, Window, Windows

LOCAL_TIME = "localtime"
MOST_ENTRIES = 16
# A window is not noticed at once, and the baseline is taken before the command to reboot.
BEGIN_SECONDS = 300
_ZONE_MEND = 'Install the zones (Debian\'s package tzdata), or write time_zone = "UTC" and the times in UTC.'
_SPAN_KEYS = ("days", "start", "length_minutes")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def read_zone(layered: Layered, root: str, name: str) -> tzinfo:
    """The zone `name` ("localtime": that of the machine below `root`). Raises `ConfigError` when it is not there."""
    if name == "UTC":
        return UTC
    try:
        if name != LOCAL_TIME:
            return zoneinfo.ZoneInfo.no_cache(name)
        place = below(root, "/etc/localtime")
        if not os.path.lexists(place):
            return UTC  # as localtime(5) says
        if os.path.islink(place):
            place = below(root, os.path.join("/etc", os.readlink(place)))
        with open(place, "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        unread = f"/etc/localtime can't be read ({in_words(error)})"
        thing = unread if name == LOCAL_TIME else f"there is no time zone {toml(name)}"
        raise layered.error("windows.time_zone", thing, _ZONE_MEND) from None


def read_windows(layered: Layered, key: str, entries: list[Any], zone: tzinfo) -> Windows:
    """The windows in `entries`, which stand at `key` ("table.key"). Raises `ConfigError`."""
    _check_count(layered, key, entries)
    return Windows(tuple(_window(layered, f"{key}[{n}]", each) for n, each in enumerate(entries)), zone)


def read_rates(layered: Layered, key: str, entries: list[Any], zone: tzinfo) -> tuple[Rate, ...]:
    """The limits of bandwidth in `entries`, as `read_windows`. Raises `ConfigError`."""
    _check_count(layered, key, entries)
    rates = []
    for number, entry in enumerate(entries):
        place = f"{key}[{number}]"
        window = _window(layered, place, entry, "limit")
        limit = entry.get("limit")
        if type(limit) is not int or not (limit == 0 or 1024 <= limit <= 2**40):
            raise layered.error(
                f"{place}.limit", f"{toml(limit)} is not accepted" if "limit" in entry else "it is not set",
                "It holds bytes per second, 1024 or more, or 0 for no limit.",
            )
        rates.append(Rate(Windows((window,), zone), limit))
    return tuple(rates)


def check_room(layered: Layered, windows: Windows, takes: int, grace: int) -> None:
    """Raises `ConfigError` when no reboot window is ever as long as all that has to happen in it.

    A reboot is expected to take `takes` seconds, and people who are logged in get `grace` seconds before it.
    """
    seconds = BEGIN_SECONDS + grace + takes
    if windows.longest is not None and windows.longest < seconds:
        raise layered.error(
            "windows.reboot",
            f"the longest is open for {windows.longest // 60} minutes, and a reboot needs {-(-seconds // 60)}: "
            f"{BEGIN_SECONDS // 60} to begin, {grace // 60} for people who are logged in, and {-(-takes // 60)} for "
            "itself and its checks",
            "Make one longer, or set reboot_takes_minutes to what it does take, or a lower users_grace_minutes.",
        )


def _check_count(layered: Layered, key: str, entries: list[Any]) -> None:
    if len(entries) > MOST_ENTRIES:
        raise layered.error(key, f"there are {len(entries)} of them", f"Write {MOST_ENTRIES} at most.")


def _window(layered: Layered, place: str, entry: Mapping[str, Any], *more: str) -> Window:
    known = (*_SPAN_KEYS, *more)
    for key in entry:
        if key not in known:
            raise layered.error(f"{place}.{key}", "there is no such key", f"Use one of: {', '.join(known)}.")
    days = entry.get("days", list(DAYS))
    if not isinstance(days, list) or not days or not all(isinstance(day, str) and day in DAYS for day in days):
        raise layered.error(f"{place}.days", f"{toml(days)} is not accepted", f"It holds a list of: {', '.join(DAYS)}.")
    start = entry.get("start")
    clock = _CLOCK.fullmatch(start) if isinstance(start, str) else None
    if clock is None:
        cause = f"{toml(start)} is not accepted" if "start" in entry else "it is not set"
        raise layered.error(f"{place}.start", cause, 'It holds a time such as "22:00".')
    minutes = entry.get("length_minutes")
    if type(minutes) is not int or not 1 <= minutes <= WEEK_MINUTES:
        cause = f"{toml(minutes)} is not accepted" if "length_minutes" in entry else "it is not set"
        raise layered.error(f"{place}.length_minutes", cause, f"It holds a whole number, 1 to {WEEK_MINUTES}.")
    return Window(frozenset(map(DAYS.index, days)), int(clock[1]) * 60 + int(clock[2]), minutes)
