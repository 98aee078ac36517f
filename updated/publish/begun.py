"""The note in a folder that a repository is being made there: by it, `init` goes on after an interruption.

It says which keys the run makes, and in which folder. These, and what lies in the repository's folder before nodes can
read that, are taken over or made anew by the next run; anything else that is found there is refused.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bootctl import durable
from updated.core.document import dump, load_object, parsed
from updated.core.errors import UpdatedError
from updated.publish.keys import KeyFolder
from updated.publish.repository import UNFINISHED

_NOTE: Final = f"{UNFINISHED}init"
_MEND: Final = "Remove the folder, and the keys that were made for it, and run `releasectl init` again."


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun: `names` are the keys that it makes, `folder` is the real path of the folder of these."""

    folder: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, keys: KeyFolder, names: Iterable[str]) -> Begun:
        """A run that makes the keys `names`."""
        return cls(os.path.realpath(keys.path), tuple(names))

    @classmethod
    def found(cls, path: str) -> Begun | None:
        """The run that was interrupted in the folder `path`; None when that is missing or empty.

        Raises `UpdatedError` ("bad-repository") when something else is there, and OSError. A run that was interrupted
        when all but its note was done is something else; then the note goes.
        """
        note = os.path.join(path, _NOTE)
        try:
            with open(note, "rb") as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(path) and (not os.path.isdir(path) or set(os.listdir(path)) - set(_unwritten(path))):
                there = os.path.lexists(os.path.join(path, "metadata", "timestamp.json"))
                raise UpdatedError(
                    "bad-repository", f"the folder {path}",
                    "is a repository already" if there else "is not empty",
                    "Name a new or an empty folder; `releasectl status` shows what a repository has.",
                ) from None  # fmt: skip
            return None
        if os.path.lexists(os.path.join(path, "metadata", "timestamp.json")):
            cls.end(path)
            raise UpdatedError(
                "bad-repository", f"the folder {path}", "is a repository already: the run before was interrupted when "
                "all was done", "Go on with it: `releasectl status` shows what it has.",
            )  # fmt: skip
        what, code = f"the note {note}", "bad-repository"
        document = load_object(data, what=what, code=code, mend=_MEND)

        def read() -> Begun:
            return cls(document.text("folder"), tuple(document.text("names").split()))

        return parsed(read, what=what, code=code, mend=_MEND)

    @staticmethod
    def end(path: str) -> None:
        """Removes the note, at the end of a run. Raises OSError."""
        durable.remove(os.path.join(path, _NOTE))

    def names_in(self, keys: KeyFolder) -> tuple[str, ...]:
        """The keys of the run, if it had this folder for them."""
        return self.names if self.folder == os.path.realpath(keys.path) else ()

    def including(self, new: Mapping[str, Iterable[str]]) -> Begun:
        """The run that also makes the keys `new` (by role)."""
        added = (name for names in new.values() for name in names)
        return replace(self, names=tuple(dict.fromkeys((*self.names, *added))))

    def write(self, path: str) -> None:
        """Notes the run in the folder `path`, and removes what one before has left there. Raises OSError."""
        for name in _unwritten(path):
            os.unlink(os.path.join(path, name))
        durable.write_file(os.path.join(path, _NOTE), dump({"folder": self.folder, "names": " ".join(self.names)}))
        for part in ("metadata", "targets", "blobs"):
            if os.path.isdir(os.path.join(path, part)):
                shutil.rmtree(os.path.join(path, part))


def _unwritten(path: str) -> list[str]:
    """Notes whose writing was cut."""
    return glob.glob(f".{_NOTE}.*.tmp", root_dir=path)
