"""What every program says on a machine that nobody has configured yet."""

from __future__ import annotations

from typing import Final

from bootctl.settings import MAIN_FILE, ConfigError, Layered, below

FIRST_STEPS: Final = "Write it as /usr/share/doc/updated/getting-started.md says, then: systemctl start updated."


def unset(layered: Layered, root: str) -> ConfigError | None:
    """Why nothing at all is configured below `root`; None where something is."""
    if layered.values:
        return None
    main = below(root, MAIN_FILE)
    if not layered.files:
        return ConfigError(main, "it is not there, so this machine is not set up for updates", FIRST_STEPS)
    cause = "it sets nothing, and has to set at least compatible in the table [identity]"
    return ConfigError(main if main in layered.files else layered.files[-1], cause, FIRST_STEPS)
