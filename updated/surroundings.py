"""Looks at what goes on around the node: inhibitors and sessions of logind, network, power supplies.

Over D-Bus as in org.freedesktop.login1(5) and in NetworkManager's reference; where a service is absent there is nothing
to wait for. The supplies of power are as in the kernel's ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, TypeVar

from bootctl.settings import below
from updated.core.surroundings import Care, Inhibitor, Login, Surroundings

log = logging.getLogger("updated")
T = TypeVar("T")

POWER_SUPPLIES = "/sys/class/power_supply"
LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
NETWORK_MANAGER = ("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager")
SESSION = "org.freedesktop.login1.Session"
PROPERTIES = "org.freedesktop.DBus.Properties"
# NMMetered: yes, and a guess that is yes.
METERED = (1, 3)
UNSEEN = {
    LOGIND[0]: "inhibitors and people who are logged in are not seen",
    NETWORK_MANAGER[0]: "a metered network is not seen",
}
_OBJECT_PATH = re.compile(r"(/[A-Za-z0-9_]+)+", re.ASCII)
# Anybody who is logged in may take a lock and name it.
MOST_TEXT = 80
MOST_SESSIONS = 32


class Bus(Protocol):
    """The system bus, as far as it is needed here."""

    async def ask(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> Sequence[Any] | None:
        """The answer of a service, or None when there is none."""

    async def ask_for_file(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> int | None:
        """The open file that a service answers with, or None."""

    def when_going_down(self, act: Callable[[], None]) -> None:
        """Lets `act` be called when logind says that the machine goes down, or to sleep."""


class Lookout:
    """Sees the surroundings of the node below `root`; over `bus`, if there is one."""

    def __init__(self, root: str, bus: Bus | None = None) -> None:
        self._supplies = below(root, POWER_SUPPLIES)
        self._bus = bus
        self._lock: int | None = None
        self._announced = 0
        self._absent: set[str] = set()
        self._odd: set[str] = set()
        if bus is not None:
            bus.when_going_down(self._going_down)

    async def look(self, care: Care) -> Surroundings:
        """What is there now, of all that `care` is taken of."""
        return Surroundings(
            inhibitors=await self._inhibitors(),
            users=await self._users() if care.grace else (),
            metered=await self._metered() if care.metered else False,
            on_battery=on_battery(self._supplies) if care.battery else False,
        )

    @contextlib.asynccontextmanager
    async def lock(self, why: str) -> AsyncIterator[None]:
        """Lets logind delay shutdown and sleep within the block, for as long as the daemon is in a step.

        A delay, and no refusal: the machine may go down in each of our steps, and a power supply that runs out, or a
        person, must be able to end it. What is delayed is a change of the boot reference, by some milliseconds.
        """
        if self._bus is not None:
            self._let_go()
            before = self._announced
            self._lock = await self._bus.ask_for_file(*LOGIND, "Inhibit", "shutdown:sleep", "updated", why, "delay")
            if self._announced != before:
                self._let_go()
        try:
            yield
        finally:
            self._let_go()

    def _going_down(self) -> None:
        self._announced += 1
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    async def _inhibitors(self) -> tuple[Inhibitor, ...]:
        entries = self._entries("ListInhibitors", await self._ask(*LOGIND, "ListInhibitors"))
        found = {self._read(LOGIND[0], "ListInhibitors", each, _inhibitor) for each in entries}
        return tuple(sorted((each for each in found if each is not None), key=lambda each: (each.who, each.why)))

    async def _users(self) -> tuple[Login, ...]:
        logins = set()
        for entry in self._entries("ListSessions", await self._ask(*LOGIND, "ListSessions"))[:MOST_SESSIONS]:
            path = self._read(LOGIND[0], "ListSessions", entry, _path)
            answer = await self._ask(LOGIND[0], path, PROPERTIES, "GetAll", SESSION) if path is not None else None
            if answer is not None:
                logins.add(self._read(LOGIND[0], "GetAll", answer, lambda answer: _login(answer[0])))
        return tuple(sorted((each for each in logins if each is not None), key=lambda each: (each.user, each.place)))

    async def _metered(self) -> bool:
        answer = await self._ask(*NETWORK_MANAGER, PROPERTIES, "Get", NETWORK_MANAGER[0], "Metered")
        return answer is not None and bool(
            self._read(NETWORK_MANAGER[0], "Get", answer, lambda answer: answer[0] in METERED)
        )

    def _entries(self, member: str, answer: Sequence[Any] | None) -> list[Any]:
        """Those of a list of logind."""
        return [] if answer is None else self._read(LOGIND[0], member, answer, lambda answer: list(answer[0])) or []

    def _read(self, destination: str, member: str, answer: Any, read: Callable[[Any], T]) -> T | None:
        """What `read` makes of `answer`; None when it is none that the service should give, which is told once.

        The bus passes on whatever types the service chose.
        """
        try:
            return read(answer)
        except (TypeError, ValueError, LookupError, AttributeError):
            if destination not in self._odd:
                log.warning("%s answers %s with what does not fit: %s", destination, member, UNSEEN[destination])
                self._odd.add(destination)
            return None

    async def _ask(
        self, destination: str, path: str, interface: str, member: str, *arguments: str
    ) -> Sequence[Any] | None:
        if self._bus is None:
            return None
        answer = await self._bus.ask(destination, path, interface, member, *arguments)
        if answer is None and destination not in self._absent:
            log.info("%s does not answer %s: %s", destination, member, UNSEEN[destination])
            self._absent.add(destination)
        return answer


def _inhibitor(entry: Any) -> Inhibitor | None:
    """Who keeps the machine up; None for a lock that does not."""
    what, who, why, mode, *_ = entry
    # From version 257 on there is "block-weak" as well, which is what "block" was.
    if "shutdown" not in what.split(":") or not mode.startswith("block"):
        return None
    return Inhibitor(_plain(who), _plain(why))


def _path(session: Any) -> str:
    *_, path = session
    if not (isinstance(path, str) and _OBJECT_PATH.fullmatch(path)):
        raise ValueError("this is no object path")
    return path


def _login(session: Any) -> Login | None:
    """The person behind a session of logind; None for services, greeters, and what is ending or has no terminal."""
    place = session["RemoteHost"] or session["TTY"] or session["Seat"][0]
    if session["Class"] != "user" or session["State"] == "closing" or not place:
        return None
    return Login(_plain(session["Name"]), _plain(place))


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:MOST_TEXT]


def on_battery(supplies: str) -> bool:
    """Whether a battery of the system is being discharged, and no other supply is connected, as systemd judges it."""
    discharging = False
    with contextlib.suppress(OSError):
        for name in os.listdir(supplies):
            supply = os.path.join(supplies, name)
            if _value(supply, "scope") == "Device":
                continue  # that of a mouse
            kind = _value(supply, "type")
            if kind in ("Mains", "USB") and _value(supply, "online") == "1":
                return False
            if kind == "Battery" and _value(supply, "present") != "0" and _value(supply, "status") == "Discharging":
                discharging = True
    return discharging


def _value(supply: str, name: str) -> str:
    try:
        with open(os.path.join(supply, name), encoding="ascii", errors="replace") as file:
            return file.read(100).strip()
    except OSError:
        return ""
