"""The health unit below a real systemd: which end of the check reboots, and what may start after it.

The service manager of a user runs in namespaces of its own, with its own control group and /run. The unit
is the shipped one, with another program in place of the check, and a recorder in place of `systemctl reboot`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.shipped import PACKAGING, UNITS, open_folder

CASES = {
    "healthy": "exit 0",
    "probation": "touch mark; exit 0",
    "worse": "touch mark; exit 0",
    "sick": "touch verdict; exit 1",
    "misconfigured": "exit 2",
    "rejected": "exit 3",
    "last-one": "exit 4",
    "unreadable": "exit 5",
    "broken": "exit 1",
    "killed": "kill -KILL $$",
    "hanging": "exec sleep 60",
    "missing": None,
}

NAMESPACES = ["unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]

MANAGER = r"""
set -eu
folder=$1; cd "$folder"
umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system "$folder/run"
export XDG_RUNTIME_DIR="$folder/run" SYSTEMD_UNIT_PATH="$folder/units:/usr/lib/systemd/user"
/lib/systemd/systemd --user --unit=basic.target --log-target=console >manager.log 2>&1 &
until systemctl --user is-active --quiet basic.target 2>/dev/null; do sleep 0.05; done
shift
for case in "$@"; do
    systemctl --user start "after-$case.service" 2>/dev/null || true
    # The watch is started with the check, and nothing waits for it.
    while systemctl --user is-active --quiet "watch-$case.service" ||
        [ -n "$(systemctl --user list-jobs --no-legend "watch-$case.service" "health-$case.service")" ] ||
        [ "$(systemctl --user show --property=ActiveState --value "watch-$case.service")" = deactivating ]
    do sleep 0.05; done
    echo "$case $(systemctl --user is-active "health-$case.service" "after-$case.service" | paste -sd ' ')"
done
"""


@dataclass(frozen=True, slots=True)
class End:
    """What was left of one case: the state of the health unit, and of a unit that requires it."""

    health: str
    after: str
    rebooted: bool
    unjudged_boots: str | None
    watched: str | None = None


def cgroup2() -> Path:
    """Where this machine has its unified control groups."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    pytest.skip(
        "a private systemd needs root and a writable cgroup2 mount; the script alone is tested everywhere"
    )


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def write_units(folder: Path, case: str, check: str | None) -> None:
    own = folder / case
    (own / "state").mkdir(parents=True)
    (own / "state/unjudged").write_text("1\n")
    if check is not None:
        write_program(own / "check", f"cd {own}\n{check}")
    write_program(own / "systemctl", f'case "$*" in *reboot) touch {own}/rebooted ;; esac')
    unit = (UNITS / "updated-health.service").read_text()
    for pattern, replacement in (
        (r"^Condition.*\n", ""),
        (r"^Before=.*\n", ""),
        (r"^Wants=updated-probation.service$", f"Wants=watch-{case}.service"),
        (r"(?<=^ExecStart=).*", f"{own}/check"),
        (r"/usr/lib/updated/libexec", str(PACKAGING / "libexec")),
        (r"/var/lib/updated/health", f"{own}/state"),
        (r"/run/updated/health.json", f"{own}/verdict"),
        (r"(?<=^TimeoutStartSec=).*", "1s"),
        (r"^\[Service\]$", f"[Service]\nEnvironment=PATH={own}:/usr/bin:/bin"),
    ):
        unit, found = re.subn(pattern, replacement, unit, flags=re.MULTILINE)
        assert found, pattern
    units = folder / "units"
    (units / f"health-{case}.service").write_text(unit)
    (units / f"watch-{case}.service").write_text(probation(own, case))
    (units / f"after-{case}.service").write_text(
        f"[Unit]\nRequires=health-{case}.service\nAfter=health-{case}.service\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    )


def probation(own: Path, case: str) -> str:
    """The shipped unit, with a watch that notes that the verdict was there before it, and then goes well or not."""
    write_program(own / "watch", f"cd {own}\n"
                  f"/bin/systemctl --user is-active health-{case}.service >watched\n"
                  f"exit {3 if case == 'worse' else 0}")  # fmt: skip
    unit = (UNITS / "updated-probation.service").read_text()
    for pattern, replacement in (
        (r"^ConditionPathExists=/run/updated/probation$", f"ConditionPathExists={own}/mark"),
        (r"^Condition(?!PathExists=" + re.escape(str(own)) + r").*\n", ""),
        (r"^After=updated-health.service$", f"After=health-{case}.service"),
        (r"(?<=^ExecStart=).*", f"{own}/watch"),
        (r"/usr/lib/updated/libexec", str(PACKAGING / "libexec")),
        (r"/var/lib/updated/health", f"{own}/state"),
        (r"^\[Service\]$", f"[Service]\nEnvironment=PATH={own}:/usr/bin:/bin"),
    ):
        unit, found = re.subn(pattern, replacement, unit, flags=re.MULTILINE)
        assert found, pattern
    return unit


def end(own: Path, health: str, after: str) -> End:
    count = own / "state/unjudged"
    watched = own / "watched"
    return End(
        health, after, (own / "rebooted").exists(), count.read_text() if count.exists() else None,
        watched.read_text().strip() if watched.exists() else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ends() -> Iterator[dict[str, End]]:
    group = cgroup2() / f"updated-test-{os.getpid()}"
    with open_folder() as folder:
        (folder / "units").mkdir()
        for case, check in CASES.items():
            write_units(folder, case, check)
        enter = f"echo $$ >{group}/cgroup.procs && exec " + shlex.join(NAMESPACES) + ' "$@"'
        group.mkdir()
        try:
            done = subprocess.run(
                ["sh", "-c", enter, "sh", "sh", "-c", MANAGER, "sh", str(folder), *CASES],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        finally:
            for path, _, _ in os.walk(group, topdown=False):
                Path(path).rmdir()
        log = folder / "manager.log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
        yield {
            case: end(folder / case, *states) for case, *states in map(str.split, done.stdout.splitlines())
        }


def test_a_healthy_boot_goes_on_and_forgets_earlier_boots_that_could_not_be_judged(
    ends: dict[str, End],
) -> None:
    assert ends["healthy"] == End("active", "active", rebooted=False, unjudged_boots=None)


def test_a_rejected_slot_reboots(ends: dict[str, End]) -> None:
    assert ends["rejected"] == End("failed", "inactive", rebooted=True, unjudged_boots=None)


@pytest.mark.parametrize("case", ["sick", "misconfigured", "last-one", "unreadable"])
def test_another_bad_verdict_is_seen_as_failed_and_stays_up(ends: dict[str, End], case: str) -> None:
    assert ends[case] == End("failed", "inactive", rebooted=False, unjudged_boots=None)


@pytest.mark.parametrize("case", ["broken", "killed", "hanging", "missing"])
def test_a_check_that_reaches_no_verdict_reboots_and_is_counted(ends: dict[str, End], case: str) -> None:
    assert ends[case] == End("failed", "inactive", rebooted=True, unjudged_boots="2\n")


def test_a_probation_begins_after_the_verdict_and_the_boot_goes_on(ends: dict[str, End]) -> None:
    assert ends["probation"] == End("active", "active", rebooted=False, unjudged_boots=None, watched="active")


def test_a_slot_that_gets_worse_in_its_probation_reboots(ends: dict[str, End]) -> None:
    assert ends["worse"] == End("active", "active", rebooted=True, unjudged_boots=None, watched="active")


def test_there_is_no_probation_without_that_verdict(ends: dict[str, End]) -> None:
    assert {case for case, end in ends.items() if end.watched} == {"probation", "worse"}
