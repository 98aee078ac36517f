"""Structured records in the journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

import contextlib
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"
CRITICAL, ERROR, WARNING, NOTICE, INFO = 2, 3, 4, 5, 6
"""As in syslog(3)."""

# Drawn once, and part of the interface: never change one.
VERDICT: Final = "7085040426fc47d39753abb46d241c57"
REBOOT: Final = "20e7eb7a91d54a109beb0f65e9d1bd9b"
STAYS: Final = "b9144bdd3de24613b13581febf6c961c"
FALLBACK: Final = "a69beee0a5cf481ab235aa49aafef674"
HOOK: Final = "1faf5e9bfcde49959df585bd4c41ad9d"
MIGRATION: Final = "05fa5c3782b04e759a72e1964084bf74"


def send(message_id: str, priority: int, message: str, fields: Mapping[str, str | None], root: str = "/") -> None:
    """Leaves a record, if there is a journal; what is None is left out. Raises nothing and never waits.

    Below another root than / there is no journal of that system.
    """
    if root == "/":
        send_to(SOCKET, message_id, priority, message, fields)


def send_to(path: str, message_id: str, priority: int, message: str, fields: Mapping[str, str | None]) -> None:
    """As `send`, to the socket at `path`."""
    import socket

    known = {key: value for key, value in fields.items() if value is not None}
    record = {"MESSAGE": message, "MESSAGE_ID": message_id, "PRIORITY": str(priority),
              "SYSLOG_IDENTIFIER": "updated-health", **known}  # fmt: skip
    data = b"".join(_field(key, value.encode(errors="replace")) for key, value in record.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.setblocking(False)
        connection.sendto(data, path)


def _field(key: str, value: bytes) -> bytes:
    """A value with newlines has its length in front, as 64 bits, little-endian."""
    if b"\n" in value:
        return key.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return key.encode() + b"=" + value + b"\n"
