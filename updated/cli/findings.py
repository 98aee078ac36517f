"""What `updatectl doctor` looks at, one function each. Nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bootctl import doctor as boot_doctor
from bootctl.backend import NOTHING_HERE, SET_BACKEND, NoBackend, open_backend
from bootctl.errors import BootError
from bootctl.settings import ConfigError, below
from updated.cli.merged import config_fault
from updated.cli.show import amounts
from updated.cli.statusfile import mended, never_set_up, read_status
from updated.cli.when import epoch, moment
from updated.config import LOCK, STATE_DIRECTORY, Settings, read_settings
from updated.core.errors import UpdatedError
from updated.disk import Disk, boot_error

LEAST_STATE_BYTES = 64 * 1024 * 1024
ENABLED_UNITS = ("updated.service", "updated-health.service", "updated-deadline.timer")
# Where systemd looks for what a unit starts (systemd.exec(5), "$PATH").
UNIT_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_CHECKS_PROGRAM = """\
import json, sys
from bootctl.health_settings import health_settings
from bootctl.settings import load
from health.catalogue import load_checks
from health.check import InvalidProbe
root = sys.argv[1]
health = health_settings(load(root))
checks = load_checks(root, greenboot=health.greenboot, health_checker=health.health_checker)
faults = [[check.kind, check.probe.error] for check in checks if isinstance(check.probe, InvalidProbe)]
print(json.dumps({"checks": len(checks), "faults": faults}))
"""


@dataclass(frozen=True)
class Finding:
    """What was found: `severity` is ok, skipped, note, warning or error."""

    severity: str
    text: str
    mend: str = ""


@dataclass
class Node:
    """The node below `root`, read as far as it can be."""

    root: str

    @cached_property
    def settings(self) -> Settings:
        """The configuration. Raises `UpdatedError` ("bad-config")."""
        try:
            return read_settings(self.root)
        except ConfigError as error:
            raise config_fault(error) from None

    @cached_property
    def status(self) -> Mapping[str, Any]:
        """The status file, empty without one. Raises `UpdatedError` for a damaged one."""
        try:
            return mended(read_status(self.root), self.root)
        except UpdatedError as error:
            if error.code != "daemon-not-running":
                raise
            return {}

    @property
    def configured(self) -> bool:
        """Whether there is a configuration that can be used; `configuration` says why not."""
        try:
            return bool(self.settings)
        except UpdatedError:
            return False


def _unconfigured() -> list[Finding]:
    return [Finding("skipped", "not looked at: the configuration can't be used")]


def configuration(node: Node) -> list[Finding]:
    """The files, as the daemon reads them."""
    if (unset := never_set_up(node.root)) is not None:
        return [Finding("error", f"{unset.what}: {unset.cause}", unset.mend)]
    settings = node.settings
    source = settings.url or settings.path or "no repository, releases come by import"
    found = [Finding("ok", f"{settings.compatible}, channel {settings.policy.channel}, {source}")]
    if not settings.policy.enabled:
        text = f"updates are switched off by {settings.policy.disabled_by}"
        found.append(Finding("warning", text, "Switch them on there, then 'systemctl reload updated'."))
    return found


def boot_reference(node: Node) -> list[Finding]:
    """What bootctl's own doctor finds, without mending it."""
    if not node.configured:
        return _unconfigured()
    try:
        boot = node.settings.boot
        seen = boot_doctor.examine(open_backend(boot), failures=boot.tries + 2, mend=False)
    except NoBackend as nothing:
        first = Finding("error", f"{nothing.what}: {NOTHING_HERE}", SET_BACKEND)
        return [first, *(Finding("note", line) for line in nothing.lines())]
    except BootError as error:
        raise boot_error(error) from None
    mend = "'updated-bootctl doctor' mends it."
    found = [Finding("error", f"damaged: {text}", mend) for text in seen.found]
    severity = "error" if seen.boots[0] is None else "warning"
    found += [Finding(severity, text, "'updatectl status' shows the slots.") for text in seen.warnings]
    found += [Finding("note", text) for text in seen.limits]
    slots = ", ".join(f"slot {name} {state.condition}" for name, state in seen.view.slots)
    return [Finding("ok", f"{seen.backend}: {slots}"), *found]


