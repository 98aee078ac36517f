"""What the results of the checks mean for the running slot: pure rules, without any I/O.

| the running slot        | a required check failed | another slot can boot | verdict     | boot reference |
|-------------------------|-------------------------|-----------------------|-------------|----------------|
| confirmed               | no                      | -                     | healthy     | as it is       |
| confirmed               | yes                     | -                     | sick        | as it is       |
| on trial                | no                      | -                     | confirmed   | confirm        |
| on trial                | yes                     | yes                   | rejected    | reject         |
| on trial                | yes                     | no                    | no-fallback | as it is       |
| given up (priority 0)   | no                      | yes                   | rejected    | reject         |

A slot that runs on its last try has no tries left any more, and is on trial all the same. One with priority 0 is not: a
loader does not start it by itself, since it was rejected or is not wholly written. It is confirmed only if nothing else
can boot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bootctl.model import BootView, confirm, reject
from health.check import CheckResult

Verdict = Literal["confirmed", "rejected", "no-fallback", "healthy", "sick"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and why for those that are no good news."""

    verdict: Verdict
    reason: str | None = None


def judge(view: BootView, active: str, results: Sequence[CheckResult]) -> Judgement:
    """Judges the slot `active`. Wanted checks are only told about. Raises BootError `unknown-slot`."""
    state = view.state(active)
    failed = [result for result in results if result.kind == "required" and not result.passed]
    reason = "; ".join(f"required check {result.name} {result.reason}" for result in failed) or None
    if state.confirmed:
        return Judgement("sick" if failed else "healthy", reason)
    fallback = any(other.bootable for name, other in view.slots if name != active)
    if failed:
        return Judgement("rejected" if fallback else "no-fallback", reason)
    if state.priority == 0 and fallback:
        return Judgement("rejected", f"the boot reference says that slot {active} shall not be started (priority 0)")
    return Judgement("confirmed")


def changed(view: BootView, active: str, judgement: Judgement, *, counted: int = 0) -> BootView:
    """The boot reference that the verdict asks for; `counted` as in `bootctl.model.confirm`.

    Raises BootError as bootctl's rules do.
    """
    if judgement.verdict == "confirmed":
        return confirm(view, active, counted=counted)
    if judgement.verdict == "rejected":
        return reject(view, active)
    return view
