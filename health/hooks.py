"""Programs of the image and of the site that run around a reboot, and what became of them.

| kind           | when                                                          | a failure         |
|----------------|---------------------------------------------------------------|-------------------|
| `pre-reboot`   | on the old slot, before the daemon reboots                    | keeps it from it  |
| `post-confirm` | after a slot was confirmed, once                              | is told           |
| `post-fallback`| on the old slot, in the boot after a fallback, once           | is told           |
| `green`, `red` | after a boot was found good, or bad: greenboot's and health-checker's alone | is told |
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

from bootctl.errors import in_words, mend_of
from bootctl.settings import ConfigError
from health import fallback, history, journal, system, watch
from health.commands import Commands
from health.folders import Entry, in_effect
from health.machine import Machine, now
from health.output import complain, tell
from health.plugins import plugin_hooks
from health.rootdir import below
from health.sequence import Outcome, run_in_order

Kind = Literal["pre-reboot", "post-confirm", "post-fallback", "green", "red"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VENDOR = "/usr/lib/updated/hooks"
ADMINISTRATOR = "/etc/updated/hooks"
RECORD = "/var/lib/updated/health/hooks.json"
SCHEMA = 1
EACH_SECONDS = 300.0
ALL_SECONDS = 900.0


def commands_of(machine: Machine, kind: Kind) -> tuple[tuple[str, ...], ...]:
    """What there is to run, in order; each inside the root. Raises ConfigError for what can't be run."""
    settings = machine.settings
    try:
        if kind == "green":
            return plugin_hooks(machine.root, "green") if settings.greenboot else ()
        if kind == "red":
            red = plugin_hooks(machine.root, "red") if settings.greenboot else ()
            return (*red, *(plugin_hooks(machine.root, "stop") if settings.health_checker else ()))
        entries = in_effect(machine.root, f"{VENDOR}/{kind}.d", f"{ADMINISTRATOR}/{kind}.d")
        return tuple((_executable(machine.root, entry), kind) for entry in entries)
    except OSError as error:
        raise ConfigError(
            error.filename or f"{VENDOR}/{kind}.d", f"it can't be read ({error.strerror})",
            mend_of(error, "Make it a folder."),
        ) from error


def _executable(root: str, entry: Entry) -> str:
    if not os.access(below(root, entry.path), os.X_OK) or not os.path.isfile(below(root, entry.path)):
        raise ConfigError(entry.path, "it is no executable file", "Make it one, or remove it.")
    return entry.path


def environment_of(machine: Machine, kind: Kind) -> dict[str, str]:
    """What hooks learn; a value that is not known is empty."""
    left = fallback.noted(machine.root) if kind == "post-fallback" else None
    previous = left.version if left else history.version_before(machine.root, machine.version)
    reason = left.reason if left else _reason(machine.root)
    proxies = {name: machine.proxy for name in ("http_proxy", "https_proxy") if machine.proxy}
    return {
        "UPDATED_VERSION": machine.version or "",
        "UPDATED_PREVIOUS_VERSION": previous or "",
        "UPDATED_SLOT": machine.slot,
        "UPDATED_REASON": reason or "",
        **proxies,
    }


def _reason(root: str) -> str | None:
    verdicts = list(history.read(root))
    reason = verdicts[-1].get("reason") if verdicts else None
    return reason if isinstance(reason, str) else None


def run(machine: Machine, kind: Kind) -> tuple[Outcome, ...]:
    """Runs the hooks of a kind, and keeps what became of them. Raises ConfigError, `Interrupted`."""
    outcomes = run_in_order(
        machine.root, commands_of(machine, kind), environment_of(machine, kind), each_seconds=EACH_SECONDS,
        all_seconds=ALL_SECONDS, stop_at_failure=kind == "pre-reboot",
    )  # fmt: skip
    _keep(machine.root, kind, outcomes)
    for outcome in outcomes:
        priority = journal.INFO if outcome.passed else journal.WARNING
        fields = {"UPDATED_HOOK": kind, "UPDATED_PROGRAM": outcome.program, "UPDATED_RESULT": outcome.result}
        message = f"hook {kind} {outcome.program}: {outcome.result}; {outcome.output}"
        journal.send(journal.HOOK, priority, message, fields, machine.root)
    return outcomes


def start(machine: Machine, kind: Kind) -> None:
    """Has the hooks of a kind run: by their own unit where systemd runs, so that no hook can hold up a verdict."""
    try:
        if not commands_of(machine, kind):
            return
        if not machine.systemd:
            run(machine, kind)
            return
        command = ("systemctl", "--no-block", "start", f"updated-hooks@{kind}.service")
        finished = Commands().run(command, timeout_seconds=30)
        if finished.status != 0:
            complain(f"the hooks {kind} can't be started: {finished.output.strip()}")
    except (ConfigError, OSError) as error:
        complain(f"the hooks {kind} can't be run: {in_words(error)}")


def run_hooks(machine: Machine, kind: Kind) -> int:
    """The verb: runs the hooks; 1 when one of `pre-reboot` failed, which the reboot then has to wait for."""
    failed = [outcome for outcome in run(machine, kind) if not outcome.passed]
    for outcome in failed:
        complain(f"{outcome.program}: {outcome.result}; {outcome.output}")
    if kind != "pre-reboot":
        tell(f"hooks {kind}: done, {len(failed)} failed\n")
        return 0
    if failed:
        return 1
    # The last that runs on the old slot before a trial: what was broken here is not the new slot's fault, and what
    # falls back next does so anew.
    watch.keep(machine)
    fallback.forget(machine.root)
    tell("hooks pre-reboot: nothing stands in the way\n")
    return 0


def read(root: str) -> dict[str, Any]:
    """The outcomes by kind; none when the record is missing or damaged."""
    try:
        with open(below(root, RECORD), "rb") as file:
            hooks = json.load(file)["hooks"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return hooks if isinstance(hooks, dict) else {}


def _keep(root: str, kind: Kind, outcomes: tuple[Outcome, ...]) -> None:
    last: Mapping[str, Any] = {
        "at": now(), "passed": all(outcome.passed for outcome in outcomes),
        "programs": [outcome.document for outcome in outcomes],
    }  # fmt: skip
    value = {"schema": SCHEMA, "hooks": {**read(root), kind: last}}
    try:
        system.store(root, RECORD, json.dumps(value, indent=2, ensure_ascii=False).encode(errors="replace") + b"\n")
    except OSError as error:
        complain(f"{RECORD}: it can't be written ({error.strerror}). {mend_of(error)}")
