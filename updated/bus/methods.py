"""The methods of our interface: what each takes, which polkit action it needs, and the event that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from updated.bus.interface import Argument, Method
from updated.core import events
from updated.core.errors import UpdatedError
from updated.core.events import Event
from updated.core.release import is_name

# 9999-12-31T23:59:59Z
LAST_TIME = 253402300799
MOST_VERSION = 64


class Deed(NamedTuple):
    """What is behind a method.

    `action` is the last part of the polkit action. `fields` makes those of `event` of the arguments; it raises
    `UpdatedError` ("bad-request").
    """

    method: Method
    action: str
    event: type[Event]
    fields: Callable[..., dict[str, Any]] = dict


def _forced() -> dict[str, Any]:
    return {"force": True}


def _channel(channel: str) -> dict[str, Any]:
    if not is_name(channel):
        raise UpdatedError(
            "bad-request", f"channel {channel[:40]!r}", "is not a name of a channel", "Use one such as stable or beta."
        )
    return {"channel": channel}


def _hold(until: int) -> dict[str, Any]:
    if until > LAST_TIME:
        raise UpdatedError("bad-request", "the end of the hold", "is not a time", "Give seconds since 1970, or 0.")
    return {"until": until or None}


def _version(version: str) -> dict[str, Any]:
    if not 0 < len(version) <= MOST_VERSION:
        raise UpdatedError(
            "bad-request", f"release {version[:40]!r}", "is not a version", "'updatectl status' shows what is denied."
        )
    return {"version": version}


def _descriptor(bundle: int) -> dict[str, Any]:
    return {"descriptor": bundle}


def _deed(
    name: str, action: str, event: type[Event], text: str, takes: tuple[Argument, ...] = (),
    fields: Callable[..., dict[str, Any]] = dict,
) -> Deed:
    return Deed(Method(name, takes, text=text), action, event, fields)


DEEDS: Mapping[str, Deed] = {
    deed.method.name: deed
    for deed in (
        _deed("Check", "check", events.CheckRequested, "looks for a release now"),
        _deed(
            "Install", "install", events.InstallRequested,
            "looks for a release and installs it now, whatever hold and wave say",
        ),
        _deed(
            "Import", "import", events.ImportRequested,
            "installs the newest release in a bundle or a repository's directory; the caller may close the file as "
            "soon as the call has returned",
            (("bundle", "h"),), _descriptor,
        ),
        _deed("Reboot", "reboot", events.RebootRequested, "reboots into what is staged, if nothing inhibits it"),
        _deed(
            "RebootNow", "reboot-now", events.RebootRequested,
            "reboots into what is staged; neither hooks nor inhibitors are asked", (), _forced,
        ),
        _deed(
            "Rollback", "rollback", events.RollbackRequested,
            "boots the other slot, unless its release was denied or recalled, and denies what runs",
        ),
        _deed(
            "RollbackAnyway", "rollback-anyway", events.RollbackRequested,
            "boots the other slot, whatever its release is, and denies what runs", (), _forced,
        ),
        _deed(
            "SetChannel", "set-channel", events.ChannelRequested, "follows another channel",
            (("channel", "s"),), _channel,
        ),
        _deed(
            "Hold", "hold", events.HoldRequested, "pauses updates, until seconds since 1970, or without end with 0",
            (("until", "t"),), _hold,
        ),
        _deed("Unhold", "unhold", events.UnholdRequested, "ends the pause"),
        _deed(
            "Allow", "allow", events.AllowRequested, "takes a release off the denylist", (("version", "s"),), _version
        ),
    )
}  # fmt: skip
