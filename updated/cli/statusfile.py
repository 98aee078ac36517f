"""Reads the status file that the daemon writes."""

from __future__ import annotations

import json
import os
from typing import Any

from updated.core.errors import UpdatedError
from updated.processes import process_start

STATUS_FILE = "/run/updated/status.json"


def read_status(root: str) -> dict[str, Any]:
    """The status document below `root`, with `alive`: whether the daemon that wrote it still runs.

    Raises `UpdatedError` ("daemon-not-running") when there is none; it says so where the machine was never set up.
    """
    path = os.path.join(root, STATUS_FILE.lstrip("/"))
    try:
        with open(path, encoding="utf-8") as file:
            document: Any = json.load(file)
    except FileNotFoundError:
        if (unset := never_set_up(root)) is not None:
            raise unset from None
        raise UpdatedError(
            "daemon-not-running", "the daemon", f"has not written {path} since the machine started",
            "Start it: systemctl start updated. 'updatectl log' says why it ended.",
        ) from None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UpdatedError("state-corrupt", path, cause, "Restart the daemon: it writes it anew.") from None
    if not isinstance(document, dict):
        raise UpdatedError("state-corrupt", path, "is not a status document", "Restart the daemon: it writes it anew.")
    document["alive"] = process_start(document.get("pid")) == document.get("pid_start") is not None
    return document


def never_set_up(root: str) -> UpdatedError | None:
    """Why no daemon ever ran on the machine below `root`, where that is so because nobody set it up for updates."""
    if os.path.exists(os.path.join(root, STATUS_FILE.lstrip("/"))):
        return None
    # Only where something is wrong: these take a while to load.
    from bootctl.settings import MAIN_FILE, ConfigError, below, load
    from updated.config import FIRST_STEPS, OFF_SWITCH

    if os.path.exists(below(root, OFF_SWITCH)):
        return UpdatedError(
            "daemon-not-running", "this machine is not to be updated", f"{below(root, OFF_SWITCH)} is there",
            "Remove it, where the image is made; then: systemctl start updated.",
        )
    try:
        if load(root).values or os.path.exists(below(root, MAIN_FILE)):
            return None
    except (ConfigError, OSError):
        return None
    return UpdatedError(
        "daemon-not-running", "this machine is not configured for updates", f"{below(root, MAIN_FILE)} is not there",
        FIRST_STEPS,
    )


def mended(document: dict[str, Any], root: str) -> dict[str, Any]:
    """`document`, and where it is of a daemon that a configuration kept from starting which reads well now, that."""
    fault = document.get("error")
    if document["alive"] or not isinstance(fault, dict) or fault.get("code") != "bad-config" or document.get("pid"):
        return document
    from bootctl.settings import ConfigError
    from updated.config import read_settings

    try:
        read_settings(root)
    except (ConfigError, UpdatedError, OSError):
        return document
    start = "Now it reads well: systemctl start updated."
    text = f"could not start at {document['written_at']}: {fault['what']}: {fault['cause']}. {start}"
    return {**document, "summary": text, "error": {**fault, "mend": start}}
