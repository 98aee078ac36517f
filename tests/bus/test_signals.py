"""What is told without being asked: how often, and what it says."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dbus_next import Message

from tests.bus.raw import Client, client
from tests.bus.world import Node, document, with_node
from updated.bus.interface import NAME, PATH
from updated.bus.pace import Pace
from updated.bus.service import SIGNAL_SECONDS
from updated.core.state import Phase
from updated.core.status import Progress


def ours(other: Client, member: str) -> list[Message]:
    return [each for each in other.signals if each.member == member and each.path == PATH]


async def until(other: Client, member: str, count: int) -> list[Message]:
    """The first `count` signals called `member`."""
    async with asyncio.timeout(30):
        while len(ours(other, member)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return ours(other, member)


def test_a_burst_of_progress_is_two_signals_the_first_and_the_last(bus: str) -> None:
    async def burst(node: Node) -> list[Any]:
        async with client(bus) as other:
            await other.match(f"type='signal',interface='{NAME}'")
            for done in range(1000):
                node.bus.progressed(Progress("download", "rootfs", done, 999, 1.0))
            await until(other, "Progress", 2)
            node.becomes(Phase.SEALING)
            await until(other, "StateChanged", 1)  # the bus keeps the order: nothing else came before it
            return [each.body for each in ours(other, "Progress")]

    assert with_node(bus, burst) == [["download", "rootfs", 0, 999], ["download", "rootfs", 999, 999]]


def test_changes_are_announced_with_their_values_and_those_that_come_close_together_at_once(bus: str) -> None:
    async def change(node: Node) -> list[Any]:
        async with client(bus) as other:
            await other.match(f"type='signal',path='{PATH}'")
            for phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING, Phase.STAGED):
                node.becomes(phase)
            return [each.body for each in await until(other, "PropertiesChanged", 2)]

    first, last = with_node(bus, change)
    assert [first[0], last[0]] == [NAME, NAME]
    assert set(first[1]) == {"Phase", "Summary"}, "what did not change is not announced"
    assert first[1]["Phase"].value == "checking"
    assert last[1]["Phase"].value == "staged"
    assert first[2] == last[2] == ["Status"], "it is large, and only its name is told"


def test_every_change_of_the_phase_is_told_at_once(bus: str) -> None:
    async def change(node: Node) -> list[Any]:
        async with client(bus) as other:
            await other.match(f"type='signal',interface='{NAME}'")
            for phase in (Phase.CHECKING, Phase.FETCHING, Phase.SEALING):
                node.becomes(phase)
            return [each.body for each in await until(other, "StateChanged", 3)]

    assert with_node(bus, change) == [["idle", "checking"], ["checking", "fetching"], ["fetching", "sealing"]]


@contextmanager
def monitor(address: str) -> Iterator[subprocess.Popen[str]]:
    """busctl, as it watches our interface."""
    command = ["busctl", f"--address={address}", "monitor", "--json=short", f"--match=interface='{NAME}'"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "Monitoring" in process.stderr.readline()
            yield process
        finally:
            process.kill()


def test_busctl_monitor_shows_progress_with_its_values(bus: str) -> None:
    async def watched(node: Node) -> dict[str, Any]:
        node.bus.progressed(Progress("download", "rootfs", 1, 2, 1.0))
        return dict(json.loads(await asyncio.to_thread(read)))

    with monitor(bus) as watching:
        assert watching.stdout is not None
        read = watching.stdout.readline
        seen = with_node(bus, watched)
    assert (seen["member"], seen["path"]) == ("Progress", PATH)
    assert seen["payload"] == {"type": "sstt", "data": ["download", "rootfs", 1, 2]}


def test_nothing_is_announced_when_nothing_changed(bus: str) -> None:
    async def still(node: Node) -> list[Message]:
        async with client(bus) as other:
            await other.match(f"type='signal',path='{PATH}'")
            node.bus.state_changed(node.state, node.state, document())
            node.bus.progressed(Progress("download", "rootfs", 0, 1, 1.0))
            await until(other, "Progress", 1)
            return ours(other, "PropertiesChanged")

    assert with_node(bus, still) == []


class Clock:
    """A loop's clock that a test sets, and its timers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Any]] = []
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act: Any) -> Any:
        self.due.append((when, act))
        return self

    def cancel(self) -> None:
        self.due.clear()

    def reach(self, when: float) -> None:
        self.now = when
        due, self.due = [each for each in self.due if each[0] <= when], [each for each in self.due if each[0] > when]
        for _, act in due:
            act()


def test_what_is_wanted_often_is_done_at_most_once_in_the_time_and_the_last_is_never_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    done: list[float] = []
    pace = Pace(SIGNAL_SECONDS, lambda: done.append(clock.now))
    for tenth in range(12):
        clock.reach(1000 + tenth / 10)
        pace.want()
    clock.reach(1002)
    assert done == [1000, 1000.5, 1001, 1002]
    clock.reach(1010)
    pace.want()
    assert done[-1] == 1010, "after a rest it is done at once"


def test_what_is_stopped_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    done: list[float] = []
    pace = Pace(SIGNAL_SECONDS, lambda: done.append(clock.now))
    pace.want()
    pace.want()
    pace.stop()
    clock.reach(1010)
    assert done == [1000]
