"""Our side of the bus within a test, and busctl on the other."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from bootctl.model import BootView, SlotState
from updated.bus.interface import NAME, PATH
from updated.bus.service import Bus
from updated.core.errors import UpdatedError
from updated.core.events import Event
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.state import BootFacts, Phase, State
from updated.core.status import Report, status_document

VIEW = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
STATE = first_state(BootFacts("a", "1.0", "boot", VIEW), 0.5)
Result = TypeVar("Result")


def document(state: State = STATE, report: Report | None = None, now: int = 0) -> dict[str, Any]:
    """The status of a node in `state`."""
    return status_document(state, Policy(), report or Report(), now)


class Node:
    """Takes what is requested; refuses it with `refusal`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.refusal: UpdatedError | None = None
        self.bus = Bus(self.request)
        self.state = STATE

    def request(self, kind: type[Event], **fields: Any) -> UpdatedError | None:
        """See `engine.Engine.request`."""
        self.requests.append((kind.__name__, fields))
        return self.refusal

    def becomes(self, phase: Phase) -> None:
        """Tells the bus of a change, as the engine does."""
        before, self.state = self.state, self.state.with_changes(phase=phase)
        self.bus.state_changed(before, self.state, document(self.state))


def with_node(address: str, act: Callable[[Node], Awaitable[Result]]) -> Result:
    """What `act` returns, while the node is on the bus at `address`."""

    async def within() -> Result:
        node = Node()
        await node.bus.connect(document())
        try:
            return await act(node)
        finally:
            await node.bus.leave()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        return asyncio.run(within())


def busctl(address: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs busctl(1) as a client of the bus at `address`."""
    done = subprocess.run(
        ["busctl", f"--address={address}", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done


async def asked(address: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The same, while our side answers."""
    return await asyncio.to_thread(busctl, address, *arguments, check=check)


async def called(address: str, interface: str, member: str, *arguments: str) -> str:
    """What busctl says of a call that fails: the name of the error can't be asked of it, so both are in the text."""
    done = await asked(address, "call", NAME, PATH, interface, member, *arguments, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr.strip()


async def property_of(address: str, name: str) -> Any:
    """The value of a property, as busctl has it in JSON."""
    done = await asked(address, "--json=short", "get-property", NAME, PATH, NAME, name)
    return json.loads(done.stdout)["data"]
