"""What is kept of a boot that failed: the end of its journal and what the kernel left in pstore, bounded in size.

Only the last failed boot is kept. Nothing here may keep a verdict from being carried out: it raises nothing.
"""

import contextlib
import json
import os
from typing import Literal

from bootctl import durable
from bootctl.errors import mend_of
from health import system
from health.commands import Commands
from health.output import complain
from health.rootdir import below

FOLDER = "/var/lib/updated/health/failed-boot"
JOURNAL_LINES = 4000
JOURNAL_LIMIT = 512 * 1024
"""Characters of the journal that are kept, the last ones."""
PSTORE_LIMIT = 256 * 1024
"""Bytes of each record of pstore that are kept, the last ones."""
PSTORE_RECORDS = 16
PSTORE = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
JOURNAL_SECONDS = 60.0

Which = Literal["this", "previous"]


def keep(root: str, which: Which, *, slot: str, version: str | None, reason: str, at: str) -> None:
    """Keeps the log of this boot, which ends now, or of the previous one, which was left.

    What was kept of the same boot by itself, before it was left, is not replaced by nothing.
    """
    try:
        log = _journal(which) if root == "/" else ""
        left = records(root) if which == "previous" else {}
        if which == "this":
            _clear(root)
        for name, data in ({"journal.txt": log.encode(errors="replace")} | left).items():
            if data:
                system.store(root, f"{FOLDER}/{name}", data, mode=0o640)
        about = {"slot": slot, "version": version, "reason": reason, "at": at}
        system.store(root, f"{FOLDER}/about.json", json.dumps(about, indent=2).encode(errors="replace") + b"\n")
    except OSError as error:
        complain(f"{FOLDER}: the log of a failed boot can't be kept ({error.strerror}). {mend_of(error)}")


def _journal(which: Which) -> str:
    boot = "0" if which == "this" else "-1"
    command = (
        "journalctl", "--no-pager", "--quiet", "--output=short-precise", f"--boot={boot}",
        f"--lines={JOURNAL_LINES}",
    )  # fmt: skip
    finished = Commands().run(command, timeout_seconds=JOURNAL_SECONDS, keep=JOURNAL_LIMIT)
    # Without a journal of that boot it fails, and says so in place of the log.
    return finished.output if finished.status == 0 else ""


def records(root: str, *, since: float = 0) -> dict[str, bytes]:
    """The newest records of pstore, the newest first, without those from before `since` (seconds since the epoch).

    systemd-pstore.service moves them from the first folder to the second, by date.
    """
    paths = []
    for folder in PSTORE:
        with contextlib.suppress(OSError):
            for where, _, names in os.walk(below(root, folder)):
                paths += [os.path.join(where, name) for name in names]
    found: dict[str, bytes] = {}
    young = [path for path in paths if -_age(path) >= since]
    for path in sorted(young, key=_age)[:PSTORE_RECORDS]:
        with contextlib.suppress(OSError):
            found.setdefault(f"pstore-{os.path.basename(path)}", system.tail(path, PSTORE_LIMIT))
    return found


def _age(path: str) -> float:
    try:
        return -os.stat(path).st_mtime
    except OSError:
        return 0.0


def _clear(root: str) -> None:
    folder = below(root, FOLDER)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            durable.remove(os.path.join(folder, name))
