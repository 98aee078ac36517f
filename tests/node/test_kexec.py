"""A reboot by kexec, asked of the real daemon: which unit it starts, and what it does when that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.bench import NEW, Bench
from tests.node.test_slot_file import KERNEL, bench_with_kernel, ship
from updated.reboot import KEXEC_UNIT

# Stands in for `systemctl start UNIT`: that of kexec ends with what the file says.
START = """\
#!/bin/sh
echo "$1" >>{folder}/started
[ "$1" != updated-kexec.service ] || {{ echo 'it is not permitted' >&2; exit $(cat {folder}/status); }}
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    with bench_with_kernel(tmp_path / "node") as made:
        start = tmp_path / "start"
        start.write_text(START.format(folder=tmp_path))
        start.chmod(0o755)
        text = f'[updates]\nreboot = "kexec"\nstart_command = ["{start}"]\n'
        made.machine.write_for_site("updated.toml.d/60-kexec.toml", text)
        ship(made.publisher, NEW, KERNEL[::-1])
        yield made


def started(folder: Path) -> list[str]:
    file = folder / "started"
    return file.read_text().splitlines() if file.exists() else []


def reboots(node: Bench) -> list[str]:
    lines = node.machine.updatectl("history").stdout.splitlines()
    return [line for line in lines if " reboot " in line]


def test_a_staged_release_is_started_by_the_unit_for_it_after_baseline_and_hooks(tmp_path: Path, node: Bench) -> None:
    (tmp_path / "status").write_text("0")
    node.machine.start_daemon()
    node.machine.wait_until(lambda: KEXEC_UNIT in started(tmp_path))
    node.machine.wait_until(lambda: len(reboots(node)) == 1)
    node.machine.stop_daemon()
    units = started(tmp_path)
    assert units[-3:] == [f"updated-baseline@{NEW}.service", "updated-hooks@pre-reboot.service", KEXEC_UNIT]
    assert not node.machine.reboot_asked.exists()


def test_when_that_fails_the_node_reboots_through_the_loader_and_says_why(tmp_path: Path, node: Bench) -> None:
    (tmp_path / "status").write_text("1")
    node.machine.start_daemon()
    node.machine.wait_until(node.machine.reboot_asked.exists)
    node.machine.stop_daemon()
    assert len(reboots(node)) == 1, "it is counted once"
    told = f"{KEXEC_UNIT} ended with status 1 (it is not permitted): it reboots through the boot loader"
    assert told in node.machine.updatectl("history").stdout
    assert node.machine.log.read_text().count(told) == 1
    assert node.machine.power_on() == "b"
