"""cpio archives in the format "crc" of SVR4, which SWUpdate reads; Debian's cpio would be one more package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

_PIECE = 1 << 20


def write_archive(target: Path, members: Mapping[str, Path]) -> None:
    """Makes `target` an archive of `members`, by name, in their order."""
    with target.open("wb") as output:
        for number, (name, path) in enumerate(members.items(), 1):
            with path.open("rb") as member:
                _header(output, number, name, path.stat().st_size, _checksum(member))
                member.seek(0)
                while data := member.read(_PIECE):
                    output.write(data)
            output.write(bytes(-output.tell() % 4))
        _header(output, 0, "TRAILER!!!", 0, 0)
        output.write(bytes(-output.tell() % 512))


def _header(output: BinaryIO, number: int, name: str, size: int, checksum: int) -> None:
    mode, links = (0o100644, 1) if number else (0, 1)
    fields = (number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(name) + 1, checksum)
    output.write(b"070702" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
    output.write(bytes(-output.tell() % 4))


def _checksum(member: BinaryIO) -> int:
    """The sum of all bytes."""
    total = 0
    while data := member.read(_PIECE):
        total += sum(data)
    return total & 0xFFFFFFFF
