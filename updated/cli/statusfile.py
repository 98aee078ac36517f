"""Reads the status file that the daemon writes."""

from __future__ import annotations

import json
import os
from typing import Any

from updated.core.errors import UpdatedError
from updated.processes import process_start

STATUS_FILE = "/run/updated/status.json"
_ANEW = "Restart the daemon, which writes it anew: systemctl restart updated."


def read_status(root: str) -> dict[str, Any]:
    """The status document below `root`, with `alive`: whether the daemon that wrote it still runs.

    Raises `UpdatedError` ("daemon-not-running") when there is none; `NeverSetUp` where nobody configured the machine,
    also when a daemon was started nevertheless.
    """
    path = os.path.join(root, STATUS_FILE.lstrip("/"))
    try:
        with open(path, encoding="utf-8") as file:
            document: Any = json.load(file)
    except FileNotFoundError:
        raise _never_set_up(root) or UpdatedError(
            "daemon-not-running", "the daemon", f"has not written {path} since the machine started",
            "Start it: systemctl start updated. 'updatectl log' says why it ended.",
        ) from None
    except OSError as error:
        from bootctl.errors import mend_of

        cause = error.strerror or str(error)
        raise UpdatedError("state-corrupt", f"the status file {path}", cause, mend_of(error, _ANEW)) from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UpdatedError("state-corrupt", f"the status file {path}", "is damaged: it holds no status", _ANEW)
    document["alive"] = process_start(document.get("pid")) == document.get("pid_start") is not None
    if _refused_by_configuration(document) and (unset := _never_set_up(root)) is not None:
        raise unset
    return document


class NeverSetUp(UpdatedError):
    """Why no daemon ever ran on a machine that nobody set up for updates."""


def never_set_up(root: str) -> NeverSetUp | None:
    """Why no daemon ever ran on the machine below `root`, where that is so because nobody set it up for updates."""
    try:
        read_status(root)
    except NeverSetUp as unset:
        return unset
    except UpdatedError:
        return None
    return None


def _never_set_up(root: str) -> NeverSetUp | None:
    # Only where something is wrong: these take a while to load.
    from bootctl.first_steps import unset
    from bootctl.settings import ConfigError, below, load
    from updated.config import OFF_SWITCH

    if os.path.exists(below(root, OFF_SWITCH)):
        return NeverSetUp(
            "daemon-not-running", "this machine is not to be updated", f"{below(root, OFF_SWITCH)} is there",
            "Remove it, where the image is made; then: systemctl start updated.",
        )
    try:
        nothing = unset(load(root), root)
    except ConfigError:
        return None
    if nothing is None:
        return None
    return NeverSetUp("daemon-not-running", nothing.file, nothing.cause, nothing.mend)


def _refused_by_configuration(document: dict[str, Any]) -> bool:
    """Whether it is of a daemon that a configuration kept from starting."""
    fault = document.get("error")
    refused = isinstance(fault, dict) and fault.get("code") == "bad-config"
    return refused and not document["alive"] and not document.get("pid")


def mended(document: dict[str, Any], root: str) -> dict[str, Any]:
    """`document`, and where it is of a daemon that a configuration kept from starting which reads well now, that."""
    if not _refused_by_configuration(document):
        return document
    fault = document["error"]
    from bootctl.settings import ConfigError
    from updated.config import read_settings

    try:
        read_settings(root)
    except (ConfigError, UpdatedError, OSError):
        return document
    start = "Now it reads well: systemctl start updated."
    text = f"could not start at {document['written_at']}: {fault['what']}: {fault['cause']}. {start}"
    return {**document, "summary": text, "error": {**fault, "mend": start}}
