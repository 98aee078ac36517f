"""`updated-bootctl`, or `python3 -m bootctl`: show and change what boots next, also from a rescue system.

Exit status: 0 done, 1 refused or failed (the reason is on standard error), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from bootctl import doctor, model
from bootctl.active import running_slot
from bootctl.backend import NOTHING_HERE, SET_BACKEND, Backend, NoBackend, boots_of_confirmed, open_backend
from bootctl.errors import BootError
from bootctl.output import written
from bootctl.settings import BACKENDS, BootSettings, ConfigError, Layered, boot_settings, load
from bootctl.usage import Help, Parser, sentence
from bootctl.version import ShowVersion

_BACKEND_OF_FILE: Final = {"autoboot.txt": "tryboot", "fw_env.config": "uboot"}
_FILES: Final = {"grub": "grubenv", "uboot": "fw_env_config", "tryboot": "autoboot"}
_PROGRAM: Final = "updated-bootctl"
_DESCRIPTION: Final = "Show and change which slot the bootloader starts next."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    return written(_PROGRAM, lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    try:
        settings = _settings(options)
        backend = open_backend(settings)
        answer, text = _run(options, settings, backend)
    except (BootError, ConfigError) as error:
        told = [str(error)]
        if isinstance(error, NoBackend) and options.verb == "doctor":
            told = [f"{error.what}: {NOTHING_HERE}. {SET_BACKEND}", *(f"  {line}" for line in error.lines())]
        print(f"{_PROGRAM}: " + "\n".join(told), file=sys.stderr)
        return 1
    print(json.dumps(answer) if getattr(options, "json", False) else text)
    return 0 if answer.get("well", True) else 1


def parser() -> Parser:
    """The parser of the whole command line."""
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer with one line of JSON")
    made = Parser(prog=_PROGRAM, description=_DESCRIPTION, parents=[common], formatter_class=Help)
    made.add_argument("--version", action=ShowVersion)
    made.add_argument("--root", default="/", metavar="DIR", help="work on the system below DIR")
    made.add_argument(
        "--backend", choices=BACKENDS, metavar="NAME",
        help=f"the boot loader's way: {', '.join(BACKENDS)} (default: configured)",
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument("--device", metavar="PATH", help="the disk, for gptprio")
    where.add_argument("--image", metavar="PATH", help="the image of a disk, for gptprio")
    where.add_argument(
        "--file", metavar="PATH", help="the file: grubenv for grub, fw_env.config for uboot, autoboot.txt for tryboot"
    )
    where.add_argument("--esp", metavar="DIR", help="the EFI system partition, for systemd_boot")
    made.add_argument("--active", metavar="SLOT", help="the slot that runs now (default: from the command line)")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, told: str) -> Parser:
        child = verbs.add_parser(name, help=told, description=sentence(told), parents=[common], formatter_class=Help)
        child.outer = made._option_string_actions
        return child

    verb("show", "show the state of each slot")
    verb("next", "print the slot that boots next")
    arm = verb("arm", "boot a slot on trial, with the active slot behind it")
    arm.add_argument("slot", metavar="SLOT", help="the slot")
    confirm = verb("confirm", "mark a slot as good")
    confirm.add_argument("slot", metavar="SLOT", nargs="?", help="the slot (default: the active one)")
    reject = verb("reject", "never boot a slot again")
    reject.add_argument("slot", metavar="SLOT", help="the slot")
    verb("rollback", "boot the other slot, which was confirmed before")
    verb("recount", "give the active slot all of its boots again")
    examine = verb("doctor", "tell what is wrong, mend it, foretell the next boots")
    examine.add_argument("--dry-run", action="store_true", help="only look, and mend nothing")
    examine.add_argument(
        "--failures", type=int, metavar="N", help="foretell so many boots that fail (default: tries and 2 more)"
    )
    return made


def _settings(options: argparse.Namespace) -> BootSettings:
    given = options.device or options.image or options.file or options.esp
    settings = _configured(options.root, needed=not given)
    if options.file:
        backend = options.backend or _BACKEND_OF_FILE.get(os.path.basename(options.file), "grub")
        if backend not in _FILES:
            raise ConfigError("--file", f"the backend {backend} has no such file", "Leave it out, or name another one.")
        return replace(settings, backend=backend, **{_FILES[backend]: options.file})
    if options.esp:
        return replace(settings, backend=options.backend or "systemd_boot", esp=options.esp)
    if given:
        return replace(settings, backend=options.backend or "gptprio", device=options.device, image=options.image)
    return replace(settings, backend=options.backend or settings.backend)


def _configured(root: str, *, needed: bool) -> BootSettings:
    """With all that is needed on the command line a broken configuration can't stand in the way of a rescue."""
    try:
        return boot_settings(load(root), root)
    except ConfigError:
        if needed:
            raise
        return boot_settings(Layered({}, {}), root)


