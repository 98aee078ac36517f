"""Each loader on a disk of its own, with what is shipped for it, and the life of a machine that it starts.

A payload stands for the system in a slot: it says which slot it is and switches off. The system's changes of the boot
reference are made by the real back-end, on a copy of the files that the loader reads.
"""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from bootctl import bls
from bootctl.backend import Backend
from bootctl.efivars import LOADER_GUID
from bootctl.grub import Grub
from bootctl.model import BootView, next_boot
from bootctl.systemd_boot import SystemdBoot
from bootctl.uboot import UBoot
from tests.bootctl.grub_emulator import SNIPPET, grubenv
from tests.fakes import systemd_boot
from tests.qemu import variables
from tests.qemu.disks import (
    Files,
    fill_ext4,
    make_disk,
    put_on_esp,
    replace_on_esp,
    run,
    take_from_esp,
    take_from_ext4,
)
from tests.qemu.machine import STARTED, Booted, Firmware, Machine, new_variables

SLOTS: Final = ("a", "b")
AT_A_TIME: Final = 2


class Loader(ABC):
    """A bootloader, and where it keeps its boot reference. Equal ones have the same disk."""

    @property
    @abstractmethod
    def firmware(self) -> Firmware: ...

    @abstractmethod
    def install(self, disk: Path) -> None:
        """Put the loader and a payload for each slot on a disk of `make_disk`."""

    @abstractmethod
    def put(self, machine: Path, reference: Files) -> None:
        """Make `reference` the whole boot reference of the machine in that folder."""

    @abstractmethod
    def take(self, machine: Path) -> dict[str, bytes]:
        """The files of the boot reference."""

    @abstractmethod
    def new(self) -> Files:
        """The boot reference of a machine with slot a installed, made as the documents tell a person to do."""

    @abstractmethod
    def backend(self, root: Path) -> Backend:
        """The back-end for a boot reference in the folder `inside` of `root`."""

    @property
    def inside(self) -> str:
        """The folder of the boot reference, for the back-end."""
        return "boot"

    def starter(self) -> bytes | None:
        """A disk of its own that the loader starts from."""
        return None


@cache
def _installed(loader: Loader) -> Files:
    """The files of a machine that has been started once: OVMF looks for what it can boot then, and remembers it."""
    with tempfile.TemporaryDirectory() as folder:
        machine, files = Path(folder), {}
        make_disk(machine / "disk.img")
        loader.install(machine / "disk.img")
        files["disk.img"] = (machine / "disk.img").read_bytes()
        starter = loader.starter()
        if starter is not None:
            files["starter.img"] = starter
        if loader.firmware == "ovmf":
            loader.put(machine, loader.new())
            Machine(machine, loader.firmware).boot()
            files["vars.fd"] = (machine / "vars.fd").read_bytes()
        return files


class Node:
    """A machine with `loader`, whose slot a is confirmed and whose slot b is empty at first."""

    def __init__(self, loader: Loader, folder: Path, reference: Files | None = None) -> None:
        self.loader = loader
        self.disk = folder / "disk.img"
        self._folder = folder
        for name, data in _installed(loader).items():
            (folder / name).write_bytes(data)
        self.put(loader.new() if reference is None else reference)
        self._machine = Machine(folder, loader.firmware)

    def files(self) -> dict[str, bytes]:
        """The files of the boot reference."""
        return self.loader.take(self._folder)

    def put(self, reference: Files) -> None:
        """Make `reference` the whole boot reference."""
        self.loader.put(self._folder, reference)

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """A root with a copy of the boot reference in its folder `inside`."""
        with tempfile.TemporaryDirectory() as root:
            inside = Path(root, self.loader.inside)
            inside.mkdir(parents=True)
            for name, data in self.files().items():
                (inside / name).write_bytes(data)
            yield Path(root)

    def view(self) -> BootView:
        """What the back-end reads."""
        with self.unpacked() as root:
            return self.loader.backend(root).read()

    def change(self, transition: Callable[[BootView], BootView]) -> None:
        """What the running system does: the back-end commits what `transition` makes of the boot reference."""
        with self.unpacked() as root:
            backend = self.loader.backend(root)
            backend.commit(transition(backend.read()))
            self.put({path.name: path.read_bytes() for path in (root / self.loader.inside).iterdir()})

    def start(self) -> Booted:
        """One boot, whatever comes of it."""
        return self._machine.boot()

    def boot(self) -> str:
        """One boot, which has to be as the model foretells; the slot that was started."""
        slot, left = next_boot(self.view())
        booted = self.start()
        assert booted.slot is not None, f"{booted.ending}: {booted.log}"
        assert booted.slot == slot, booted.log
        assert self.view() == left, booted.log
        return booted.slot

    def boots(self, count: int) -> str:
        """The slots of so many boots in a row, such as "bbba"."""
        return "".join(self.boot() for _ in range(count))


