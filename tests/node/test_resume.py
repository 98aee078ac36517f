"""A daemon that starts again in the middle: what is staged but not armed is sealed again, and all can still read it."""

from __future__ import annotations

import json

from bootctl import model
from bootctl.gptprio import GptPrio
from tests.fakes.bus import private_bus
from tests.fakes.machine import Machine
from tests.node.world import Publisher
from updated import record
from updated.core.saved import format_state, parse_state
from updated.core.state import Phase


def test_a_release_that_was_staged_and_not_armed_is_sealed_again_and_shown(
    machine: Machine, publisher: Publisher
) -> None:
    publisher.release("1.1.0")
    assert machine.run("updated", "--root", str(machine.root), "--once").returncode == 0
    # As after a cut between "staged" and the boot reference.
    path = str(machine.state / "state")
    saved = record.read(path)
    assert saved is not None
    state = parse_state(saved)
    assert state.phase is Phase.STAGED
    assert state.target is not None
    target = {**format_state(state)["target"], "tries": 0}
    record.write(path, {**format_state(state), "target": target})
    boot = GptPrio(str(machine.disk))
    boot.commit(model.invalidate(boot.read(), "b", active="a"))
    (machine.root / "run/updated/status.json").unlink()

    with private_bus() as bus:
        machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
        machine.start_daemon()
        machine.wait_until(machine.reboot_asked.exists)
        shown = machine.updatectl("status").stdout
        document = json.loads(machine.updatectl("status", "--json").stdout)
        assert "boots next" in shown
        installed = document["last_install"]
        assert installed["version"] == "1.1.0", "what was installed before the daemon started is still known"
        assert installed["components"]["rootfs"]["image"] > 0
        assert "Traceback" not in machine.tail()
        assert machine.power_on() == "b"
