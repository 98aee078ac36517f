"""Small records that outlive a power cut: a checksum line and JSON, in two copies.

Format of a file: `updated-record 1 <SHA-256 of the rest, hexadecimal>\\n`, then a JSON object. `<path>` is the newest;
`<path>.previous` is the one before it, and is read when the newest is missing or damaged.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from bootctl import durable
from bootctl.errors import mend_of
from updated.core.document import Object, dump, load_object
from updated.core.errors import UpdatedError

_MAGIC = b"updated-record 1 "
MAX_LENGTH = 4_000_000


def previous(path: str) -> str:
    """The name of the older copy."""
    return path + ".previous"


def write(path: str, value: Mapping[str, Any], *, mode: int = 0o600) -> None:
    """Writes `value` durably; the record that stood there becomes the previous one.

    Raises `UpdatedError` ("disk-full", "disk-error"); the old record then still stands.
    """
    body = dump(value)
    data = _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        current = _valid_bytes(path)
        if current == data:
            return
        if current is not None:
            durable.write_file(previous(path), current, mode=mode)
        durable.write_file(path, data, mode=mode)
    except OSError as error:
        raise storage_error(f"the record {path}", error) from None


def read(path: str) -> Object | None:
    """The newest whole record at `path`; None when there never was one.

    Raises `UpdatedError` ("state-corrupt") when no copy is whole, ("disk-error") when the disk can't be read.
    """
    for name in (path, previous(path)):
        data = _valid_bytes(name)
        if data is not None:
            return load_object(
                data[data.index(b"\n") + 1 :], what=f"the record {name}", code="state-corrupt", mend=_MEND
            )
    if os.path.lexists(path) or os.path.lexists(previous(path)):
        raise UpdatedError("state-corrupt", f"the record {path}", "both its copies are damaged", _MEND)
    return None


_MEND = "It is set aside and begun anew."


def set_aside(path: str) -> None:
    """Moves damaged copies out of the way, as `<name>.damaged`."""
    for name in (path, previous(path)):
        if os.path.lexists(name):
            durable.rename(name, name + ".damaged")


def _valid_bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_LENGTH + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(f"the record {path}", error) from None
    head, newline, body = data.partition(b"\n")
    if not newline or len(data) > MAX_LENGTH:
        return None
    return data if head == _MAGIC + hashlib.sha256(body).hexdigest().encode() else None


def storage_error(what: str, error: OSError) -> UpdatedError:
    """The error that says what a failed system call on a disk means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UpdatedError(
            "disk-full", what, "there is no space left on its file system",
            "Free some space there; the update goes on by itself.",
        )
    return UpdatedError("disk-error", what, error.strerror or str(error), mend_of(error))
