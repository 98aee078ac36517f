"""The status file of a node whose daemon could not start, or a cycle of it: what went wrong, and all that is known."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from bootctl import durable
from bootctl.settings import ConfigError, below, boot_settings, load
from updated import record
from updated.config import RUN_DIRECTORY, STATE_DIRECTORY
from updated.core import events
from updated.core.document import dump
from updated.core.errors import UpdatedError
from updated.core.machine import decide, first_state
from updated.core.policy import Policy
from updated.core.saved import parse_state
from updated.core.state import BootFacts, State
from updated.core.status import OF_ANY_BOOT, OF_THE_STATE, SCHEMA, Report, fault_document, status_document
from updated.disk import Disk
from updated.healthfiles import read_health
from updated.node import open_boot, read_facts
from updated.processes import boot_id

log = logging.getLogger("updated")


def leave_word(root: str, fault: UpdatedError, now: int, failed: str = "could not start") -> None:
    """Puts `fault` into the status file below `root` at `now`; `failed` says in words what it ended.

    What is known of the node stays there, or is found in its state and its boot reference. Raises OSError.
    """
    path = os.path.join(below(root, RUN_DIRECTORY), "status.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    before = _before(path)
    try:
        known = _known(root, before, now)
    except Exception:  # it may be what ended the start, too, and that is to be told all the same
        log.exception("what is known of the node")
        known = before
    document = fault_document(fault, now, known, failed)
    durable.write_file(path, dump(document), mode=0o644)


def _known(root: str, before: Mapping[str, Any], now: int) -> Mapping[str, Any]:
    """Fields of the status: of the state, the boot reference and health, and what they don't tell from `before`."""
    saved, facts = _saved(root), _facts(root)
    known = {**before, "health": read_health(root)}
    if saved is None and (facts is None or before):
        return known
    keys: tuple[str, ...] = OF_THE_STATE
    if facts is not None:
        state = saved or first_state(facts, seed=0.0)
        # What a start would find, of which nothing is done here.
        state = decide(state, events.Started(now, 0.0, facts), Policy()).state
    elif saved is not None:
        state = saved
        keys = OF_THE_STATE if saved.facts.boot_id == boot_id(root) else OF_ANY_BOOT
    document = status_document(state, Policy(), Report(), now)
    told = {key: document[key] for key in keys}
    return {**known, **told, "channel": state.channel or before.get("channel", "")}


def _before(path: str) -> Mapping[str, Any]:
    """The status that stands there; nothing when there is none, or none that is understood."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else {}


def _saved(root: str) -> State | None:
    try:
        saved = record.read(os.path.join(below(root, STATE_DIRECTORY), "state"))
        return None if saved is None else parse_state(saved)
    except UpdatedError:
        return None


def _facts(root: str) -> BootFacts | None:
    """What the boot reference says, where the configuration tells which one it is."""
    try:
        boot = boot_settings(load(root), root)
        return read_facts(root, Disk(boot), open_boot(boot))
    except (ConfigError, UpdatedError, OSError):
        return None
