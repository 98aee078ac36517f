"""Records with fields, as the journal takes them, and as journalctl shows them."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from health import journal
from tests.documents import FOLDER, rows, section


@contextmanager
def receiver(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
        here.bind(str(path))
        yield here


def fields_of(data: bytes) -> dict[str, str]:
    """A datagram of the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), read as journald reads it."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + length], data[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_a_record_has_its_id_its_priority_and_its_fields(tmp_path: Path) -> None:
    with receiver(tmp_path / "socket") as here:
        journal.send_to(
            str(tmp_path / "socket"), journal.VERDICT, journal.CRITICAL, "slot b: rejected",
            {"UPDATED_SLOT": "b", "UPDATED_VERSION": None, "UPDATED_REASON": "two\nlines\n"},
        )  # fmt: skip
        assert fields_of(here.recv(65536)) == {
            "MESSAGE": "slot b: rejected",
            "MESSAGE_ID": journal.VERDICT,
            "PRIORITY": "2",
            "SYSLOG_IDENTIFIER": "updated-health",
            "UPDATED_SLOT": "b",
            "UPDATED_REASON": "two\nlines\n",
        }


def test_without_a_journal_nothing_happens(tmp_path: Path) -> None:
    journal.send_to(str(tmp_path / "nobody"), journal.VERDICT, journal.INFO, "x", {})


def test_a_journal_that_takes_nothing_is_not_waited_for(tmp_path: Path) -> None:
    with receiver(tmp_path / "socket"):
        for _ in range(2000):
            journal.send_to(str(tmp_path / "socket"), journal.VERDICT, journal.INFO, "x" * 1000, {})


def ids() -> dict[str, str]:
    return {name: value for name, value in vars(journal).items() if re.fullmatch(r"[0-9a-f]{32}", str(value))}


def test_every_id_is_its_own_and_documented() -> None:
    assert len(set(ids().values())) == len(ids()) == 6
    documented = {row[0] for row in rows(section((FOLDER / "formats.md").read_text(), "Journal"))}
    assert documented == set(ids().values())