def boot_each(loader: Loader, references: Iterable[Files]) -> list[tuple[Booted, dict[str, bytes]]]:
    """What each boot reference leads to, and what the loader leaves of it; two machines at a time."""

    def boot(reference: Files) -> tuple[Booted, dict[str, bytes]]:
        with tempfile.TemporaryDirectory() as folder:
            node = Node(loader, Path(folder), reference)
            return node.start(), node.files()

    _installed(loader)  # before two need it at once
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(boot, references))


def boot_states(loader: str, states: Iterable[Files]) -> list[str | None]:
    """The slot that each of `states` starts, None for none, in their order.

    `loader` is the name of a back-end. A state is what a cut left in the folder of its boot reference: for `grub` the
    files grubenv and grubenv.backup; for `systemd_boot` the entries of type 1, with the payload where they say that the
    kernel is, and the variables as efivarfs shows them; for `uboot` uboot.env and uboot.env.backup, of 16 KiB.
    """
    return [booted.slot for booted, _ in boot_each(LOADERS[loader](), states)]


@dataclass(frozen=True, slots=True)
class GrubLoader(Loader):
    """GRUB with packaging/grub/updated.cfg, and the environment block on ext4 or on the EFI system partition."""

    uefi: bool = False
    place: Literal["ext4", "esp"] = "ext4"

    @property
    def firmware(self) -> Firmware:
        return "ovmf" if self.uefi else "seabios"

    def install(self, disk: Path) -> None:
        if self.uefi:
            put_on_esp(disk, "EFI/BOOT", {"BOOTX64.EFI": _grub(self)})
        # One file for each slot, so that a test can take a slot away.
        put_on_esp(disk, "slots", {f"{slot}.cfg": _says(slot).encode() for slot in SLOTS})

    def put(self, machine: Path, reference: Files) -> None:
        if self.place == "ext4":
            fill_ext4(machine / "disk.img", reference)
        else:
            replace_on_esp(machine / "disk.img", "grub", reference)

    def take(self, machine: Path) -> dict[str, bytes]:
        disk = machine / "disk.img"
        return take_from_ext4(disk) if self.place == "ext4" else take_from_esp(disk, "grub")

    def new(self) -> Files:
        return {"grubenv": grubenv({"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0"})}

    def backend(self, root: Path) -> Backend:
        return Grub(str(root / self.inside / "grubenv"))

    def starter(self) -> bytes | None:
        if self.uefi:
            return None
        # boot.img loads what begins at the second sector, unless grub-install tells it otherwise.
        first = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()
        return (first + _grub(self)).ljust(1 << 20, b"\0")


