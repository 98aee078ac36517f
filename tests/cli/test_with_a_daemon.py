"""The command line against a real daemon on a real bus: what is asked for, what is awaited, and what is printed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.schema import misfits
from tests.fakes.machine import Machine
from tests.node.conftest import bus, machine, publisher, server
from tests.node.world import Publisher
from tests.processes import INTERRUPTIBLE
from updated import record
from updated.cli import exits

__all__ = ["bus", "machine", "publisher", "server"]


@pytest.fixture
def node(machine: Machine, bus: str) -> Machine:
    """A machine whose daemon runs, has looked once, and leaves reboots to people."""
    machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    machine.write_config(machine.config.replace("[updates]\n", '[updates]\nreboot = "sentinel"\n'))
    machine.start_daemon()
    machine.wait_until(lambda: status(machine).get("last_check") is not None)
    return machine


def status(node: Machine) -> dict[str, Any]:
    path = node.root / "run/updated/status.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return document


def test_what_every_verb_prints_fits_its_schema(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    waited = [json.loads(line) for line in node.updatectl("check", "--json").stdout.splitlines()]
    assert waited[-1]["phase"] == "staged"
    for document in waited:
        assert not misfits("status", document)
    for verb in ("status", "history", "health", "config", "doctor", "channel"):
        assert not misfits(verb, json.loads(node.updatectl(verb, "--json").stdout)), verb
    for words in (["hold", "7d"], ["unhold"], ["channel", "stable", "--no-wait"]):
        assert not misfits("request", json.loads(node.updatectl(*words, "--json").stdout))
    refused = node.updatectl("allow", "9.9.9", "--json", check=False)
    assert refused.returncode == exits.REFUSED
    assert not misfits("error", json.loads(refused.stdout))


def test_the_doctor_finds_nothing_to_mend_on_a_node_that_is_well(node: Machine) -> None:
    found = json.loads(node.updatectl("doctor", "--json").stdout)["findings"]
    assert {each["check"]: each["severity"] for each in found if each["check"] in ("bus", "daemon", "expiry")} == {
        "bus": "ok", "daemon": "ok", "expiry": "ok",
    }  # fmt: skip


def test_install_says_why_a_release_is_not_taken_and_ends_with_a_status_of_its_own(
    node: Machine, publisher: Publisher
) -> None:
    publisher.release("1.1.0")
    publisher.call(
        "recall", str(publisher.repository), "--keys", str(publisher.keys), "--channel", "stable", "--version", "1.1.0",
        "--reason", "it eats data",
    )
    done = node.updatectl("install", check=False)
    assert done.returncode == exits.REFUSED
    assert "  recalled: 1.1.0 was recalled: it eats data" in done.stdout.splitlines()


def test_a_request_that_is_followed_ends_as_the_daemon_does(node: Machine) -> None:
    done = node.updatectl("channel", "gamma", "--wait", check=False)
    assert done.returncode == exits.FAILED
    assert "channel gamma: is not in the repository, which has alpha, beta, stable. " in done.stderr
    assert "'updatectl channel stable' goes back." in done.stderr
    assert "follows it" not in done.stdout
    assert "is not in the repository" not in done.stdout  # once is enough
    again = node.updatectl("channel", "delta", "--wait", check=False)
    assert "channel delta: is not in the repository" in again.stderr
    assert "goes back" not in again.stderr, "to gamma, which is not there either"
    back = node.updatectl("channel", "stable").stdout
    assert "is not in the repository" not in back, "that was before"
    assert "'updatectl watch' follows it." in node.updatectl("channel", "stable", "--no-wait").stdout


def test_a_release_that_is_allowed_and_not_taken_anyway_is_not_promised(node: Machine) -> None:
    node.stop_daemon()
    path = str(node.root / "var/lib/updated/state")
    denied = [{"version": "0.9.0", "manifest": "", "reason": "web failed", "at": 1}]
    _, state = Path(path).read_text().split("\n", 1)
    record.write(path, {**json.loads(state), "denied": denied})
    node.start_daemon()
    node.wait_until(lambda: bool(status(node).get("denied")))
    assert node.updatectl("allow", "0.9.0").stdout == (
        "Release 0.9.0 is off the denylist, and not installed all the same: it is older than 1.0.0, which runs.\n"
    )


def test_an_end_of_no_pause_says_so(node: Machine) -> None:
    node.updatectl("hold")
    node.wait_until(lambda: status(node)["hold"] is not None)
    assert node.updatectl("unhold").stdout.startswith("Updates go on.")
    node.wait_until(lambda: status(node)["hold"] is None)
    again = node.updatectl("unhold")
    assert again.returncode == exits.DONE
    assert again.stdout.startswith("Nothing was held. Updates go on.")


def test_watch_prints_a_line_for_each_change_in_a_pipe_and_ends_with_the_daemon(
    node: Machine, publisher: Publisher
) -> None:
    words = [sys.executable, "-u", "-m", "updated.cli", "--root", str(node.root), "watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        try:
            assert watch.stdout is not None
            first = watch.stdout.readline()
            assert first.startswith("runs 1.0.0 in slot a; ")
            publisher.release("1.1.0")
            node.updatectl("check")
            node.stop_daemon()
            out, err = watch.communicate(timeout=30)
        finally:
            watch.kill()
    assert "1.1.0 is staged and boots next" in out
    assert "\x1b" not in out
    assert watch.returncode == exits.NO_DAEMON
    assert err.splitlines() == ["updatectl: the daemon: ended. 'updatectl log' says why."]


def test_watch_shows_what_the_daemon_did_last_though_it_ended_meanwhile(node: Machine, publisher: Publisher) -> None:
    words = [sys.executable, "-u", "-m", "updated.cli", "--root", str(node.root), "watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        try:
            assert watch.stdout is not None
            watch.stdout.readline()
            watch.send_signal(signal.SIGSTOP)
            publisher.release("1.1.0")
            node.updatectl("check")
            node.stop_daemon()
            watch.send_signal(signal.SIGCONT)
            out, _ = watch.communicate(timeout=30)
        finally:
            watch.kill()
    assert "1.1.0 is staged and boots next" in out


def test_a_status_that_is_hours_old_says_so(node: Machine) -> None:
    node.stop_daemon()
    path = node.root / "run/updated/status.json"
    document = json.loads(path.read_text())
    document["written_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7230))
    path.write_text(json.dumps(document))
    assert " (2 h ago)." in node.updatectl("status").stdout


def test_watch_draws_a_terminal_anew_and_keeps_to_its_size(node: Machine) -> None:
    rows, columns = 12, 60
    inner, outer = os.openpty()
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    words = [*INTERRUPTIBLE, sys.executable, "-m", "updated.cli", "--root", str(node.root), "--color=never", "watch"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    watch = subprocess.Popen(words, stdin=outer, stdout=outer, stderr=outer, env=environment)
    os.close(outer)
    drawn, end = b"", time.monotonic() + 60
    try:
        while drawn.count(b"\x1b[H") < 3 and time.monotonic() < end:
            if select.select([inner], [], [], 1)[0]:
                drawn += os.read(inner, 65536)
    finally:
        watch.send_signal(signal.SIGINT)
        status_of_watch = watch.wait(30)
        os.close(inner)
    assert status_of_watch == exits.INTERRUPTED
    screens = drawn.decode().split("\x1b[H")[1:3]
    assert len(screens) == 2
    for screen in screens:
        lines = re.sub(r"\x1b\[[JK]", "", screen).split("\n")
        assert lines[0].startswith("runs 1.0.0 in slot a; ")
        assert len(lines) <= rows
        assert all(len(line.rstrip("\r")) <= columns for line in lines)
