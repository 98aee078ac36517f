"""The machine as a process: it is reset, cut, and never left behind. No system boots here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.console import ConsoleLost, TooLong
from tests.e2e.story import Story
from tests.e2e.vm import Machine
from tests.processes import wait_for
from tests.qemu.machine import children
from tests.qemu.orphans import ends_with_its_starter

NOTHING_BOOTS = """
import sys, time
from pathlib import Path
from tests.e2e.story import Story
from tests.e2e.vm import Machine
folder = Path(sys.argv[1])
Machine(folder, Story(folder / "story.log")).start()
time.sleep(60)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Its disk is empty."""
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    story = Story(tmp_path / "story.log")
    with Machine(tmp_path, story) as machine:
        machine.start()
        yield machine
    story.close()


def test_a_cut_ends_it_at_once_and_the_story_tells_so(machine: Machine) -> None:
    assert len(children(os.getpid())) == 1
    machine.power_cut()
    assert children(os.getpid()) == set()
    assert machine.story.has("--- power on")
    assert machine.story.has("--- power cut")


def test_it_can_be_switched_on_again(machine: Machine) -> None:
    machine.power_cut()
    machine.start()
    assert machine.running


def test_a_reset_is_noticed(machine: Machine) -> None:
    machine.reset()
    machine.wait_reset(30)
    assert machine.resets == 1
    with pytest.raises(ConsoleLost):
        machine.run("true")


def test_each_wait_has_an_end(machine: Machine) -> None:
    for wait in (machine.wait_boot, machine.wait_reset, machine.wait_off):
        with pytest.raises(TooLong):
            wait(0.2)


def test_what_the_firmware_says_is_in_the_story(machine: Machine) -> None:
    assert wait_for(lambda: machine.story.has("BdsDxe|UEFI"), seconds=120)


def test_it_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    assert ends_with_its_starter(NOTHING_BOOTS, tmp_path)
