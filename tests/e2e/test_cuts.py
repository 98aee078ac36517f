"""Which cuts of a log are looked at."""

from __future__ import annotations

import random
from pathlib import Path

from tests.e2e.cuts import cuts
from tests.e2e.test_writelog import MEBIBYTE, logged, make_disk, whole
from tests.e2e.writelog import Replay


def contents(tmp_path: Path, *commands: str, bulk: tuple[str, ...] = ()) -> set[bytes]:
    """For each cut, which writes are there: of each 4096 bytes at a mebibyte the first one."""
    base = make_disk(tmp_path / "base.img")
    with base.open("r+b") as file:
        for place in range(1, 7):
            file.seek(place * MEBIBYTE)
            file.write(bytes(4096))
    _, log = logged(base, *commands)
    with Replay(base, log, tmp_path / "parts") as replay:
        places = slice(MEBIBYTE, 7 * MEBIBYTE, MEBIBYTE)
        return {whole(replay, base)[places] for _ in cuts(replay, random.Random(1), bulk=bulk)}


def test_of_a_few_writes_each_set_may_survive(tmp_path: Path) -> None:
    found = contents(tmp_path, "write -P 1 1M 4k", "write -P 2 2M 4k", "write -P 3 3M 4k", "flush")
    assert found == {bytes([a, b, c, 0, 0, 0]) for a in (0, 1) for b in (0, 2) for c in (0, 3)}


def test_no_cut_takes_back_what_was_flushed(tmp_path: Path) -> None:
    found = contents(tmp_path, "write -P 1 1M 4k", "flush", "write -P 2 2M 4k", "flush")
    assert found == {bytes(6), bytes([1, 0, 0, 0, 0, 0]), bytes([1, 2, 0, 0, 0, 0])}


def test_of_many_writes_each_is_the_only_one_and_the_only_one_missing(tmp_path: Path) -> None:
    found = contents(tmp_path, *(f"write -P {number} {number}M 4k" for number in range(1, 7)), "flush")
    whole = bytes(range(1, 7))
    for number in range(6):
        assert bytes(number) + whole[number : number + 1] + bytes(5 - number) in found
        assert whole[:number] + b"\0" + whole[number + 1 :] in found


def test_bulk_data_is_one_write(tmp_path: Path) -> None:
    # 2M and 3M are of rootfs-a, 1M is of the EFI system partition.
    found = contents(tmp_path, "write -P 2 2M 4k", "write -P 3 3M 4k", "write -P 1 1M 4k", "flush", bulk=("rootfs-a",))
    assert found == {bytes([a, *b, 0, 0, 0]) for a in (0, 1) for b in ((0, 0), (2, 3))}
