"""The unit of the baseline below a real systemd, started as the daemon starts it.

The unit is the shipped one, with another program in place of health.
"""

from __future__ import annotations

import json
import re
import sys

from tests.packaging.shipped import REPOSITORY, UNITS, open_folder, run, settings
from tests.packaging.user_manager import below_a_manager
from updated.reboot import BASELINE_SECONDS

UNIT = UNITS / "updated-baseline@.service"

ASK = """
import asyncio, json, sys
from updated.reboot import take_baseline
take = lambda version: asyncio.run(take_baseline(["systemctl", "--user", "start"], version))
print(json.dumps([take(version) for version in sys.argv[1:]]))
"""

CHECKS = """\
#!/bin/sh
printf '%s\\n' "$*" >>{folder}/called
case $* in
    *--target=2.0) exit 1 ;;
    *--target=3.0) exec sleep 60 ;;
esac
"""


def test_the_version_arrives_as_it_is_and_every_end_of_the_unit_is_told() -> None:
    versions = ["1.2.0-rc.1", "2.0", "3.0", "1.2.0-rc.1"]
    with open_folder() as folder:
        (folder / "units").mkdir()
        (folder / "health").write_text(CHECKS.format(folder=folder))
        (folder / "health").chmod(0o755)
        unit = UNIT.read_text()
        for pattern, replacement in (
            (r"^Condition.*\n", ""), (r"(?<=^ExecStart=)/usr/bin/python3", f"{folder}/health"),
            (r"(?<=^TimeoutStartSec=).*", "1s"),
        ):  # fmt: skip
            unit, found = re.subn(pattern, replacement, unit, flags=re.MULTILINE)
            assert found, pattern
        (folder / "units" / UNIT.name).write_text(unit)
        told = below_a_manager(folder, [sys.executable, "-c", ASK, *versions])
        good, failed, hung, again = json.loads(told)
        called = (folder / "called").read_text().splitlines()
    assert (good, again) == (None, None)
    assert failed.startswith("ended with status 1 (Job for updated-baseline@2.0.service failed")
    assert "timeout" in hung
    assert called[0] == "-BPSs -m health baseline --target=1.2.0-rc.1"


def test_it_has_a_limit_of_its_own_that_the_daemon_outlasts() -> None:
    assert settings(UNIT, "Type") == ["oneshot"], "whose own default is no limit"
    total = 0
    for key in ("TimeoutStartSec", "TimeoutStopSec"):
        shown = run("systemd-analyze", "timespan", settings(UNIT, key)[0]).stdout
        total += int(re.findall(r"μs: (\d+)", shown)[0]) // 1_000_000
    assert total < BASELINE_SECONDS


def test_health_knows_the_verb_and_the_option() -> None:
    python, flags, *words = settings(UNIT, "ExecStart")[0].split()
    assert words[:3] == ["-m", "health", "baseline"]
    done = run(python, flags, *words[:3], "--help", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 0
    assert "--target" in done.stdout
