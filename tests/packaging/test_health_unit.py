"""The health unit below a real systemd: which end of the check reboots, and what may start after it.

The unit is the shipped one, with another program in place of the check, and a recorder in place of `systemctl reboot`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.shipped import PACKAGING, UNITS, open_folder
from tests.packaging.user_manager import below_a_manager

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

RUN_CASES = r"""
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
    with open_folder() as folder:
        (folder / "units").mkdir()
        for case, check in CASES.items():
            write_units(folder, case, check)
        told = below_a_manager(folder, ["sh", "-euc", RUN_CASES, "sh", *CASES])
        yield {
            case: end(folder / case, *states) for case, *states in map(str.split, told.splitlines())
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
