"""What an error of a call on the bus means for whoever asked. Pure."""

from __future__ import annotations

import re

from updated.core.errors import CODES, UpdatedError

BUS_NAME = "org.updated.Updated1"
_NOT_THERE = (".ServiceUnknown", ".NameHasNoOwner", ".Spawn.ChildExited")
_OTHER_VERSION = (".UnknownMethod", ".UnknownObject", ".UnknownInterface", ".InvalidArgs")


def fault_of(name: str, text: str, member: str) -> UpdatedError:
    """The error for the answer `name`, an error on the bus with the words `text`, to a call of `member`."""
    if name.startswith(f"{BUS_NAME}.Error."):
        return _Answer(name.rpartition(".")[2], text or name)
    if name.endswith(_NOT_THERE):
        return UpdatedError(
            "daemon-not-running", "the daemon", "is not on the bus", "Start it: systemctl start updated."
        )
    what, cause = f"the call of {member}", text or name or "the answer is an error without a name"
    if name.endswith(".LimitsExceeded"):
        return UpdatedError("not-possible-now", what, cause, "Try it again in a moment.")
    if name.endswith(_OTHER_VERSION):
        return UpdatedError(
            "internal", what, f"the daemon is of another version ({cause})", "Restart it: systemctl restart updated."
        )
    code = "not-authorized" if name.endswith(".AccessDenied") else "internal"
    return UpdatedError(code, what, cause, "'updatectl log' shows what the daemon says.")


class _Answer(UpdatedError):
    """What the daemon answered, in its own words. A code that only another version of it knows is an internal one."""

    def __init__(self, name: str, text: str) -> None:
        code = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
        super().__init__(code if code in CODES else "internal", text, "", "")

    def __str__(self) -> str:
        return self.what
