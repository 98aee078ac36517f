"""What the engine leaves to the bootloader: here the firmware of a Raspberry Pi, which counts a single boot of a trial
and has to be asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bootctl.model import SlotState
from bootctl.tryboot import Tryboot
from tests.fakes.raspberry_pi import RaspberryPi
from tests.node.bench import Bench, bench
from updated.config import read_settings
from updated.core import events
from updated.engine import Engine

PARTITIONS = (("a", 2), ("b", 3))
AUTOBOOT = b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=2\n"


class Pi:
    """A node that tells each word of the command with which it asks for a reboot."""

    def __init__(self, node: Bench) -> None:
        self.node = node
        first = node.root / "boot/firmware"
        first.mkdir(parents=True)
        self.autoboot = first / "autoboot.txt"
        self.autoboot.write_bytes(AUTOBOOT)
        self.board = RaspberryPi(first, node.root)
        self.board.power_on()
        command = node.machine.folder / "reboot"
        self.words = node.machine.folder / "words"
        command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{self.words}"\n')
        command.chmod(0o755)
        dropin = node.root / "etc/updated/updated.toml.d/50-loader.toml"
        dropin.parent.mkdir(exist_ok=True)
        dropin.write_text(
            '[boot]\nbackend = "tryboot"\ntries = 3\ntryboot_partitions = { a = 2, b = 3 }\n'
            f'[updates]\nreboot_command = ["{command}", "reboot"]\n'
        )

    def until_it_reboots(self) -> None:
        """A check and all that follows from it."""

        async def live() -> None:
            engine = Engine(read_settings(str(self.node.root)))
            work = asyncio.create_task(engine.run())
            try:
                engine.start()
                await engine.rest()
                assert engine.request(events.CheckRequested, by="the test") is None
                await engine.rest()
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

        asyncio.run(live())
        assert self.node.status()["error"] is None

    def trial(self) -> SlotState:
        return Tryboot(str(self.autoboot), PARTITIONS, str(self.node.root)).read().state("b")

    def history(self) -> str:
        return (self.node.root / "var/lib/updated/history.jsonl").read_text()


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    """It has a release staged, and asked for the reboot into it."""
    with bench(tmp_path_factory.mktemp("pi")) as node:
        made = Pi(node)
        node.ship()
        made.until_it_reboots()
        yield made


def test_a_trial_gets_no_more_boots_than_the_loader_can_count(pi: Pi) -> None:
    assert pi.trial() == SlotState(2, 1, confirmed=False)
    assert "slot b boots next, with 1 tries" in pi.history()


def test_the_command_that_reboots_passes_on_what_the_loader_needs(pi: Pi) -> None:
    assert pi.words.read_text().splitlines() == ["reboot", "--reboot-argument=0 tryboot"]


def test_the_loader_starts_the_trial_by_that(pi: Pi) -> None:
    argument = pi.words.read_text().splitlines()[-1].removeprefix("--reboot-argument=")
    assert RaspberryPi(pi.autoboot.parent, pi.node.machine.folder / "started").reboot(argument) == 3
