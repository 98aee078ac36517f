"""A real Prometheus with the rules of the project looks at a real daemon."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path

from tests.fakes import prometheus
from tests.fakes.machine import Machine
from tests.node.world import Publisher


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_prometheus_sees_a_node_fall_back_and_raises_the_alert(
    tmp_path: Path, machine: Machine, publisher: Publisher
) -> None:
    machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/no-bus"}
    place = f"127.0.0.1:{free_port()}"
    machine.write_config(machine.config.replace('listen = "off"', f'listen = "{place}"'))
    publisher.release("1.1.0", sick=True)
    with prometheus.serve(tmp_path / "prometheus", [{"targets": [place]}]) as server:
        machine.start_daemon()
        machine.wait_until(machine.reboot_asked.exists)
        assert server.wait_for('updated_os_info{version="1.0.0"}')[0]["metric"]["slot"] == "a"
        pending = server.wait_for("updated_pending_release_info")
        assert pending[0]["metric"]["version"] == "1.1.0"
        assert server.wait_for('updated_phase{phase="rebooting"} == 1')
        assert server.query('ALERTS{alertstate="firing"}') == []

        assert machine.power_on() == "a"
        machine.start_daemon()
        fell_back = server.wait_for('ALERTS{alertname="UpdatedFellBack", alertstate="firing"}')
        assert fell_back[0]["metric"]["version"] == "1.1.0"
        # The verdict that counts is that of the slot that runs.
        assert server.query("updated_health_check_result == 0") == []
        server.wait_for('updated_waiting{reason="denied"} == 1')
        assert server.wait_for("updated_denylisted_versions == 1")

        loaded = server.rules("alert") + server.rules("record")
        assert loaded
        assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}
        (alert,) = [each for each in server.api("alerts")["alerts"] if each["state"] == "firing"]
        assert alert["annotations"]["summary"] == f"{place} fell back from 1.1.0"


def test_a_configuration_that_is_refused_at_a_reload_is_in_the_metrics(tmp_path: Path, machine: Machine) -> None:
    machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/no-bus"}
    place = f"127.0.0.1:{free_port()}"
    machine.write_config(machine.config.replace('listen = "off"', f'listen = "{place}"'))
    good = machine.config

    def shows(value: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{place}/metrics", timeout=5) as answer:
                return f"updated_config_last_reload_successful {value}" in answer.read().decode()
        except OSError:
            return False

    machine.start_daemon()
    machine.wait_until(lambda: shows("1.0") and "runs 1.0.0" in machine.tail())
    assert machine.daemon is not None
    machine.write_config(good + "\n[nonsense]\nkey = 1\n")
    machine.daemon.send_signal(signal.SIGHUP)
    machine.wait_until(lambda: shows("0.0"))
    machine.write_config(good)
    machine.daemon.send_signal(signal.SIGHUP)
    machine.wait_until(lambda: shows("1.0"))
