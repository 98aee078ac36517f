"""A node among others: it waits for programs and people before it reboots, and for a network that costs nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import logind
from tests.fakes.bus import private_bus
from tests.fakes.machine import Machine
from tests.node.world import Publisher

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="logind needs a /run of its own, which root mounts")


@pytest.fixture
def bus() -> Iterator[str]:
    with private_bus() as address:
        yield address


@pytest.fixture
def node(machine: Machine, bus: str) -> Machine:
    """The machine, attached to the bus, often awake; its daemon is not started."""
    machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    machine.write_config(machine.config.replace("interval_seconds = 3600", "interval_seconds = 4"))
    return machine


def status(machine: Machine) -> dict[str, Any]:
    path = machine.root / "run/updated/status.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"reasons": [], "phase": ""}
    return document


def waits(machine: Machine) -> list[str]:
    return [reason["code"] for reason in status(machine)["reasons"]]


@needs_root
def test_the_reboot_waits_for_an_inhibitor_and_a_person_is_told_of_it(
    node: Machine, publisher: Publisher, bus: str
) -> None:
    publisher.release("1.1.0")
    with logind.logind(bus):
        with logind.inhibitor(bus, who="backup", why="writes a tape"):
            node.start_daemon()
            node.wait_until(lambda: waits(node) == ["inhibited"])
            # In the midst of a check the answer is another one.
            node.wait_until(lambda: "backup (writes a tape)" in node.updatectl("reboot", check=False).stderr)
            assert not node.reboot_asked.exists()
        node.wait_until(node.reboot_asked.exists)
    assert node.power_on() == "b"


@needs_root
def test_people_are_warned_and_a_hold_keeps_the_node_up(node: Machine, publisher: Publisher, bus: str) -> None:
    publisher.release("1.1.0")
    with logind.logind(bus, ["7 user pts/9 192.0.2.7"]):
        node.start_daemon()
        node.wait_until(lambda: waits(node) == ["users"])
        warnings = node.folder / "warnings"
        node.wait_until(lambda: warnings.exists() and warnings.stat().st_size > 0)
        (reason,) = status(node)["reasons"]
        assert "root (192.0.2.7)" in reason["text"]
        warning = warnings.read_text()
        assert warning.startswith(f"This machine reboots in 10 minutes, at {reason['until']}, to start 1.1.0")
        node.updatectl("hold")
        node.wait_until(lambda: waits(node) == ["held"])
        assert not node.reboot_asked.exists()
    node.updatectl("unhold")
    node.wait_until(node.reboot_asked.exists)


def test_a_metered_network_pauses_the_node(node: Machine, publisher: Publisher, bus: str) -> None:
    node.write_config(node.config.replace("[updates]\n", '[updates]\nmetered = "wait"\n'))
    publisher.release("1.1.0")
    with logind.network_manager(bus, 3) as network:
        node.start_daemon()
        node.wait_until(lambda: waits(node) == ["metered"])
        assert status(node)["phase"] == "waiting"
        network.metered(2)
        node.wait_until(node.reboot_asked.exists)


@pytest.mark.parametrize(("word", "marked"), [("sentinel", True), ("none", False)])
def test_who_else_reboots_the_node_is_told_or_not(node: Machine, publisher: Publisher, word: str, marked: bool) -> None:
    node.write_config(node.config.replace("[updates]\n", f'[updates]\nreboot = "{word}"\n'))
    publisher.release("1.1.0")
    node.start_daemon()
    node.wait_until(lambda: waits(node) == ["manual-reboot"])
    node.stop_daemon()
    sentinel: Path = node.root / "run/reboot-required"
    assert sentinel.exists() == marked
    assert not node.reboot_asked.exists()


@needs_root
def test_the_lock_is_held_while_a_slot_is_written(node: Machine, publisher: Publisher, bus: str) -> None:
    publisher.release("1.1.0")
    node.write_config(node.config.replace("[fetch]\n", "[fetch]\nbandwidth_limit = 20000\n"))
    with logind.logind(bus):
        node.start_daemon()
        node.wait_until(lambda: "an update is being written" in logind.locks(bus))
        assert status(node)["phase"] == "fetching"
        node.updatectl("hold")
        node.wait_until(lambda: "an update is being written" not in logind.locks(bus))
        assert node.daemon is not None
        node.daemon.send_signal(signal.SIGTERM)
        assert node.daemon.wait(20) == 0
