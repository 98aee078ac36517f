"""The formats of U-Boot's environment and of fw_env.config: bytes and values, without any I/O.

An environment (U-Boot: `env_t` in include/env_internal.h, env/common.c, lib/hashtable.c; libubootenv: src/uboot_env.c)
has a size that U-Boot was built with, and is in this order:

- the CRC-32 (zlib's) of all that follows the flag, 4 bytes in the machine's order, which is little-endian here;
- in a redundant environment a flag byte, which no checksum covers: of two whole copies that with the higher flag
  counts, except that 0 is newer than 255, and the first one of equals;
- entries NAME=VALUE, each with a NUL behind it, and one more NUL. U-Boot skips blanks before a name and entries that
  begin with `#`, an entry without value removes the variable, and one without name makes it refuse the environment;
- padding of any value up to the size: U-Boot writes 0, mkenvimage 0xff.

fw_env.config (U-Boot: tools/env/README; libubootenv: docs/fw_env_config.md) has a line for each copy: DEVICE OFFSET
SIZE, and for flash the size of an erase block, the number of these and a 1 that leaves the lock of the flash alone. The
tools read OFFSET as C does (0x before hexadecimal, 0 before octal, otherwise decimal; from the end of a disk if
negative), and SIZE as hexadecimal with or without 0x.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bootctl.errors import BootError

ENVIRONMENT: Final = "U-Boot's environment"
CONFIG: Final = "fw_env.config"

_CRC_SIZE: Final = 4
_SMALLEST: Final = 16
_LARGEST: Final = 16 << 20
_PLACE: Final = re.compile(
    rb"[ \t]*(/[^\s\0]*)[ \t]+([+-]?)(0[xX][0-9a-fA-F]{1,15}|0[0-7]{1,20}|0|[1-9][0-9]{0,17})"
    rb"[ \t]+(?:0[xX])?([0-9a-fA-F]{1,15})(?:[ \t].*)?"
)
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where fw_env.config says that a copy is. A negative `offset` counts from the end of `device`."""

    device: str
    offset: int
    size: int


def parse_config(data: bytes) -> tuple[Place, ...]:
    """One place, or the two of a redundant environment; as for the tools, what follows these is not read.

    Raises BootError `uboot-config-corrupt`, also for a line that the tools would silently skip: a redundant environment
    of which one line is mistyped would be taken for a single one, whose format is another.
    """
    places: list[Place] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        found = _PLACE.fullmatch(line)
        if not found:
            raise _config_corrupt(f"line {number} is not DEVICE OFFSET SIZE with an absolute path and numbers")
        places.append(Place(_text(found[1]), _offset(found[2], found[3]), int(found[4], 16)))
        if not _SMALLEST <= places[-1].size <= _LARGEST:
            raise _config_corrupt(f"line {number} gives the size {places[-1].size:#x} (it is read as hexadecimal)")
        if len(places) == 2:
            break
    if not places:
        raise _config_corrupt("it names no place")
    if len({place.size for place in places}) > 1:
        raise _config_corrupt("its two places have different sizes")
    return tuple(places)


def _offset(sign: bytes, digits: bytes) -> int:
    base = 16 if digits[:2] in (b"0x", b"0X") else 8 if digits.startswith(b"0") else 10
    return int(sign + digits, base)


@dataclass(frozen=True, slots=True)
class Environment:
    """`entries` are NAME=VALUE as they are stored; `flag` is None in an environment that is not redundant; `padding` is
    what lies behind them."""

    entries: tuple[bytes, ...]
    flag: int | None = None
    padding: bytes = b""

    @property
    def variables(self) -> dict[str, str]:
        """What U-Boot has after it has read the entries. Bytes that are no UTF-8 are kept by surrogate escapes."""
        variables: dict[str, str] = {}
        for entry in self.entries:
            name, value = _name(entry), entry.partition(b"=")[2]
            variables.pop(name, None)
            if value and not name.startswith("#"):
                variables[name] = _text(value)
        return variables

    def with_values(self, values: Mapping[str, str], *, room: int) -> Environment:
        """A copy in which these variables have these values, and all other entries are as they were.

        If each of them has an entry of that length already, and all of these lie within the first `room` bytes of the
        entries, only those bytes change. Otherwise they come first, in the order in which U-Boot and fw_setenv sort all
        that they write.
        """
        wanted = {name: _bytes(f"{name}={value}") for name, value in values.items()}
        changed = tuple(wanted.get(_name(entry), entry) for entry in self.entries)
        ours = [_name(entry) for entry in self.entries if _name(entry) in wanted]
        same_lengths = [len(entry) for entry in changed] == [len(entry) for entry in self.entries]
        if sorted(ours) == sorted(wanted) and same_lengths and self.end_of(wanted) <= room:
            return replace(self, entries=changed)
        others = tuple(entry for entry in self.entries if _name(entry) not in wanted)
        return replace(self, entries=(*(wanted[name] for name in sorted(wanted)), *others))

    def end_of(self, names: Collection[str]) -> int:
        """The number of bytes up to the end of the last entry of one of `names`."""
        end = position = 0
        for entry in self.entries:
            position += len(entry) + 1
            if _name(entry) in names:
                end = position
        return end


