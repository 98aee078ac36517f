"""Which slot runs now, from the kernel's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootctl.active import active_slot

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
