"""`updatectl config`: the merged configuration, and where each value comes from."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bootctl.health_settings import HealthSettings
from bootctl.settings import ConfigError, Layered, below, boot_settings, load
from bootctl.toml_value import toml
from updated import record
from updated.cli import exits
from updated.cli.paper import Paper, paper_of
from updated.cli.statusfile import read_status
from updated.config import KEYS, OFF_SWITCH, STATE_DIRECTORY, read_settings
from updated.core.document import format_time
from updated.core.errors import UpdatedError

DEFAULT = "default"
CHOSEN_CHANNEL = "updatectl channel"
CHOSEN_HOLD = "updatectl hold"
# Settings of [disk] and [boot] that have no default of their own, or one that is found on the machine.
_OPTIONAL = {"disk": ("device", "image"), "boot": ()}
_BOOT_DEFAULTS = {
    "disk": ("components",),
    "boot": (
        "backend", "grubenv", "esp", "fw_env_config", "autoboot", "tryboot_partitions", "tries", "count_confirmed",
    ),
}  # fmt: skip


def config(options: argparse.Namespace) -> int:
    """Prints it. Raises `UpdatedError` ("bad-config") with the words that the daemon would have."""
    entries = list(entries_below(options.root))
    if options.json:
        print(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        print(config_text(entries, paper_of(options.color)))
    return exits.DONE


def config_fault(error: ConfigError) -> UpdatedError:
    """A fault of the configuration, as the daemon tells it."""
    place = error.file if error.line is None else f"{error.file}:{error.line}"
    what = place if error.key is None else f"{place}: {error.key}"
    return UpdatedError("bad-config", what, error.cause, error.mend)


def entries_below(root: str) -> Iterator[dict[str, Any]]:
    """Each setting: `table`, `key`, `value` (null: not set), `origin` (`FILE:LINE`, a file, a command or `default`)."""
    try:
        read_settings(root)  # all that the daemon would refuse
        layered = load(root)
        defaults = _defaults(root)
    except ConfigError as error:
        raise config_fault(error) from None
    chosen = _chosen(root, layered)
    for table, keys in defaults.items():
        for key, default in keys.items():
            name = f"{table}.{key}"
            given = layered.values.get(table, {})
            value, origin = (given[key], str(layered.origin(name))) if key in given else (default, DEFAULT)
            value, origin = chosen.get(name, (value, origin))
            yield {"table": table, "key": key, "value": value, "origin": origin}
    if "hold" in chosen:
        value, origin = chosen["hold"]
        yield {"table": "choice", "key": "hold", "value": value, "origin": origin}


def _defaults(root: str) -> dict[str, dict[str, Any]]:
    tables = {table: {key: rule.default for key, rule in keys.items()} for table, keys in KEYS.items()}
    boot = boot_settings(Layered({}, {}), root)
    for table, keys in _BOOT_DEFAULTS.items():
        values = {key: _as_configured(getattr(boot, key), root) for key in keys}
        tables[table] = {**dict.fromkeys(_OPTIONAL[table]), **values}
    tables["disk"]["files"] = dict(boot.files)
    tables["health"] = asdict(HealthSettings())
    return tables


def _as_configured(value: Any, root: str) -> Any:
    if isinstance(value, tuple):
        return dict(value) if value and isinstance(value[0], tuple) else list(value)
    if isinstance(value, str) and value.startswith("/") and root != "/":
        return "/" + os.path.relpath(value, root)
    return value


def _chosen(root: str, layered: Layered) -> dict[str, tuple[Any, str]]:
    """What wins over the files: the choices that people made by command, and the image's switch."""
    found: dict[str, tuple[Any, str]] = {}
    if os.path.exists(below(root, OFF_SWITCH)):
        found["updates.enabled"] = (False, below(root, OFF_SWITCH))
    channel, hold = _choices(root, layered)
    if channel:
        found["repository.channel"] = (channel, CHOSEN_CHANNEL)
    if hold is not None:
        found["hold"] = (hold, CHOSEN_HOLD)
    return found


def _choices(root: str, layered: Layered) -> tuple[str, str | None]:
    """The chosen channel, empty without one, and the end of a hold; from the daemon's state, which root may read."""
    try:
        state = record.read(os.path.join(below(root, STATE_DIRECTORY), "state"))
        if state is not None:
            hold = state.object("hold") if state.has("hold") else None
            until = hold.number("until") if hold is not None and hold.has("until") else 0
            return state.text("channel"), None if hold is None else _end(until)
    except (UpdatedError, ValueError):
        pass
    try:
        status = read_status(root)
        configured = layered.values.get("repository", {}).get("channel", KEYS["repository"]["channel"].default)
        channel = str(status["channel"])
        hold_now = status["hold"]
        return "" if channel == configured else channel, None if not hold_now else str(hold_now["until"] or _end(0))
    except (UpdatedError, KeyError, TypeError):
        return "", None


def _end(until: int) -> str:
    return format_time(until) if until else "until unhold"


def config_text(entries: list[dict[str, Any]], paper: Paper) -> str:
    """The entries as the text of a configuration file."""
    lines: list[str] = []
    table = ""
    shown = [(entry, f"{entry['key']} = {toml(entry['value'])}") for entry in entries]
    width = min(44, max((len(text) for _, text in shown), default=0))
    for entry, text in shown:
        if entry["table"] != table:
            table = entry["table"]
            lines += [""] * bool(lines) + [paper.paint(f"[{table}]", "bold")]
        if entry["value"] is None:
            text = f"#{entry['key']}"
        line = f"{text:<{width}}  # {'not set' if entry['value'] is None else entry['origin']}"
        lines.append(paper.paint(line, "dim") if entry["origin"] == DEFAULT else line)
    return "\n".join(lines)
