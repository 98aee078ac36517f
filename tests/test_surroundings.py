"""What is seen around a node: by the real logind and systemd's own tools, on a private bus."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bootctl.model import BootView, SlotState
from tests.fakes import logind
from tests.fakes.bus import private_bus
from updated.bus.service import Bus
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.state import BootFacts
from updated.core.status import Report, status_document
from updated.core.surroundings import Care, Inhibitor, Login, Surroundings
from updated.surroundings import MOST_TEXT, Lookout, on_battery

VIEW = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
DOCUMENT = status_document(first_state(BootFacts("a", "1.0", "boot", VIEW), 0.5), Policy(), Report(), 0)
CARE = Care(metered=True)
Result = TypeVar("Result")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="logind needs a /run of its own, which root mounts")


@pytest.fixture
def bus() -> Iterator[str]:
    with private_bus() as address:
        yield address


def seen(address: str, look: Callable[[Lookout], Awaitable[Result]]) -> Result:
    """What `look` finds with a lookout that is connected to the bus at `address`."""

    async def within() -> Result:
        bus = Bus(lambda *_, **__: None)
        lookout = Lookout("/nonexistent", bus)
        await bus.connect(DOCUMENT)
        try:
            return await look(lookout)
        finally:
            await bus.leave()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        return asyncio.run(within())


def surroundings(address: str) -> Surroundings:
    return seen(address, lambda lookout: lookout.look(CARE))


# ------------------------------------------------------------------------------------------------------- inhibitors


@needs_root
def test_who_blocks_a_shutdown_is_seen_with_the_reason_as_long_as_it_does(bus: str) -> None:
    with logind.logind(bus):
        with logind.inhibitor(bus, who="backup", why="writes a tape", what="sleep:shutdown"):
            assert surroundings(bus).inhibitors == (Inhibitor("backup", "writes a tape"),)
        assert surroundings(bus) == Surroundings()


@needs_root
@pytest.mark.parametrize("lock", [{"what": "sleep"}, {"mode": "delay"}, {"what": "handle-power-key"}])
def test_a_lock_that_lets_the_machine_go_down_is_none(bus: str, lock: dict[str, str]) -> None:
    with logind.logind(bus), logind.inhibitor(bus, who="player", why="plays", **lock):
        assert surroundings(bus).inhibitors == ()


@needs_root
def test_what_anybody_may_write_into_a_lock_is_one_short_line(bus: str) -> None:
    with logind.logind(bus), logind.inhibitor(bus, who="a\x1b[2J\nb", why="w" * 1000):
        assert surroundings(bus).inhibitors == (Inhibitor("a [2J b", "w" * MOST_TEXT),)


# ---------------------------------------------------------------------------------------------------------- our lock


@needs_root
def test_a_step_delays_shutdown_and_sleep_and_the_lock_is_gone_after_it(bus: str) -> None:
    async def during_a_step(lookout: Lookout) -> tuple[str, str]:
        async with lookout.lock("an update is being written"):
            during = await asyncio.to_thread(logind.locks, bus)
        return during, await asyncio.to_thread(logind.locks, bus)

    with logind.logind(bus):
        during, after = seen(bus, during_a_step)
    (line,) = [line for line in during.splitlines() if line.startswith("updated ")]
    assert "shutdown:sleep an update is being written delay" in line
    assert "updated" not in after


@needs_root
def test_a_step_that_fails_lets_the_lock_go_too(bus: str) -> None:
    async def fails(lookout: Lookout) -> str:
        with pytest.raises(OSError, match="broken"):
            async with lookout.lock("an update is being written"):
                raise OSError("broken")
        return await asyncio.to_thread(logind.locks, bus)

    with logind.logind(bus):
        assert "updated" not in seen(bus, fails)


@pytest.mark.parametrize("announcement", ["PrepareForShutdown", "PrepareForSleep"])
def test_the_lock_is_let_go_in_the_midst_of_a_step_when_the_machine_goes_down(bus: str, announcement: str) -> None:
    with logind.going_down(bus, announcement) as model:

        async def step(lookout: Lookout) -> str:
            assert model.stdout is not None
            async with lookout.lock("an update is being written"):
                return await asyncio.wait_for(asyncio.to_thread(model.stdout.readline), 30)

        assert seen(bus, step) == "let go\n"


def test_a_step_needs_no_logind(bus: str) -> None:
    async def step(lookout: Lookout) -> str:
        async with lookout.lock("an update is being written"):
            return "done"

    assert seen(bus, step) == "done"


# ------------------------------------------------------------------------------------------------------------ people


@needs_root
def test_people_at_terminals_and_over_ssh_are_seen_and_no_service_or_greeter(bus: str) -> None:
    sessions = ("1 user tty1 -", "2 user pts/9 192.0.2.7", "3 greeter tty7 -", "4 background tty8 -")
    with logind.logind(bus, sessions):
        assert surroundings(bus).users == (Login("root", "192.0.2.7"), Login("root", "tty1"))
        assert seen(bus, lambda lookout: lookout.look(replace(CARE, grace=0))).users == ()


# --------------------------------------------------------------------------------------------- answers that do not fit

INHIBITORS = ("a(ssssuu)", [[["shutdown", "backup", "writes a tape", "block", 0, 7]]])
SESSIONS = ("a(susso)", [[["7", 0, "root", "seat0", "/org/freedesktop/login1/session/_37"]]])
PERSON = {
    "Class": ("s", "user"), "State": ("s", "active"), "Name": ("s", "root"), "TTY": ("s", "tty1"),
    "RemoteHost": ("s", ""), "Seat": ("(so)", ["seat0", "/"]),
}  # fmt: skip
FITTING: dict[str, tuple[str, list[Any]]] = {
    "ListInhibitors": INHIBITORS, "ListSessions": SESSIONS, "GetAll": ("a{sv}", [PERSON]),
}  # fmt: skip
SEEN = Surroundings((Inhibitor("backup", "writes a tape"),), (Login("root", "tty1"),))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def looked_twice(bus: str, answers: dict[str, tuple[str, list[Any]]]) -> Surroundings:
    async def twice(lookout: Lookout) -> list[Surroundings]:
        return [await lookout.look(replace(CARE, metered=False)) for _ in range(2)]

    with logind.saying(bus, answers):
        first, second = seen(bus, twice)
    assert first == second
    return first


def test_the_model_is_understood_where_its_answers_fit(bus: str, caplog: pytest.LogCaptureFixture) -> None:
    assert looked_twice(bus, FITTING) == SEEN
    assert not told(caplog)


@pytest.mark.parametrize(
    ("member", "answer"),
    [
        ("ListInhibitors", ("", [])), ("ListInhibitors", ("s", ["shutdown"])), ("ListInhibitors", ("u", [7])),
        ("ListInhibitors", ("au", [[7]])), ("ListInhibitors", ("a(ss)", [[["shutdown", "x"]]])),
        ("ListInhibitors", ("a(uuuu)", [[[1, 2, 3, 4]]])),
        ("ListInhibitors", ("a(ssus)", [[["shutdown", "x", 3, "block"]]])),
        ("ListSessions", ("", [])), ("ListSessions", ("u", [7])), ("ListSessions", ("as", [["", "session"]])),
        ("ListSessions", ("a(ss)", [[["7", "no path"]]])), ("ListSessions", ("a(su)", [[["7", 7]]])),
        ("GetAll", ("", [])), ("GetAll", ("s", ["user"])), ("GetAll", ("a{sv}", [{}])),
        ("GetAll", ("a{sv}", [{**PERSON, "TTY": ("s", ""), "Seat": ("u", 7)}])),
        ("GetAll", ("a{sv}", [{**PERSON, "Name": ("u", 7)}])), ("GetAll", ("a{sv}", [{**PERSON, "TTY": ("ai", [7])}])),
    ],
)  # fmt: skip
def test_an_answer_of_logind_that_does_not_fit_is_not_seen_and_told_once(
    bus: str, caplog: pytest.LogCaptureFixture, member: str, answer: tuple[str, list[Any]]
) -> None:
    rest = replace(SEEN, inhibitors=()) if member == "ListInhibitors" else replace(SEEN, users=())
    assert looked_twice(bus, {**FITTING, member: answer}) == rest
    (line,) = told(caplog)
    assert line == (
        f"org.freedesktop.login1 answers {member} with what does not fit: "
        "inhibitors and people who are logged in are not seen"
    )


def test_of_several_sessions_only_the_one_that_does_not_fit_is_not_seen(
    bus: str, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = ("a(ss)", [[["6", "no path"], ["7", "/org/freedesktop/login1/session/_37"]]])
    assert looked_twice(bus, {**FITTING, "ListSessions": sessions}) == SEEN
    assert len(told(caplog)) == 1


# ------------------------------------------------------------------------------------------------- network and power


@pytest.mark.parametrize(("value", "metered"), [(0, False), (1, True), (2, False), (3, True), (4, False)])
def test_a_network_is_metered_when_network_manager_says_or_guesses_so(bus: str, value: int, metered: bool) -> None:
    with logind.network_manager(bus, value):
        assert surroundings(bus).metered == metered
        assert not seen(bus, lambda lookout: lookout.look(replace(CARE, metered=False))).metered


def test_where_no_service_is_there_is_nothing_to_wait_for_and_that_is_told_once(
    bus: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice(lookout: Lookout) -> list[Surroundings]:
        return [await lookout.look(CARE), await lookout.look(CARE)]

    with caplog.at_level("INFO", "updated"):
        assert seen(bus, twice) == [Surroundings(), Surroundings()]
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        "org.freedesktop.login1", "org.freedesktop.NetworkManager",
    ]  # fmt: skip


def test_without_a_bus_there_is_nothing_to_wait_for() -> None:
    assert asyncio.run(Lookout("/nonexistent").look(CARE)) == Surroundings()


MAINS, BATTERY = {"type": "Mains", "online": "1"}, {"type": "Battery", "status": "Discharging", "present": "1"}
LOST = {"type": "Mains", "online": "0"}


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, False),
        ({"BAT0": BATTERY}, True),
        ({"AC": MAINS, "BAT0": BATTERY}, False),
        ({"AC": LOST, "BAT0": BATTERY}, True),
        ({"AC": LOST}, False),
        ({"USB": {"type": "USB", "online": "1"}, "BAT0": BATTERY}, False),
        ({"BAT0": {**BATTERY, "status": "Charging"}}, False),
        ({"BAT0": {**BATTERY, "status": "Full"}}, False),
        ({"BAT0": {**BATTERY, "present": "0"}}, False),
        ({"mouse": {**BATTERY, "scope": "Device"}}, False),
        ({"ups": {**BATTERY, "type": "UPS"}}, False),
        ({"odd": {}}, False),
    ],
)
def test_a_machine_runs_on_battery_when_one_is_discharged_and_nothing_else_is_connected(
    tmp_path: Path, supplies: dict[str, dict[str, str]], expected: bool
) -> None:
    for name, values in supplies.items():
        (tmp_path / name).mkdir()
        for key, value in values.items():
            (tmp_path / name / key).write_text(f"{value}\n")
    assert on_battery(str(tmp_path)) == expected
