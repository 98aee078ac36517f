"""Status documents of a node in each phase, made by the daemon's own function, for what is shown of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bootctl.model import BootView, SlotState
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import LastInstall
from updated.core.machine import first_state
from updated.core.policy import Policy, install_obstacles, reboot_obstacles
from updated.core.selection import Pin, Reason
from updated.core.state import BootFacts, Denial, Fallback, Hold, Offer, Phase, State, Target
from updated.core.status import Progress, Report, fault_document, status_document
from updated.core.surroundings import Care, Inhibitor, Login, Surroundings
from updated.core.windows import Window, Windows

NOW = 1_800_000_000
VIEW = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 3, False))))
RESTING = BootView((("a", SlotState(2, 0, True)), ("b", SlotState(1, 0, True))))
WRITING = BootView((("a", SlotState(2, 0, True)), ("b", SlotState(0, 1, False))))
IDLE = replace(
    first_state(BootFacts("a", "1.0.0", "boot", RESTING), 0.5), versions={"a": "1.0.0", "b": "0.9.0"},
    last_check=NOW - 600, next_check=NOW + 3000,
    reasons=(Reason("up-to-date", "1.0.0 is the newest release of channel stable"),),
    expiries={"timestamp": Expiry(NOW + 2 * 86400, lifetime=3 * 86400)},
)  # fmt: skip
WAITING = replace(IDLE, phase=Phase.WAITING, reasons=(), offer=Offer("1.1.0", "m", 494_600_000))
FETCHING = replace(
    IDLE, facts=BootFacts("a", "1.0.0", "boot", WRITING), phase=Phase.FETCHING, reasons=(),
    target=Target("1.1.0", "m", "b", 0), versions={"a": "1.0.0"}, offer=Offer("1.1.0", "m", 494_600_000),
)  # fmt: skip
STAGED = replace(
    IDLE, facts=BootFacts("a", "1.0.0", "boot", VIEW), phase=Phase.STAGED, target=Target("1.1.0", "m", "b", 3),
    versions={"a": "1.0.0", "b": "1.1.0"}, reasons=(),
)  # fmt: skip
TRIAL = replace(
    STAGED, facts=BootFacts("b", "1.1.0", "boot", BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 2))))),
    phase=Phase.TRIAL,
)  # fmt: skip
INSTALLED = LastInstall(
    "1.1.0", 5.2, 1, {"rootfs": {"plan": "delta from 1.0.0: 5.1 MB of 406 MB, 97 % from this machine"}}
)
HEALTH: Mapping[str, Any] = {
    "slot": "b", "version": "1.1.0", "verdict": "probation", "reason": None, "finished": "2027-01-15T07:58:00Z",
    "this_boot": True, "baseline": None, "probation_until": "2027-01-15T08:03:00Z", "checks": [],
}  # fmt: skip


def _document(
    state: State, policy: Policy | None = None, *, alive: bool = True, **report: Any
) -> dict[str, Any]:
    return {**status_document(state, policy or Policy(), Report(pid=7, pid_start=9, **report), NOW), "alive": alive}


def _progress(step: str, done: int, total: int) -> Progress:
    return Progress(step, "rootfs", done, total, 9_800_000.0)


def _waiting(state: State, policy: Policy | None = None) -> State:
    assert state.offer is not None
    return replace(state, reasons=install_obstacles(state, policy or Policy(), state.offer, NOW))


def _staged(policy: Policy, around: Surroundings | None = None) -> dict[str, Any]:
    state = replace(STAGED, around=around or Surroundings())
    return _document(replace(state, reasons=reboot_obstacles(state, policy, NOW)), policy)


OFF = Policy(enabled=False, disabled_by="/etc/updated/updated.toml.d/50-site.toml:12")
BY_HAND = Policy(reboot_automatically=False, sentinel=False)
BY_AGENT = Policy(reboot_automatically=False)
# On weekends from 2 to 6, and each day from 7 to 9.
IN_WINDOWS = Policy(
    reboots=Windows((Window(frozenset({5, 6}), 120, 240),)), downloads=Windows((Window(start=420, minutes=120),))
)
IN_NO_WINDOW = replace(IN_WINDOWS, downloads=IN_WINDOWS.reboots)
PINNED = Policy(pin=Pin(newest="1.0"))
CAREFUL = Policy(care=Care(metered=True))
PEOPLE = Surroundings(users=(Login("eva", "tty1"), Login("ben", "192.0.2.7")))
PROGRAMS = Surroundings(inhibitors=(Inhibitor("backup", "writes a tape"), Inhibitor("apt", "installs packages")))
HELD = replace(WAITING, hold=Hold("eva", NOW + 3 * 86400))
DENIED = (Denial("1.1.0", "m", "required check web failed: HTTP 502 from 127.0.0.1:8080", NOW - 7200),)
PLAN = "delta from 1.0.0: 5.1 MB of 406 MB, 97 % from this machine"
WAVE = Reason("wave", "1.1.0 comes to this node at 2027-01-15T11:20:00Z", NOW + 12000)
UNREACHABLE = UpdatedError(
    "unreachable", "https://updates.example.org/os/metadata/timestamp.json", "the name could not be resolved",
    "Look at the network and at the name server.",
)  # fmt: skip
FAULT = UpdatedError(
    "bad-config", "/etc/updated/updated.toml:7: updates.intervall_seconds", "there is no such key",
    "Use one of: enabled, interval_seconds, reboot.",
)  # fmt: skip

PHASES: Mapping[str, dict[str, Any]] = {
    "idle": _document(IDLE),
    "first-look": _document(replace(IDLE, last_check=None, next_check=NOW, reasons=())),
    "checking": _document(replace(IDLE, phase=Phase.CHECKING)),
    "wave": _document(replace(IDLE, reasons=(WAVE,))),
    "held": _document(_waiting(HELD)),
    "held-up-to-date": _document(replace(IDLE, hold=Hold("eva"))),
    "disabled": _document(_waiting(WAITING, OFF), OFF),
    "disabled-idle": _document(IDLE, OFF),
    "comparing": _document(FETCHING, progress=_progress("compare", 81_200_000, 2_147_483_648)),
    "fetching": _document(FETCHING, progress=_progress("download", 12_100_000, 32_600_000), plan=PLAN),
    "sealing": _document(
        replace(FETCHING, phase=Phase.SEALING), progress=_progress("verify", 2_147_483_647, 2_147_483_648)
    ),
    "sealing-begins": _document(replace(FETCHING, phase=Phase.SEALING), progress=_progress("download", 9, 9)),
    "staged": _document(
        replace(STAGED, reasons=reboot_obstacles(STAGED, BY_HAND, NOW), last_install=INSTALLED), BY_HAND
    ),
    "staged-for-an-agent": _staged(BY_AGENT),
    "reboot-window-closed": _staged(IN_WINDOWS),
    "download-window-closed": _document(_waiting(WAITING, IN_NO_WINDOW), IN_NO_WINDOW),
    "windows-idle": _document(IDLE, IN_WINDOWS),
    "users-grace": _staged(Policy(), PEOPLE),
    "inhibited": _staged(Policy(), PROGRAMS),
    "pinned": _document(_waiting(WAITING, PINNED), PINNED),
    "metered-and-on-battery": _document(
        _waiting(replace(WAITING, around=Surroundings(metered=True, on_battery=True)), CAREFUL), CAREFUL
    ),
    "hook-refused": _document(
        replace(
            STAGED,
            reasons=(Reason("hook-refused", "the pre-reboot hook /etc/updated/hooks/pre-reboot.d/drain: failed (2 pods "
                            "are left on this node, and may not be evicted before their budget allows it)",
                            NOW + 240),),
        )
    ),
    "rebooting": _document(replace(STAGED, phase=Phase.REBOOTING, since=NOW)),
    "trial": _document(replace(TRIAL, last_install=INSTALLED)),
    "probation": _document(TRIAL, health=HEALTH),
    "fallen-back": _document(
        replace(
            IDLE, phase=Phase.FALLEN_BACK, denied=DENIED, fallback=Fallback("1.1.0", DENIED[0].reason, NOW - 7200),
            reasons=(Reason("denied", DENIED[0].text),),
            facts=BootFacts("a", "1.0.0", "boot", BootView((("a", SlotState(2, 0, True)), ("b", SlotState(0, 1))))),
            versions={"a": "1.0.0", "b": "1.1.0"},
        )
    ),
    "rolled-back": _document(
        replace(
            IDLE, phase=Phase.FALLEN_BACK, fallback=Fallback("1.1.0", "rolled back by eva", NOW - 60, by="eva"),
            denied=(Denial("1.1.0", "m", "rolled back by eva", NOW - 60),), reasons=(),
        )
    ),
    "failed": _document(replace(IDLE, phase=Phase.FAILED, error=UNREACHABLE, failures=3, reasons=())),
    "expired": _document(
        replace(
            IDLE, phase=Phase.FAILED, failures=1, reasons=(), expiries={"stable": Expiry(NOW - 90000)},
            error=UpdatedError("metadata-expired", "the metadata of stable", "expired at 2027-01-14T07:00:00Z",
                               "The publisher must refresh it; look at this machine's clock."),
        )
    ),
    "daemon-dead": _document(replace(IDLE, next_check=NOW - 100), alive=False),
    "could-not-start": {**fault_document(FAULT, NOW), "alive": False},
}  # fmt: skip
