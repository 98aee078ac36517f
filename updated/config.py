"""The configuration of the daemon, strict: what does not fit is an error that names its place.

The layers and their order are in `bootctl.settings`; here stands which keys there are, and what each may hold.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from bootctl.first_steps import unset
from bootctl.health_settings import health_settings
from bootctl.settings import KERNEL, BootSettings, ConfigError, Layered, below, boot_settings, load
from bootctl.toml_value import toml
from updated.core.errors import UpdatedError
from updated.core.policy import Policy
from updated.core.release import is_name
from updated.core.rollout import FIRST, LAST
from updated.core.selection import Pin
from updated.core.surroundings import Care
from updated.core.version import Version
from updated.core.windows import Rate
from updated.window_settings import LOCAL_TIME, check_room, read_rates, read_windows, read_zone

STATE_DIRECTORY = "/var/lib/updated"
RUN_DIRECTORY = "/run/updated"
# Below the state directory: whoever works on the node holds it, and the first one made it.
LOCK = "lock"
OFF_SWITCH = "/usr/.noupdate"
# From the command to reboot until health has seen the new slot, where nobody said how long that takes.
USUAL_REBOOT_SECONDS = 300
_PLACES: Mapping[str, float | None] = {"random": None, "first": FIRST, "last": LAST}


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its default, the test that a value must pass, and the words for what it holds."""

    default: Any
    accepts: Callable[[Any], bool]
    holds: str
    required: bool = False


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _url(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(https?://[^\s/]+(/\S*)?|file:///\S*)", value) is not None


def _urls(value: Any) -> bool:
    return isinstance(value, list) and all(_url(each) for each in value)


def _path(value: Any) -> bool:
    return isinstance(value, str) and (value == "" or value.startswith("/")) and "\0" not in value


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _limit(value: Any) -> bool:
    return type(value) is int and (value == 0 or 1024 <= value <= 2**40)


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words


def _tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _version(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    with contextlib.suppress(UpdatedError):
        return value == "" or bool(Version(value).text)
    return False


def _wave(value: Any) -> bool:
    return (isinstance(value, str) and value in _PLACES) or (type(value) in (int, float) and 0 <= value <= 1)


def _command(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) and word for word in value)


def _listen(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if value == "off" or re.fullmatch(r"(unix|textfile):/\S+", value):
        return True
    match = re.fullmatch(r"(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]|localhost):(\d{1,5})", value)
    return match is not None and int(match[2]) <= 65535


KEYS: Mapping[str, Mapping[str, Key]] = {
    "repository": {
        "url": Key(
            "", lambda value: value == "" or _url(value),
            "a URL that begins with http://, https:// or file:///; a directory goes into path",
        ),
        "path": Key("", _path, "the absolute path of a directory or a bundle, or nothing"),
        "mirrors": Key([], _urls, "a list of URLs: http://, https://, or file:/// and a directory"),
        "root_of_trust": Key("/usr/share/updated/root.json", _path, "an absolute path"),
        "channel": Key("stable", lambda value: isinstance(value, str) and is_name(value), "the name of a channel"),
        "ca_bundle": Key("", _path, "an absolute path, or nothing for that of the system"),
        "client_certificate": Key("", _path, "an absolute path of a PEM file with certificate and key, or nothing"),
        "proxy": Key("", lambda value: value == "" or _url(value), "the URL of a proxy, or nothing"),
        "lowest_rate": Key(1024, _whole(0, 2**40), "bytes per second, below which a server counts as stalled"),
        "expired_grace_days": Key(0, _whole(0, 3650), "a whole number of days, 0 to 3650"),
        "expiry_warning_days": Key(7, _whole(0, 365), "a whole number of days, 0 to 365"),
    },
    "identity": {
        "compatible": Key(None, lambda value: _text(value) and value != "", "the kind of machine", required=True),
    },
    "updates": {
        "enabled": Key(True, lambda value: isinstance(value, bool), "true or false"),
        "interval_seconds": Key(3600, _whole(1, 30 * 86400), "a whole number of seconds, 1 to 2592000"),
        "reboot": Key(
            "reboot", _one_of("reboot", "kexec", "sentinel", "none"), '"reboot", "kexec", "sentinel" or "none"'
        ),
        "reboot_command": Key(["systemctl", "reboot"], _command, "a list of words"),
        "start_command": Key(["systemctl", "start"], _command, "a list of words"),
        "users_grace_minutes": Key(10, _whole(0, 1440), "a whole number of minutes, 0 to 1440"),
        "metered": Key("ignore", _one_of("wait", "ignore"), '"wait" or "ignore"'),
        "battery": Key("wait", _one_of("wait", "ignore"), '"wait" or "ignore"'),
        "allow_downgrade": Key(False, lambda value: isinstance(value, bool), "true or false"),
        "wave": Key("random", _wave, '"random", "first", "last" or a number from 0 to 1'),
        "urgent": Key("now", _one_of("now", "as-usual"), '"now" or "as-usual"'),
        "pin": Key("", _version, "a version, or nothing"),
        "newest": Key("", _version, "a version, or nothing"),
    },
    "windows": {
        "time_zone": Key(LOCAL_TIME, lambda value: _text(value) and value != "", '"localtime" or a zone'),
        "download": Key([], _tables, "tables: [[windows.download]]"),
        "reboot": Key([], _tables, "tables: [[windows.reboot]]"),
        "reboot_takes_minutes": Key(0, _whole(0, 1440), "a whole number of minutes, 0 to 1440"),
    },
    "fetch": {
        "user": Key("updated-fetch", _text, "the name of an unprivileged user"),
        "connections": Key(4, _whole(1, 16), "a whole number, 1 to 16"),
        "bandwidth_limit": Key(0, _limit, "bytes per second, 1024 or more, or 0 for no limit"),
        "bandwidth": Key([], _tables, "tables: [[fetch.bandwidth]]"),
    },
    "metrics": {
        "listen": Key(
            "127.0.0.1:9836", _listen, '"ADDRESS:PORT", "unix:/path", "textfile:/path/name.prom" or "off"'
        ),
    },
    "log": {
        "level": Key("info", _one_of("debug", "info", "warning", "error"), "debug, info, warning or error"),
    },
}
ELSEWHERE = ("boot", "disk", "health")


@dataclass(frozen=True, slots=True)
class Settings:
    """The merged configuration. Paths are as the kernel sees them: below `root` already.

    `url` and `path` are never both set. `grace`: for how many seconds expired metadata is still accepted. `rates`:
    limits that go before `bandwidth_limit` in their windows. `kexec`: what is staged is started without the loader.
    """

    root: str
    boot: BootSettings
    url: str
    path: str
    mirrors: tuple[str, ...]
    root_of_trust: str
    ca_bundle: str
    client_certificate: str
    proxy: str
    lowest_rate: int
    grace: int
    compatible: str
    policy: Policy
    kexec: bool
    reboot_command: tuple[str, ...]
    start_command: tuple[str, ...]
    fetch_user: str
    connections: int
    bandwidth_limit: int
    rates: tuple[Rate, ...]
    metrics_listen: str
    log_level: str

    def sought(self) -> tuple[object, ...]:
        """All that says which release this node takes, and where from."""
        policy = self.policy
        return (
            policy.pin, policy.allow_downgrade, policy.wave, policy.heed_urgent, self.url, self.path, self.mirrors,
            self.root_of_trust, self.ca_bundle, self.client_certificate, self.proxy, self.lowest_rate, self.grace,
        )

    def state(self, *parts: str) -> str:
        """A path below the state directory."""
        return os.path.join(below(self.root, STATE_DIRECTORY), *parts)

    def run(self, *parts: str) -> str:
        """A path below the run directory."""
        return os.path.join(below(self.root, RUN_DIRECTORY), *parts)


def read_settings(root: str = "/") -> Settings:
    """The settings of the node below `root`. Raises `ConfigError`, which names file, line, key, cause and mend."""
    layered = load(root)
    values = _checked(layered, root)
    _check_repository(layered, values["repository"])
    if values["updates"]["pin"] and values["updates"]["newest"]:
        raise layered.error("updates.newest", "pin is set as well", 'Keep one of the two; pin = "" takes a pin back.')
    boot = boot_settings(layered, root)
    if values["updates"]["reboot"] == "kexec":
        _check_kexec(layered, boot)
    probation = health_settings(layered).probation_seconds
    repository = values["repository"]
    updates = values["updates"]
    windows, bandwidth = values["windows"], values["fetch"]["bandwidth"]
    used = windows["download"] or windows["reboot"] or bandwidth
    # Without a window that of the machine says nothing, and need not be there; one that is named must be right.
    named = windows["time_zone"] != LOCAL_TIME
    zone = read_zone(layered, root, windows["time_zone"]) if used or named else UTC
    reboots = read_windows(layered, "windows.reboot", windows["reboot"], zone)
    reboot_takes = windows["reboot_takes_minutes"] * 60 or probation + USUAL_REBOOT_SECONDS
    care = _care(updates, repository["url"])
    check_room(layered, reboots, reboot_takes, care.grace)
    off_switch = below(root, OFF_SWITCH)
    switched_off = os.path.exists(off_switch)
    place = layered.origin("updates.enabled")
    return Settings(
        root=root,
        boot=boot,
        url=_url_below(root, repository["url"]),
        path=repository["path"] and below(root, repository["path"]),
        mirrors=tuple(_url_below(root, url) for url in repository["mirrors"]),
        root_of_trust=below(root, repository["root_of_trust"]),
        ca_bundle=repository["ca_bundle"] and below(root, repository["ca_bundle"]),
        client_certificate=repository["client_certificate"] and below(root, repository["client_certificate"]),
        proxy=repository["proxy"],
        lowest_rate=repository["lowest_rate"],
        grace=repository["expired_grace_days"] * 86400,
        compatible=values["identity"]["compatible"],
        policy=Policy(
            enabled=updates["enabled"] and not switched_off,
            disabled_by=off_switch if switched_off else f"{place}: [updates] enabled = false",
            reboot_automatically=updates["reboot"] in ("reboot", "kexec"),
            interval=updates["interval_seconds"],
            tries=boot.tries,
            channel=repository["channel"],
            allow_downgrade=updates["allow_downgrade"],
            repository=bool(repository["url"] or repository["path"]),
            warn_early=repository["expiry_warning_days"] * 86400,
            wave=_PLACES[updates["wave"]] if isinstance(updates["wave"], str) else float(updates["wave"]),
            heed_urgent=updates["urgent"] == "now",
            pin=Pin(updates["pin"], updates["newest"]),
            downloads=read_windows(layered, "windows.download", windows["download"], zone),
            reboots=reboots,
            reboot_takes=reboot_takes,
            sentinel=updates["reboot"] != "none",
            care=care,
        ),
        kexec=updates["reboot"] == "kexec",
        reboot_command=tuple(updates["reboot_command"]),
        start_command=tuple(updates["start_command"]),
        fetch_user=values["fetch"]["user"],
        connections=values["fetch"]["connections"],
        bandwidth_limit=values["fetch"]["bandwidth_limit"],
        rates=read_rates(layered, "fetch.bandwidth", bandwidth, zone),
        metrics_listen=_listen_below(root, values["metrics"]["listen"]),
        log_level=values["log"]["level"],
    )


def _checked(layered: Layered, root: str) -> dict[str, dict[str, Any]]:
    if (nothing := unset(layered, root)) is not None:
        raise nothing
    for table in layered.values:
        if table not in KEYS and table not in ELSEWHERE:
            known = ", ".join(sorted([*KEYS, *ELSEWHERE]))
            raise layered.error(table, "there is no such table", f"Use one of: {known}.")
    return {name: _checked_table(layered, name, keys) for name, keys in KEYS.items()}


def _checked_table(layered: Layered, name: str, keys: Mapping[str, Key]) -> dict[str, Any]:
    given = layered.values.get(name, {})
    if not isinstance(given, dict):
        raise layered.error(name, "it is no table", f"Write it as a table: [{name}].")
    for key in given:
        if key not in keys:
            raise layered.error(f"{name}.{key}", "there is no such key", f"Use one of: {', '.join(keys)}.")
    values = {}
    for key, rule in keys.items():
        if key not in given:
            if rule.required:
                raise layered.error(f"{name}.{key}", "it is not set", f"Set it to {rule.holds}.")
            values[key] = rule.default
        elif not rule.accepts(given[key]):
            raise layered.error(f"{name}.{key}", f"{toml(given[key])} is not accepted", f"It holds {rule.holds}.")
        else:
            values[key] = given[key]
    return values


def _check_repository(layered: Layered, values: Mapping[str, Any]) -> None:
    if values["url"] and values["path"]:
        raise layered.error(
            "repository.path", "url is set as well", 'Keep one of the two; url = "" takes back what a lower file says.'
        )
    if values["mirrors"] and not values["url"]:
        raise layered.error("repository.mirrors", "url is not set, and these are further places of it", "Set url.")
    if values["expired_grace_days"] and values["url"]:
        raise layered.error(
            "repository.expired_grace_days", "url is set, and what comes from there must be fresh",
            "Leave it out; it is for path, and for nodes that live by 'updatectl import' alone.",
        )


def _check_kexec(layered: Layered, boot: BootSettings) -> None:
    if boot.backend == "tryboot":
        raise layered.error(
            "updates.reboot", "kexec would pass by the firmware, which alone starts a trial with the backend tryboot",
            'Use "reboot".',
        )
    if KERNEL not in dict(boot.files):
        raise layered.error(
            "updates.reboot", f"kexec starts the kernel of a slot from a file, and [disk] files has no {KERNEL}",
            'Set files = { kernel = "/efi/EFI/updated/{slot}.efi" } in the table [disk], or use "reboot".',
        )


def _care(updates: Mapping[str, Any], url: str) -> Care:
    # What comes from a folder is not downloaded.
    metered = updates["metered"] == "wait" and url.startswith("http")
    return Care(metered, updates["battery"] == "wait", updates["users_grace_minutes"] * 60)


def _url_below(root: str, url: str) -> str:
    prefix = "file://"
    return prefix + below(root, url.removeprefix(prefix)) if url.startswith(prefix) else url


def _listen_below(root: str, listen: str) -> str:
    kind, colon, path = listen.partition(":")
    return f"{kind}{colon}{below(root, path)}" if kind in ("unix", "textfile") else listen


__all__ = ["KEYS", "ConfigError", "Settings", "read_settings"]
