"""What the daemon tells its children, and what they answer: JSON on stdin, JSON lines on stdout.

A child is told all that it needs; it reads no configuration and opens no device. It may be killed at any instant.

Lines of an answer: `{"type": "progress", "step", "component", "done", "total"}` (bytes) and
`{"type": "plan", "component", "text"}`, then one of
`{"type": "result", ...}` and `{"type": "error", "error": {code, what, cause, mend}}`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bootctl.errors import in_words
from updated.core.errors import UpdatedError
from updated.core.state import Target
from updated.libc import PR_SET_PDEATHSIG, prctl
from updated.region import Region, Room

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the repository: at `path`, or at `url`, or else at `mirrors`, in this order.

    `lowest_rate` and `bandwidth_limit` (0: none) are in bytes per second, for all `connections` together; so many are
    used at once. `bandwidth_changes` are (from when on, in seconds since the epoch, the limit then), in order.
    """

    url: str
    ca_bundle: str = ""
    client_certificate: str = ""
    proxy: str = ""
    lowest_rate: int = 1024
    mirrors: tuple[str, ...] = ()
    connections: int = 4
    bandwidth_limit: int = 0
    path: str = ""
    bandwidth_changes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """The work of one child.

    `store` is the child's own folder for trusted metadata; `export` is where fetch leaves what it verified, and where
    seal verifies it again. `root_path` names the file that `root_of_trust` is from, for people alone. `system_time` and
    `built` are in seconds since the epoch. `regions` are open descriptors of the passive slot, `seeds` of the running
    one, to be read only; `sizes` are the bytes that each component can hold, and `rooms` those of several together.
    `seed` and `wave` are the node's `Place`. `floor` is the newest version that was confirmed here, as far as the
    daemon knows. `grace`: for how many seconds metadata is accepted after its expiry. `allow_downgrade`: a recalled
    release may be left for the older one that the channel names. `denied` says why each version or manifest is not
    taken again; `held`: the versions in the slots. `pin` and `newest`: as `Pin` has them. `imported` is the open
    descriptor of a bundle or directory that takes the place of the repository. `parent` is the process id of the
    daemon.
    """

    store: str
    export: str
    root_of_trust: str
    system_time: float
    built: int
    channel: str
    running: str
    floor: str
    compatible: str
    seed: float = 0.0
    wave: float | None = None
    any_wave: bool = False
    allow_downgrade: bool = False
    denied: Mapping[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    rooms: tuple[Room, ...] = ()
    connection: Connection | None = None
    target: Target | None = None
    regions: Mapping[str, Region] = field(default_factory=dict)
    seeds: Mapping[str, Region] = field(default_factory=dict)
    parent: int = 0
    grace: int = 0
    imported: int | None = None
    root_path: str = ""
    pin: str = ""
    newest: str = ""

    def descriptors(self) -> list[int]:
        """All open files that the child needs."""
        regions = [region.fd for each in (self.regions, self.seeds) for region in each.values()]
        return regions if self.imported is None else [*regions, self.imported]

    def to_json(self) -> bytes:
        """The task as one JSON document."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Task:
        """The task in `data`, which the daemon wrote."""
        value: dict[str, Any] = json.loads(data)
        value["held"] = tuple(value["held"])
        if value["connection"] is not None:
            mirrors = tuple(value["connection"]["mirrors"])
            changes = tuple((at, limit) for at, limit in value["connection"]["bandwidth_changes"])
            lists = {"mirrors": mirrors, "bandwidth_changes": changes}
            value["connection"] = Connection(**{**value["connection"], **lists})
        value["target"] = value["target"] and Target(**value["target"])
        value["rooms"] = tuple(Room(tuple(room["components"]), room["size"]) for room in value["rooms"])
        for key in ("regions", "seeds"):
            value[key] = {name: Region(**region) for name, region in value[key].items()}
        return cls(**value)


def report(message: Mapping[str, Any]) -> None:
    """Writes one line of the answer."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class ProgressReport:
    """Reports progress of a component at most every `PROGRESS_SECONDS`, and always the end of a step."""

    def __init__(self, component: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._component = component
        self._monotonic = monotonic
        self._last = float("-inf")

    def __call__(self, step: str, done: int, total: int) -> None:
        now = self._monotonic()
        if done < total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        report({"type": "progress", "step": step, "component": self._component, "done": done, "total": total})


class PlanReport:
    """Reports, for people, where the bytes of a component are going to come from."""

    def __init__(self, component: str) -> None:
        self._component = component

    def __call__(self, text: str) -> None:
        report({"type": "plan", "component": self._component, "text": text})


def _die_with_the_daemon() -> None:
    """prctl(2): a daemon that is killed must not leave a writer behind, which the next one would not know of."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(work: Callable[[Task], Mapping[str, Any]]) -> int:
    """Reads the task from stdin, does `work`, and reports its result or error. The exit status is 0 or 1."""
    _die_with_the_daemon()
    try:
        task = Task.from_json(sys.stdin.buffer.read())
        if os.getppid() != task.parent:
            return 1  # the daemon was gone before it could be watched
        result = work(task)
    except UpdatedError as error:
        report({"type": "error", "error": error.to_json()})
        return 1
    except Exception as error:
        text = f"{type(error).__name__}: {in_words(error)}"
        unexpected = UpdatedError("internal", "the child process", text, "Report it, with the log.")
        report({"type": "error", "error": unexpected.to_json()})
        return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    report({"type": "result", "peak_memory_bytes": peak, **result})
    return 0
