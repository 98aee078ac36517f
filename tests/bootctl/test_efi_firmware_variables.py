"""The boot reference in the variables of a machine's firmware, as virt-fw-vars shows and changes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootctl import model
from bootctl.efi import Efi
from bootctl.efivars import EfiVariables
from bootctl.model import BootView, SlotState
from tests.bootctl.test_efi import lay_out_firmware

EMPTY_MACHINE = "/usr/share/OVMF/OVMF_VARS_4M.fd"
GOOD, SPARE = SlotState(2, 0, True), SlotState(1, 0, True)


def virt_fw_vars(*options: str | Path) -> str:
    command = [Path(sys.executable).with_name("virt-fw-vars"), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def put_into_firmware(folder: Path, firmware: Path) -> None:
    """Make a machine's variables those of `folder`."""
    variables = EfiVariables(str(folder))
    found: list[dict[str, Any]] = []
    for name, guid in variables.names():
        variable = variables.read(name, guid)
        assert variable is not None
        found.append({"name": name, "guid": guid, "attr": variable.attributes, "data": variable.data.hex()})
    listed = folder.with_name("variables.json")
    listed.write_text(json.dumps({"version": 2, "variables": found}))
    virt_fw_vars("--input", EMPTY_MACHINE, "--set-json", listed, "--output", firmware)


def take_from_firmware(firmware: Path, folder: Path) -> None:
    """Make `folder` what efivarfs would show of a machine's variables."""
    listed = folder.with_name("variables.json")
    virt_fw_vars("--input", firmware, "--output-json", listed)
    for variable in json.loads(listed.read_text())["variables"]:
        data = int(variable["attr"]).to_bytes(4, "little") + bytes.fromhex(variable["data"])
        (folder / f"{variable['name']}-{variable['guid']}").write_bytes(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "efivars"
    folder.mkdir()
    lay_out_firmware(folder, (1, 2, 3))
    return folder


def backend(folder: Path) -> Efi:
    return Efi(str(folder), str(folder.with_name("backup")))


def test_it_shows_the_boot_order_and_the_trial_that_we_wrote(folder: Path, tmp_path: Path) -> None:
    efi = backend(folder)
    efi.commit(model.arm_trial(efi.read(), "b", active="a", tries=1))
    put_into_firmware(folder, tmp_path / "vars.fd")
    shown = virt_fw_vars("--input", tmp_path / "vars.fd", "--print", "--verbose")
    assert 'title="updated-a"' in shown
    assert "name=BootNext guid=guid:EfiGlobalVariable size=2\n  boot order: 0002\n" in shown
    assert "name=BootOrder guid=guid:EfiGlobalVariable size=4\n  boot order: 0001, 0003\n" in shown


def test_what_the_firmware_keeps_is_what_we_read(folder: Path, tmp_path: Path) -> None:
    efi = backend(folder)
    efi.commit(BootView((("a", SPARE), ("b", GOOD))))
    put_into_firmware(folder, tmp_path / "vars.fd")
    again = tmp_path / "again"
    again.mkdir()
    take_from_firmware(tmp_path / "vars.fd", again)
    assert backend(again).read() == BootView((("a", SPARE), ("b", GOOD)))


def test_an_entry_that_it_adds_is_foreign_and_stays(folder: Path, tmp_path: Path) -> None:
    put_into_firmware(folder, tmp_path / "vars.fd")
    virt_fw_vars("--inplace", tmp_path / "vars.fd", "--append-boot-filepath", r"\EFI\rescue.efi")
    again = tmp_path / "again"
    again.mkdir()
    take_from_firmware(tmp_path / "vars.fd", again)
    efi = backend(again)
    efi.commit(model.roll_back(efi.read(), active="a"))
    put_into_firmware(again, tmp_path / "after.fd")
    shown = virt_fw_vars("--input", tmp_path / "after.fd", "--print", "--verbose")
    assert r"FilePath(\EFI\rescue.efi)" in shown
    assert "boot order: 0002, 0001, 0003, 0004\n" in shown
