"""The floors of a node on its disk: read, rebuilt from the cached metadata when they are damaged, and written."""

from __future__ import annotations

import os
from collections.abc import Callable

from updated import record
from updated.core.document import dump, load_object, parsed
from updated.core.errors import UpdatedError
from updated.core.floors import Floors

_LONGEST = record.MAX_LENGTH - 1000  # with its first line it must still be read


class FloorRecord:
    """The floors in the folder `store`.

    `cached`: gives the floors that the cached metadata vouches for; none, when it is not whole.

    Raises `UpdatedError` ("disk-error"). Attributes: `floors`, those that hold now; `notes`, sentences for people about
    protection that was lost and rebuilt.
    """

    def __init__(self, store: str, cached: Callable[[], Floors]) -> None:
        self._path = os.path.join(store, "floors")
        self.notes: list[str] = []
        self.floors = self._read(store, cached)

    def write(self, floors: Floors) -> None:
        """Makes `floors` those that hold, durably.

        Raises `UpdatedError`: "metadata-invalid", "disk-full", "disk-error".

        Names and numbers in them come from signed metadata. If one could make the record unreadable, who has any one
        key could bring a node to forget all floors.
        """
        value = floors.format()
        data = dump(value)
        if len(data) > _LONGEST:
            raise _unfit("there is too much of them")
        try:
            same = _parsed(data) == floors
        except UpdatedError as error:
            raise _unfit(error.cause) from None
        if not same:
            raise _unfit("they hold what is no character")
        record.write(self._path, value)
        self.floors = floors

    def _read(self, store: str, cached: Callable[[], Floors]) -> Floors:
        what = f"the record of trusted versions {self._path}"
        try:
            document = record.read(self._path)
            if document is not None:
                return parsed(lambda: Floors.parse(document), what=what, code="state-corrupt", mend="")
            if not os.path.lexists(os.path.join(store, "timestamp.json")):
                return Floors()
            fault = "is missing though there is cached metadata"
        except UpdatedError as error:
            if error.code != "state-corrupt":
                raise
            record.set_aside(self._path)
            fault = f"is damaged ({error.cause}) and was set aside"
        floors = cached()
        rebuilt = (
            "the versions were taken from the cached metadata, which is whole"
            if floors.versions
            else "the cached metadata is not whole either, so protection from old metadata begins anew"
        )
        self.notes.append(
            f"{what} {fault}; {rebuilt}. The last trusted time and the floor of releases are not known any more."
        )
        return floors


def _parsed(data: bytes) -> Floors:
    what, code = "the record", "metadata-invalid"
    document = load_object(data, what=what, code=code, mend="")
    return parsed(lambda: Floors.parse(document), what=what, code=code, mend="")


def _unfit(cause: str) -> UpdatedError:
    return UpdatedError(
        "metadata-invalid", "the versions and names in the metadata", f"can't be recorded: {cause}",
        "Check that this is the right repository; the publisher must mend it.",
    )
