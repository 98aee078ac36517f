"""What the results of the checks mean for the running slot: pure rules, without any I/O.

| the running slot        | a check that counts failed | another slot can boot | verdict     | boot reference |
|-------------------------|----------------------------|-----------------------|-------------|----------------|
| confirmed               | no                         | -                     | healthy     | as it is       |
| confirmed               | yes                        | -                     | sick        | as it is       |
| on trial                | no                         | -                     | confirmed   | confirm        |
| on trial, with probation| no                         | yes                   | probation   | as it is       |
| on trial                | yes                        | yes                   | rejected    | reject         |
| on trial                | yes                        | no                    | no-fallback | as it is       |
| given up (priority 0)   | no                         | yes                   | rejected    | reject         |

Required checks count, but for those that did not pass before the update either: the image is not to blame for them. One
of which nothing is known from before, such as one that the image brings, counts. A check may say that it always counts.
Nothing is compared on a slot that was confirmed.

A slot that runs on its last try has no tries left any more, and is on trial all the same. One with priority 0 is not: a
loader does not start it by itself, since it was rejected or is not wholly written. It is confirmed only if nothing else
can boot. There is no probation where nothing else can boot: a power cut in it would leave nothing at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bootctl.model import BootView, confirm, reject
from health.check import CheckResult, Result

Verdict = Literal["confirmed", "probation", "rejected", "no-fallback", "healthy", "sick"]

_BEFORE: Mapping[Result, str] = {
    "fail": "failed before the update as well",
    "timeout": "timed out before the update as well",
    "skip": "was skipped before the update",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and why for those that are no good news."""

    verdict: Verdict
    reason: str | None = None


def weigh(
    view: BootView,
    active: str,
    results: Sequence[CheckResult],
    before: Mapping[tuple[str, str, str], Result] | None,
) -> tuple[CheckResult, ...]:
    """The results with what each came to before the update, and whether it counts.

    `before` are the results of the baseline by kind, name and type; None: there is none. Raises BootError
    `unknown-slot`.
    """
    known = {} if view.state(active).confirmed or before is None else before
    return tuple(_weighed(result, known.get((result.kind, result.name, result.type))) for result in results)


def _weighed(result: CheckResult, before: Result | None) -> CheckResult:
    if result.kind == "wanted":
        return replace(result, before=before, counts=False)
    note = _BEFORE.get(before) if before is not None and not result.passed and result.count == "regression" else None
    return replace(result, before=before, counts=note is None, note=note)


def judge(view: BootView, active: str, weighed: Sequence[CheckResult], *, probation: bool = False) -> Judgement:
    """Judges the slot `active` by what `weigh` gave; `probation`: whether one follows before a slot is confirmed.

    Wanted checks are only told about. Raises BootError `unknown-slot`.
    """
    state = view.state(active)
    failed = [result for result in weighed if result.kind == "required" and result.counts and not result.passed]
    reason = "; ".join(f"required check {result.name} {result.reason}" for result in failed) or None
    if state.confirmed:
        return Judgement("sick" if failed else "healthy", reason)
    fallback = any(other.bootable for name, other in view.slots if name != active)
    if failed:
        return Judgement("rejected" if fallback else "no-fallback", reason)
    if state.priority == 0 and fallback:
        return Judgement("rejected", f"the boot reference says that slot {active} shall not be started (priority 0)")
    return Judgement("probation" if probation and fallback else "confirmed")


def changed(view: BootView, active: str, judgement: Judgement, *, counted: int = 0) -> BootView:
    """The boot reference that the verdict asks for; `counted` as in `bootctl.model.confirm`.

    Raises BootError as bootctl's rules do.
    """
    if judgement.verdict == "confirmed":
        return confirm(view, active, counted=counted)
    if judgement.verdict == "rejected":
        return reject(view, active)
    return view
