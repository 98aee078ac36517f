"""The boot after a fallback: found out once, from the boot reference, since what panicked could leave no word."""

import json
from dataclasses import asdict, dataclass

from bootctl import durable
from bootctl.model import BootView
from health import system
from health.rootdir import below

NOTE = "/var/lib/updated/health/fallback.json"


@dataclass(frozen=True, slots=True)
class Fallback:
    """The slot that was left, its version as far as it is known, and why.

    `cause`: of a slot that did not come up, what ended its boots; None: that is not known, or the slot was rejected.
    """

    slot: str
    version: str | None
    reason: str
    cause: str | None = None


def left_slot(view: BootView, active: str) -> str | None:
    """The slot that the machine fell back from: the other one is bad and the running one confirmed; else None."""
    if not view.state(active).confirmed:
        return None
    return next((name for name, state in view.slots if name != active and state.condition == "bad"), None)


def find(root: str, view: BootView, active: str, boot_id: str | None) -> Fallback | None:
    """The fallback that nobody has acted on yet, found in the boot `boot_id`; None when there was none.

    It is noted, durably, before anybody acts: a hook that takes the machine down must not do so at each boot. Raises
    OSError when it can't be noted.
    """
    slot = left_slot(view, active)
    if slot is None:
        forget(root)
        return None
    noted_before = noted(root)
    if noted_before is not None and noted_before.slot == slot:
        return None
    rejected = _rejected(root, slot) if view.state(slot).priority == 0 else None
    found = rejected or _not_up(root, slot, boot_id)
    note = {**asdict(found), "boot_id": boot_id}
    system.store(root, NOTE, json.dumps(note).encode(errors="replace") + b"\n")
    return found


def _not_up(root: str, slot: str, boot_id: str | None) -> Fallback:
    from health import ending  # only a boot after a fallback needs it

    ended = ending.find(root, slot, boot_id)
    reason = f"slot {slot} did not come up on trial"
    return Fallback(slot, ended.version, f"{reason}: {ended.cause}" if ended.cause else reason, ended.cause)


def noted(root: str) -> Fallback | None:
    """The fallback that was found last, while its slot is still bad; None without one."""
    return _read(root, NOTE)


def _rejected(root: str, slot: str) -> Fallback | None:
    found = _read(root, system.REJECTION)
    return found if found is not None and found.slot == slot else None


def _read(root: str, path: str) -> Fallback | None:
    try:
        value = json.loads(system.tail(below(root, path), system.DOCUMENT_LIMIT))
        slot, version, reason = value["slot"], value["version"], value["reason"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(slot, str) or not isinstance(version, str | None):
        return None
    return Fallback(slot, version, str(reason))


def forget(root: str) -> None:
    """The slot is about to be tried again, or is not bad any more. Raises OSError."""
    durable.remove(below(root, NOTE))
