"""A component that is a file on the EFI system partition: it is installed, sealed and refused as a partition is."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import nginx
from tests.http.server import Answer, Handler, ScriptedServer
from tests.node.bench import FAILED, IMAGE_SIZE, NEW, SLOT_SIZE, Bench, bench, files_except, start_once
from tests.node.test_hostile_fetch import is_refused, take_over
from tests.node.world import Publisher, make_machine, shipped
from tests.releases import noise

FILES = '[disk]\nfiles = { kernel = "/efi/EFI/updated/{slot}.efi" }\n'
KERNEL = noise(1, 300_001)
MEBIBYTE = 1 << 20


def ship(publisher: Publisher, version: str, kernel: bytes, *, patches: int = 0) -> None:
    path = publisher.folder / f"{version}.efi"
    path.write_bytes(kernel)
    publisher.release(version, size=IMAGE_SIZE, channels=("stable",), patches=patches, kernel=path)


@contextmanager
def bench_with_kernel(folder: Path, kernel: bytes = KERNEL, url: str | None = None) -> Iterator[Bench]:
    """A bench whose machine has `kernel` for slot a, and none for slot b."""
    publisher = shipped(folder / "publisher", size=IMAGE_SIZE, channels=("stable",), kernel=kernel)
    with (
        nginx.serve(publisher.repository) as own,
        make_machine(folder / "machine", publisher, url or own, slot_size=SLOT_SIZE) as machine,
    ):
        node = Bench(publisher, machine)
        (machine.root / "efi/EFI/updated").mkdir(parents=True)
        kernel_of(node, "a").write_bytes(kernel)
        machine.write_for_site("updated.toml.d/10-kernel.toml", FILES)
        yield node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    with bench_with_kernel(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One node for all that is refused before anything is written: what a test spoils, it mends."""
    with bench_with_kernel(tmp_path_factory.mktemp("file")) as made:
        ship(made.publisher, NEW, KERNEL[::-1])
        yield made


def kernel_of(node: Bench, slot: str) -> Path:
    return node.machine.esp / f"EFI/updated/{slot}.efi"


def installed(node: Bench, component: str) -> dict[str, int]:
    figures: dict[str, int] = node.status()["last_install"]["components"][component]
    return figures


def test_a_file_that_was_not_there_is_made_and_the_running_one_stays(node: Bench) -> None:
    ship(node.publisher, NEW, KERNEL[::-1])
    node.updates()
    assert kernel_of(node, "b").read_bytes() == KERNEL[::-1]
    assert kernel_of(node, "a").read_bytes() == KERNEL
    assert installed(node, "kernel")["image"] == len(KERNEL)
    assert installed(node, "rootfs")["image"] > 0
    shown = node.machine.updatectl("status").stdout
    assert "kernel: " in shown
    assert "rootfs: " in shown
    assert node.machine.power_on() == "b"


@pytest.mark.parametrize(
    ("changed", "patches"),
    [
        (KERNEL[:200_000], 0), (KERNEL + noise(2, 99_999), 0), (KERNEL[:100_000] + b"new" + KERNEL[100_000:], 1),
        (KERNEL, 1),
    ],
    ids=["shorter", "longer", "moved, with a patch", "the same"],
)  # fmt: skip
def test_a_new_kernel_is_made_of_the_running_one_whatever_was_there(node: Bench, changed: bytes, patches: int) -> None:
    kernel_of(node, "b").write_bytes(noise(3, 350_000))
    ship(node.publisher, NEW, changed, patches=patches)
    node.updates()
    assert kernel_of(node, "b").read_bytes() == changed
    assert kernel_of(node, "a").read_bytes() == KERNEL
    figures = installed(node, "kernel")
    assert figures["copied"] > 100_000
    assert figures["downloaded"] < len(changed)


def test_updates_go_to_and_fro_between_the_two_files(node: Bench) -> None:
    kernels = {"a": KERNEL}
    for version, kernel, slot in ((NEW, KERNEL + b"1", "b"), ("1.2.0", KERNEL[:-7], "a"), ("1.3.0", KERNEL, "b")):
        ship(node.publisher, version, kernel)
        assert f"{version} is staged" in node.once()
        kernels[slot] = kernel
        assert node.machine.power_on() == slot
        assert {each: kernel_of(node, each).read_bytes() for each in kernels} == kernels


