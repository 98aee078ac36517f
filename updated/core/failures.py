"""What follows when an effect failed: who is told, and when it is tried again."""

from __future__ import annotations

from updated.core.decision import Decision
from updated.core.effects import Record
from updated.core.errors import UpdatedError
from updated.core.events import Failed
from updated.core.policy import Policy, hook_refused, next_check, retry_at
from updated.core.state import Phase, State, Target

IMPORT_AGAIN = "Then import it again: what was handed over is not kept."


def _to_import_again(error: UpdatedError) -> UpdatedError:
    """`error` of an import: it is not tried again by itself."""
    return UpdatedError(error.code, error.what, error.cause, f"{error.mend} {IMPORT_AGAIN}")


def concerned(state: State) -> Target | None:
    """The release that a failure in `state` is about.

    One that is staged has no part in a look for another one, or at the boot reference that names it already.
    """
    target = state.target
    resting = state.phase is Phase.STAGED and target is not None and target.armed and not target.withdrawn
    return None if resting or state.phase is Phase.CHECKING else target


def failed_at_rest(state: State, event: Failed, policy: Policy) -> Decision:
    """Keeps the error for people."""
    return Decision(state.with_changes(error=event.error))


def failed(state: State, event: Failed, policy: Policy) -> Decision:
    """Tries again later: soon and then more rarely if that can help, otherwise at the next regular check."""
    failures = state.failures + 1
    again = retry_at(policy, event.now, failures, event.chance)
    if not event.error.retry:
        again = next_check(policy, event.now, event.chance)
    about = concerned(state)
    failing = about.manifest if about is not None else ""
    error = _to_import_again(event.error) if state.importing else event.error
    state = state.with_changes(error=error, failures=failures, next_check=again, insist=False, failing=failing)
    record = Record("failed", about.version if about is not None else "", str(error))
    if state.phase is Phase.CHECKING and state.target is not None:
        return Decision(state.with_changes(phase=Phase.STAGED), (record,))
    if state.phase in (Phase.STAGED, Phase.REBOOTING) and state.target is not None:
        refused = (hook_refused(error, again),) if error.code == "hook-refused" else ()
        return Decision(state.with_changes(phase=Phase.STAGED, reasons=refused or state.reasons), (record,))
    if state.phase is Phase.REBOOTING and state.leaving:
        return Decision(state.with_changes(since=event.now), (record,))
    # What an earlier look found says nothing beside the error of this one.
    return Decision(state.with_changes(phase=Phase.FAILED, target=None, offer=None, reasons=()), (record,))
