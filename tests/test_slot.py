"""Slots: what is handed over lies there afterwards, in whole blocks, and not a byte beside it changes."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl import durable
from tests.releases import Window, noise
from updated import region as region_module
from updated import slot as slot_module
from updated.core.errors import UpdatedError
from updated.region import BLOCK, Buffer, Region
from updated.slot import MAX_EDGES, STRETCH_LENGTH, Slot, Stretch

SIZE = 40 * BLOCK
Write = tuple[int, bytes]


def write(slot: Slot, *parts: Write) -> None:
    """Hands over (offset, bytes), as one thread does."""
    stretch = Stretch(slot)
    for offset, data in parts:
        stretch.add(offset, memoryview(data))
    stretch.flush()


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    with closing(Window(tmp_path / "slot", noise(1, SIZE), SIZE)) as made:
        yield made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Every write of a slot, as (start, length)."""
    found: list[tuple[int, int]] = []
    real = Region.write

    def watched(self: Region, start: int, data: memoryview) -> None:
        found.append((start, len(data)))
        real(self, start, data)

    monkeypatch.setattr(Region, "write", watched)
    return found


@st.composite
def pieces(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, bool]]]:
    """The size of a slot, and disjoint parts of it: (start, length, whether it is to be zeros)."""
    size = draw(st.integers(1, 12 * BLOCK))
    near = st.sampled_from((0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK)) | st.integers(0, 12 * BLOCK)
    cuts = sorted({min(size, cut) for cut in draw(st.lists(near, max_size=12))})
    taken = [pair for pair in itertools.pairwise(cuts) if draw(st.booleans())]
    return size, draw(st.permutations([(start, end - start, draw(st.booleans())) for start, end in taken]))


@settings(max_examples=150)
@given(pieces(), st.sampled_from((0, 100, BLOCK)), st.booleans(), st.booleans(), st.data())
def test_whatever_is_handed_over_in_whatever_order_lies_there_and_the_rest_stays(
    tmp_path_factory: pytest.TempPathFactory, plan: tuple[int, list[tuple[int, int, bool]]], margin: int, compare: bool,
    direct: bool, data: st.DataObject,
) -> None:
    size, parts = plan
    expected = bytearray(noise(size, size))
    with closing(Window(tmp_path_factory.getbasetemp() / "slot", bytes(expected), size, margin)) as window:
        if direct:
            window.region.open_direct()
        slot = Slot(window.region, compare=compare)
        stretches = [Stretch(slot), Stretch(slot)]
        for start, length, zeros in parts:
            stretch = data.draw(st.sampled_from(stretches))
            expected[start : start + length] = bytes(length) if zeros else noise(start, length)
            if zeros:
                stretch.zero(start, length)
            else:
                stretch.add(start, memoryview(expected)[start : start + length])
        for stretch in stretches:
            stretch.flush()
        slot.finish()
        assert window.content() == bytes(expected)


def test_neighbours_are_written_together_in_whole_blocks(window: Window, written: list[tuple[int, int]]) -> None:
    slot = Slot(window.region, compare=False)
    write(slot, (0, noise(2, 5000)), (5000, noise(3, 5000)), (10000, noise(4, 6 * BLOCK - 10000)))
    assert written == [(0, 6 * BLOCK)]


def test_a_block_that_two_threads_share_is_written_once(window: Window, written: list[tuple[int, int]]) -> None:
    slot, data = Slot(window.region, compare=False), noise(2, 2 * BLOCK)
    write(slot, (0, data[:5000]))
    write(slot, (5000, data[5000:]))
    assert sorted(written) == [(0, BLOCK), (BLOCK, BLOCK)]
    assert window.content(2 * BLOCK) == data


def test_the_oldest_edges_are_written_before_there_are_too_many_of_them(tmp_path: Path) -> None:
    size = 2 * (MAX_EDGES + 1) * BLOCK
    with closing(Window(tmp_path / "slot", b"", size)) as window:
        slot = Slot(window.region, compare=False)
        write(slot, *[(number * 2 * BLOCK, b"edge") for number in range(MAX_EDGES + 1)])
        assert 0 < window.content().count(b"edge") < MAX_EDGES
        slot.finish()
        assert window.content().count(b"edge") == MAX_EDGES + 1


