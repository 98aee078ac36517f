"""Where the command may write a bundle, a root of trust or a mirror: never over, or into, something of another kind."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from updated.core.errors import UpdatedError
from updated.directory import folder_of
from updated.publish.keyrecord import MAX_RECORD_LENGTH, KeyRecord, is_key_name

_ELSEWHERE = "Name a place elsewhere."
_PARTS = {"metadata", "targets", "blobs", "lost+found"}
"""What a mirror that was interrupted may consist of: its folders, and the one that a file system of its own has."""


def check_bundle(file: str) -> None:
    """Raises `UpdatedError` ("bad-request") unless `file` is new or a bundle, and apart from repositories and keys."""
    what = f"the bundle {file}"
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise UpdatedError("bad-request", what, f"there is no folder {folder}", "Make it, or name another file.")
    _refuse_within_repository(what, os.path.dirname(os.path.realpath(file)))
    _refuse_within_keys(what, os.path.dirname(os.path.realpath(file)))
    if os.path.lexists(file) and not _is_bundle(file):
        raise _in_the_way(what, "is there already, and is no bundle")


def check_root(file: str, data: bytes) -> None:
    """Raises `UpdatedError` ("bad-request") when the root `data` would take the place of anything but a root."""
    what = f"the file {file}"
    _refuse_within_repository(what, os.path.dirname(os.path.realpath(file)))
    if not os.path.isfile(file):
        return  # nothing, or a pipe, or what can't be opened
    with open(file, "rb") as opened:
        old = opened.read(MAX_RECORD_LENGTH * 8 + 1)
    if old != data and not _is_root(old):
        raise _in_the_way(what, "is there already, and is no root of trust")


def check_source(source: str) -> None:
    """Raises `UpdatedError` ("bad-repository") when `source` is a folder, or the URL of one, and no repository."""
    folder = folder_of(source) or source
    if "://" in folder or os.path.lexists(os.path.join(folder, "metadata", "1.root.json")):
        return
    cause = "is not a repository" if os.path.lexists(folder) else "does not exist"
    raise UpdatedError("bad-repository", f"the folder {folder}", cause, "Name the folder of a repository.")


def check_mirror(source: str, destination: str) -> None:
    """Raises `UpdatedError` ("bad-request") unless `destination` is new, empty or a mirror, and apart from `source`."""
    what = f"the mirror {destination}"
    real = os.path.realpath(destination)
    _refuse_within_repository(what, os.path.dirname(real))
    _refuse_within_keys(what, real)
    folder = folder_of(source) or source
    if "://" not in folder and os.path.commonpath([os.path.realpath(folder), real]) == real:
        raise UpdatedError("bad-request", what, f"would hold its own source, {source}", _ELSEWHERE)
    if os.path.lexists(real) and not os.path.isdir(real):
        raise UpdatedError("bad-request", what, "is a file already, and has to be a folder", _ELSEWHERE)
    if os.path.isdir(real) and not _is_repository(real):
        foreign = sorted(set(os.listdir(real)) - _PARTS)
        if foreign:
            raise UpdatedError(
                "bad-request", what, f"is a folder with something else in it, such as {foreign[0]}",
                "Name a mirror, or a new or an empty folder.",
            )  # fmt: skip


def _in_the_way(what: str, cause: str) -> UpdatedError:
    return UpdatedError("bad-request", what, cause, "Name another file, or move that one away.")


def _upwards(folder: str) -> Iterator[str]:
    """The real path `folder`, and all folders that it lies in."""
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder:
            return
        folder = above


def _refuse_within_repository(what: str, folder: str) -> None:
    for each in _upwards(folder):
        if _is_repository(each):
            raise UpdatedError(
                "bad-request", what, f"lies inside of the repository {each}, and would be published", _ELSEWHERE
            )


def _refuse_within_keys(what: str, folder: str) -> None:
    for each in _upwards(folder):
        if _holds_keys(each):
            raise UpdatedError("bad-request", what, f"lies inside of the key folder {each}", _ELSEWHERE)


def _is_repository(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "metadata", "1.root.json"))


def _holds_keys(folder: str) -> bool:
    """Whether a key record is there that says where its private key is; those of other people may lie anywhere."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(
        name.endswith(".json") and is_key_name(name.removesuffix(".json")) and _is_own_key(os.path.join(folder, name))
        for name in names
    )


def _is_own_key(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return KeyRecord.parse(file.read(MAX_RECORD_LENGTH), path).private is not None
    except (OSError, UpdatedError):
        return False


def _is_bundle(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with tarfile.open(path, mode="r:") as tar:
            first = tar.next()
    except (OSError, tarfile.TarError):
        return False
    return first is not None and first.name.startswith("metadata/")


def _is_root(data: bytes) -> bool:
    try:
        return isinstance(Metadata.from_bytes(data).signed, Root)
    except DeserializationError:
        return False