def test_zeros_of_a_kernel_are_zeros_in_the_file_whatever_was_there(node: Bench) -> None:
    kernel = KERNEL[:100_000] + bytes(400_000) + KERNEL[100_000:] + bytes(70_000)
    kernel_of(node, "b").write_bytes(noise(3, 350_000))
    ship(node.publisher, NEW, kernel)
    node.updates()
    assert kernel_of(node, "b").read_bytes() == kernel


# -------------------------------------------------------------------------------------------------------------- cuts


class Stalling:
    """Serves a folder; of the kernel's blob it sends only half, and then nothing until it is let go."""

    def __init__(self) -> None:
        self.node: Bench | None = None
        self.let_go = threading.Event()

    def answer(self) -> Answer:
        return files_except(lambda: self._node.repository, self._spoil)

    @property
    def _node(self) -> Bench:
        assert self.node is not None
        return self.node

    def _spoil(self, handler: Handler, data: bytes) -> Answer | None:
        if self.let_go.is_set() or len(data) < 2 * MEBIBYTE:
            return None

        def half(handler: Handler) -> None:
            first, last = (int(part) for part in handler.headers["Range"].removeprefix("bytes=").split("-"))
            handler.head(206, Content_Length=last + 1 - first, Content_Range=f"bytes {first}-{last}/{len(data)}")
            handler.wfile.write(data[first : first + len(data) // 2])
            handler.wfile.flush()
            self.let_go.wait(60)

        return half


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_cut_in_the_middle_of_the_kernel_boots_the_old_slot_and_the_next_cycle_goes_on(tmp_path: Path) -> None:
    kernel, stalling = noise(5, 6 * MEBIBYTE + 5), Stalling()
    with ScriptedServer(stalling.answer()) as server, bench_with_kernel(tmp_path, url=server.url) as node:
        stalling.node = node
        ship(node.publisher, NEW, kernel)
        begun = start_once(node.machine)
        file = kernel_of(node, "b")
        until(lambda: file.exists() and file.read_bytes()[:MEBIBYTE] == kernel[:MEBIBYTE])
        assert node.active().boots_next == "rootfs-a"
        assert kernel_of(node, "b").read_bytes() != kernel
        begun.kill()
        begun.communicate()
        stalling.let_go.set()
        assert node.machine.power_on() == "a"
        node.updates()
        assert kernel_of(node, "b").read_bytes() == kernel
        assert installed(node, "kernel")["in_place"] >= MEBIBYTE


def conf(slot: str, version: int) -> str:
    return f"sort-key updated\nversion {version:010}\nlinux /EFI/updated/{slot}.efi\noptions updated.slot={slot}\n"


@pytest.mark.parametrize("before", ["updated-b.conf", "updated-b+2-1.conf"])
def test_an_entry_without_a_kernel_does_not_count_before_its_kernel_is_whole(tmp_path: Path, before: str) -> None:
    """Else the first byte of the file would make the entry one that boots."""
    kernel, stalling = noise(5, 6 * MEBIBYTE + 5), Stalling()
    with ScriptedServer(stalling.answer()) as server, bench_with_kernel(tmp_path, url=server.url) as node:
        stalling.node = node
        entries = node.machine.esp / "loader/entries"
        entries.mkdir(parents=True)
        (entries / "updated-a.conf").write_text(conf("a", 2))
        (entries / before).write_text(conf("b", 1))
        boot = '[boot]\nbackend = "systemd_boot"\nesp = "/efi"\n'
        node.machine.write_for_site("updated.toml.d/20-boot.toml", boot)
        ship(node.publisher, NEW, kernel)
        in_the_way = node.machine.esp / "loader/loader.conf"
        in_the_way.write_text("default updated-a.conf\n")
        node.tells(node.once(FAILED), "boot-reference", "loader.conf")
        assert not kernel_of(node, "b").exists(), "it was made before its entry was taken away"
        in_the_way.unlink()
        begun = start_once(node.machine)
        until(lambda: kernel_of(node, "b").exists())
        assert sorted(os.listdir(entries)) == ["updated-a.conf", "updated-b+0-0.conf"]
        stalling.let_go.set()
        assert f"{NEW} is staged and boots next" in begun.communicate()[0]
        assert sorted(os.listdir(entries)) == ["updated-a.conf", "updated-b+3-0.conf"]
        assert kernel_of(node, "b").read_bytes() == kernel


# ------------------------------------------------------------------------------------------------ a hostile downloader


@pytest.mark.parametrize("how", ["longer", "shorter", "altered"])
def test_a_kernel_that_is_not_to_the_byte_what_is_signed_is_not_booted(node: Bench, how: str) -> None:
    ship(node.publisher, NEW, KERNEL[::-1])
    take_over(node, "the kernel", how=how, size=len(KERNEL))
    words = "has the SHA-256" if how == "altered" else f"has another length than the {len(KERNEL)} bytes"
    is_refused(node, "slot-differs", "component kernel in slot b", words)
    assert kernel_of(node, "b").read_bytes() == KERNEL[::-1]
    assert kernel_of(node, "a").read_bytes() == KERNEL


# ------------------------------------------------------------------------------------------- what is not written at all


def test_without_the_folder_nothing_is_written_and_it_says_where_to_mount(shared: Bench) -> None:
    folder = shared.machine.esp / "EFI/updated"
    folder.rename(shared.machine.esp / "away")
    shared.refuses_untouched("slot-missing", "/efi/EFI/updated", "is not there", "Mount the partition")
    folder.write_bytes(b"")
    shared.refuses_untouched("slot-missing", "/efi/EFI/updated", "is not there")
    folder.unlink()
    folder.symlink_to(shared.machine.esp / "away")
    shared.refuses_untouched("slot-missing", "/efi/EFI/updated", "symbolic link", "/efi/away")
    folder.unlink()
    (shared.machine.esp / "away").rename(folder)


def test_a_name_that_leads_to_the_running_kernel_is_not_written(shared: Bench) -> None:
    name = kernel_of(shared, "b")
    name.hardlink_to(kernel_of(shared, "a"))
    shared.refuses_untouched("slot-running", "b.efi", "is that of the running slot", "a.efi")
    name.unlink()
    name.symlink_to("a.efi")
    shared.refuses_untouched("slot-missing", "b.efi", "is no plain file")
    name.unlink()
    assert kernel_of(shared, "a").read_bytes() == KERNEL


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_what_is_no_plain_file_is_not_written(shared: Bench, make: Callable[[Path], None]) -> None:
    make(kernel_of(shared, "b"))
    shared.refuses_untouched("slot-missing", "b.efi", "is no plain file", "Remove it")
    (kernel_of(shared, "b").rmdir if make is os.mkdir else kernel_of(shared, "b").unlink)()


def test_a_file_that_another_process_has_open_for_writing_is_in_use(shared: Bench) -> None:
    with kernel_of(shared, "b").open("wb"):
        shared.refuses_untouched("slot-in-use", "b.efi", "is open for writing in another process")
    kernel_of(shared, "b").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_kernel_that_the_partition_has_no_room_for_is_refused_and_costs_nothing(shared: Bench) -> None:
    folder = shared.machine.esp / "EFI/updated"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(folder)], check=True)
    try:
        (folder / "a.efi").write_bytes(b"")
        shared.refuses_untouched("image-too-large", "component kernel", f"has {len(KERNEL)} bytes")
        assert not (folder / "b.efi").exists()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_kernel_and_an_initrd_share_the_room_of_their_partition(tmp_path: Path) -> None:
    with bench(tmp_path) as node:
        folder = node.root / "efi/EFI/updated"
        folder.mkdir(parents=True)
        files = FILES.replace(" }", ', initrd = "/efi/EFI/updated/{slot}.img" }')
        node.machine.write_for_site("updated.toml.d/10-kernel.toml", files)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", str(folder)], check=True)
        try:
            (folder / "b.img").write_bytes(noise(3, 700_000))
            larger, smaller = tmp_path / "larger", tmp_path / "smaller"
            larger.write_bytes(noise(4, 600_000))
            smaller.write_bytes(noise(5, 100_000))
            node.publisher.release(NEW, size=IMAGE_SIZE, channels=("stable",), kernel=larger, initrd=larger)
            words = "have 1200000 bytes together, and the file system of their files holds"
            node.refuses_untouched("image-too-large", "components initrd, kernel", words)
            assert (folder / "b.img").read_bytes() == noise(3, 700_000)
            node.publisher.release("1.2.0", size=IMAGE_SIZE, channels=("stable",), kernel=larger, initrd=smaller)
            node.updates("1.2.0")
            assert (folder / "b.efi").read_bytes() == larger.read_bytes()
            assert (folder / "b.img").read_bytes() == smaller.read_bytes()
        finally:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_release_without_the_kernel_is_no_release_for_this_node(node: Bench) -> None:
    node.ship()
    node.refuses_untouched("incompatible", "the components rootfs", "kernel", "[disk] files")


def test_after_all_that_the_node_updates(shared: Bench) -> None:
    shared.updates()
    assert kernel_of(shared, "b").read_bytes() == KERNEL[::-1]
