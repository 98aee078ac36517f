"""A small file that a bootloader reads, and a second copy that is kept beside it: at every cut one of them is whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from bootctl import durable
from bootctl.errors import BootError, mend_of

BACKUP_SUFFIX: Final = ".backup"

Content = TypeVar("Content")


class FilePair(Generic[Content]):
    """The file `path` and its second copy.

    `name` begins the codes of the errors. The file has `most_bytes` at most; `parse` raises BootError for a damaged
    one, and two copies differ if `meaning` gives different values for them. `overwrite` writes new bytes into an open
    file so that every cut leaves the old content or the new one, or tells by False that it can't. `mend_missing` says
    how to make the file.
    """

    def __init__(
        self, path: str, name: str, *, most_bytes: int, parse: Callable[[bytes], Content],
        meaning: Callable[[Content], object], overwrite: Callable[[int, bytes], bool], mend_missing: str,
    ) -> None:
        # A link is followed, as the loaders' own tools do; a rename would replace it.
        self.path = os.path.realpath(path)
        self.backup = self.path + BACKUP_SUFFIX
        self._name = name
        self._most_bytes = most_bytes
        self._parse = parse
        self._meaning = meaning
        self._overwrite = overwrite
        self._mend_missing = mend_missing

    def read(self) -> Content:
        """What the first copy says or, if it is damaged, the second one.

        Raises BootError `NAME-missing`, `NAME-unreadable`, and what `parse` raises.
        """
        try:
            return self._load(self.path)
        except (BootError, FileNotFoundError) as error:
            try:
                return self._load(self.backup)
            except (BootError, FileNotFoundError):
                if isinstance(error, BootError):
                    raise error from None
                raise BootError(
                    f"{self._name}-missing", self.path, "there is no such file", self._mend_missing
                ) from None

    def write(self, data: bytes, meaning: object) -> None:
        """Write `data`, which has this meaning, over those copies that have another one, and read them back.

        Raises BootError `NAME-not-writable`, `read-back-differs`.
        """
        # What the loader would read now is written last; the other copy can stand in for it meanwhile.
        first_is_whole = self._meaning_of(self.path) is not None
        both = (self.backup, self.path) if first_is_whole else (self.path, self.backup)
        stale = [path for path in both if self._meaning_of(path) != meaning]
        for path in stale:
            self._write(path, data)
        if any(self._meaning_of(path) != meaning for path in stale):
            raise BootError(
                "read-back-differs",
                self.path,
                "it does not hold what was written to it",
                "The disk doesn't keep what is written to it: replace it.",
            )

    def damages(self) -> Iterator[tuple[str, str]]:
        """Each copy that does not count, and why. Raises BootError as `read`."""
        counting = self._meaning(self.read())
        for path in (self.path, self.backup):
            try:
                if self._meaning(self._load(path)) != counting:
                    yield path, "it differs from the copy that counts"
            except BootError as error:
                yield path, error.cause
            except FileNotFoundError:
                yield path, "there is no such file"

    def _meaning_of(self, path: str) -> object:
        """None for a copy that is missing or damaged."""
        try:
            return self._meaning(self._load(path))
        except (BootError, FileNotFoundError):
            return None

    def _load(self, path: str) -> Content:
        try:
            with open(path, "rb") as file:
                data = file.read(self._most_bytes + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BootError(
                f"{self._name}-unreadable", path, f"it can't be read ({error.strerror})", mend_of(error)
            ) from error
        return self._parse(data)

    def _write(self, path: str, data: bytes) -> None:
        try:
            if not self._overwritten_on_fat(path, data):
                mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
                durable.write_file(path, data, mode=mode)
            durable.sync_filesystem_of(path)
        except OSError as error:
            raise BootError(
                f"{self._name}-not-writable",
                path,
                f"it can't be written ({error.strerror})",
                mend_of(error, "Check that its file system is mounted for writing and has room."),
            ) from error

    def _overwritten_on_fat(self, path: str, data: bytes) -> bool:
        """A cut during a rename can lose both names there."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return durable.filesystem_magic(fd) == durable.FAT_MAGIC and self._overwrite(fd, data)
        finally:
            os.close(fd)