@cache
def _grub(loader: GrubLoader) -> bytes:
    disk = "hd0" if loader.uefi else "hd1"
    block = f"({disk},gpt2)/grubenv" if loader.place == "ext4" else f"({disk},gpt1)/grub/grubenv"
    entries = "".join(
        f'menuentry "Slot {slot.upper()}" --id updated-{slot} {{ source ({disk},gpt1)/slots/{slot}.cfg }}\n'
        for slot in SLOTS
    )
    config = f'{_SERIAL}set updated_env="{block}"\nsource $prefix/updated.cfg\nset timeout=0\n{entries}'
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in {"grub.cfg": config.encode(), "updated.cfg": SNIPPET.read_bytes()}.items():
            member = tarfile.TarInfo(f"grub/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    modules = ["memdisk", "tar", "normal", "configfile", "part_gpt", "fat", "ext2", "loadenv", "test"]
    platform = "x86_64-efi" if loader.uefi else "i386-pc"
    return _grub_image(platform, "-m", archive.getvalue(), [*modules, *([] if loader.uefi else ["biosdisk"])])


_SERIAL: Final = "serial --unit=0 --speed=115200\nterminal_output serial\n"


def _says(slot: str) -> str:
    return f'echo "{STARTED.format(slot)}"\nhalt\n'


def _grub_image(platform: str, option: Literal["-m", "-c"], data: bytes, modules: Iterable[str] = ()) -> bytes:
    """GRUB with `data` as its memory disk (-m), or as the commands that it runs at first (-c)."""
    with tempfile.TemporaryDirectory() as folder:
        source, image = Path(folder, "source"), Path(folder, "image")
        source.write_bytes(data)
        # Behind -m, which sets a prefix of its own.
        options = ("-O", platform, "-o", image, option, source, "-p", "(memdisk)/grub")
        run("grub-mkimage", *options, "serial", "terminal", "echo", "halt", *modules)
        return image.read_bytes()


@cache
def _efi_payload(slot: str) -> bytes:
    return _grub_image("x86_64-efi", "-c", (_SERIAL + _says(slot)).encode())


@dataclass(frozen=True, slots=True)
class SystemdBootLoader(Loader):
    """systemd-boot 252.

    Its boot reference are the entries of type 1 (*.conf) and 2 (*.efi), and its variables as efivarfs shows them.
    """

    @property
    def firmware(self) -> Firmware:
        return "ovmf"

    def install(self, disk: Path) -> None:
        program = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi").read_bytes()
        put_on_esp(disk, "EFI/BOOT", {"BOOTX64.EFI": program})
        put_on_esp(disk, "loader", {"loader.conf": b"timeout 0\n"})

    def put(self, machine: Path, reference: Files) -> None:
        disk = machine / "disk.img"
        for folder, names in _ENTRY_FOLDERS.items():
            replace_on_esp(disk, folder, {name: data for name, data in reference.items() if names.search(name)})
        for folder, payloads in _payloads(reference).items():
            replace_on_esp(disk, folder, payloads)
        kept = {}
        for name, data in reference.items():
            attributes = int.from_bytes(data[:4], "little")
            if name.endswith(LOADER_GUID) and len(data) > 4 and attributes & variables.NON_VOLATILE:
                kept[name.removesuffix(f"-{LOADER_GUID}")] = attributes, data[4:]
        variables.replace(new_variables(machine), LOADER_GUID, kept)

    def take(self, machine: Path) -> dict[str, bytes]:
        found = {}
        for folder in _ENTRY_FOLDERS:
            found.update(take_from_esp(machine / "disk.img", folder))
        for variable in variables.read(machine / "vars.fd"):
            if variable.guid == LOADER_GUID:
                found[f"{variable.name}-{LOADER_GUID}"] = variable.attributes.to_bytes(4, "little") + variable.data
        return found

    def new(self) -> Files:
        return {"updated-a.conf": entry("a", 2), "updated-b+0-0.conf": entry("b", 1)}

    def backend(self, root: Path) -> Backend:
        """One folder holds all; what the loader tells about itself is added as systemd 252 tells it."""
        here = root / self.inside
        for folder in _ENTRY_FOLDERS:
            (root / folder).parent.mkdir(parents=True, exist_ok=True)
            if not (root / folder).exists():
                (root / folder).symlink_to(here)
        for folder, payloads in _payloads({path.name: path.read_bytes() for path in here.iterdir()}).items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, data in payloads.items():
                (root / folder / name).write_bytes(data)
        systemd_boot.Loader(root, here).tell_features()
        return SystemdBoot(str(root), str(here))


_ENTRY_FOLDERS: Final = {"loader/entries": re.compile(r"\.conf(?:\..*)?$"), "EFI/Linux": re.compile(r"\.efi$")}


def entry(slot: str, version: int) -> bytes:
    """The entry of a slot, as packaging/systemd-boot/README.md tells a person to write it."""
    return f"""\
title    Slot {slot.upper()}
sort-key updated
version {version:010d}
linux    /updated/{slot}/linux
options  root=PARTLABEL=rootfs-{slot} ro panic=10 updated.slot={slot}
""".encode()


def image(slot: str, version: str) -> bytes:
    """A unified kernel image: a payload with an os-release in it."""
    with tempfile.TemporaryDirectory() as folder:
        payload, release, whole = (Path(folder, name) for name in ("payload", "release", "whole"))
        payload.write_bytes(_efi_payload(slot))
        release.write_text(f"ID=updated\nVERSION_ID={version}\n")
        added = ("--add-section", f".osrel={release}", "--change-section-vma", ".osrel=0x1000000")
        run("objcopy", *added, payload, whole)
        return whole.read_bytes()


def _payloads(reference: Files) -> Mapping[str, Files]:
    """By their folders, the programs that entries of slots start."""
    payloads: dict[str, dict[str, bytes]] = {}
    for name, content in reference.items():
        parsed = bls.parse_name(name)
        slot = parsed.slot if parsed is not None and parsed.suffix == bls.CONF else None
        for _, path in bls.parse_conf(content).programs if slot else ():
            folder, _, program = path.replace("\\", "/").strip("/").rpartition("/")
            if slot and program:
                payload = payloads.setdefault(folder, {}).setdefault(program, _efi_payload(slot))
                assert payload == _efi_payload(slot), f"two slots start {path}: nobody could tell which one it was"
    return payloads


@dataclass(frozen=True, slots=True)
class UBootLoader(Loader):
    """U-Boot with packaging/uboot/boot.cmd, and the environment as a file on the EFI system partition."""

    @property
    def firmware(self) -> Firmware:
        return "u-boot"

    def install(self, disk: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "boot.cmd").write_text(boot_script())
            options = ("-A", "x86", "-T", "script", "-C", "none", "-n", "updated", "-d", f"{folder}/boot.cmd")
            run("mkimage", *options, f"{folder}/boot.scr")
            put_on_esp(disk, "", {"boot.scr": Path(folder, "boot.scr").read_bytes()})
        put_on_esp(disk, "slots", dict.fromkeys(SLOTS, b"a kernel"))

    def put(self, machine: Path, reference: Files) -> None:
        replace_on_esp(machine / "disk.img", "", reference, names="uboot.env*")

    def take(self, machine: Path) -> dict[str, bytes]:
        return take_from_esp(machine / "disk.img", "", names="uboot.env*")

    def new(self) -> Files:
        variables = ("BOOT_A_LEFT=9", "BOOT_A_OK=1", "BOOT_B_LEFT=0", "BOOT_B_OK=0", "BOOT_ORDER=A B")
        return {"uboot.env": environment(*variables)}

    def backend(self, root: Path) -> Backend:
        config = root / "fw_env.config"
        config.write_text(f"/{self.inside}/uboot.env 0x0 0x{ENVIRONMENT_SIZE:x}\n")
        return UBoot(str(config), str(root))


ENVIRONMENT_SIZE: Final = 0x4000
_BOARD_ENDS: Final = "# ---- From here on nothing depends on the board. ----\n"
_BOOT_CMD: Final = Path(__file__).parents[2] / "packaging" / "uboot" / "boot.cmd"


def environment(*variables: str) -> bytes:
    """An environment with `variables`, made by mkenvimage."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("-s", str(ENVIRONMENT_SIZE), "-p", "0", "-o", f"{folder}/env", "-")
        run("mkenvimage", *options, words="".join(f"{line}\n" for line in variables))
        return Path(folder, "env").read_bytes()


def boot_script() -> str:
    """boot.cmd, its upper part filled in for this machine: no saveenv, one file with a second copy, a disk at AHCI."""
    board, end, rest = _BOOT_CMD.read_text().partition(_BOARD_ENDS)
    board = re.sub(r"^# (?=(?:if |    load |fi$|load |setenv ))", "", board, flags=re.MULTILINE)
    board = board.replace("mmc 0:1", "scsi 0:1")
    for slot in SLOTS:
        command = f'load scsi 0:1 ${{loadaddr}} slots/{slot} && echo "{STARTED.format(slot)}" && reset'
        line = re.compile(rf"(?<=^setenv updated_boot_{slot} ').*(?='$)", re.MULTILINE)
        board, count = line.subn(command, board)
        assert count == 1
    for used in ("uboot.env &&", "uboot.env.backup &&", "fatwrite scsi 0:1"):
        assert any(used in line and not line.startswith("#") for line in board.splitlines()), used
    return "setenv loadaddr ${kernel_addr_r}\n" + board + end + rest


LOADERS: Final[Mapping[str, Callable[[], Loader]]] = {
    "grub": GrubLoader,
    "systemd_boot": SystemdBootLoader,
    "uboot": UBootLoader,
}
