"""Who calls, and whether polkit lets them: org.freedesktop.PolicyKit1.Authority, as in polkit's reference manual."""

from __future__ import annotations

import os
import pwd
from collections import Counter
from collections.abc import Mapping

from dbus_next import Message, MessageFlag, Variant

from updated.bus.connection import BUS, Connection
from updated.bus.interface import NAME
from updated.core.errors import UpdatedError

POLKIT = (
    "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
)  # fmt: skip
# CheckAuthorization waits for the person who types a password (polkit's own limit is shorter).
POLKIT_SECONDS = 180.0
ALLOW_INTERACTION = 1
# How many calls of one user may wait for polkit.
MOST_OF_USER = 8


class TooManyCalls(Exception):
    """A user has as many calls as may wait."""


class Authority:
    """Asks polkit over one connection after the other."""

    def __init__(self) -> None:
        self._waiting: Counter[int] = Counter()

    async def caller(self, connection: Connection, call: Message, action: str, details: Mapping[str, str]) -> str:
        """The caller's name, if the caller may do it. Raises `UpdatedError` ("not-authorized") and `TooManyCalls`.

        root and the user of the daemon may do everything. `details` is what polkit's rules and prompts see of it.
        """
        reply = await connection.call(*BUS, "GetConnectionUnixUser", "s", [call.sender])
        if reply is None:
            raise _denied(action, "the caller is gone")
        user = int(reply.body[0])
        if user not in (0, os.geteuid()):
            if self._waiting[user] >= MOST_OF_USER:
                raise TooManyCalls
            self._waiting[user] += 1
            try:
                await self._ask_polkit(connection, call, action, details)
            finally:
                self._waiting[user] -= 1
                self._waiting += Counter()  # forgets who has none
        return _user_name(user)

    async def _ask_polkit(
        self, connection: Connection, call: Message, action: str, details: Mapping[str, str]
    ) -> None:
        interactive = ALLOW_INTERACTION if call.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION else 0
        subject = ["system-bus-name", {"name": Variant("s", call.sender)}]
        reply = await connection.call(
            *POLKIT, "CheckAuthorization", "(sa{sv})sa{ss}us",
            [subject, f"{NAME}.{action}", dict(details), interactive, ""], POLKIT_SECONDS,
        )  # fmt: skip
        if reply is None:
            raise _denied(action, "polkit does not answer")
        if not reply.body[0][0]:
            raise _denied(action, "polkit says no")


def _denied(action: str, cause: str) -> UpdatedError:
    return UpdatedError(
        "not-authorized", f"the action {NAME}.{action}", cause, "Do it as root, or allow it with a polkit rule."
    )


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
