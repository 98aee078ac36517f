"""A person's word while the node is at work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.node.bench import Bench, bench
from updated.config import read_settings
from updated.core import events
from updated.core.state import Phase
from updated.engine import Engine


def by_hand(node: Bench) -> None:
    """The node leaves its reboots to people."""
    folder = node.root / "etc/updated/updated.toml.d"
    folder.mkdir(exist_ok=True)
    (folder / "50-reboot.toml").write_text('[updates]\nreboot = "sentinel"\n')


@pytest.mark.parametrize("seconds", [0.0, 0.2], ids=["before the look begins", "while its child runs"])
def test_a_reboot_into_what_is_staged_does_not_wait_for_a_look_for_something_newer(
    seconds: float, tmp_path: Path
) -> None:
    async def live(node: Bench) -> list[Phase]:
        phases = []
        engine = Engine(read_settings(str(node.root)))
        work = asyncio.create_task(engine.run())
        try:
            engine.start()
            assert engine.request(events.CheckRequested, by="eva") is None
            await engine.rest()
            phases.append(engine.state.phase)
            assert engine.request(events.CheckRequested, by="eva") is None
            await asyncio.sleep(seconds)
            assert engine.request(events.RebootRequested, by="eva") is None
            phases.append(engine.state.phase)
            await engine.rest()
            assert engine.state.error is None
            return [*phases, engine.state.phase]
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    with bench(tmp_path) as node:
        by_hand(node)
        node.ship()
        assert asyncio.run(live(node)) == [Phase.STAGED, Phase.REBOOTING, Phase.REBOOTING]
        assert node.machine.reboot_asked.exists()
        assert node.machine.power_on() == "b"
