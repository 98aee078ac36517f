"""Names and files of the Boot Loader Specification, as systemd-boot reads them.

The specification (https://uapi-group.org/specifications/specs/boot_loader_specification/) describes the names with
their counters, the lines of an entry of type 1 (loader/entries/*.conf) and unified kernel images (type 2,
EFI/Linux/*.efi). Where it leaves room, systemd decides (src/boot/boot.c and efi-string.c): how a line is split, which
text of an image counts, how entries are sorted, and what a pattern means. No function here touches a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from bootctl.pe import Pread, sections

CONF: Final = ".conf"
UKI: Final = ".efi"
CONFIRMED: Final = b"# updated: confirmed"
SORT_KEY: Final = "updated"
PROGRAMS: Final = ("linux", "efi", "uki", "uki-url")

_PREFIX: Final = "updated-"
_SLOT: Final = re.compile(rf"{_PREFIX}([a-z0-9]{{1,16}})")
_COUNTED: Final = re.compile(r"(.*)\+([0-9]+)(?:-([0-9]+))?(\.conf|\.efi)", re.IGNORECASE | re.DOTALL)
_PLAIN: Final = re.compile(r"(.*)(\.conf|\.efi)", re.IGNORECASE | re.DOTALL)
_MOST_COUNTED: Final = 2**31 - 1
_LINE_END: Final = re.compile(r"[\r\n]")
_VERSION_LINE: Final = re.compile(rb"version [0-9]{10}")
_NUMBER: Final = re.compile(r"[0-9]{10}")
_MOST_TEXT: Final = 64 * 1024

_Ordered = TypeVar("_Ordered", int, str)
_Token = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class FileName:
    """The name of an entry's file. `left` is None when its boots are not counted; 0 means bad."""

    stem: str
    suffix: str
    left: int | None = None
    done: int = 0

    @property
    def slot(self) -> str | None:
        """The slot whose entry it is; FAT knows no case, and neither does this."""
        found = _SLOT.fullmatch(self.stem.lower())
        return found[1] if found else None

    @property
    def identity(self) -> str:
        """What bootctl(1) and the loader of systemd 259 call the entry; older loaders leave the counter in."""
        return f"{self.stem}{self.suffix}".lower()

    def __str__(self) -> str:
        if self.left is None:
            return f"{self.stem}{self.suffix}"
        # As wide as it will get: a name that grows may need one more place in its FAT directory.
        width = len(str(self.left + self.done))
        return f"{self.stem}+{self.left}-{self.done:0{width}}{self.suffix}"

    def becomes(self, other: FileName) -> bool:
        """Whether the loader comes to the name `other` as it counts."""
        if self.left is None or other.left is None:
            return False
        return other.left < self.left and other.left + other.done == self.left + self.done


def parse_name(name: str) -> FileName | None:
    """None for a file that systemd-boot does not look at."""
    if name.startswith(".") or name.lower().startswith("auto-"):
        return None
    counted = _COUNTED.fullmatch(name)
    if counted:
        left, done = int(counted[2]), int(counted[3] or 0)
        if max(left, done) <= _MOST_COUNTED:
            return FileName(counted[1], counted[4].lower(), left, done)
    plain = _PLAIN.fullmatch(name)
    return FileName(plain[1], plain[2].lower()) if plain else None


def slot_name(slot: str, suffix: str, left: int | None = None, done: int = 0) -> FileName:
    """The name of a slot's entry."""
    return FileName(f"{_PREFIX}{slot}", suffix, left, done)


@dataclass(frozen=True, slots=True)
class Entry:
    """What systemd-boot sorts entries by."""

    name: FileName
    sort_key: str | None = None
    machine_id: str | None = None
    version: str | None = None


