"""The file of results, as medians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

OWN = "updated"
SEALED = "updated + seal"
RANGES = "updated without a patch"
_OURS = (OWN, SEALED, RANGES)


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians of a tool's runs in a scenario; `error` when it never succeeded."""

    tool: str
    rounds: int
    seconds: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    downloaded: float = 0.0
    requests: float = 0.0
    written: float | None = None
    error: str = ""


class Results:
    """What the runs of all suites gave."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.machine: Mapping[str, str] = document.get("machine", {})
        self.versions: Mapping[str, str] = document.get("versions", {})
        self.computed: Mapping[str, Any] = document.get("computed", {})
        self._runs: Mapping[str, list[dict[str, Any]]] = document.get("runs", {})

    def suites(self) -> list[str]:
        """The names of the suites that have results."""
        return list(self._runs)

    def scenarios(self, suite: str) -> list[str]:
        """In the order in which they ran."""
        return list(dict.fromkeys(run["scenario"] for run in self._runs.get(suite, [])))

    def summaries(self, suite: str, scenario: str) -> list[Summary]:
        """One for each tool. The run of `updated` gives two: of what the others do as well, and with `seal`."""
        runs = [run for run in self._runs.get(suite, []) if run["scenario"] == scenario]
        found = []
        for tool in dict.fromkeys(run["tool"] for run in runs):
            own = [run for run in runs if run["tool"] == tool]
            if tool == SEALED:
                found.append(_summary(OWN, own, steps=("install",)))
            found.append(_summary(tool, own, steps=("install",) if tool == RANGES else ()))
        return found

    def summary(self, suite: str, scenario: str, tool: str = OWN) -> Summary | None:
        """Of one tool; None when it did not succeed there."""
        found = [each for each in self.summaries(suite, scenario) if each.tool == tool and not each.error]
        return found[0] if found else None

    def peers(self, suite: str, scenario: str) -> list[Summary]:
        """The other tools that succeeded."""
        return [each for each in self.summaries(suite, scenario) if each.tool not in _OURS and not each.error]


def _summary(tool: str, runs: Sequence[dict[str, Any]], steps: Sequence[str] = ()) -> Summary:
    good = [run for run in runs if run["usage"] is not None]
    if not good:
        return Summary(tool, 0, error=(runs[-1]["error"].strip().splitlines() or ["failed"])[-1])
    used = [[use for name, use in run["usage"]["steps"].items() if name in steps or not steps] for run in good]
    written = [run["written"] for run in good if run["written"] is not None]
    return Summary(
        tool, len(good),
        seconds=median(sum(step["seconds"] for step in run) for run in used),
        cpu=median(sum(step["cpu"] for step in run) for run in used),
        memory=median(max(step["memory"] for step in run) for run in used),
        downloaded=median(run["downloaded"] for run in good),
        requests=median(run["requests"] for run in good),
        written=median(written) if written else None,
    )  # fmt: skip
