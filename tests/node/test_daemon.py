"""The daemon as an operator meets it: on a real bus, through updatectl, in its metrics, and across power cuts."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from bootctl import gpt
from tests.fakes import nginx
from tests.fakes.machine import Machine
from tests.node.world import Publisher, make_machine, program_for_everybody
from tests.processes import lives, wait_for
from updated.children import account, sweep
from updated.core.errors import UpdatedError


@pytest.fixture
def node(machine: Machine, bus: str) -> Machine:
    """The machine, attached to the bus; its daemon is not started."""
    machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    return machine


@pytest.fixture
def slow(slow: Machine, bus: str) -> Machine:
    """The slow machine, attached to the bus; its daemon is not started."""
    slow.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    return slow


def started(machine: Machine) -> Machine:
    machine.start_daemon()
    machine.wait_until(lambda: phase(machine) in ("idle", "fallen-back", "rebooting", "staged", "failed", "waiting"))
    return machine


def status(machine: Machine) -> dict[str, object]:
    document: dict[str, object] = json.loads(machine.updatectl("status", "--json").stdout)
    return document


def phase(machine: Machine) -> str:
    path = machine.root / "run/updated/status.json"
    if not path.exists() or json.loads(path.read_text())["last_check"] is None:
        return "starting" if not path.exists() or not json.loads(path.read_text())["error"] else "failed"
    return str(json.loads(path.read_text())["phase"])


def armed(machine: Machine) -> bool:
    """Whether a release is staged, and boots next."""
    target = status(machine)["target"] if phase(machine) == "staged" else None
    return isinstance(target, dict) and bool(target["armed"])


def asked_to_reboot(machine: Machine) -> bool:
    return machine.reboot_asked.exists()


def manual(machine: Machine) -> None:
    machine.write_config(machine.config.replace("[updates]\n", '[updates]\nreboot = "sentinel"\n'))


def test_the_whole_update_by_itself(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    node.start_daemon()
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"
    started(node)
    shown = status(node)
    assert shown["running"] == {"slot": "b", "version": "1.1.0", "confirmed": True}
    kinds = [entry["kind"] for entry in json.loads(node.updatectl("history", "--json").stdout)]
    assert kinds == ["install", "staged", "reboot", "confirmed"]


def test_a_staged_release_waits_for_a_person_when_reboots_are_manual(node: Machine, publisher: Publisher) -> None:
    manual(node)
    publisher.release("1.1.0")
    started(node)
    node.wait_until(lambda: armed(node))
    shown = status(node)
    assert [reason["code"] for reason in shown["reasons"]] == ["manual-reboot"]  # type: ignore[attr-defined]
    assert (node.root / "run/reboot-required").exists()
    assert not asked_to_reboot(node)
    node.updatectl("reboot")
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"


def test_any_reboot_takes_a_staged_release(node: Machine, publisher: Publisher) -> None:
    manual(node)
    publisher.release("1.1.0")
    started(node)
    node.wait_until(lambda: armed(node))
    assert node.power_on() == "b"


def test_a_newer_release_takes_the_place_of_a_staged_one(node: Machine, publisher: Publisher) -> None:
    manual(node)
    publisher.release("1.1.0")
    started(node)
    node.wait_until(lambda: armed(node))
    publisher.release("1.2.0")
    node.updatectl("check")
    node.wait_until(lambda: armed(node) and status(node)["target"]["version"] == "1.2.0")  # type: ignore[index]
    assert node.power_on() == "b"
    assert "1.2.0" in (node.root / "etc/os-release").read_text()


def test_a_staged_release_that_is_recalled_is_not_booted(node: Machine, publisher: Publisher) -> None:
    manual(node)
    publisher.release("1.1.0")
    started(node)
    node.wait_until(lambda: armed(node))
    publisher.call(
        "recall", str(publisher.repository), "--keys", str(publisher.keys), "--channel", "stable", "--version", "1.1.0",
        "--reason", "it eats data",
    )
    node.updatectl("check")
    node.wait_until(lambda: phase(node) == "idle")
    assert node.power_on() == "a"


def test_roll_back_boots_the_old_slot_and_the_release_is_not_taken_again(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    node.start_daemon()
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"
    started(node)
    node.updatectl("rollback")
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "a"
    started(node)
    node.updatectl("check")
    shown = status(node)
    assert shown["phase"] == "fallen-back"
    assert "rolled back from 1.1.0 by " in str(shown["summary"])
    assert [reason["code"] for reason in shown["reasons"]] == ["denied"]  # type: ignore[attr-defined]
    node.updatectl("allow", "1.1.0")
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"


def test_nothing_leads_back_into_a_recalled_release_that_was_left(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    node.start_daemon()
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"
    started(node)
    publisher.call(
        "recall", str(publisher.repository), "--keys", str(publisher.keys), "--channel", "stable", "--version", "1.1.0",
        "--reason", "it eats data",
    )
    node.updatectl("check")
    assert "1.1.0, which runs here: it eats data" in node.updatectl("status").stdout
    said = node.updatectl("rollback").stdout
    assert said.startswith("Slot a (1.0.0) boots next. 1.1.0 is denied here; 'updatectl allow 1.1.0' lifts that. ")
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "a"
    started(node)
    node.updatectl("check")
    assert "updatectl rollback" not in node.updatectl("status").stdout
    refused = node.updatectl("rollback", check=False)
    assert refused.returncode == 5
    assert "slot b would boot, and 1.1.0 was recalled: it eats data" in refused.stderr
    node.updatectl("rollback", "--force")
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"


def test_a_roll_back_without_a_confirmed_other_slot_is_refused(node: Machine) -> None:
    started(node)
    done = node.updatectl("rollback", check=False)
    assert done.returncode == 5
    assert "slot b holds no confirmed system" in done.stderr


def test_a_channel_is_chosen_live_and_survives_a_reboot(node: Machine, publisher: Publisher) -> None:
    publisher.release("2.0.0", channels=("beta",))
    started(node)
    assert status(node)["phase"] == "idle"
    node.updatectl("channel", "beta", "--no-wait")
    node.wait_until(lambda: asked_to_reboot(node))
    assert node.power_on() == "b"
    started(node)
    assert node.updatectl("channel").stdout.strip() == "beta"


def test_a_channel_that_is_not_there_is_named(node: Machine) -> None:
    started(node)
    done = node.updatectl("channel", "gamma", check=False)
    assert done.returncode == 1
    assert "channel gamma: is not in the repository" in done.stderr
    node.wait_until(lambda: phase(node) == "failed")
    assert "channel gamma: is not in the repository" in str(status(node)["summary"])


def test_a_hold_keeps_a_release_out_until_it_is_lifted(node: Machine, publisher: Publisher) -> None:
    started(node)
    node.updatectl("hold", "7d")
    publisher.release("1.1.0")
    node.updatectl("check")
    shown = status(node)
    assert shown["phase"] == "waiting"
    assert [reason["code"] for reason in shown["reasons"]] == ["held"]  # type: ignore[attr-defined]
    node.updatectl("unhold")
    node.wait_until(lambda: asked_to_reboot(node))


def test_install_goes_before_hold_and_wave(node: Machine, publisher: Publisher) -> None:
    started(node)
    node.updatectl("hold")
    publisher.release("1.1.0", channels=())
    publisher.promote("1.1.0", "stable", "--rollout-hours", "8000")
    node.updatectl("check")
    assert status(node)["phase"] in ("idle", "waiting")
    node.updatectl("install")
    node.wait_until(lambda: asked_to_reboot(node))


def test_a_wave_says_when_it_comes(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0", channels=())
    publisher.promote("1.1.0", "stable", "--rollout-hours", "8000")
    started(node)
    assert "1.1.0 comes to this node at 20" in str(status(node)["summary"])


def test_the_configuration_is_read_again_without_a_restart(node: Machine, publisher: Publisher) -> None:
    manual(node)
    publisher.release("1.1.0")
    started(node)
    node.wait_until(lambda: armed(node))
    node.write_config(node.config.replace('reboot = "sentinel"\n', ""))
    assert node.daemon is not None
    node.daemon.send_signal(signal.SIGHUP)
    node.wait_until(lambda: asked_to_reboot(node))


def test_a_wrong_configuration_leaves_the_old_one_in_force(node: Machine) -> None:
    started(node)
    node.write_config(node.config + "\n[nonsense]\nkey = 1\n")
    assert node.daemon is not None
    node.daemon.send_signal(signal.SIGHUP)
    node.wait_until(lambda: "the configuration stays as it was" in node.tail())
    assert status(node)["alive"]


def test_status_works_with_the_daemon_dead(node: Machine) -> None:
    started(node)
    node.stop_daemon()
    done = node.updatectl("status")
    assert "The daemon does not run" in done.stdout
    assert "slot a  1.0.0" in done.stdout


def test_status_without_any_daemon_says_what_to_do(node: Machine) -> None:
    done = node.updatectl("status", check=False)
    assert done.returncode == 3
    assert "systemctl start updated" in done.stderr


def test_a_call_without_a_daemon_has_its_own_exit_status(node: Machine) -> None:
    started(node)
    node.stop_daemon()
    assert node.updatectl("hold", check=False).returncode == 3


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_metrics_on_loopback_show_the_node(node: Machine, publisher: Publisher) -> None:
    port = 20000 + os.getpid() % 20000
    node.write_config(node.config.replace('listen = "off"', f'listen = "127.0.0.1:{port}"'))
    publisher.release("1.1.0", sick=True)
    node.start_daemon()
    node.wait_until(lambda: asked_to_reboot(node))
    text = scrape(f"http://127.0.0.1:{port}/metrics")
    assert 'updated_slot_info{slot="a",state="good",version="1.0.0"} 1.0' in text
    assert "updated_releases_staged_total 1.0" in text
    index = 'updated_download_bytes_total{source="index"}'
    downloaded = next(line for line in text.splitlines() if line.startswith(index))
    assert float(downloaded.split()[1]) > 0
    assert node.power_on() == "a"
    started(node)
    fell_back = 'updated_rollbacks_total{reason="fell-back"} 1.0'
    node.wait_until(lambda: fell_back in scrape(f"http://127.0.0.1:{port}/metrics"))
    assert "updated_denylisted_versions 1.0" in scrape(f"http://127.0.0.1:{port}/metrics")


def test_metrics_in_a_textfile_are_accepted_by_promtool(node: Machine) -> None:
    node.write_config(node.config.replace('listen = "off"', 'listen = "textfile:/run/node.prom"'))
    started(node)
    node.stop_daemon()
    data = (node.root / "run/node.prom").read_bytes()
    done = subprocess.run(["promtool", "check", "metrics"], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_metrics_on_a_unix_socket(node: Machine) -> None:
    node.write_config(node.config.replace('listen = "off"', 'listen = "unix:/run/m.sock"'))
    started(node)
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as link:
        folder = os.open(node.root / "run", os.O_RDONLY)
        link.connect(f"/proc/self/fd/{folder}/m.sock")
        os.close(folder)
        connection.sock = link
        connection.request("GET", "/metrics")
        assert b"updated_phase" in connection.getresponse().read()


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_in_the_download_boots_the_old_slot_resumes_and_ends_confirmed(slow: Machine, seed: int) -> None:
    active_before = slot_bytes(slow, "a")
    share = random.Random(seed).uniform(0.1, 0.8)
    slow.start_daemon()
    slow.wait_until(lambda: downloaded_share(slow) >= share)
    slow.power_cut()
    assert slow.power_on() == "a"
    slow.start_daemon()
    slow.wait_until(lambda: asked_to_reboot(slow))
    document = json.loads((slow.root / "run/updated/status.json").read_text())
    rootfs = document["last_install"]["components"]["rootfs"]
    assert rootfs["in_place"] > 0, "it began anew instead of going on"
    assert slow.power_on() == "b"
    assert slot_bytes(slow, "a") == active_before


def downloaded_share(node: Machine) -> float:
    path = node.root / "run/updated/status.json"
    progress = json.loads(path.read_text())["progress"] if path.exists() else None
    if not progress or progress["step"] != "download" or not progress["total"]:
        return 0.0
    return float(progress["done"] / progress["total"])


def slot_bytes(node: Machine, slot: str) -> bytes:
    with node.disk.open("rb") as disk:
        table = gpt.read_table(disk.fileno())
        partition = table.partition(f"rootfs-{slot}")
        disk.seek(partition.offset(table.sector_size))
        return disk.read(partition.size(table.sector_size))


def test_a_killed_daemon_leaves_no_writer_behind(slow: Machine) -> None:
    slow.start_daemon()
    slow.wait_until(lambda: downloaded_share(slow) > 0.05)
    assert slow.daemon is not None
    pid = slow.daemon.pid
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert children
    slow.daemon.kill()
    slow.daemon.wait()
    slow.daemon = None
    assert wait_for(lambda: not any(lives(child) for child in children), seconds=5)



# ------------------------------------------------------------------------------------------------- who may do what


def call_as_nobody(bus: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A call by a user without any right, judged by busctl."""
    words = ["busctl", f"--address={bus}", "call", "org.updated.Updated1", "/org/updated/Updated1", *arguments]
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words],
        capture_output=True, text=True, check=False, timeout=30,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as another user")


