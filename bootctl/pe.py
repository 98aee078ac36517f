"""The sections of a PE file, of which a unified kernel image is one (Microsoft's PE Format; UAPI.5 of the UAPI group).

No function here touches a file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Pread = Callable[[int, int], bytes]
"""Gives so many bytes from an offset on, or less where the file ends."""

# As Microsoft's loader limits them.
_MOST_SECTIONS: Final = 96
_ENTRY: Final = 40


@dataclass(frozen=True, slots=True)
class Section:
    """Where the content of a section lies in the file, without what pads it: `offset` and `size` in bytes."""

    name: bytes
    offset: int
    size: int


def sections(pread: Pread) -> tuple[Section, ...]:
    """The sections in their order; none of a file that is no PE file. They may lie beyond its end."""
    dos = pread(0, 64)
    if len(dos) < 64 or not dos.startswith(b"MZ"):
        return ()
    (start,) = struct.unpack_from("<I", dos, 60)
    coff = pread(start, 24)
    if len(coff) < 24 or not coff.startswith(b"PE\0\0"):
        return ()
    (count,), (optional,) = struct.unpack_from("<H", coff, 6), struct.unpack_from("<H", coff, 20)
    table = pread(start + len(coff) + optional, _ENTRY * min(count, _MOST_SECTIONS))
    found = []
    for at in range(0, len(table) - _ENTRY + 1, _ENTRY):
        in_memory, _, in_file, offset = struct.unpack_from("<IIII", table, at + 8)
        found.append(Section(table[at : at + 8].rstrip(b"\0"), offset, min(in_memory, in_file)))
    return tuple(found)
