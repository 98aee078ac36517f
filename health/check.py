"""The values that the other modules pass around: what to check, at which pace, and what came out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from health.probes import Surroundings

Kind = Literal["required", "wanted"]
Result = Literal["pass", "fail", "skip", "timeout"]
Count = Literal["regression", "always"]
"""Whether a required check that fails counts only if it did not fail before the update, or always."""

OUTPUT_LIMIT = 2000
"""Characters of a check's output that are kept: the last ones, since the reason of a failure stands at the end."""

REASON_LIMIT = 300
"""Characters of the last lines of the output that are told as the reason."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt showed. `final`: trying again can't change it."""

    result: Result
    output: str = ""
    final: bool = False


class Probe(Protocol):
    """What a check looks at; one class for each type, in `health.probes`."""

    @property
    def type(self) -> str:
        """As a check file and a verdict name it."""

    def attempt(self, timeout: float, around: "Surroundings") -> Attempt:
        """Looks once, within about `timeout` seconds. May raise OSError, which is a failed attempt."""


@dataclass(frozen=True, slots=True)
class InvalidProbe:
    """A check that can't be read: it fails, with the error as its output, instead of being left out."""

    type: ClassVar[str] = "invalid"
    error: str

    def attempt(self, timeout: float, around: "Surroundings") -> Attempt:
        return Attempt("fail", self.error, final=True)


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
    """One check as configured; `kind` and `name` together are unique. Without `parallel` it runs alone."""

    kind: Kind
    name: str
    probe: Probe
    pace: Pace = Pace()
    count: Count = "regression"
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check came to after its last attempt; `output` is at most `OUTPUT_LIMIT` characters.

    `before`, `counts` and `note` are filled in by `health.judgement.weigh`: what it came to before the update, whether
    it decides over the slot, and why not if it is a required one.
    """

    name: str
    kind: Kind
    type: str
    result: Result
    attempts: int = 1
    duration_seconds: float = 0.0
    output: str = ""
    count: Count = "regression"
    before: Result | None = None
    counts: bool = True
    note: str | None = None

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