@needs_root
def test_anyone_may_read_the_status(node: Machine, bus: str) -> None:
    started(node)
    done = call_as_nobody(bus, "org.freedesktop.DBus.Properties", "Get", "ss", "org.updated.Updated1", "Version")
    assert '"1.0.0"' in done.stdout, done.stderr


@needs_root
@pytest.mark.parametrize("member", ["Check", "Install", "Reboot", "Rollback", "Unhold"])
def test_a_caller_whom_polkit_does_not_allow_is_refused(node: Machine, bus: str, member: str) -> None:
    started(node)
    done = call_as_nobody(bus, "org.updated.Updated1", member)
    assert done.returncode != 0
    assert "polkit" in done.stderr
    assert "Traceback" not in done.stderr
    assert not asked_to_reboot(node)


@pytest.mark.parametrize(
    "arguments", [["Nonsense"], ["SetChannel"], ["SetChannel", "s", "No Name!"], ["Hold", "t", "18446744073709551615"]]
)
def test_a_wrong_call_gets_a_named_error_without_a_traceback(node: Machine, bus: str, arguments: list[str]) -> None:
    started(node)
    done = subprocess.run(
        ["busctl", f"--address={bus}", "call", "org.updated.Updated1", "/org/updated/Updated1",
         "org.updated.Updated1", *arguments],
        capture_output=True, text=True, check=False, timeout=30,
    )
    assert done.returncode != 0
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert "File " not in done.stderr
    assert status(node)["alive"]


