"""What the machine answers to an event, and what all its parts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from updated.core.effects import Effect
from updated.core.errors import UpdatedError
from updated.core.policy import Policy
from updated.core.state import Denial, Phase, State
from updated.core.version import same_version


@dataclass(frozen=True, slots=True)
class Decision:
    """The new state, what to do in order, and why a request was refused."""

    state: State
    effects: tuple[Effect, ...] = ()
    refusal: UpdatedError | None = None


Handler = Callable[[State, Any, Policy], Decision]


def refusal(state: State, what: str, cause: str, mend: str) -> Decision:
    """Nothing changes, and the person who asked is told why."""
    return Decision(state, refusal=UpdatedError("not-possible-now", what, cause, mend))


def denied_with(state: State, denial: Denial) -> tuple[Denial, ...]:
    """The denylist with `denial` on it."""
    return (*(each for each in state.denied if not same_version(each.version, denial.version)), denial)


def resting_phase(state: State) -> Phase:
    """Where a node is that has nothing to do."""
    return Phase.IDLE if state.fallback is None else Phase.FALLEN_BACK
