"""What the downloader answers, read as strictly as what comes from the network: it may have been taken over by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from updated.core.document import Misfit, Object, parsed
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import COSTS
from updated.core.release import is_name
from updated.core.selection import OF_A_CHANNEL, Reason
from updated.core.state import Offer
from updated.core.version import Version

T = TypeVar("T")
MAX_EPOCH = 2**40
STEPS = ("compare", "copy", "download", "verify")


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """What a channel has for this node; `expiries` by role; `recalled`: why each version in a slot that was, was it.

    `withdrawn`: why the channel does not ship any more what is staged here, if that is so.
    """

    offer: Offer | None
    reasons: tuple[Reason, ...]
    expiries: Mapping[str, Expiry]
    notes: tuple[str, ...]
    withdrawn: str | None = None
    recalled: Mapping[str, str] = field(default_factory=dict)


def check_answer(result: Mapping[str, Any], *, running: str, allow_downgrade: bool = False) -> CheckAnswer:
    """The answer to `updated fetch check` of a node that runs version `running`.

    What is not newer is no offer, it would only cost the fallback slot; only where the configuration allows downgrades
    it may be older. Raises `UpdatedError` ("child-failed").
    """
    return _read(lambda: _check(Object(result, ""), Version(running), allow_downgrade=allow_downgrade))


def progress_answer(message: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Step, component, bytes done and bytes in all of a progress line. Raises `UpdatedError` ("child-failed")."""

    def read() -> tuple[str, str, int, int]:
        line = Object(message, "")
        step, component = line.line("step", most=16), line.line("component", most=32)
        if step not in STEPS or not is_name(component):
            raise Misfit("step or component is not known")
        total = line.number("total")
        return step, component, line.number("done", most=total), total

    return _read(read)


def peak_memory(result: Mapping[str, Any]) -> int:
    """The peak memory of a child, in bytes. Raises `UpdatedError` ("child-failed")."""
    return _read(lambda: Object(result, "").number("peak_memory_bytes"))


def plan_answer(message: Mapping[str, Any]) -> tuple[str, str]:
    """The component and the words of a plan line. Raises `UpdatedError` ("child-failed")."""

    def read() -> tuple[str, str]:
        line = Object(message, "")
        return _name(line.line("component", most=32)), line.line("text")

    return _read(read)


def install_answer(result: Mapping[str, Any]) -> Mapping[str, Mapping[str, int | str]]:
    """What each component cost, in bytes, and its plan in words, from the answer to `updated fetch install`.

    Raises `UpdatedError` ("child-failed").
    """

    def read() -> Mapping[str, Mapping[str, int | str]]:
        installed = Object(result, "").object("installed")
        parts = {_name(name): installed.object(name) for name in installed.keys()}  # noqa: SIM118
        return {
            name: {"plan": part.line("plan"), **{cost: part.number(cost) for cost in COSTS}}
            for name, part in parts.items()
        }

    return _read(read)


def seal_answer(result: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """From the answer to `updated seal`: roles whose expired metadata was accepted, notes for people, urgency.

    Raises `UpdatedError` ("child-failed").
    """

    def read() -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        answer = Object(result, "")
        late = tuple(sorted(role for role, _ in _numbers(answer, "expired")))
        return late, tuple(answer.lines("notes")), answer.flag("urgent")

    return _read(read)


def _name(text: str) -> str:
    if not is_name(text):
        raise Misfit(f"{text[:40]!r} is not a name")
    return text


def _version(offer: Object) -> Version:
    try:
        return Version(offer.line("version", most=64))
    except UpdatedError:
        raise Misfit("offer.version is not a version") from None


def _check(answer: Object, running: Version, *, allow_downgrade: bool) -> CheckAnswer:
    offer = answer.object("offer") if answer.has("offer") else None
    if offer is not None:
        version = _version(offer)
        if version == running or (version < running and not allow_downgrade):
            raise Misfit("offer.version is not newer than what runs")
    lifetimes, expired = dict(_numbers(answer, "lifetimes")), dict(_numbers(answer, "expired"))
    return CheckAnswer(
        offer=None if offer is None else Offer(
            offer.line("version", most=64), offer.digest("manifest"), offer.number("size"), offer.flag("urgent"),
        ),
        reasons=tuple(_reason(each) for each in answer.objects("reasons")),
        expiries={
            role: Expiry(at, lifetimes.get(role), accepted=role in expired) for role, at in _numbers(answer, "expiries")
        },
        notes=tuple(answer.lines("notes")),
        withdrawn=answer.line("withdrawn") if answer.has("withdrawn") else None,
        recalled=_recalled(answer.object("recalled")) if answer.has("recalled") else {},
    )


def _recalled(versions: Object) -> dict[str, str]:
    return {version: versions.line(version) for version in versions.keys()}  # noqa: SIM118


def _numbers(answer: Object, key: str) -> list[tuple[str, int]]:
    roles = answer.object(key)
    return [(_name(role), roles.number(role, most=MAX_EPOCH)) for role in roles.keys()]  # noqa: SIM118


def _reason(part: Object) -> Reason:
    until = part.number("until", most=MAX_EPOCH) if part.has("until") else None
    code = part.line("code", most=64)
    if code not in OF_A_CHANNEL:
        # What the node takes for its own would move the time of people who are logged in, or of the next look.
        raise Misfit(f"{part.name('code')}: {code!r} is no reason that a channel gives")
    return Reason(code, part.line("text"), until)


def _read(read: Callable[[], T]) -> T:
    try:
        return parsed(read, what="the process 'updated fetch'", code="child-failed", mend="See the log.")
    except UpdatedError as error:
        cause = f"gave an answer that does not fit: {error.cause}"
        raise UpdatedError(error.code, error.what, cause, "It is tried again; see the log.") from None
