"""The log of writes, written by QEMU itself, and the disks of its cuts."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e import writelog
from tests.e2e.writelog import BadLog, Entry, Replay, read_log

MEBIBYTE = 1 << 20
SECTOR = 512
SIZE = 8 * MEBIBYTE
LAYOUT = """\
label: gpt
start=2048, size=2048, name=esp
start=4096, size=4096, name=rootfs-a
start=8192, size=4096, name=rootfs-b
start=12288, size=2048, name=state
"""
NAMES = ["table", "esp", "rootfs-a", "rootfs-b", "state", "table"]


def make_disk(path: Path) -> Path:
    with path.open("xb") as file:
        file.truncate(SIZE)
        for offset in range(MEBIBYTE, SIZE - MEBIBYTE, MEBIBYTE // 2):
            file.seek(offset)
            file.write(random.Random(offset).randbytes(5000))
    subprocess.run(["sfdisk", "--quiet", path], input=LAYOUT, text=True, check=True)
    return path


def write(disk: Path, log: Path, commands: Sequence[str]) -> None:
    """Let QEMU do the commands of qemu-io on the disk, and log them."""
    with log.open("wb") as file:
        file.truncate(1 << 30)
    options = (
        f"driver=blklogwrites,log-sector-size={SECTOR},file.driver=file,file.filename={disk},file.discard=unmap,"
        f"discard=unmap,log.driver=file,log.filename={log}"
    )
    arguments = [word for command in commands for word in ("-c", command)]
    command = ["qemu-io", "--cache=writeback", "--image-opts", options, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "base.img")


def logged(base: Path, *commands: str) -> tuple[Path, Path]:
    """The disk and the log after the commands."""
    disk, log = base.with_name("disk.img"), base.with_name("log")
    disk.write_bytes(base.read_bytes())
    write(disk, log, commands)
    return disk, log


def whole(replay: Replay, base: Path) -> bytes:
    target = base.with_name("rebuilt.img")
    replay.image(target)
    return target.read_bytes()


def test_the_log_tells_each_write_flush_and_discard_in_order(base: Path) -> None:
    _, log = logged(
        base, "write -P 1 1M 4k", "flush", "discard 2M 64k", "write -z 3M 8k", "write -f -P 2 4M 512", "write 5M 1k"
    )
    said = [(entry.offset, entry.length, entry.flags) for entry in read_log(log)]
    # QEMU may flush more often than it was asked to.
    assert [each for each, before in zip(said, [None, *said], strict=False) if each != before] == [
        (MEBIBYTE, 4096, 0),
        (0, 0, writelog.FLUSH),
        (2 * MEBIBYTE, 65536, writelog.DISCARD),
        (3 * MEBIBYTE, 8192, 0),
        (4 * MEBIBYTE, 512, 0),
        # A write that has to be durable at once has a flush behind it.
        (0, 0, writelog.FLUSH),
        (5 * MEBIBYTE, 1024, 0),
        (0, 0, writelog.FLUSH),
    ]


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content in (b"", bytes(4096), b"EFI PART".ljust(4096, b"\0")):
        path.write_bytes(content)
        with pytest.raises(BadLog):
            read_log(path)


def test_a_log_that_lost_entries_is_refused(base: Path) -> None:
    _, log = logged(base, "write -P 1 1M 4k", "write -P 2 2M 4k", "flush")
    with log.open("r+b") as file:
        file.truncate(2 * SECTOR + 4096)
    with pytest.raises(BadLog, match="were counted"):
        read_log(log)


def test_partitions_are_files_of_their_own_and_together_they_are_the_disk(base: Path, tmp_path: Path) -> None:
    _, log = logged(base, "write -P 1 1M 512", "flush")
    with Replay(base, log, tmp_path / "parts") as replay:
        assert [region.name for region in replay.regions] == NAMES
        assert replay.path("esp").read_bytes() == base.read_bytes()[MEBIBYTE : 2 * MEBIBYTE]
        assert whole(replay, base) == base.read_bytes()


def test_at_the_end_of_the_log_the_disk_is_the_one_that_was_written(base: Path, tmp_path: Path) -> None:
    disk, log = logged(
        base, "write -P 1 1M 4k", "write -P 2 3M 700k", "discard 2M 64k", "write -P 3 0x1ff000 8k", "write -P 4 512 512"
    )
    with Replay(base, log, tmp_path / "parts") as replay:
        replay.forward(len(replay.entries))
        assert whole(replay, base) == disk.read_bytes()


def test_a_generation_changes_with_the_content_and_comes_back_with_it(base: Path, tmp_path: Path) -> None:
    _, log = logged(base, "write -P 1 1M 4k", "write -P 2 2M 4k", "flush", "write -P 3 2M 4k")
    with Replay(base, log, tmp_path / "parts") as replay:
        before = {name: replay.generation(name) for name in NAMES}
        with replay.applied([1]):
            assert replay.generation("rootfs-a") != before["rootfs-a"]
            assert replay.generation("esp") == before["esp"]
            seen = replay.generation("rootfs-a")
        assert {name: replay.generation(name) for name in NAMES} == before
        replay.forward(2)
        assert replay.generation("rootfs-a") not in (before["rootfs-a"], seen)


def test_what_a_flush_made_durable_can_not_be_lost(base: Path, tmp_path: Path) -> None:
    _, log = logged(base, "write -P 1 1M 512", "write -P 2 2M 512", "flush", "write -P 3 3M 512")
    with Replay(base, log, tmp_path / "parts") as replay:
        first, second = list(replay.epochs())[:2]
        later = second[0]
        assert (list(first), later) == ([0, 1], [entry.length > 0 for entry in replay.entries].index(True, 2))
        with pytest.raises(ValueError, match="flushes forbid"), replay.applied([later]):
            pass
        replay.forward(1)
        with pytest.raises(ValueError, match="flushes forbid"), replay.applied([1]):
            pass
        assert [replay.flushed(position) for position in (0, 1, 2, later, later + 1)] == [0, 0, 0, later, later]


# Each is a write, or a flush (None): offset and length in sectors, all within the partitions.
WRITES = st.lists(
    st.one_of(st.none(), st.tuples(st.integers(2048, 14000), st.integers(1, 40))), min_size=1, max_size=12
).map(lambda writes: [(2048, 1), *writes])


@given(writes=WRITES, data=st.data())
@settings(max_examples=10, deadline=None)
def test_each_cut_is_what_was_flushed_and_any_of_the_rest(
    writes: list[tuple[int, int] | None], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    base = make_disk(folder / "base.img")
    commands = [f"write -P {number + 1} {each[0] * SECTOR} {each[1] * SECTOR}" if each else "flush"
                for number, each in enumerate(writes)]  # fmt: skip
    _, log = logged(base, *commands)
    content = bytearray(base.read_bytes())
    # QEMU flushes less or more often where that makes no difference.
    patterns = [bytes([number + 1]) for number, each in enumerate(writes) if each]
    with Replay(base, log, folder / "parts") as replay:
        assert [(entry.offset, entry.length) for entry in replay.entries if not entry.flushes] == [
            (each[0] * SECTOR, each[1] * SECTOR) for each in writes if each
        ]
        changes: dict[int, tuple[Entry, bytes]] = {}
        for number, entry in enumerate(replay.entries):
            if not entry.flushes:
                changes[number] = (entry, patterns[len(changes)])
        for epoch in replay.epochs():
            replay.forward(epoch[0])
            assert whole(replay, base) == bytes(content)
            kept = [number for number in epoch if data.draw(st.booleans(), label=f"write {number} survives")]
            with replay.applied(kept):
                assert whole(replay, base) == with_writes(content, [changes[number] for number in kept])
            assert whole(replay, base) == bytes(content)
            content = bytearray(with_writes(content, [changes[number] for number in epoch]))


def with_writes(content: bytearray, writes: Sequence[tuple[Entry, bytes]]) -> bytes:
    changed = bytearray(content)
    for entry, pattern in writes:
        changed[entry.offset : entry.offset + entry.length] = pattern * entry.length
    return bytes(changed)
