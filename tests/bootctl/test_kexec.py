"""The start of the next slot by kexec: what kexec(8) is called with, judged by a program in its place, and refusals.

The boot reference is a real GPT; the kernel is systemd's stub with the sections of a unified kernel image.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.active import active_slot, booted_by_kexec
from bootctl.errors import BootError
from bootctl.kexec import command_line
from tests.bootctl import disks
from tests.bootctl.test_pe import with_sections

REPOSITORY = Path(__file__).parents[2]
LINE = "BOOT_IMAGE=/x.efi updated.slot=a panic=10 initrd=\\y.img console=ttyS0,115200 -- -s"
CONFIG = """\
[disk]
image = "/disk.img"
files = { kernel = "/efi/EFI/updated/{slot}.efi" }
[boot]
backend = "gptprio"
"""
SECTIONS = {".osrel": b"ID=x\n", ".linux": b"the kernel" * 999, ".initrd": b"the initrd" * 99}
# Stands in for kexec and systemctl: keeps its words and the files that it is to load.
RECORD = """\
#!{python}
import json, os, shutil, sys
name, folder = os.path.basename(sys.argv[0]), {folder!r}
with open(folder + "/calls", "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
for word in sys.argv[1:]:
    path = word.removeprefix("--initrd=")
    if path.startswith("/") and os.path.exists(path):
        shutil.copy(path, folder + "/" + os.path.basename(path))
if os.path.exists(folder + "/fail-" + name):
    sys.exit("it is not permitted")
"""


@dataclass(frozen=True)
class System:
    """A system that runs slot a, with slot b armed, its image in `kernel`."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def kernel(self) -> Path:
        return self.root / "efi/EFI/updated/b.efi"

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def call(self, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}/bin"
        return subprocess.run(
            [sys.executable, "-m", module, "--root", str(self.root), *words], capture_output=True, text=True,
            check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path},
        )  # fmt: skip

    def kexec(self) -> subprocess.CompletedProcess[str]:
        return self.call("bootctl.kexec")

    def calls(self) -> list[list[str]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def refusal(self) -> str:
        """What is told when it is refused; then nothing was loaded."""
        done = self.kexec()
        assert (done.returncode, done.stdout, self.calls()) == (1, "", [])
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def system(tmp_path: Path) -> System:
    made = System(tmp_path)
    made.kernel.parent.mkdir(parents=True)
    (tmp_path / "parts").mkdir()
    shutil.copy(with_sections(tmp_path / "parts", SECTIONS), made.kernel)
    disks.make_disk(made.root / "disk.img")
    made.write("etc/updated/updated.toml", CONFIG)
    made.write("proc/cmdline", LINE + "\n")
    (tmp_path / "bin").mkdir()
    for name in ("kexec", "systemctl"):
        program = tmp_path / "bin" / name
        program.write_text(RECORD.format(python=sys.executable, folder=str(tmp_path)))
        program.chmod(0o755)
    assert made.call("bootctl", "arm", "b").returncode == 0
    return made


def test_the_kernel_of_the_armed_slot_is_loaded_with_its_initrd_and_its_slot(system: System) -> None:
    done = system.kexec()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    load, go = system.calls()
    assert load[:3] == ["kexec", "--kexec-file-syscall", "--load"]
    assert [word.split("=")[0] for word in load[4:]] == ["--initrd", "--command-line"]
    assert load[5] == "--command-line=updated.slot=b updated.kexec=1 panic=10 console=ttyS0,115200 -- -s"
    assert (system.folder / "linux").read_bytes() == SECTIONS[".linux"]
    assert (system.folder / "initrd").read_bytes() == SECTIONS[".initrd"]
    assert go == ["systemctl", "--no-block", "kexec"]
    assert not Path(load[3]).exists(), "it is removed when it is loaded"


def test_the_boot_reference_stays_as_it_was_armed(system: System) -> None:
    before = (system.root / "disk.img").read_bytes()
    assert system.kexec().returncode == 0
    assert (system.root / "disk.img").read_bytes() == before


def test_microcode_comes_before_the_initrd_as_the_stub_has_it(system: System) -> None:
    (system.folder / "more").mkdir()
    shutil.copy(with_sections(system.folder / "more", {**SECTIONS, ".ucode": b"microcode"}), system.kernel)
    assert system.kexec().returncode == 0
    assert (system.folder / "initrd").read_bytes() == b"microcode" + SECTIONS[".initrd"]


@pytest.mark.parametrize("program", ["kexec", "systemctl"])
def test_what_fails_is_told_with_what_it_said(system: System, program: str) -> None:
    (system.folder / f"fail-{program}").touch()
    done = system.kexec()
    assert done.returncode == 1
    assert f"{program}: it ended with status 1 (it is not permitted)." in done.stderr
    assert len(system.calls()) == (1 if program == "kexec" else 2), "without a kernel the machine stays up"


def test_without_kexec_tools_it_says_what_to_install(system: System) -> None:
    (system.folder / "bin/kexec").unlink()
    assert "Install it (package kexec-tools)" in system.refusal()


def test_the_slot_that_runs_is_not_started_anew(system: System) -> None:
    system.call("bootctl", "reject", "b")
    assert "the boot reference: it names no other slot than a" in system.refusal()


@pytest.mark.parametrize("section", [".cmdline", ".dtb", ".pcrsig", ".profile"])
def test_an_image_with_parts_that_only_its_stub_can_use_is_refused(system: System, section: str) -> None:
    (system.folder / "more").mkdir()
    shutil.copy(with_sections(system.folder / "more", {**SECTIONS, section: b"x"}), system.kernel)
    assert f"the section {section}" in system.refusal()


def test_what_the_stub_would_hand_over_besides_is_refused(system: System) -> None:
    Path(f"{system.kernel}.extra.d").mkdir()
    assert "the stub of the kernel would hand over what lies there" in system.refusal()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "link", "folder", "no kernel"])
