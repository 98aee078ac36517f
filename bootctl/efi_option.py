"""What a boot entry of EFI firmware says: bytes and values, without any I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from bootctl.errors import BootError

_ACTIVE: Final = 1
_FIXED: Final = 6  # attributes, and the length of the device path
_END_OF_PATH: Final = (0x7F, 0xFF)
# RAUC lets any description name a slot, but one such as "debian" belongs to another system.
_DESCRIPTION: Final = re.compile(r"updated-([a-z0-9]{1,16})|([a-z0-9]|system[0-9])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoadOption:
    """What a boot entry says: EFI_LOAD_OPTION (UEFI Specification, section 3.1.3).

    `device_path` holds whole device paths, and `optional_data` is what the entry passes to the program, mostly its
    command line.
    """

    attributes: int
    description: str
    device_path: bytes
    optional_data: bytes = b""

    @property
    def active(self) -> bool:
        return bool(self.attributes & _ACTIVE)

    def with_active(self, active: bool) -> LoadOption:
        return replace(self, attributes=self.attributes & ~_ACTIVE | (_ACTIVE if active else 0))

    def format(self) -> bytes:
        fixed = self.attributes.to_bytes(4, "little") + len(self.device_path).to_bytes(2, "little")
        return fixed + f"{self.description}\0".encode("utf-16-le") + self.device_path + self.optional_data


def parse_option(data: bytes) -> LoadOption:
    """Raises BootError `efi-corrupt` for what the firmware would not start."""
    end = _end_of_description(data)
    if end is None:
        raise _corrupt_option("its description has no end")
    try:
        description = data[_FIXED:end].decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise _corrupt_option(f"its description is no UTF-16 ({error.reason})") from error
    start, length = end + 2, int.from_bytes(data[4:_FIXED], "little")
    device_path = data[start : start + length]
    if len(device_path) != length:
        raise _corrupt_option(f"{len(device_path)} of the {length} bytes of its device path are there")
    _check_device_path(device_path)
    return LoadOption(int.from_bytes(data[:4], "little"), description, device_path, data[start + length :])


def description_of(data: bytes) -> str:
    """The description in the data of an entry, as far as it can be read; "" when it has no end."""
    end = _end_of_description(data)
    return "" if end is None else data[_FIXED:end].decode("utf-16-le", errors="replace")


def slot_of(description: str) -> str | None:
    """The slot that an entry of this description belongs to."""
    match = _DESCRIPTION.fullmatch(description)
    return (match[1] or match[2]).lower() if match else None


def _end_of_description(data: bytes) -> int | None:
    return next((at for at in range(_FIXED, len(data) - 1, 2) if data[at : at + 2] == b"\0\0"), None)


def _check_device_path(path: bytes) -> None:
    """UEFI Specification, section 10.3: nodes of type, subtype, length (two bytes) and the rest; the last is an end."""
    position, node = 0, (0, 0)
    while position < len(path):
        length = int.from_bytes(path[position + 2 : position + 4], "little")
        if length < 4 or position + length > len(path):
            raise _corrupt_option(f"its device path is broken at byte {position}")
        node = (path[position], path[position + 1])
        position += length
    if node != _END_OF_PATH:
        raise _corrupt_option("its device path has no end")


def _corrupt_option(cause: str) -> BootError:
    return BootError("efi-corrupt", "a boot entry", cause, "Delete it, and create it anew (efibootmgr).")
