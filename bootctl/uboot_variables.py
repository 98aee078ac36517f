"""What the variables of U-Boot's environment say about the slots: RAUC's and one of our own, without any I/O.

`BOOT_ORDER` lists the slots that may be tried (upper-case names, the first one first), filled up with blanks to a fixed
width. Of slot X, `BOOT_X_LEFT` is the number of boots that it has left: RAUC and U-Boot read hexadecimal, and we write
one digit from 0 to 9. `BOOT_X_OK` is ours. The reader at boot is packaging/uboot/boot.cmd.

| in BOOT_ORDER | BOOT_X_LEFT | BOOT_X_OK | slot X | RAUC sees |
|---|---|---|---|---|
| yes | n > 0 | 0 | on trial, n boots left | good |
| yes | 0 | 0 | bad: its trial is used up | bad |
| yes | 9 | 1 | good, and its boots are not counted | good |
| yes | n > 0 | 2 | good, and boots n times until somebody gives it its boots again | good |
| yes | 0 | 2 | used up though it was good: the last resort | bad |
| no | 0 | any (0) | empty | bad |
| no | n > 0 | any (0) | bad: rejected | bad |

Any other `BOOT_X_OK`, such as none, and a 1 beside another number than 9, count as 2, which is RAUC's meaning: it can't
tell a trial from a good slot, and its boot script counts all boots. So a slot that RAUC has touched since we confirmed
it (it writes 3 into BOOT_X_LEFT for a new image as for `mark-good`) is counted, and falls back as with RAUC. RAUC's
`mark-bad`, with which it begins an installation too, removes the slot from BOOT_ORDER and so makes it empty. RAUC's
`mark-good` gives a trial its boots again and does not confirm it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bootctl import uboot_env
from bootctl.errors import BootError
from bootctl.model import MAX_PRIORITY, BootView, SlotState

MOST_TRIES: Final = 9

_SLOT: Final = re.compile(r"[A-Z0-9]+")
_OURS: Final = re.compile(r"BOOT_([A-Z0-9]+)_(?:LEFT|OK)")
_HEXADECIMAL: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,8}")
_ON_TRIAL, _UNCOUNTED, _COUNTED = "0", "1", "2"


def decode(variables: Mapping[str, str]) -> BootView:
    """The boot reference in the variables. Raises BootError `uboot-env-corrupt`, `no-slots`."""
    order = list(dict.fromkeys(variables.get("BOOT_ORDER", "").split()))
    if not all(_SLOT.fullmatch(name) for name in order):
        raise uboot_env.env_corrupt(f"BOOT_ORDER is {variables['BOOT_ORDER']!r}, which is no list of slots")
    names = sorted({*order, *(found[1] for found in map(_OURS.fullmatch, variables) if found)})
    if not names:
        raise BootError(
            "no-slots",
            uboot_env.ENVIRONMENT,
            "it names no slot",
            'Set its variables (fw_setenv BOOT_ORDER "A B", and those of each slot: packaging/uboot/README.md).',
        )
    if len(names) > MAX_PRIORITY:
        raise uboot_env.env_corrupt(f"it names {len(names)} slots")
    priorities = {name: len(names) - index for index, name in enumerate(order)}
    return BootView(tuple((name.lower(), _state(variables, name, priorities.get(name, 0))) for name in names))


def encode(view: BootView) -> dict[str, str]:
    """Our variables for the boot reference `view`. Raises BootError `bad-tries`."""
    ranked = sorted(view.slots, key=lambda slot: -slot[1].priority)
    listed = [name.upper() for name, state in ranked if state.priority or state.confirmed]
    # So that a change never moves what stands behind.
    width = len(" ".join(view.names))
    variables = {"BOOT_ORDER": " ".join(listed).ljust(width)}
    for slot, state in view.slots:
        left, mark = state.tries_left, _ON_TRIAL
        if state.confirmed and not state.bootable:
            left, mark = 0, _COUNTED
        elif state.confirmed:
            left, mark = (left, _COUNTED) if left else (MOST_TRIES, _UNCOUNTED)
        if left > MOST_TRIES:
            raise BootError(
                "bad-tries",
                f"slot {slot}",
                f"{left} tries can't be counted in U-Boot's environment",
                f"Give a number from 1 to {MOST_TRIES}.",
            )
        variables[f"BOOT_{slot.upper()}_LEFT"] = str(left)
        variables[f"BOOT_{slot.upper()}_OK"] = mark
    return variables


def _state(variables: Mapping[str, str], name: str, priority: int) -> SlotState:
    text, mark = variables.get(f"BOOT_{name}_LEFT", ""), variables.get(f"BOOT_{name}_OK", "")
    left = _boots(text)
    if not priority or mark == _ON_TRIAL:
        return SlotState(priority, left, confirmed=False)
    if mark == _UNCOUNTED and text == str(MOST_TRIES):
        return SlotState(priority, 0, confirmed=True)
    return SlotState(priority if left else 0, left, confirmed=True)


def _boots(text: str) -> int:
    """As boot.cmd reads it: a digit, or a larger hexadecimal number of another program, which is taken for the most."""
    if len(text) == 1 and text in "0123456789":
        return int(text)
    found = _HEXADECIMAL.match(text)
    return MOST_TRIES if found and int(found[0], 16) > MOST_TRIES else 0
