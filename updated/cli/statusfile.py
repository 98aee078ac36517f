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

    Raises `UpdatedError` ("daemon-not-running") when there is none.
    """
    path = os.path.join(root, STATUS_FILE.lstrip("/"))
    try:
        with open(path, encoding="utf-8") as file:
            document: Any = json.load(file)
    except FileNotFoundError:
        raise UpdatedError(
            "daemon-not-running", "the daemon", f"has not written {path} since the machine started",
            "Start it: systemctl start updated. 'updatectl log' says why it ended.",
        ) from None
    except (OSError, ValueError) as error:
        raise UpdatedError("state-corrupt", path, str(error), "Restart the daemon: it writes it anew.") from None
    if not isinstance(document, dict):
        raise UpdatedError("state-corrupt", path, "is not a status document", "Restart the daemon: it writes it anew.")
    document["alive"] = process_start(document.get("pid")) == document.get("pid_start") is not None
    return document