def test_introspection_shows_every_method_property_and_signal(node: Machine, bus: str) -> None:
    started(node)
    done = subprocess.run(
        ["busctl", f"--address={bus}", "introspect", "org.updated.Updated1", "/org/updated/Updated1",
         "org.updated.Updated1"],
        capture_output=True, text=True, check=True, timeout=30,
    )
    for name in ("Check", "Install", "Import", "Reboot", "Rollback", "SetChannel", "Hold", "Unhold", "Allow", "Phase",
                 "Status", "Summary", "Progress", "StateChanged"):
        assert f".{name}" in done.stdout


@needs_root
def test_the_sweep_ends_processes_of_the_downloaders_user_alone() -> None:
    users = (54321, 54322)
    one, other = (
        subprocess.Popen(["sleep", "60"], user=user, group=user, extra_groups=[], start_new_session=True)
        for user in users
    )
    try:
        asyncio.run(sweep((users[0], users[0])))
        assert one.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for left in (one, other):
            left.kill()
            left.wait()


@needs_root
def test_root_is_refused_as_the_downloaders_user() -> None:
    with pytest.raises(UpdatedError, match="the user root: is root") as caught:
        account("root")
    assert caught.value.code == "bad-config"


def test_a_child_ends_with_the_process_that_started_it() -> None:
    child = "import time; from updated.task import _die_with_the_daemon; _die_with_the_daemon(); "
    child += "print('ready', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    parent += "print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        words = {daemon.stdout.readline().strip(), daemon.stdout.readline().strip()}
        (pid,) = (int(word) for word in words - {"ready"})
        daemon.kill()
        daemon.wait()
        assert wait_for(lambda: not lives(pid), seconds=10)


