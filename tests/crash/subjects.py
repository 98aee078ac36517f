"""The back-ends that are cut, each with a reader that judges it. A folder is two levels below one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bootctl import model
from bootctl.efi import Efi
from bootctl.gptprio import GptPrio
from bootctl.grub import Grub
from bootctl.model import EMPTY, BootView, SlotState
from bootctl.systemd_boot import SystemdBoot
from bootctl.tryboot import Tryboot
from bootctl.uboot import UBoot
from bootctl.uboot_env import Environment, format_environment
from bootctl.uboot_variables import decode as decode_uboot
from bootctl.uboot_variables import encode as encode_uboot
from tests.bootctl import disks
from tests.bootctl.grub_emulator import Booted, boot, grubenv
from tests.bootctl.test_efi import lay_out_firmware
from tests.bootctl.test_uboot_env import printed, set_with_fw_setenv
from tests.crash.recorder import contents, lay_out
from tests.crash.sweep import Subject
from tests.crash.test_efi_cuts import firmware_boots
from tests.fakes.firmware import next_boot
from tests.fakes.raspberry_pi import RaspberryPi
from tests.fakes.systemd_boot import Loader

GOOD_AND_EMPTY = BootView((("a", SlotState(2, 0, True)), ("b", EMPTY)))


def _gptprio_boots(folder: Path) -> str | None:
    partition = next_boot(folder / "disk.img")
    return None if partition is None else partition.name.removeprefix("rootfs-")


def _lay_out_disk(folder: Path) -> None:
    disks.make_disk(folder / "disk.img")


GPTPRIO = Subject(
    "gptprio",
    lay_out=_lay_out_disk,
    open=lambda folder: GptPrio(str(folder / "disk.img")), boots=_gptprio_boots,
)  # fmt: skip


@cache
def _grub(files: tuple[tuple[str, bytes], ...]) -> Booted:
    return boot(dict(files))


def _grub_boots(folder: Path) -> str | None:
    files = {name: data for name, data in contents(folder).items() if name in ("grubenv", "grubenv.backup")}
    booted = _grub(tuple(sorted(files.items())))
    lay_out(folder, {**contents(folder), **booted.files})
    return booted.slot


def _lay_out_grubenv(folder: Path) -> None:
    block = grubenv({"ORDER": "A B", "A_OK": "1", "B_OK": "0", "saved_entry": "x" * 40})
    for name in ("grubenv", "grubenv.backup"):
        (folder / name).write_bytes(block)


def _grub_on(*, fat: bool) -> Subject:
    return Subject(
        f"grub, {'FAT' if fat else 'rename'}", lay_out=_lay_out_grubenv,
        open=lambda folder: Grub(str(folder / "grubenv")), boots=_grub_boots, fat=fat,
    )  # fmt: skip


def _efi_boots(folder: Path) -> str | None:
    slot, left = firmware_boots(contents(folder), strict=False)
    lay_out(folder, left)
    return slot


EFI = Subject(
    "efi", lay_out=lambda folder: lay_out_firmware(folder, (1, 2, 3)),
    open=lambda folder: Efi(str(folder), str(folder)), boots=_efi_boots,
)  # fmt: skip


def _pi_root(folder: Path) -> Path:
    mark = folder / "booted"  # which goes with the state of the folder, and so tells which boot it is
    return folder.with_name(f"{folder.name}-{mark.read_text() if mark.exists() else 'before'}")


def _lay_out_pi(folder: Path) -> None:
    (folder / "autoboot.txt").write_bytes(b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n")
    if not _pi_root(folder).exists():
        RaspberryPi(folder, _pi_root(folder)).power_on()


def _open_pi(folder: Path) -> Tryboot:
    return Tryboot(str(folder / "autoboot.txt"), (("a", 2), ("b", 3)), str(_pi_root(folder)))


def _pi_boots(folder: Path) -> str | None:
    argument, mark = _open_pi(folder).begin_reboot(), folder / "booted"
    mark.write_text(str(int(mark.read_text()) + 1) if mark.exists() else "1")
    started = RaspberryPi(folder, _pi_root(folder), partition_walk=True).reboot(argument)
    return {2: "a", 3: "b", None: None}[started]


def _pi_on(*, fat: bool) -> Subject:
    return Subject(
        f"tryboot, {'FAT' if fat else 'rename'}", lay_out=_lay_out_pi, open=_open_pi,
        boots=_pi_boots, fat=fat,
    )  # fmt: skip


def _uboot_config(folder: Path, *, root: Path = Path("/")) -> Path:
    """Beside the folder, for who sees the files below `root`: two copies in one file, each of 1 KiB."""
    config = folder.with_name(f"fw_env.config{root.name}")
    disk = Path("/") / (folder / "disk").relative_to(root)
    if not config.exists():
        config.write_text(f"{disk} 0x0 0x400\n{disk} 0x400 0x400\n")
    return config


def _lay_out_uboot(folder: Path) -> None:
    variables = ["arch=arm", *(f"{name}={value}" for name, value in encode_uboot(GOOD_AND_EMPTY).items())]
    entries = tuple(variable.encode() for variable in variables)
    copies = [format_environment(Environment(entries, flag), 0x400) for flag in (6, 7)]
    (folder / "disk").write_bytes(b"".join(copies))


def _uboot_boots(folder: Path) -> str | None:
    """By the rules that boot.cmd has; the tools read and write."""
    variables = printed(_uboot_config(folder))
    if variables is None:
        return None
    slot, left = model.next_boot(decode_uboot(variables))
    changed = {name: value for name, value in encode_uboot(left).items() if variables.get(name) != value}
    if changed:
        set_with_fw_setenv(_uboot_config(folder), changed)
    return slot


UBOOT = Subject(
    "uboot", lay_out=_lay_out_uboot,
    open=lambda folder: UBoot(str(_uboot_config(folder, root=folder.parent)), str(folder.parent)), boots=_uboot_boots,
)  # fmt: skip

def _esp(folder: Path) -> Path:
    return folder.parents[1]


def _lay_out_entries(folder: Path) -> None:
    for slot, name, version in (("a", "updated-a.conf", 2), ("b", "updated-b+0-0.conf", 1)):
        (folder / name).write_text(f"sort-key updated\nversion {version:010}\nlinux /linux-{slot}\n")
        (_esp(folder) / f"linux-{slot}").touch()
    (_esp(folder) / "efivars").mkdir(exist_ok=True)
    _loader(folder).tell_features()


def _loader(folder: Path) -> Loader:
    return Loader(_esp(folder), _esp(folder) / "efivars")


def _systemd_boot_on(*, fat: bool) -> Subject:
    return Subject(
        f"systemd_boot, {'FAT' if fat else 'rename'}", lay_out=_lay_out_entries,
        open=lambda folder: SystemdBoot(str(_esp(folder)), str(_esp(folder) / "efivars")),
        boots=lambda folder: _loader(folder).boots(), fat=fat,
    )  # fmt: skip


SUBJECTS: Sequence[Subject] = (
    GPTPRIO, UBOOT, _grub_on(fat=False), _grub_on(fat=True), EFI, _pi_on(fat=False), _pi_on(fat=True),
    _systemd_boot_on(fat=False), _systemd_boot_on(fat=True),
)  # fmt: skip