def test_a_kernel_that_is_not_whole_is_refused(system: System, damage: str) -> None:
    whole = system.kernel.read_bytes()
    system.kernel.unlink()
    match damage:
        case "empty":
            system.kernel.touch()
        case "cut":
            system.kernel.write_bytes(whole[: whole.rindex(b"the initrd") - 50])
        case "link":
            (system.folder / "elsewhere").write_bytes(whole)
            system.kernel.symlink_to(system.folder / "elsewhere")
        case "folder":
            system.kernel.mkdir()
        case "no kernel":
            (system.folder / "more").mkdir()
            shutil.copy(with_sections(system.folder / "more", {".osrel": b"ID=x\n"}), system.kernel)
    assert str(system.kernel) in system.refusal()


def test_firmware_whose_variables_the_next_kernel_could_not_reach_is_refused(system: System) -> None:
    (system.root / "sys/firmware/efi").mkdir(parents=True)
    assert "the next kernel would have no EFI variables" in system.refusal()
    (system.root / "sys/firmware/efi/runtime-map").mkdir()
    assert system.kexec().returncode == 0


def test_a_trial_that_only_firmware_begins_is_refused(system: System) -> None:
    text = (system.root / "etc/updated/updated.toml").read_text().replace("gptprio", "tryboot")
    system.write("etc/updated/updated.toml", text)
    system.write("boot/firmware/autoboot.txt", "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n")
    assert "the backend tryboot: the firmware alone starts a trial" in system.refusal()


# ---------------------------------------------------------------------------------------------------- the command line


def refused(line: str) -> str:
    with pytest.raises(BootError) as caught:
        command_line(line, "a", "b")
    assert caught.value.code == "kexec-refused"
    return caught.value.cause


@pytest.mark.parametrize(
    "line",
    ["", "quiet", "updated.slot=b", "updated.slot=a updated.slot=a", "updated.slot=a updated.slot=b",
     "x -- updated.slot=a"],
)  # fmt: skip
def test_a_line_that_does_not_name_the_running_slot_once_is_refused(line: str) -> None:
    assert "slot" in refused(line)


@pytest.mark.parametrize(
    "word",
    ["root=PARTUUID=1234", "root=/dev/sda2", "roothash=ab", "usrhash=ab", "rauc.slot=a", "systemd.verity_root_data=/x",
     '"root=LABEL=a b"'],
)  # fmt: skip
def test_a_line_that_names_a_root_or_a_release_is_refused(word: str) -> None:
    assert "may be another one for slot b" in refused(f"updated.slot=a {word}")


WORD = st.from_regex(r'[a-z]{1,8}(\.[a-z]{1,4})?(=([A-Za-z0-9,/]{0,8}|"[a-z =]{0,8}"))?', fullmatch=True).filter(
    lambda word: not word.startswith(("root", "usrhash", "initrd", "updated", "mount", "rauc", "systemd", "dm"))
)


@given(st.lists(WORD, max_size=5), st.lists(WORD, max_size=5), st.lists(WORD, max_size=3))
def test_all_other_words_stay_as_they_are_and_the_next_boot_reads_its_slot(
    before: list[str], after: list[str], for_init: list[str]
) -> None:
    line = " ".join([*before, "updated.slot=a", *after, "--", *for_init])
    once = command_line(line, "a", "b")
    assert once == " ".join([*before, "updated.slot=b", "updated.kexec=1", *after, "--", *for_init])
    back = command_line(once, "b", "a")
    assert back == once.replace("updated.slot=b", "updated.slot=a"), "the mark is there once"


@pytest.fixture
def booted(tmp_path: Path) -> Callable[[str], Path]:
    def with_line(line: str) -> Path:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/cmdline").write_text(line)
        return tmp_path

    return with_line


def test_a_boot_by_kexec_knows_its_slot_and_what_started_it(booted: Callable[[str], Path]) -> None:
    root = booted(LINE)
    assert (active_slot(str(root), {}), booted_by_kexec(str(root))) == ("a", False)
    root = booted(command_line(LINE, "a", "b"))
    assert (active_slot(str(root), {}), booted_by_kexec(str(root))) == ("b", True)
