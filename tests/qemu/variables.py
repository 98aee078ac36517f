"""The EFI variables in the memory of OVMF's firmware, a file: read and set from outside while the machine is off.

The format is that of EDK2 (MdeModulePkg/Include/Guid/VariableFormat.h): a firmware volume with a store of variables,
one behind the other, each with a header, its name in UTF-16 and its data.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NON_VOLATILE: Final = 1

_STORE: Final = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_STORE_HEADER: Final = struct.Struct("<16sIBBHI")
_HEADER: Final = struct.Struct("<HBBIQ16sIII16s")
_START: Final = 0x55AA
_ADDED: Final = 0x3F
_UNUSED: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Variable:
    """`guid` is that of its vendor, in the usual writing."""

    name: str
    guid: str
    attributes: int
    data: bytes


def read(path: Path) -> list[Variable]:
    """The variables that count."""
    image = path.read_bytes()
    return [variable for variable, _ in _stored(image, *_store(image))]


def replace(path: Path, guid: str, variables: Mapping[str, tuple[int, bytes]]) -> None:
    """Make `variables` (attributes and data by name) all that the vendor `guid` has there; others stay as they are."""
    image = path.read_bytes()
    start, end = _store(image)
    kept = b"".join(raw for variable, raw in _stored(image, start, end) if variable.guid != guid)
    new = kept + b"".join(_raw(Variable(name, guid, *value)) for name, value in variables.items())
    if len(new) > end - start:
        raise ValueError(f"the variables need {len(new)} bytes, and there are {end - start}")
    path.write_bytes(image[:start] + new.ljust(end - start, _UNUSED) + image[end:])


def _store(image: bytes) -> tuple[int, int]:
    """Where the variables begin and where they have to end."""
    (volume_header,) = struct.unpack_from("<H", image, 0x30)
    if image[0x28:0x2C] != b"_FVH" or image[volume_header : volume_header + 16] != _STORE:
        raise ValueError("it is no store of EFI variables with time stamps")
    _, size, *_ = _STORE_HEADER.unpack_from(image, volume_header)
    return volume_header + _STORE_HEADER.size, volume_header + size


def _stored(image: bytes, start: int, end: int) -> Iterator[tuple[Variable, bytes]]:
    """Each variable that was added and not deleted since, with its bytes."""
    at = start
    while at + _HEADER.size <= end:
        begin, state, _, attributes, _, _, _, name_size, data_size, guid = _HEADER.unpack_from(image, at)
        if begin != _START:
            return
        name_at = at + _HEADER.size
        data_at = name_at + name_size
        after = _aligned(data_at + data_size)
        if state == _ADDED:
            name = image[name_at:data_at].decode("utf-16-le").rstrip("\0")
            data = image[data_at : data_at + data_size]
            yield Variable(name, str(uuid.UUID(bytes_le=guid)), attributes, data), image[at:after]
        at = after


def _raw(variable: Variable) -> bytes:
    name = (variable.name + "\0").encode("utf-16-le")
    guid = uuid.UUID(variable.guid).bytes_le
    header = _HEADER.pack(
        _START, _ADDED, 0, variable.attributes, 0, bytes(16), 0, len(name), len(variable.data), guid
    )  # fmt: skip
    raw = header + name + variable.data
    return raw.ljust(_aligned(len(raw)), _UNUSED)


def _aligned(offset: int) -> int:
    return (offset + 3) & ~3