def compare(one: Entry, other: Entry, *, bad_last: bool = True) -> int:
    """Below 0 when systemd-boot sorts `one` first (boot_entry_compare); the first of all is what it starts.

    Without `bad_last`, as if the tries of neither were used up.
    """
    result = _sign(one.name.left == 0, other.name.left == 0) if bad_last else 0
    result = result or _sign(one.sort_key is None, other.sort_key is None)
    if not result and one.sort_key is not None:
        result = (
            _sign(one.sort_key, other.sort_key or "")
            or _sign(one.machine_id is not None, other.machine_id is not None)
            or _sign(one.machine_id or "", other.machine_id or "")
            or -compare_versions(one.version or "", other.version or "")
        )
    result = result or -compare_versions(one.name.identity, other.name.identity)
    if result or one.name.left is None or other.name.left is None:
        return result
    return _sign(other.name.left, one.name.left) or _sign(one.name.done, other.name.done)


def compare_versions(one: str, other: str) -> int:
    """Above 0 when `one` is newer (strverscmp_improved of systemd, the UAPI Group's Version Format Specification)."""
    while True:
        one, other = _from_valid(one), _from_valid(other)
        result = _marked("~", one, other)
        one, other = one.removeprefix("~"), other.removeprefix("~")
        if result or not one or not other:
            return result or _sign(one != "", other != "")
        for mark in "-^.":
            result = _marked(mark, one, other)
            if result:
                return result
            one, other = one.removeprefix(mark), other.removeprefix(mark)
        if _digit(one[:1]) or _digit(other[:1]):
            (first, one), (second, other) = _parted(one, _digit), _parted(other, _digit)
            result = _sign(first != "", second != "")
            first, second = first.lstrip("0"), second.lstrip("0")
            result = result or _sign(len(first), len(second)) or _sign(first, second)
        else:
            (first, one), (second, other) = _parted(one, _letter), _parted(other, _letter)
            result = _sign(first, second)
        if result:
            return result


def _marked(mark: str, one: str, other: str) -> int:
    return _sign(not one.startswith(mark), not other.startswith(mark))


def _digit(character: str) -> bool:
    return "0" <= character <= "9"


def _letter(character: str) -> bool:
    return "a" <= character <= "z" or "A" <= character <= "Z"


def _from_valid(text: str) -> str:
    return _parted(text, lambda one: not (_digit(one) or _letter(one) or one in "~-^."))[1]


def _parted(text: str, belongs: Callable[[str], bool]) -> tuple[str, str]:
    end = next((at for at, character in enumerate(text) if not belongs(character)), len(text))
    return text[:end], text[end:]


def _sign(one: _Ordered, other: _Ordered) -> int:
    return (one > other) - (one < other)


def pairs(data: bytes, separators: str = " \t") -> Iterator[tuple[str, str]]:
    """The keys and values of an entry, or with "=" those of an os-release (line_get_key_value)."""
    text = data.split(b"\0", 1)[0].decode("utf-8", errors="surrogateescape")
    parts = re.compile(rf"([^{separators}]*)[{separators}]+(.*)", re.DOTALL)
    for raw in _LINE_END.split(text):
        line = raw.strip(" \t")
        found = parts.fullmatch(line)
        if line.startswith("#") or not found:
            continue
        value = found[2]
        if value[:1] in ("'", '"') and value.endswith(value[:1]):
            value = value[1:-1]
        yield found[1], value


@dataclass(frozen=True, slots=True)
class Conf:
    """What counts in an entry of type 1. `programs` are (key, path) of what it starts; `confirmed` is our own mark."""

    sort_key: str | None
    machine_id: str | None
    version: str | None
    programs: tuple[tuple[str, str], ...]
    confirmed: bool


def parse_conf(data: bytes) -> Conf:
    """Of any bytes: what systemd-boot does not understand it passes over."""
    found = tuple(pairs(data))
    values = dict(found)
    lines = data.split(b"\0", 1)[0].splitlines()
    return Conf(
        values.get("sort-key"),
        values.get("machine-id"),
        values.get("version"),
        tuple((key, value) for key, value in found if key in PROGRAMS),
        any(line.strip(b" \t") == CONFIRMED for line in lines),
    )


def number(version: str | None) -> int | None:
    """The number in a version line of ours; None for any other version."""
    return int(version) if version is not None and _NUMBER.fullmatch(version) else None


