"""What goes wrong on a running machine without any check: crash loops, services that fail, processes killed for memory.

Values and rules come first, then how they are read: from systemctl(1), /proc/vmstat (proc(5)) and /dev/kmsg.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from health import system
from health.commands import Commands
from health.machine import Machine
from health.rootdir import below

TOLERATED = "/var/lib/updated/health/units.json"
CRASH_LOOP = 3
"""As many restarts by systemd during one watch are a loop; one alone may be an accident."""
UNITS_LIMIT = 4 * 1024 * 1024
ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    `restarts`: of each service, by systemd, since it was loaded; `failed`: services that ought to run on; `oom_kills`:
    how many processes the kernel killed for memory in this boot, None where it does not say; `oom_victims`: those of
    them that tell against the image, None where its log can't be read.
    """

    restarts: Mapping[str, int] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    oom_kills: int | None = None
    oom_victims: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class OomKill:
    """The process that was killed, and the control group whose limit was reached; None: the machine's memory was."""

    process: str
    group: str | None

    @property
    def tells_against_the_image(self) -> bool:
        """A container at its own limit is the container's fault; a service of the image is the image's."""
        return self.group is None or (self.group.startswith("/system.slice/") and ".scope" not in self.group)


def troubles(first: Sample, latest: Sample, tolerated: frozenset[str] | None) -> tuple[str, ...]:
    """What is worse than it was, one line each.

    `tolerated` are the services that were in trouble on the old slot already; None: that is not known, and then those
    that were at the first look are not counted.
    """
    known = troubled(first) if tolerated is None else tolerated
    found = []
    for unit, count in sorted(latest.restarts.items()):
        more = count - first.restarts.get(unit, 0)
        if more >= CRASH_LOOP and unit not in known:
            found.append(f"{unit} was restarted {more} times")
    found += [f"{unit} failed" for unit in sorted(latest.failed - known)]
    before = first.oom_kills
    if before is not None and latest.oom_kills is not None and latest.oom_kills > before:
        victims = (f"{latest.oom_kills - before} processes",) if latest.oom_victims is None else latest.oom_victims
        old = first.oom_victims or ()
        found += [f"the kernel killed {victim} for lack of memory" for victim in victims if victim not in old]
    return tuple(found)


def troubled(sample: Sample) -> frozenset[str]:
    """The services that have failed or crash in a loop."""
    return sample.failed | {unit for unit, count in sample.restarts.items() if count >= CRASH_LOOP}


def parse_services(text: str) -> tuple[dict[str, int], frozenset[str]]:
    """The restarts and the failed services in an answer of `systemctl show`, a block for each unit.

    A oneshot is a job that may fail for reasons outside, and a transient unit is not of the image.
    """
    restarts: dict[str, int] = {}
    failed = set()
    for block in text.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        name = unit.get("Id", "")
        if not name or unit.get("Transient") == "yes":
            continue
        if unit.get("NRestarts", "").isdigit():
            restarts[name] = int(unit["NRestarts"])
        if unit.get("ActiveState") == "failed" and unit.get("Type") != "oneshot":
            failed.add(name)
    return restarts, frozenset(failed)


def parse_oom_kills(messages: Iterable[str]) -> tuple[OomKill, ...]:
    """The processes that the kernel killed, from its own lines (mm/oom_kill.c, dump_oom_summary)."""
    kills = []
    for message in messages:
        match = re.search(r"oom-kill:constraint=(\w+),.*?task_memcg=([^,]*),task=(.*),pid=(\d+)", message)
        if match:
            limited = match[1] == "CONSTRAINT_MEMCG"
            kills.append(OomKill(f"{match[3]} (process {match[4]})", match[2] if limited else None))
    return tuple(kills)


def look(machine: Machine) -> Sample:
    """What the machine shows now; what can't be seen is not in it. Raises nothing."""
    root = machine.root
    restarts, failed = _services() if machine.systemd else ({}, frozenset[str]())
    log = _kernel_log() if root == "/" else []
    kills = None if log is None else parse_oom_kills(log)
    victims = None if kills is None else tuple(kill.process for kill in kills if kill.tells_against_the_image)
    return Sample(restarts, failed, _oom_counter(root), victims)


def _services() -> tuple[dict[str, int], frozenset[str]]:
    properties = "Id,Type,NRestarts,ActiveState,Transient"
    command = ("env", "LC_ALL=C", "systemctl", "--no-pager", "show", f"--property={properties}", "--", "*.service")
    try:
        finished = Commands().run(command, timeout_seconds=ANSWER_SECONDS, keep=UNITS_LIMIT)
    except OSError:
        return {}, frozenset()
    return parse_services(finished.output) if finished.status == 0 else ({}, frozenset())


def _oom_counter(root: str) -> int | None:
    try:
        with open(below(root, "/proc/vmstat"), encoding="ascii") as file:
            found = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return int(found[1]) if found else None


def _kernel_log() -> list[str] | None:
    """The messages that the kernel still has, the oldest first (dev-kmsg, in the kernel's ABI/testing); None: it can't
    be read."""
    messages = []
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while True:
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:
                continue  # the oldest messages were overwritten meanwhile; the next read goes on behind them
            messages.append(record.decode(errors="replace").partition(";")[2])
    except OSError:
        return messages  # it has no more
    finally:
        os.close(descriptor)


def keep(machine: Machine) -> None:
    """Keeps which services are in trouble on this slot, for the watch over the next one."""
    units = sorted(troubled(look(machine)))
    value = {"slot": machine.slot, "units": units}
    with contextlib.suppress(OSError):  # the watch then goes by its own first look
        system.store(machine.root, TOLERATED, json.dumps(value).encode(errors="replace") + b"\n")


def kept(root: str, slot: str) -> frozenset[str] | None:
    """The services that were in trouble on the slot before `slot`; None when nobody knows."""
    try:
        with open(below(root, TOLERATED), "rb") as file:
            value = json.load(file)
        other, units = value["slot"], value["units"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if other == slot or not isinstance(units, list) or not all(isinstance(unit, str) for unit in units):
        return None
    return frozenset(units)
