"""The folders of two other health checkers, whose scripts run here unchanged.

greenboot (https://github.com/fedora-iot/greenboot) runs each *.sh of check/required.d and check/wanted.d with bash,
first those of /usr/lib and then those of /etc, which add to them and replace none; 0 passes. openSUSE's health-checker
(https://github.com/openSUSE/health-checker) runs each plugin with the argument `check`; 0 passes, all are required.
Both run one script after the other and bound none in time: the scripts wait by themselves for what they look at, and
expect that nothing else loads the machine meanwhile. So each runs alone, once, and has long enough.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from bootctl.errors import mend_of
from bootctl.settings import ConfigError
from health.check import Check, InvalidProbe, Kind, Pace
from health.folders import names_in
from health.rootdir import below

GREENBOOT = ("/usr/lib/greenboot", "/etc/greenboot")
GREENBOOT_CONF = "/etc/greenboot/greenboot.conf"
HEALTH_CHECKER = ("/usr/libexec/health-checker", "/usr/local/libexec/health-checker")
PACE = Pace(timeout_seconds=600, retries=0)
SIZE_LIMIT = 64 * 1024

Event = Literal["green", "red", "stop"]
_Origin = Literal["greenboot", "health-checker"]


def plugin_checks(root: str, *, greenboot: bool, health_checker: bool) -> list[Check]:
    """The checks of those of the two that are asked for, required ones first, in the order in which they run there."""
    checks: list[Check] = []
    if greenboot:
        disabled, fault = _disabled(root)
        if fault is not None:
            checks.append(Check("wanted", "greenboot.conf", InvalidProbe(str(fault))))
        kinds: tuple[Kind, Kind] = ("required", "wanted")
        for kind in kinds:
            folders = [f"{base}/check/{kind}.d" for base in GREENBOOT]
            checks += _checks(root, kind, "greenboot", folders, disabled)
    if health_checker:
        checks += _checks(root, "required", "health-checker", HEALTH_CHECKER, frozenset())
    return checks


def plugin_hooks(root: str, event: Event) -> tuple[tuple[str, ...], ...]:
    """The commands that the two run after a good boot (`green`) and after a bad one (`red`, and health-checker's
    `stop`), in order; each is to be run inside `root`. Raises OSError when a folder can't be read."""
    if event == "stop":
        return tuple((path, "stop") for folder in HEALTH_CHECKER for path in _listed(root, folder, ""))
    return tuple(("bash", path) for base in GREENBOOT for path in _listed(root, f"{base}/{event}.d", ".sh"))


def _checks(
    root: str, kind: Kind, origin: _Origin, folders: Sequence[str], disabled: frozenset[str]
) -> list[Check]:
    paths: list[str] = []
    checks: list[Check] = []
    for folder in folders:
        try:
            paths += _listed(root, folder, ".sh" if origin == "greenboot" else "")
        except OSError as error:
            fault = ConfigError(folder, f"it can't be read ({error.strerror})", mend_of(error, "Make it a folder."))
            checks.append(Check(kind, folder, InvalidProbe(str(fault))))
    if not paths:
        return checks
    from health.probes.programs import PluginProbe

    count = Counter(os.path.basename(path) for path in paths)
    for path in paths:
        name = os.path.basename(path)
        if name in disabled or path in disabled:
            continue
        command = ("bash", path) if origin == "greenboot" else (path, "check")
        label = f"{origin}/{name}" if count[name] == 1 else path
        checks.append(Check(kind, label, PluginProbe(origin, command), PACE, parallel=False))
    return checks


def _listed(root: str, folder: str, ending: str) -> list[str]:
    names = [name for name in names_in(root, folder) if name.endswith(ending)]
    return [f"{folder}/{name}" for name in sorted(names, key=os.fsencode)]


def _disabled(root: str) -> tuple[frozenset[str], ConfigError | None]:
    """File names or paths of the checks that greenboot.conf switches off; nothing, and why, if it can't be read."""
    try:
        with open(below(root, GREENBOOT_CONF), encoding="utf-8", errors="surrogateescape") as file:
            return parse_disabled(file.read(SIZE_LIMIT)), None
    except FileNotFoundError:
        return frozenset(), None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        mend = 'Write DISABLED_HEALTHCHECKS=("one.sh" "two.sh"); until then all checks of greenboot run.'
        return frozenset(), ConfigError(GREENBOOT_CONF, f"it can't be read ({cause})", mend)


def parse_disabled(text: str) -> frozenset[str]:
    """The words of the array DISABLED_HEALTHCHECKS in a file that bash reads. Raises ValueError if it is no array."""
    found = re.findall(r"^[ \t]*DISABLED_HEALTHCHECKS=(\([^)]*\)|.*)", text, re.MULTILINE)
    if not found or not found[-1].strip():
        return frozenset()
    if not found[-1].startswith("("):
        raise ValueError("DISABLED_HEALTHCHECKS is not a list in parentheses")
    import shlex

    return frozenset(shlex.split(found[-1][1:-1], comments=True))