@needs_root
def test_the_downloader_runs_as_an_unprivileged_user(publisher: Publisher, bus: str) -> None:
    publisher.release("1.1.0", size=6_000_000)
    serving = nginx.serve(publisher.repository, rate_limit="500k")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, serving as url:
        os.chmod(folder, 0o755)
        program = program_for_everybody(Path(folder))
        with make_machine(Path(folder) / "machine", publisher, url, slot_size="12M") as node:
            node.python = "/usr/bin/python3"
            node.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus, "PYTHONPATH": str(program)}
            # A user that every Debian has, and that nothing runs as: all its processes are ended.
            games = pwd.getpwnam("games")
            node.write_config(node.config.replace('user = ""', 'user = "games"'))
            left = subprocess.Popen(
                ["sleep", "120"], user="games", group="games", extra_groups=[], start_new_session=True
            )
            node.start_daemon()
            assert left.wait(60) == -signal.SIGKILL, "what the downloader left behind is there after the check"
            node.wait_until(lambda: downloaded_share(node) > 0.05)
            assert node.daemon is not None
            pid = node.daemon.pid
            child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
            assert set(values["Uid"]) == {str(games.pw_uid)}
            assert set(values["Gid"]) == {str(games.pw_gid)}
            assert values["Groups"] == []
            assert values["CapEff"] == ["0000000000000000"]
            node.wait_until(lambda: asked_to_reboot(node))
            node.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
            assert node.power_on() == "b"
