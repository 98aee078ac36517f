"""The values that the other modules pass around: what to check, at which pace, and what came out."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["required", "wanted"]
Result = Literal["pass", "fail", "skip", "timeout"]

OUTPUT_LIMIT = 2000
"""Characters of a check's output that are kept: the last ones, since the reason of a failure stands at the end."""

REASON_LIMIT = 300
"""Characters of the last lines of the output that are told as the reason."""


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """A command; exit status 0 passes, 75 (EX_TEMPFAIL) asks for another attempt, 77 skips, all others fail."""

    type: ClassVar[str] = "exec"
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnitProbe:
    """A systemd unit that must be active."""

    type: ClassVar[str] = "unit"
    unit: str


@dataclass(frozen=True, slots=True)
class FailedUnitsProbe:
    """No systemd unit may have failed, apart from those whose name matches a shell pattern of `ignore`."""

    type: ClassVar[str] = "no-failed-units"
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """GET `url` must answer with `status` (None: any 2xx) and, if given, a body that contains `contains`."""

    type: ClassVar[str] = "http"
    url: str
    status: int | None = None
    contains: str | None = None


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """A TCP connection to `host`:`port` must be accepted."""

    type: ClassVar[str] = "tcp"
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DiskSpaceProbe:
    """The file system of `path` must have at least this much room for unprivileged processes."""

    type: ClassVar[str] = "disk-space"
    path: str
    free_bytes: int | None = None
    free_percent: float | None = None
    free_inodes_percent: float | None = None


@dataclass(frozen=True, slots=True)
class MountProbe:
    """`path` must be a mount point, with all of `options` in effect and, if given, of type `fstype`."""

    type: ClassVar[str] = "mount"
    path: str
    options: tuple[str, ...] = ()
    fstype: str | None = None


@dataclass(frozen=True, slots=True)
class InvalidProbe:
    """A check that can't be read: it fails, with the error as its output, instead of being left out."""

    type: ClassVar[str] = "invalid"
    error: str


Probe = ExecProbe | UnitProbe | FailedUnitsProbe | HttpProbe | TcpProbe | DiskSpaceProbe | MountProbe | InvalidProbe


@dataclass(frozen=True, slots=True)
class Pace:
    """When a check runs. All in seconds but `retries`, the number of attempts after the first.

    `timeout_seconds` bounds each attempt; `settle_seconds` counts from the start of the run, not of the check.
    """

    timeout_seconds: float = 10
    retries: int = 2
    retry_delay_seconds: float = 1
    settle_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Check:
    """One check as configured; `kind` and `name` together are unique."""

    kind: Kind
    name: str
    probe: Probe
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt showed. `final`: trying again can't change it."""

    result: Result
    output: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check came to after its last attempt; `output` is at most `OUTPUT_LIMIT` characters."""

    name: str
    kind: Kind
    type: str
    result: Result
    attempts: int = 1
    duration_seconds: float = 0.0
    output: str = ""

    @property
    def passed(self) -> bool:
        """A skipped check says that it has nothing to say here, which is no reason to leave the slot."""
        return self.result in ("pass", "skip")

    @property
    def reason(self) -> str:
        """One line for a person: how it ended, and the last lines that it wrote."""
        ended = {"pass": "passed", "fail": "failed", "skip": "skipped", "timeout": "timed out"}[self.result]
        # It is shown on terminals, where an escape sequence of a check could do anything.
        shown = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in self.output)
        lines = [line.strip() for line in shown.split("\n") if line.strip()]
        if not lines:
            return ended
        # Many programs name the cause in the line before the last one.
        both = "; ".join(lines[-2:])
        told = both if len(both) <= REASON_LIMIT else lines[-1]
        return f"{ended}: {told[:REASON_LIMIT]}"