def header_size(*, redundant: bool) -> int:
    """What precedes the entries."""
    return _CRC_SIZE + int(redundant)


def parse(data: bytes, size: int, *, redundant: bool) -> Environment:
    """Raises BootError `uboot-env-corrupt` for anything that U-Boot would not start from."""
    if len(data) != size:
        raise env_corrupt(f"it has {len(data)} bytes instead of {size}")
    content = data[header_size(redundant=redundant) :]
    if int.from_bytes(data[:_CRC_SIZE], "little") != zlib.crc32(content):
        raise env_corrupt("its checksum is wrong")
    end = 0 if content.startswith(b"\0") else content.find(b"\0\0") + 1
    if not end and not content.startswith(b"\0"):
        raise env_corrupt("its variables have no end")
    entries = tuple(content[: end - 1].split(b"\0")) if end else ()
    if not all(map(_name, entries)):
        raise env_corrupt("it has a variable without a name")
    return Environment(entries, data[_CRC_SIZE] if redundant else None, content[end + 1 :])


def format_environment(environment: Environment, size: int) -> bytes:
    """The environment as `size` bytes; padding that is there already stays where it is.

    Raises BootError `uboot-env-full` when the entries don't fit.
    """
    flag = b"" if environment.flag is None else bytes([environment.flag])
    entries = b"".join(entry + b"\0" for entry in environment.entries) + b"\0"
    room = size - _CRC_SIZE - len(flag) - len(entries)
    if room < 0:
        raise BootError(
            "uboot-env-full",
            ENVIRONMENT,
            f"its variables need {size - room} bytes, and it has {size}",
            "Remove variables that nobody needs (fw_setenv NAME, without a value).",
        )
    fill = environment.padding[-1:] or b"\0"
    padding = (fill * room + environment.padding)[len(environment.padding) :]
    content = entries + padding
    return zlib.crc32(content).to_bytes(_CRC_SIZE, "little") + flag + content


def is_newer(flag: int, other: int) -> bool:
    """Whether the copy with `flag` counts rather than that with `other`."""
    if {flag, other} == {0, 255}:
        return flag == 0
    return flag > other


@dataclass(frozen=True, slots=True)
class BootCount:
    """The older convention, by which U-Boot itself counts boots (doc/README.bootcount, drivers/bootcount).

    When `count` is above `limit` U-Boot runs `alternative` (the variable altbootcmd) instead of bootcmd; a limit of 0
    is none. A count that is kept in the environment goes on only if `upgrade_available` is not 0; it is None if the
    variable is not set.
    """

    count: int
    limit: int
    upgrade_available: int | None
    alternative: str

    @property
    def counting(self) -> bool:
        """Whether U-Boot would come to run `alternative`. A count in a register needs no `upgrade_available`."""
        return self.limit > 0 and self.upgrade_available != 0


def boot_count(variables: Mapping[str, str]) -> BootCount | None:
    """What Mender and SWUpdate set by it; None if none of its numbers is set."""
    if not variables.keys() & {"bootcount", "bootlimit", "upgrade_available"}:
        return None
    upgrade = variables.get("upgrade_available")
    return BootCount(
        count=_decimal(variables.get("bootcount", "")),
        limit=_decimal(variables.get("bootlimit", "")),
        upgrade_available=None if upgrade is None else _decimal(upgrade),
        alternative=variables.get("altbootcmd", ""),
    )


def _decimal(text: str) -> int:
    """As U-Boot's env_get_ulong reads it: what precedes the first other character, else 0."""
    found = _NUMBER.match(text)
    return int(found[0]) if found else 0


def env_corrupt(cause: str) -> BootError:
    """The error for an environment that is there, but can't be used."""
    return BootError(
        "uboot-env-corrupt",
        ENVIRONMENT,
        cause,
        "Check the offset and size in fw_env.config; if they are right, run saveenv at U-Boot's prompt and set the "
        "variables anew (packaging/uboot/README.md), with the slot that runs now first.",
    )


def _config_corrupt(cause: str) -> BootError:
    return BootError(
        "uboot-config-corrupt",
        CONFIG,
        cause,
        "Write a line DEVICE OFFSET SIZE for each copy of the environment, such as /boot/uboot.env 0x0 0x4000; YAML is "
        "not read.",
    )


def _name(entry: bytes) -> str:
    return _text(entry.partition(b"=")[0].lstrip(b" \t"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")
