"""SIGHUP in each phase: what closes, is pinned or changes its channel counts at once, and a mistake changes nothing."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.machine import Machine
from tests.node.world import Publisher, make_machine
from updated import record
from updated.core.saved import parse_state

# Slow enough that a phase can be met, and that the daemon must be told to go on from it.
SLOW = '\n[[fetch.bandwidth]]\nstart = "00:00"\nlength_minutes = 1440\nlimit = 20000\n'
SLOW_HOOK = "#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.1; done\n"


@pytest.fixture
def node(tmp_path: Path, publisher: Publisher, server: str, bus: str) -> Iterator[Machine]:
    """A machine with slots that are large enough for a slow download; its daemon is not started."""
    with make_machine(tmp_path / "machine", publisher, server, slot_size="12M") as made:
        made.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
        yield made


def status(node: Machine) -> dict[str, Any]:
    path = node.root / "run/updated/status.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def wait_for(node: Machine, phase: str, *codes: str) -> dict[str, Any]:
    """The status in which the node is in `phase` for just these reasons; any when none is given."""

    def is_there() -> bool:
        found = status(node)
        reasons = [reason["code"] for reason in found.get("reasons", ())]
        return found.get("phase") == phase and (not codes or reasons == list(codes))

    node.wait_until(is_there)
    return status(node)


def reload(node: Machine, config: str) -> None:
    """Writes `config`, and returns when the daemon has read it, and said what it made of it."""
    said = node.log.read_text().count("the configuration ")
    node.write_config(config)
    assert node.daemon is not None
    node.daemon.send_signal(signal.SIGHUP)
    node.wait_until(lambda: node.log.read_text().count("the configuration ") > said)


def closed(kind: str) -> str:
    """A window that opens in six hours."""
    start = datetime.now(UTC) + timedelta(hours=6)
    return f'\n[[windows.{kind}]]\nstart = "{start:%H:%M}"\nlength_minutes = 120\n'


def with_key(config: str, line: str) -> str:
    return config.replace("[updates]\n", f"[updates]\n{line}\n")


def wrong(node: Machine, phase: str) -> None:
    """A mistake is told, and everything goes on as it was."""
    config = node.config
    before = status(node)["windows"]
    reload(node, config + '\n[[windows.reboot]]\nstart = "noon"\nlength_minutes = 60\n')
    assert "the configuration stays as it was" in node.log.read_text()
    assert "start: \"noon\" is not accepted" in node.log.read_text()
    found = status(node)
    assert (found["phase"], found["windows"]) == (phase, before)
    refused = "the configuration on disk is refused, the former one is in force: "
    assert found["notes"][0].startswith(f"{refused}{node.root}/etc/updated/updated.toml:")
    reload(node, config)
    assert not any(note.startswith(refused) for note in status(node)["notes"])


def test_idle_and_waiting(node: Machine, publisher: Publisher) -> None:
    config = node.config
    node.start_daemon()
    wait_for(node, "idle", "up-to-date")
    wrong(node, "idle")
    reload(node, config + closed("download"))
    assert status(node)["windows"]["reboot"] is None
    assert status(node)["windows"]["download"]["open"] is False
    publisher.release("1.1.0")
    reload(node, with_key(config, 'newest = "1.0"'))
    wait_for(node, "idle", "pinned")
    # Lifted, it is looked for at once; the interval is an hour.
    reload(node, config + closed("download"))
    found = wait_for(node, "waiting", "download-window")
    until = datetime.fromisoformat(found["reasons"][0]["until"])
    assert timedelta(hours=5, minutes=50) < until - datetime.now(UTC) <= timedelta(hours=6)
    assert found["windows"]["download"]["until"] == found["reasons"][0]["until"]
    wrong(node, "waiting")
    reload(node, with_key(config, 'pin = "1.2.0"'))
    wait_for(node, "idle", "pinned", "pinned")
    publisher.release("1.2.0")
    publisher.release("1.3.0")
    node.updatectl("check", "--no-wait")
    node.wait_until(node.reboot_asked.exists)
    assert status(node)["target"]["version"] == "1.2.0"


def test_checking(node: Machine, publisher: Publisher, server: str) -> None:
    publisher.release("1.1.0")
    config = node.config
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node.write_config(config.replace(server, f"http://127.0.0.1:{silent.getsockname()[1]}/"))
        node.start_daemon()
        wait_for(node, "checking")
        wrong(node, "checking")
        # The check begins anew, at the place that is named now.
        reload(node, with_key(config, 'newest = "1.0"'))
        wait_for(node, "idle", "pinned")


def test_fetching(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0", size=6_000_000, channels=("stable",))
    config = node.config
    slow = config + SLOW
    node.write_config(slow)
    node.start_daemon()
    wait_for(node, "fetching")
    wrong(node, "fetching")
    reload(node, slow + closed("download"))
    wait_for(node, "waiting", "download-window")
    assert children(node) == []
    reload(node, slow)
    wait_for(node, "fetching")
    reload(node, with_key(slow, 'pin = "1.0.0"'))
    wait_for(node, "idle", "pinned")
    reload(node, slow)
    wait_for(node, "fetching")
    reload(node, slow.replace('channel = "stable"', 'channel = "beta"'))
    wait_for(node, "idle", "up-to-date")
    assert children(node) == []
    reload(node, config)
    node.wait_until(node.reboot_asked.exists)


def children(node: Machine) -> list[int]:
    assert node.daemon is not None
    pid = node.daemon.pid
    end = time.monotonic() + 10
    while True:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def test_staged_and_rebooting(node: Machine, publisher: Publisher) -> None:
    config = node.config
    go = node.folder / "go"
    node.hook.write_text(SLOW_HOOK.format(go=go))
    node.hook.chmod(0o755)
    publisher.release("1.1.0")
    node.write_config(config + closed("reboot"))
    node.start_daemon()
    found = wait_for(node, "staged", "reboot-window")
    assert found["windows"]["reboot"] == {"open": False, "until": found["reasons"][0]["until"]}
    wrong(node, "staged")
    reload(node, with_key(config, 'pin = "1.0.0"'))
    wait_for(node, "staged", "pinned")
    reload(node, config)
    wait_for(node, "rebooting")
    wrong(node, "rebooting")
    # While the hook runs the window closes: there is no reboot when it has passed.
    reload(node, config + closed("reboot"))
    go.touch()
    wait_for(node, "staged", "reboot-window")
    assert not node.reboot_asked.exists()
    # A check that runs, since the pin was lifted, refuses it.
    node.wait_until(lambda: node.updatectl("reboot", check=False).returncode == 0)
    node.wait_until(node.reboot_asked.exists)
    begun = time.time()
    assert node.power_on() == "b"
    while time.time() < begun + 1.5:
        time.sleep(0.1)
    node.start_daemon()
    wait_for(node, "idle")
    # From the command on it was measured how long that took.
    saved = record.read(str(node.state / "state"))
    assert saved is not None
    (took,) = parse_state(saved).reboots_took
    assert 1 <= took <= time.time() - begun + 2


def test_sealing(node: Machine, publisher: Publisher) -> None:
    """What is verified is local work: it is finished whatever window closes, and then waits."""
    publisher.release("1.1.0")
    config = node.config
    node.start_daemon()
    node.wait_until(lambda: status(node).get("phase") in ("sealing", "staged", "rebooting"))
    reload(node, config + closed("download") + closed("reboot"))
    node.wait_until(lambda: node.reboot_asked.exists() or status(node)["phase"] == "staged")
    assert status(node)["target"]["version"] == "1.1.0"


def test_trial(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    node.write_config(node.config.replace("probation_seconds = 0", "probation_seconds = 3000"))
    node.start_daemon()
    node.wait_until(node.reboot_asked.exists)
    assert node.power_on() == "b"
    node.start_daemon()
    wait_for(node, "trial")
    wrong(node, "trial")
    reload(node, with_key(node.config, 'pin = "1.0.0"') + closed("reboot"))
    found = wait_for(node, "trial")
    assert found["windows"]["reboot"]["open"] is False
