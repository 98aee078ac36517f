"""The copies of U-Boot's environment: which one counts, and what is written where, without any I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from bootctl import uboot_env
from bootctl.errors import BootError, naming
from bootctl.model import BootView
from bootctl.uboot_env import Environment
from bootctl.uboot_variables import decode, encode

_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of the environment: `size` bytes at `offset` of the file or disk `path`."""

    path: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path} at {self.offset:#x}" if self.offset else self.path

    @property
    def first_sector(self) -> int:
        """The bytes of it that lie in its first sector, which a disk writes as a whole."""
        return _SECTOR - self.offset % _SECTOR


# `redundant`: two copies, of which U-Boot reads the newer whole one. `file`: one copy that is a whole file; we keep a
# second one beside it. `raw`: one copy within a disk or its image.
Kind = Literal["redundant", "file", "raw"]


@dataclass(frozen=True, slots=True)
class Found:
    """What is there: of each copy its environment or what is wrong with it. `environment` is the one that counts, and
    `current` its index."""

    kind: Kind
    copies: tuple[Copy, ...]
    contents: tuple[Environment | BootError, ...]
    current: int
    environment: Environment

    @property
    def copy(self) -> Copy:
        return self.copies[self.current]

    @property
    def view(self) -> BootView:
        with naming(str(self.copy), uboot_env.ENVIRONMENT):
            return decode(self.environment.variables)

    @property
    def damages(self) -> dict[int, str]:
        """What is wrong with the copies that do not count, by their indexes."""
        damages = {}
        for index, content in enumerate(self.contents):
            if isinstance(content, BootError):
                damages[index] = content.cause
            elif self.kind != "redundant" and content.entries != self.environment.entries:
                damages[index] = "it differs from the copy that counts"
        return damages

    def changed(self, view: BootView) -> Environment:
        """What the environment has to be for `view`; as it is if it says that already, in whatever words."""
        with naming(str(self.copy), uboot_env.ENVIRONMENT):
            values = encode(view)
            if decode(values) == self.view:
                return self.environment
            return self._with(values)

    def is_confined(self) -> bool:
        """Whether the next change lies within the first sector, as all further ones then do."""
        values = encode(self.view)
        changed = self._with(values)
        rest = [self._format(each)[self.copy.first_sector :] for each in (self.environment, changed)]
        return rest[0] == rest[1] and changed.end_of(values) <= self._room

    @property
    def _room(self) -> int:
        """The bytes of the entries that lie in the first sector."""
        return self.copy.first_sector - uboot_env.header_size(redundant=self.kind == "redundant")

    def _with(self, values: Mapping[str, str]) -> Environment:
        # The checksum is in the first sector. If all that we change is there too, a cut leaves the old or the new.
        return self.environment.with_values(values, room=self._room)

    def writes(self, wanted: Environment) -> list[tuple[Copy, bytes]]:
        """What has to be written, in its order, so that `wanted` counts and no copy is damaged."""
        if self.kind == "redundant":
            other = 1 - self.current
            if wanted.entries == self.environment.entries and other not in self.damages:
                return []
            newer = replace(wanted, flag=((self.environment.flag or 0) + 1) % 256)
            return [(self.copies[other], self._format(newer))]
        # The copy that counts is written last; the other one can stand in for it meanwhile.
        order = sorted(range(len(self.copies)), key=lambda index: index == self.current)
        data = self._format(wanted)
        return [(self.copies[index], data) for index in order if self._entries(index) != wanted.entries]

    def _format(self, environment: Environment) -> bytes:
        with naming(str(self.copy), uboot_env.ENVIRONMENT):
            return uboot_env.format_environment(environment, self.copy.size)

    def _entries(self, index: int) -> tuple[bytes, ...] | None:
        content = self.contents[index]
        return content.entries if isinstance(content, Environment) else None


def found_in(kind: Kind, copies: tuple[Copy, ...], contents: tuple[Environment | BootError, ...]) -> Found:
    """What is there, of which one copy counts. Raises the BootError of a copy when none is whole."""
    whole = {index: content for index, content in enumerate(contents) if isinstance(content, Environment)}
    if not whole:
        errors = [content for content in contents if isinstance(content, BootError)]
        raise next((error for error in errors if error.code.endswith("-corrupt")), errors[0])
    current = min(whole)
    if kind == "redundant" and len(whole) == 2 and uboot_env.is_newer(whole[1].flag or 0, whole[0].flag or 0):
        current = 1
    return Found(kind, copies, contents, current, whole[current])


def overlap(one: Copy, other: Copy) -> bool:
    return one.path == other.path and abs(one.offset - other.offset) < one.size