def slots(node: Node) -> list[Finding]:
    """The partitions of both slots: there, alike, and large enough for what was installed last."""
    if not node.configured:
        return _unconfigured()
    disk = Disk(node.settings.boot)
    running = disk.running_slot()
    names = [slot["slot"] for slot in node.status.get("slots", ())] or ["a", "b"]
    sizes = {name: disk.component_sizes(name) for name in names}
    found = []
    for component in node.settings.boot.components:
        each = {name: size[component] for name, size in sizes.items()}
        least = min(each.values())
        words = ", ".join(f"{component}-{name} {amounts(size)}" for name, size in each.items())
        if least != max(each.values()):
            text = f"{words}: a release must fit into the smaller one"
            found.append(Finding("warning", text, "Lay the disk out anew."))
        installed = (node.status.get("last_install") or {}).get("components", {}).get(component, {}).get("image")
        if installed and installed > least * 0.95:
            text = f"{component}: the last image had {amounts(installed, least)}; the next one may not fit"
            found.append(Finding("warning", text, "Publish smaller images, or lay the disk out with larger slots."))
        found.insert(0, Finding("ok", f"slot {running} runs; {words}"))
    return found


def root_of_trust(node: Node) -> list[Finding]:
    """The pinned root metadata."""
    if not node.configured:
        return _unconfigured()
    path = node.settings.root_of_trust
    mend = "Put root.json of 'releasectl export-root' into the image."
    try:
        with open(path, encoding="utf-8") as file:
            signed = json.load(file)["signed"]
        kind, version, expires = signed["_type"], int(signed["version"]), epoch(str(signed["expires"]))
    except FileNotFoundError:
        return [Finding("error", f"{path} is not there: nothing is trusted", mend)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return [Finding("error", f"{path} is damaged", mend)]
    if kind != "root":
        return [Finding("error", f"{path} holds {kind} metadata, and no root", mend)]
    when = moment(str(signed["expires"]), time.time())
    if expires <= time.time():
        text = f"{path}: version {version} expired {when}; a node that begins anew needs the newer ones from the server"
        return [Finding("note", text, "Put a newer one into the next image.")]
    return [Finding("ok", f"{path}: version {version}, expires {when}")]


def expiry(node: Node) -> list[Finding]:
    """What the daemon warns of: metadata that has expired, or is about to."""
    warnings = node.status.get("expiry_warnings", ())
    found = [
        Finding("error" if each["expired"] and not each["accepted"] else "warning", each["text"], "")
        for each in warnings
    ]
    if found or not node.status.get("expiries"):
        return found or [Finding("skipped", "no metadata was read yet")]
    first = min(node.status["expiries"].values())
    return [Finding("ok", f"the first of the trusted metadata expires {moment(first, time.time())}")]


def state(node: Node) -> list[Finding]:
    """The state folder: there, writable, with room."""
    path = below(node.root, STATE_DIRECTORY)
    if not os.path.isdir(path):
        return [Finding("error", f"{path} is not there", "Mount the state partition there, or make the folder.")]
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        return [Finding("skipped", f"{path}: whether it is writable is seen by root alone", "Run it as root.")]
    if not os.access(path, os.W_OK):
        return [Finding("error", f"{path} is not writable", "Mount the state partition writable.")]
    free = os.statvfs(path)
    room = free.f_bavail * free.f_frsize
    if room < LEAST_STATE_BYTES:
        return [Finding("warning", f"{path} has {amounts(room)} left", "Free some space there.")]
    return [Finding("ok", f"{path} is writable, {amounts(room)} are free")]


def daemon(node: Node) -> list[Finding]:
    """The daemon: alive, and what it says of itself."""
    start = "'systemctl start updated'; 'updatectl log' says why it ended."
    if not node.status and never_set_up(node.root) is not None:
        return [Finding("skipped", "not looked at: this machine was not set up")]
    if not node.status and not os.path.exists(os.path.join(below(node.root, STATE_DIRECTORY), LOCK)):
        return [Finding("note", "it was never started", "That is the next step: systemctl start updated.")]
    if not node.status:
        return [Finding("error", "it has not run since the machine started", start)]
    fault = node.status.get("error")
    found = []
    if not node.status["alive"]:
        found.append(Finding("error", "it does not run", start))
    else:
        found.append(Finding("ok", f"it runs: {node.status['summary']}"))
    if fault:
        text = f"{fault['what']}: {fault['cause']}"
        found.append(Finding("error", text, f"{fault['mend']} 'updatectl explain {fault['code']}' says more."))
    found += [Finding("note", note) for note in node.status.get("notes", ())]
    return found


def bus(node: Node) -> list[Finding]:
    """The name on the system bus."""
    if not node.status.get("alive"):
        return [Finding("skipped", "not looked at: the daemon does not run")]
    from updated.cli.change import has_owner

    if has_owner():
        return [Finding("ok", "the daemon is on the bus")]
    text = "the daemon runs, and is not on the bus"
    return [Finding("error", text, "Install its D-Bus policy; 'updatectl log' says more.")]


def units(node: Node) -> list[Finding]:
    """Whether systemd starts what has to run at each boot."""
    if node.root != "/" or not os.path.isdir("/run/systemd/system") or shutil.which("systemctl") is None:
        return [Finding("skipped", "not looked at: systemd does not run here")]
    found = []
    for unit in ENABLED_UNITS:
        words = ["systemctl", "is-enabled", unit]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        word = done.stdout.strip() or "not installed"
        if done.returncode != 0:
            found.append(Finding("error", f"{unit} is {word}", f"'systemctl enable --now {unit}'"))
    return found or [Finding("ok", f"enabled: {', '.join(ENABLED_UNITS)}")]


def reboot(node: Node) -> list[Finding]:
    """The commands that reboot and that start units."""
    if not node.configured:
        return _unconfigured()
    settings = node.settings
    commands = {"reboot_command": settings.reboot_command, "start_command": settings.start_command}
    found = []
    for key, command in commands.items():
        program = below(node.root, command[0]) if command[0].startswith("/") else command[0]
        if shutil.which(program) is None and shutil.which(command[0]) is None:
            mend = f"Install it, or correct {key} in the table [updates]."
            found.append(Finding("error", f"{key}: there is no program {command[0]}", mend))
    words = " ".join(settings.reboot_command)
    text = f"reboots by itself: {words}"
    if not settings.policy.reboot_automatically:
        text = f"a person or an agent reboots; the command that 'updatectl reboot' gives: {words}"
    found = found or [Finding("ok", text)]
    path = os.pathsep.join(below(node.root, folder) for folder in UNIT_PATH)
    if settings.kexec and shutil.which("kexec", path=path) is None:
        mend = 'Install it (package kexec-tools), or set reboot = "reboot" in the table [updates].'
        found.append(Finding("warning", "there is no program kexec: each reboot goes through the boot loader", mend))
    return found


def health_checks(node: Node) -> list[Finding]:
    """The check files, read by health itself in a process of its own: it shares no code with the daemon."""
    if not node.configured:
        return _unconfigured()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _CHECKS_PROGRAM, node.root], env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return [Finding("error", f"the checks can't be read: {said}", "Correct the table [health].")]
    found = [
        Finding("error" if kind == "required" else "warning", fault, "Mend or remove this check.")
        for kind, fault in answer["faults"]
    ]
    if not answer["checks"]:
        text = "there are no health checks: a release on trial is judged by its boot alone"
        return [Finding("warning", text, "Put some into /etc/updated/health.d/required.d.")]
    return found or [Finding("ok", f"{answer['checks']} to run, and none that can't be used")]