def _run(options: argparse.Namespace, settings: BootSettings, backend: Backend) -> tuple[dict[str, Any], str]:
    """The answer as JSON and as text."""
    verb: str = options.verb
    if verb == "doctor":
        failures = settings.tries + 2 if options.failures is None else options.failures
        findings = doctor.examine(backend, failures=failures, mend=not options.dry_run)
        return findings.document(), findings.text()
    view = backend.read()
    if verb in ("show", "next"):
        return _next(view) if verb == "next" else _show(options, settings, backend, view)
    changed = _changed(options, settings, backend, view)
    # It runs at every boot, and a commit also mends what a person should see first.
    if verb != "recount" or changed != view:
        backend.commit(changed)
    return _show(options, settings, backend, backend.read())


def _changed(
    options: argparse.Namespace, settings: BootSettings, backend: Backend, view: model.BootView
) -> model.BootView:
    slot: str = getattr(options, "slot", None) or ""
    counted = boots_of_confirmed(settings, backend)
    match options.verb:
        case "reject":
            return model.reject(view, slot)
        case "confirm":
            return model.confirm(view, slot or _require_active(options, settings), counted=counted)
        case "recount":
            return model.recount(view, _require_active(options, settings), counted=counted)
        case "arm":
            tries = min(settings.tries, backend.most_tries)
            return model.arm_trial(view, slot, active=_require_active(options, settings), tries=tries)
        case _:
            return model.roll_back(view, active=_require_active(options, settings))


def _next(view: model.BootView) -> tuple[dict[str, Any], str]:
    slot, _ = model.next_boot(view)
    if slot is None:
        raise BootError(
            "nothing-bootable",
            "the boot reference",
            "no slot may boot",
            "Confirm the slot that is known to work (updated-bootctl confirm SLOT).",
        )
    return {"next": slot}, slot


def _show(
    options: argparse.Namespace, settings: BootSettings, backend: Backend, view: model.BootView
) -> tuple[dict[str, Any], str]:
    active = _active(options, settings)
    following, _ = model.next_boot(view)
    slots = [
        {
            "name": name,
            "condition": state.condition,
            "priority": state.priority,
            "tries_left": state.tries_left,
            "confirmed": state.confirmed,
        }
        for name, state in view.slots
    ]
    lines = ["slot  condition  priority  tries  notes"]
    for name, state in view.slots:
        notes = ", ".join(
            note for note, applies in (("active", name == active), ("boots next", name == following)) if applies
        )
        line = f"{name:<4}  {state.condition:<9}  {state.priority:>8}  {state.tries_left:>5}  {notes}"
        lines.append(line.rstrip())
    return {"backend": backend.name, "active": active, "next": following, "slots": slots}, "\n".join(lines)


def _active(options: argparse.Namespace, settings: BootSettings) -> str | None:
    try:
        return _require_active(options, settings)
    except BootError:
        return None


def _require_active(options: argparse.Namespace, settings: BootSettings) -> str:
    if options.active:
        return str(options.active)
    try:
        return running_slot(settings)
    except BootError as error:
        raise BootError(error.code, error.what, error.cause, f"{error.mend} Or name it with --active.") from None


if __name__ == "__main__":
    sys.exit(main())
