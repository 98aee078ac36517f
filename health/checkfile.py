"""The format of a check file (TOML): text <-> values, and errors that name the line, the key and the mend."""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bootctl.settings import ConfigError
from bootctl.toml_value import toml
from health import keys
from health.check import Check, Kind, Pace

_MODULE_OF: Mapping[str, str] = {
    "exec": "programs",
    "unit": "units",
    "no-failed-units": "units",
    "boot-complete": "units",
    "dbus-name": "bus",
    "http": "network",
    "tcp": "network",
    "unix-socket": "network",
    "route": "routes",
    "disk-space": "storage",
    "mount": "storage",
    "kernel": "kernel",
    "pressure": "pressure",
    "time-synchronised": "clock",
    "kubelet": "kubernetes",
    "node-ready": "kubernetes",
    "container-runtime": "containers",
    "booted-version": "image",
}
"""The module of `health.probes` in which each type lives: only those that a check asks for are loaded."""

TYPES = tuple(_MODULE_OF)

PACE: Mapping[str, keys.Reader] = {
    "timeout_seconds": keys.number(0.1, 3600),
    "retries": keys.whole(0, 1000),
    "retry_delay_seconds": keys.number(0, 3600),
    "settle_seconds": keys.number(0, 3600),
}
MANNER: Mapping[str, keys.Reader] = {"count": keys.one_of("regression", "always"), "parallel": keys.flag}


def described(name: str) -> keys.Type:
    """The type `name`, one of `TYPES`."""
    module = import_module(f"health.probes.{_MODULE_OF[name]}")
    found: keys.Type = module.TYPES[name]
    return found


def parse_check(data: bytes, file: str, kind: Kind, name: str) -> Check:
    """The check that a check file describes. `file` is for the errors only.

    Raises ConfigError, and nothing else whatever the bytes are.
    """
    text, table = _table(data, file)

    def refuse(key: str, cause: str, mend: str) -> ConfigError:
        place = re.search(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=", text, re.MULTILINE)
        line = text.count("\n", 0, place.start()) + 1 if place else None
        return ConfigError(file, cause, mend, line=line, key=key)

    asked = table.pop("type", None)
    if not isinstance(asked, str) or asked not in _MODULE_OF:
        cause = "there is no type" if asked is None else f"there is no type {toml(asked)}"
        raise refuse("type", cause, f"Write one of {', '.join(TYPES)}.")
    described_type = described(asked)
    groups = (PACE, MANNER, described_type.readers)
    for key, value in table.items():
        readers = next((readers for readers in groups if key in readers), None)
        if readers is None:
            known = ", ".join((*described_type.readers, *PACE, *MANNER))
            raise refuse(key, f"a check of type {asked} has no such key", f"The keys are type, {known}.")
        try:
            table[key] = readers[key](value)
        except keys.BadValue as bad:
            raise refuse(key, bad.cause, bad.mend) from bad
    pace, manner, own = ({key: table[key] for key in group if key in table} for group in groups)
    if kind == "wanted" and "count" in manner:
        raise refuse("count", "a wanted check never counts", "Leave it out, or move the file to required.d.")
    for key in described_type.needed:
        if key not in own:
            raise refuse(key, f"a check of type {asked} needs it", f"Add a line {key} = …")
    if described_type.one_of and not any(key in own for key in described_type.one_of):
        mend = f"Add one or more of {', '.join(described_type.one_of)}."
        raise ConfigError(file, "it asks for nothing", mend, key=asked)
    return Check(kind, name, described_type.build(**own), Pace(**pace), **manner)


def _table(data: bytes, file: str) -> tuple[str, dict[str, Any]]:
    import tomllib

    try:
        text = data.decode()
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, "it is not UTF-8", "Save the file as UTF-8.", line=line) from error
    except tomllib.TOMLDecodeError as error:
        from bootctl.toml_faults import line_and_cause

        line, cause = line_and_cause(str(error), text)
        raise ConfigError(file, f"it is not TOML ({cause})", "Correct that line.", line=line) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(file, f"it is not TOML ({error})", "Write plain keys and values.") from error
