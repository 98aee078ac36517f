"""The sections of PE files, judged by objcopy and objdump of binutils."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl.pe import Section, sections
from tests.fakes.systemd_boot import uki

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")


def found_in(data: bytes) -> dict[bytes, Section]:
    return {section.name: section for section in sections(lambda offset, length: data[offset : offset + length])}


def with_sections(folder: Path, contents: dict[str, bytes]) -> Path:
    """systemd's stub with these sections, as ukify adds them."""
    words: list[str] = []
    for number, (name, content) in enumerate(contents.items()):
        (folder / name).write_bytes(content)
        place = 0x2000000 * (number + 1)
        words += ["--add-section", f"{name}={folder / name}", "--change-section-vma", f"{name}={place}"]
    subprocess.run(["objcopy", *words, STUB, folder / "image"], check=True, capture_output=True)
    return folder / "image"


def test_each_section_is_where_objdump_finds_it() -> None:
    told = subprocess.run(["objdump", "-h", STUB], check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in told.splitlines() if len(line.split()) == 7 and line.split()[0].isdigit()]
    assert len(lines) > 3
    ours = found_in(STUB.read_bytes())
    assert {name.decode(): (each.offset, each.size) for name, each in ours.items()} == {
        line[1]: (int(line[5], 16), int(line[2], 16)) for line in lines
    }


@settings(max_examples=10, deadline=None)
@given(st.binary(min_size=1, max_size=5000), st.binary(min_size=1, max_size=5000))
def test_what_objcopy_put_in_comes_out_to_the_byte(linux: bytes, initrd: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = with_sections(Path(folder), {".linux": linux, ".initrd": initrd}).read_bytes()
    for name, content in ((b".linux", linux), (b".initrd", initrd)):
        section = found_in(data)[name]
        assert data[section.offset : section.offset + section.size] == content


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF" * 100, b"MZ".ljust(60, b"\0") + b"\xff" * 4 + b"\0" * 100])
def test_what_is_no_pe_file_has_no_sections(data: bytes) -> None:
    assert found_in(data) == {}


@given(st.binary(max_size=400), st.integers(0, 400))
def test_damage_raises_nothing_and_yields_no_more_sections_than_there_can_be(noise: bytes, at: int) -> None:
    whole = uki("ID=debian\n")
    data = whole[:at] + noise + whole[at + len(noise) :]
    assert len(sections(lambda offset, length: data[offset : offset + length])) <= 96
    assert len(sections(lambda offset, length: whole[:at][offset : offset + length])) <= 2