def with_mark(data: bytes, *, confirmed: bool) -> bytes:
    """The entry `data` with our mark or without it; all else byte for byte."""
    head, end, hidden = data.partition(b"\0")  # systemd-boot reads no further than a byte of zero
    kept = [line for line in head.splitlines(keepends=True) if line.strip(b" \t\r\n") != CONFIRMED]
    top = [CONFIRMED + b"\n"] if confirmed else []
    return b"".join([*top, *kept, end, hidden])


def with_version(data: bytes, version: int, *, sort_key: str | None = None) -> bytes:
    """The entry `data` with that version, and with `sort_key` unless it is None; all else byte for byte.

    The version has ten digits, so that a change of it alone changes neither the length nor more than one sector. A new
    sort key takes the machine-id away, since entries of different ones are not sorted by their version.
    """
    head, end, hidden = data.partition(b"\0")
    dropped = {b"version"} if sort_key is None else {b"version", b"sort-key", b"machine-id"}
    line = b"version %010d" % version
    kept: list[bytes] = []
    placed = False
    for old in head.splitlines(keepends=True):
        if not placed and _VERSION_LINE.fullmatch(old.rstrip(b"\r\n")):
            kept.append(line + old[len(line) :])
            placed = True
        elif re.split(rb"[ \t]", old.strip(b" \t\r\n"), maxsplit=1)[0] not in dropped:
            kept.append(old)
    top = [] if sort_key is None else [b"sort-key %s\n" % sort_key.encode()]
    top += [] if placed else [line + b"\n"]
    return b"".join([*top, *kept, end, hidden])


def uki_entry(name: FileName, pread: Pread) -> Entry | None:
    """The entry in a unified kernel image, whose bytes `pread(offset, length)` gives; None if systemd-boot ignores it.

    The os-release in the section .osrel describes it (bootspec_pick_name_version_sort_key).
    """
    described = next((section for section in sections(pread) if section.name == b".osrel"), None)
    text = pread(described.offset, min(described.size, _MOST_TEXT)) if described is not None else b""
    release = dict(pairs(text, "="))
    if not release.keys() & {"PRETTY_NAME", "IMAGE_ID", "NAME", "ID"}:
        return None
    versions = (release[key] for key in ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID") if key in release)
    return Entry(name, release.get("IMAGE_ID", release.get("ID")), None, next(versions, None))


def matches(pattern: str, identity: str) -> bool:
    """Whether a pattern in a variable or in loader.conf means the entry (efi_fnmatch)."""
    parts = _parsed(pattern)
    if parts is None or not _fits(parts[0], identity, 0):
        return False
    if len(parts) == 1:
        return len(parts[0]) == len(identity)
    position, end = len(parts[0]), len(identity) - len(parts[-1])
    for part in parts[1:-1]:
        places = (at for at in range(position, end + 1) if _fits(part, identity, at))
        position = next(places, end + 1) + len(part)
    return position <= end and _fits(parts[-1], identity, end)


def _fits(part: list[_Token], text: str, position: int) -> bool:
    given = text[position : position + len(part)]
    return len(given) == len(part) and all(token(character) for token, character in zip(part, given, strict=True))


_BRACKETS: Final = re.compile(r"((?:\]|\\.|[^\]\\])(?:\\.|[^\]\\])*)\]", re.DOTALL)


def _parsed(pattern: str) -> list[list[_Token]] | None:
    """The pattern as tokens for one character each, parted where it has stars; None if it can match nothing."""
    parts: list[list[_Token]] = [[]]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            parts.append([])
        elif character == "?":
            parts[-1].append(lambda _: True)
        elif character == "[":
            brackets = _BRACKETS.match(pattern, at)
            if not brackets:
                return None
            parts[-1].append(_any_of(brackets[1]))
            at = brackets.end()
        else:
            if character == "\\":
                character = pattern[at : at + 1]
                at += 1
            parts[-1].append(character.__eq__)
    return parts


def _any_of(text: str) -> _Token:
    ranges = []
    for found in re.finditer(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", text, re.DOTALL):
        low, high = found[1][-1], (found[2] or found[1])[-1]
        ranges.append((low, high))
    return lambda character: any(low <= character <= high for low, high in ranges)
