"""Whether the image on trial is the release that was staged: one may be published with an image of another version.

Such a slot, once confirmed, runs what no channel names, and may be newer than all that comes. A good one must not be
left for a stale word. So this counts only while there is a confirmed slot to go back to, and where all agree that this
very release was staged into this slot, and that nothing came in between:

- the baseline was taken on the other slot for it,
- no later boot of the other slot was judged (a trial that never came up leaves its baseline behind),
- the daemon's history has nothing after its staging by which the slot could hold something else.

Without one of these, as for a slot that was written and armed by hand, nothing is said. Of os-release(5) only
IMAGE_VERSION counts, since VERSION_ID may be the distribution's, and only where all files of it that there are name
another version than was staged: that of /etc may be older than the image.
"""

from bootctl.errors import BootError
from bootctl.model import BootView
from bootctl.precedence import precedence, same_version
from health import history, system
from health.baseline import Baseline, NoBaseline
from health.check import CheckResult

NAME = "staged-version"
DAEMON_HISTORY = "/var/lib/updated/history.jsonl"
# What these tell of leaves what is staged as it is; after any other kind "staged" may be of the past.
_ASIDE = ("reboot", "failed", "hold", "unhold", "channel", "allow")


def mismatch(root: str, view: BootView, slot: str, before: Baseline | NoBaseline) -> CheckResult | None:
    """The failed check if `slot` runs on trial with another version than was staged; None also where that is not sure.

    `before` is the baseline as it was found, of whatever slot. Raises BootError `unknown-slot`.
    """
    if isinstance(before, NoBaseline) or before.target is None or view.state(slot).confirmed:
        return None
    if not _leads_back(view, slot, before.slot):
        return None
    target = before.target
    said = system.image_versions(root)
    if not said or any(precedence(each) is None or same_version(each, target) for each in said):
        return None
    if not _last_of_the_other_slot(root, before) or not _staged_last(root, target):
        return None
    told = (
        f"{target} was staged in slot {slot}, but IMAGE_VERSION in its os-release says {said[0]}. "
        "Publish it again, as a release of the version that its image says."
    )
    return CheckResult(NAME, "required", NAME, "fail", output=told, count="always")


def _leads_back(view: BootView, slot: str, other: str) -> bool:
    try:
        return view.other(slot) == other and view.state(other).condition == "good"
    except BootError:
        return False


def _last_of_the_other_slot(root: str, before: Baseline) -> bool:
    """Whether the baseline is of the last boot of its slot that was judged."""
    boots = [line.get("boot_id") for line in history.read(root) if line.get("slot") == before.slot]
    return before.boot_id is not None and bool(boots) and boots[-1] == before.boot_id


def _staged_last(root: str, target: str) -> bool:
    """Whether the daemon staged `target`, and has done nothing since by which something else could be in the slot."""
    lines = [line for line in history.read(root, DAEMON_HISTORY) if line.get("kind") not in _ASIDE]
    version = lines[-1].get("version") if lines and lines[-1].get("kind") == "staged" else None
    return isinstance(version, str) and same_version(version, target)
