"""What systemd says of its units, through systemctl(1)."""

from dataclasses import dataclass
from typing import ClassVar

from health import keys
from health.check import Attempt
from health.commands import Finished
from health.probes import Surroundings, headed, no_systemd

TARGET = "boot-complete.target"
OURSELVES = "updated-health.service"
"""It is ordered before the target and runs while it checks, so that waiting for it would have no end."""


@dataclass(frozen=True, slots=True)
class UnitProbe:
    """A systemd unit that must be active, and was restarted by systemd at most `max_restarts` times in this boot."""

    type: ClassVar[str] = "unit"
    unit: str
    max_restarts: int | None = None

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        if not around.systemd:
            return no_systemd(around)
        answer = _show(around, timeout, ("LoadState", "ActiveState", "SubState", "Result", "NRestarts"), self.unit)
        if answer.status != 0:
            return _unanswered(answer, timeout)
        state = _properties(answer.output)
        told = f"{self.unit} is {state.get('ActiveState', 'unknown')} ({state.get('SubState', 'unknown')})"
        if state.get("LoadState") != "loaded":
            told += f", load state {state.get('LoadState', 'unknown')}"
        if state.get("Result", "success") != "success":
            told += f", result {state['Result']}"
        if state.get("ActiveState") != "active":
            return Attempt("fail", told)
        if self.max_restarts is None:
            return Attempt("pass", told)
        restarts = state.get("NRestarts", "")
        if not restarts.isdigit():
            return Attempt("fail", f"{told}; systemd counts the restarts of services alone", final=True)
        told = f"{told}, restarted {restarts} times"
        if int(restarts) <= self.max_restarts:
            return Attempt("pass", told)
        # systemd counts up only: a crash loop does not become undone.
        return Attempt("fail", f"{told}, more than {self.max_restarts}", final=True)


@dataclass(frozen=True, slots=True)
class FailedUnitsProbe:
    """No systemd unit may have failed, apart from those whose name matches a shell pattern of `ignore`."""

    type: ClassVar[str] = "no-failed-units"
    ignore: tuple[str, ...] = ()

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        from fnmatch import fnmatchcase

        if not around.systemd:
            return no_systemd(around)
        answer = _systemctl(around, timeout, "list-units", "--state=failed", "--plain", "--no-legend", "--full")
        if answer.status != 0:
            return _unanswered(answer, timeout)
        # Before 247 --plain left a bullet at the start of the line of a failed unit.
        units = [line.replace("●", " ").split()[0] for line in answer.output.splitlines() if line.strip("● \t")]
        failed = [unit for unit in units if not any(fnmatchcase(unit, pattern) for pattern in self.ignore)]
        return Attempt("fail", f"failed: {', '.join(failed)}") if failed else Attempt("pass")


@dataclass(frozen=True, slots=True)
class BootCompleteProbe:
    """boot-complete.target is reached, or all that it requires beside updated-health is done and has not failed."""

    type: ClassVar[str] = "boot-complete"

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        if not around.systemd:
            return no_systemd(around)
        answer = _show(around, timeout, ("LoadState", "ActiveState", "Requires"), TARGET)
        if answer.status != 0:
            return _unanswered(answer, timeout)
        target = _properties(answer.output)
        if target.get("LoadState") != "loaded":
            return Attempt("fail", f"{TARGET} has the load state {target.get('LoadState', 'unknown')}")
        if target.get("ActiveState") == "active":
            return Attempt("pass", f"{TARGET} is reached")
        required = [unit for unit in target.get("Requires", "").split() if unit != OURSELVES]
        if not required:
            return Attempt("pass", f"{TARGET} waits for nothing but this check")
        answer = _show(around, timeout, ("Id", "ActiveState", "Result", "Job"), *required)
        if answer.status != 0:
            return _unanswered(answer, timeout)
        states = [_properties(block) for block in answer.output.split("\n\n")]
        failed = [state.get("Id", "?") for state in states if _has_failed(state)]
        if failed:
            return Attempt("fail", f"{TARGET} can't be reached; failed: {', '.join(failed)}")
        waiting = [state.get("Id", "?") for state in states if state.get("ActiveState") != "active" and _is_due(state)]
        if waiting:
            return Attempt("fail", f"{TARGET} still waits for {', '.join(waiting)}")
        return Attempt("pass", f"all that {TARGET} requires is done: {', '.join(required)}")


def _has_failed(state: dict[str, str]) -> bool:
    return state.get("ActiveState") == "failed" or state.get("Result", "success") != "success"


def _is_due(state: dict[str, str]) -> bool:
    """It starts, or a job for it is queued; a oneshot that ended well is inactive and has none."""
    return state.get("ActiveState") != "inactive" or state.get("Job", "0") not in ("", "0")


def _show(around: Surroundings, timeout: float, properties: tuple[str, ...], *units: str) -> Finished:
    return _systemctl(around, timeout, "show", f"--property={','.join(properties)}", "--", *units)


def _properties(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _systemctl(around: Surroundings, timeout: float, *arguments: str) -> Finished:
    environment = ("env", "LC_ALL=C", "SYSTEMD_COLORS=0")
    return around.commands.run((*environment, "systemctl", "--no-pager", *arguments), timeout_seconds=timeout)


def _unanswered(answer: Finished, timeout: float) -> Attempt:
    if answer.status is None:
        return Attempt("timeout", f"systemctl gave no answer within {timeout:g} s")
    return Attempt("fail", headed(f"systemctl: exit status {answer.status}", answer.output))


TYPES = {
    UnitProbe.type: keys.Type(
        UnitProbe, {"unit": keys.unit, "max_restarts": keys.whole(0, 1000000)}, needed=("unit",)
    ),
    FailedUnitsProbe.type: keys.Type(FailedUnitsProbe, {"ignore": keys.texts}),
    BootCompleteProbe.type: keys.Type(BootCompleteProbe, {}),
}
