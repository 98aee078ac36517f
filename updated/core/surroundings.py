"""What goes on around the node that an update should not disturb, and how much care the configuration takes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """A program that asked logind not to let the machine go down."""

    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Login:
    """A person who is logged in, and where: a terminal, a seat or a remote host."""

    user: str
    place: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was last seen. `metered`: the network is paid for by use; `on_battery`: no supply is connected."""

    inhibitors: tuple[Inhibitor, ...] = ()
    users: tuple[Login, ...] = ()
    metered: bool = False
    on_battery: bool = False


@dataclass(frozen=True, slots=True)
class Care:
    """What the node waits for by itself; `grace` is for how many seconds people are warned before a reboot."""

    metered: bool = False
    battery: bool = True
    grace: int = 600


@dataclass(frozen=True, slots=True)
class Grace:
    """The time that people have until the reboot into `version`, to the epoch `until`; `last`: no warning follows."""

    version: str
    until: int
    last: bool = False