def test_an_edge_is_not_written_over_by_what_comes_for_its_block_later(tmp_path: Path) -> None:
    size = 2 * (MAX_EDGES + 2) * BLOCK
    with closing(Window(tmp_path / "slot", b"", size)) as window:
        slot = Slot(window.region, compare=False)
        write(slot, (10, b"early"), *[(number * 2 * BLOCK, b"x") for number in range(1, MAX_EDGES + 2)])
        write(slot, (15, b"late"))
        slot.finish()
        assert window.content(19) == b"\xaa" * 10 + b"earlylate"


def test_of_what_is_there_already_only_blocks_that_differ_are_written(
    window: Window, written: list[tuple[int, int]]
) -> None:
    data = bytearray(window.content())
    for block in (0, 7, 8, 39):
        data[block * BLOCK + 5] ^= 1
    slot = Slot(window.region, compare=True)
    write(slot, (0, bytes(data)))
    assert written == [(0, BLOCK), (7 * BLOCK, 2 * BLOCK), (39 * BLOCK, BLOCK)]
    assert (slot.written, slot.skipped) == (4 * BLOCK, 36 * BLOCK)
    assert window.content() == data


def test_edges_and_zeros_that_are_there_already_are_not_written(tmp_path: Path, written: list[tuple[int, int]]) -> None:
    content = noise(1, 5000) + bytes(SIZE - 5000)
    with closing(Window(tmp_path / "slot", content, SIZE)) as window:
        slot = Slot(window.region, compare=True)
        write(slot, (0, content[:100]), (4900, content[4900:5000]))
        slot.zero(2 * BLOCK, SIZE - 2 * BLOCK, Buffer(STRETCH_LENGTH))
        slot.finish()
    assert (written, slot.written, slot.discarded) == ([], 0, 0)
    assert slot.skipped == SIZE - 2 * BLOCK + 2 * BLOCK, "the zeros, and the blocks of the two edges"


def test_a_foreign_slot_is_not_read_before_it_is_written(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Region, "load", lambda *arguments: pytest.fail("it was read"))
    write(Slot(window.region, compare=False), (BLOCK, noise(2, 8 * BLOCK)))


def test_the_medium_catches_up_in_slices_while_the_slot_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(slot_module, "SLICE_LENGTH", 4 * STRETCH_LENGTH)
    monkeypatch.setattr(durable, "sync_fd", synced.append)
    with closing(Window(tmp_path / "slot", b"", 12 * STRETCH_LENGTH)) as window:
        slot = Slot(window.region, compare=False)
        write(slot, (0, noise(3, 11 * STRETCH_LENGTH)))
        assert len(synced) == 2
        slot.finish()
        assert len(synced) == 3


def test_zeros_are_punched_and_take_no_room(tmp_path: Path) -> None:
    size = 4 * STRETCH_LENGTH
    with closing(Window(tmp_path / "slot", noise(1, size), size)) as window:
        before = os.stat(tmp_path / "slot").st_blocks
        slot = Slot(window.region, compare=False)
        slot.zero(BLOCK, size - BLOCK, Buffer(STRETCH_LENGTH))
        slot.finish()
        assert window.content()[BLOCK:] == bytes(size - BLOCK)
        assert (slot.discarded, slot.written) == (size - BLOCK, 0)
        assert os.stat(tmp_path / "slot").st_blocks * 512 < before * 512 - size // 2


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV])
def test_zeros_are_written_where_the_device_can_not_punch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    size = 2 * STRETCH_LENGTH + 5 * BLOCK + 17
    refuse(monkeypatch, number)
    with closing(Window(tmp_path / "slot", noise(1, size), size)) as window:
        slot = Slot(window.region, compare=False)
        slot.zero(1000, size - 1000, Buffer(STRETCH_LENGTH))
        slot.finish()
        assert window.content() == noise(1, size)[:1000] + bytes(size - 1000)
        assert slot.discarded == 0


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fallocate(*arguments: int) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(region_module, "_libc", SimpleNamespace(fallocate=fallocate))


def test_a_disk_that_fails_while_it_punches_is_a_disk_error(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EIO)
    with pytest.raises(UpdatedError) as caught:
        Slot(window.region, compare=False).zero(0, SIZE, Buffer(STRETCH_LENGTH))
    assert caught.value.code == "disk-error"


