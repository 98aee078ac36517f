"""What `updatectl` makes of each error that a call on the bus can end with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from updated.bus.service import error_name
from updated.cli import exits
from updated.cli.answers import fault_of
from updated.core.errors import CODES

DBUS = "org.freedesktop.DBus.Error."


@pytest.mark.parametrize(
    ("name", "code", "status", "words"),
    [
        ("ServiceUnknown", "daemon-not-running", exits.NO_DAEMON, "is not on the bus"),
        ("NameHasNoOwner", "daemon-not-running", exits.NO_DAEMON, "systemctl start updated"),
        ("Spawn.ChildExited", "daemon-not-running", exits.NO_DAEMON, "systemctl start updated"),
        ("LimitsExceeded", "not-possible-now", exits.REFUSED, "Try it again in a moment."),
        ("UnknownMethod", "internal", exits.FAILED, "the daemon is of another version (said)"),
        ("UnknownObject", "internal", exits.FAILED, "systemctl restart updated"),
        ("UnknownInterface", "internal", exits.FAILED, "systemctl restart updated"),
        ("InvalidArgs", "internal", exits.FAILED, "the daemon is of another version (said)"),
        ("AccessDenied", "not-authorized", exits.NOT_AUTHORIZED, "the call of Install: said."),
        ("NoReply", "internal", exits.FAILED, "'updatectl log' shows"),
    ],
)
def test_an_error_of_the_bus_names_the_cause_and_the_mend(name: str, code: str, status: int, words: str) -> None:
    fault = fault_of(DBUS + name, "said", "Install")
    assert fault.code == code
    assert exits.BY_CODE.get(fault.code, exits.FAILED) == status
    assert words in str(fault)


@pytest.mark.parametrize("code", CODES)
def test_what_the_daemon_answers_is_told_in_its_own_words_with_its_code(code: str) -> None:
    fault = fault_of(error_name(code), "the slot: is busy. Wait.", "Install")
    assert fault.code == code
    assert str(fault) == "the slot: is busy. Wait."


def test_an_error_of_a_daemon_that_knows_more_codes_is_told_all_the_same() -> None:
    fault = fault_of("org.updated.Updated1.Error.StormComing", "the sky: is dark. Stay in.", "Install")
    assert fault.code == "internal"
    assert str(fault) == "the sky: is dark. Stay in."


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert f"the call of Install: {DBUS}NoReply." in str(fault_of(f"{DBUS}NoReply", "", "Install"))


ASKED: Final = (
    "from updated.bus import connection; connection.CONNECT_SECONDS = 0.5; "
    "from updated.cli.change import has_owner; has_owner()"
)


@contextmanager
def asked(place: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """One that asks the bus, and the bus's end of its connection, after the client asked to be let in."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "bus"))
        listener.listen()
        with subprocess.Popen(
            [sys.executable, "-c", ASKED], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={place}/bus"},
        ) as client:  # fmt: skip
            try:
                listener.settimeout(60)
                link, _ = listener.accept()
                with link:
                    said = b""
                    while not said.endswith(b"\r\n"):
                        said += link.recv(4096)
                    yield client, link
            finally:
                client.kill()


def last_line(client: subprocess.Popen[str]) -> str:
    told = client.communicate(timeout=60)[1]
    assert "never retrieved" not in told
    assert told.splitlines()[-1].startswith("updated.core.errors.UpdatedError: ")
    return told.splitlines()[-1]


def test_a_bus_that_lets_nobody_in_is_told_in_one_line(tmp_path: Path) -> None:
    with asked(tmp_path) as (client, link):
        link.sendall(b"REJECTED EXTERNAL\r\n")
        assert "does not let this user in" in last_line(client)


@pytest.mark.parametrize("answer", [b"", b"OK 0123456789abcdef0123456789abcdef\r\n"])
def test_a_bus_that_hangs_up_is_told_in_one_line(tmp_path: Path, answer: bytes) -> None:
    with asked(tmp_path) as (client, link):
        link.sendall(answer)
        link.shutdown(socket.SHUT_RDWR)
        told = last_line(client)
    assert "the system bus: " in told
    assert "does not answer" not in told


def test_a_bus_that_says_nothing_is_not_waited_for_without_an_end(tmp_path: Path) -> None:
    with asked(tmp_path) as (client, _):
        assert "the system bus: does not answer" in last_line(client)
