"""Which slot runs now, from the kernel's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootctl.active import active_slot, running_slot
from bootctl.errors import BootError
from bootctl.gpt import read_table, slot_partitions
from bootctl.settings import BootSettings
from tests.bootctl.disks import make_disk

PARTUUIDS = {"11111111-aaaa-bbbb-cccc-000000000001": "a", "22222222-aaaa-bbbb-cccc-000000000002": "b"}


@pytest.mark.parametrize(
    ("line", "slot"),
    [
        ("quiet updated.slot=b root=/dev/vda2", "b"),
        ("updated.slot=a rauc.slot=B", "a"),
        ("rauc.slot=B", "b"),
        ("updated.slot= rauc.slot=A", "a"),
        ("updated.slot=../x rauc.slot=A", "a"),
        ("root=PARTUUID=22222222-aaaa-bbbb-cccc-000000000002 ro\n", "b"),
        ("root=PARTUUID=22222222-AAAA-BBBB-CCCC-000000000002", "b"),
        ("root=PARTUUID=33333333-aaaa-bbbb-cccc-000000000003", None),
        ("root=PARTUUID=22222222-aaaa-bbbb-cccc-000000000002/PARTNROFF=1", None),
        ("root=UUID=22222222-aaaa-bbbb-cccc-000000000002", None),
        ("updated.slot=a updated.slot=b", "b"),
        ('dyndbg="file x +p updated.slot=a" updated.slot="b"', "b"),
        ("updated.slot=a -- updated.slot=b", "a"),
        ("xupdated.slot=a", None),
        ('broken="updated.slot=a', None),
        ("", None),
    ],
)
def test_the_command_line_names_the_slot(tmp_path: Path, line: str, slot: str | None) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(line)
    assert active_slot(str(tmp_path), PARTUUIDS) == slot


def test_without_a_command_line_no_slot_is_known(tmp_path: Path) -> None:
    assert active_slot(str(tmp_path), PARTUUIDS) is None


def test_a_command_line_that_names_two_slots_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    make_disk(disk)
    with disk.open("rb") as file:
        slots = slot_partitions(read_table(file.fileno()))
    settings = BootSettings(root=str(tmp_path), image=str(disk))
    (tmp_path / "proc").mkdir()
    for named, mounted in (("a", "a"), ("b", "b")):
        line = f"updated.slot={named} root=PARTUUID={slots[mounted].unique_guid}"
        (tmp_path / "proc/cmdline").write_text(line)
        assert running_slot(settings) == named
    (tmp_path / "proc/cmdline").write_text(f"updated.slot=a root=PARTUUID={slots['b'].unique_guid}")
    with pytest.raises(BootError) as caught:
        running_slot(settings)
    assert caught.value.code == "active-unknown"
