"""The one exception of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class BootError(Exception):
    """A boot reference that can't be read, changed or trusted.

    `code` is a stable kebab-case id for programs; `what` names the thing (a slot, a file, a device), `cause` says what
    is wrong with it, and `mend` what a person can do. `str()` is the message for an operator.
    """

    def __init__(self, code: str, what: str, cause: str, mend: str) -> None:
        super().__init__(code, what, cause, mend)
        self.code = code
        self.what = what
        self.cause = cause
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}. {self.mend}"


@contextmanager
def naming(what: str, *formats: str) -> Iterator[None]:
    """Errors that name one of `formats` name `what` instead, which has that format."""
    try:
        yield
    except BootError as error:
        if error.what in formats:
            raise BootError(error.code, what, error.cause, error.mend) from error
        raise