def test_several_threads_fill_a_slot_without_losing_a_byte(tmp_path: Path) -> None:
    size, step = 3_000_000, 1234
    data = noise(2, size)
    with closing(Window(tmp_path / "slot", b"", size)) as window:
        slot = Slot(window.region, compare=False)
        places = list(range(0, size, step))

        def work(mine: list[int]) -> None:
            write(slot, *[(at, data[at : at + step]) for at in mine])

        threads = [threading.Thread(target=work, args=(places[number::3],)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        slot.finish()
        assert window.content() == data


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (SIZE, 1), (0, SIZE + 1)])
def test_no_access_leaves_the_window(window: Window, start: int, length: int) -> None:
    before = window.content()
    for access in (
        lambda: window.region.load(start, length, Buffer(SIZE + 3 * BLOCK)),
        lambda: window.region.write(start, memoryview(bytes(length))),
        lambda: window.region.punch(start, length),
    ):
        with pytest.raises(UpdatedError, match="leaves it"):
            access()
    assert window.content() == before


def test_a_partition_that_is_longer_than_its_disk_is_a_disk_error(tmp_path: Path) -> None:
    with closing(Window(tmp_path / "slot", b"", SIZE)) as window:
        os.truncate(tmp_path / "slot", window.region.offset + SIZE - 10)
        with pytest.raises(UpdatedError, match="before its partition does") as caught:
            window.region.load(0, SIZE, Buffer(SIZE + 2 * BLOCK))
        assert caught.value.code == "disk-error"


def test_what_is_loaded_is_what_lies_there_wherever_it_begins(window: Window) -> None:
    whole = window.content()
    buffer = Buffer(SIZE + 2 * BLOCK)
    for start, length in ((0, SIZE), (1, 1), (BLOCK - 1, 2), (SIZE - 1, 1), (5, 0), (SIZE, 0)):
        assert bytes(window.region.load(start, length, buffer)) == whole[start : start + length]


def is_direct(region: Region) -> bool:
    return region.open_direct() and os.O_DIRECT & int(flags_of(region), 8) != 0


def flags_of(region: Region) -> str:
    lines = Path(f"/proc/self/fdinfo/{region.fd}").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("flags:"))


@pytest.mark.parametrize(("margin", "size"), [(BLOCK, SIZE + 512), (512, SIZE), (BLOCK, 0)])
def test_a_window_that_direct_access_can_not_serve_is_read_through_the_cache(
    tmp_path: Path, margin: int, size: int
) -> None:
    with closing(Window(tmp_path / "slot", noise(1, size), size, margin)) as window:
        assert not is_direct(window.region)
        assert bytes(window.region.load(0, size, Buffer(SIZE + 3 * BLOCK))) == noise(1, size)


@contextmanager
def loop_device(path: Path) -> Iterator[Region]:
    """`path` as a block device; skips where there are none."""
    try:
        made = subprocess.run(["losetup", "--find", "--show", str(path)], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device can be made: {error}")
    device = made.stdout.strip()
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield Region(fd, 0, path.stat().st_size)
        finally:
            os.close(fd)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def file_window(path: Path) -> Iterator[Region]:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield Region(fd, 0, path.stat().st_size)
    finally:
        os.close(fd)


Opener = Callable[[Path], AbstractContextManager[Region]]


@pytest.mark.parametrize("opened", [file_window, loop_device])
@pytest.mark.parametrize("compare", [True, False])
def test_a_slot_is_written_past_the_page_cache(tmp_path: Path, opened: Opener, compare: bool) -> None:
    before, path = noise(1, SIZE), tmp_path / "disk"
    path.write_bytes(before)
    expected = before[:100] + noise(2, 9 * BLOCK) + bytes(5 * BLOCK) + before[100 + 14 * BLOCK :]
    with opened(path) as region:
        if not is_direct(region):
            pytest.skip("the file system of the temporary folder has no direct access")
        slot = Slot(region, compare=compare)
        write(slot, (100, expected[100 : 100 + 9 * BLOCK]))
        slot.zero(100 + 9 * BLOCK, 5 * BLOCK, Buffer(STRETCH_LENGTH))
        slot.finish()
        assert bytes(region.load(0, SIZE, Buffer(SIZE + 2 * BLOCK))) == expected
    assert path.read_bytes() == expected


def test_a_block_device_says_itself_that_it_can_not_punch_parts_of_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(noise(1, SIZE))
    with loop_device(path) as region:
        assert not region.punch(100, BLOCK)
        assert region.punch(BLOCK, BLOCK)
        assert bytes(region.load(0, 3 * BLOCK, Buffer(5 * BLOCK)))[BLOCK : 2 * BLOCK] == bytes(BLOCK)
