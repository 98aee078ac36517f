"""Changes the files of entries on the partition of systemd-boot, so that no cut loses an entry."""

from __future__ import annotations

import os
import stat
from typing import Final

from bootctl import bls, durable
from bootctl.errors import BootError, mend_of
from bootctl.model import EMPTY, MAX_TRIES, REJECTED
from bootctl.systemd_boot_entries import EntryFile
from bootctl.systemd_boot_plan import Change, Label, fresh_name

_SECTOR: Final = 512
_MOST_BYTES: Final = 1 << 20


def carry_out(change: Change, folder: str) -> None:
    """By a new file beside the old one where there is room, since a rename on FAT may lose both names.

    Linux writes the new name there without the place and the size of the file at first: only a sync of the whole file
    system brings these, and the old name has to stay until then.
    """
    first = change.files[0]
    if change.content is None:
        if change.path != first.path:
            durable.rename(first.path, change.path)
    elif change.path != first.path:
        durable.write_file(change.path, change.content, mode=_mode(first.path))
    elif change.content != first.content and not _patched(change.path, first.content, change.content):
        _replace(change, change.content, folder)
    durable.sync_filesystem_of(folder)
    # The one that counts goes last, so that none of the others counts meanwhile.
    for files in (change.files[1:], change.files[:1]):
        for file in files:
            # FAT takes names that differ in their case only for the same.
            if os.path.exists(file.path) and not os.path.samefile(file.path, change.path):
                durable.remove(file.path)
        if files:
            durable.sync_filesystem_of(folder)


def _replace(change: Change, content: bytes, folder: str) -> None:
    """Write the entry anew under its name, with a second one beside it meanwhile.

    Only one name means that a slot is good and not counted, so that of a good slot the second one is counted; of
    another slot it is bad, and rejected if it may not be judged again. The first commit after a cut puts it right.
    """
    first = change.files[0]
    good = first.state.condition == "good"
    bad = Label(0, rejected=first.state in (EMPTY, REJECTED))
    label = Label(MAX_TRIES, marked=True) if good else bad
    spare = os.path.join(folder, str(fresh_name(first.name.slot or "", label, change.files)))
    old = first.content if first.marked == good else bls.with_mark(first.content, confirmed=good)
    durable.write_file(spare, old, mode=_mode(first.path))
    durable.sync_filesystem_of(folder)
    durable.write_file(change.path, content, mode=_mode(first.path))
    durable.sync_filesystem_of(folder)
    durable.remove(spare)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _patched(path: str, old: bytes, new: bytes) -> bool:
    """Write in place if that changes one sector only, which a disk writes as a whole."""
    changed = [at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other]
    if len(old) != len(new) or changed[0] // _SECTOR != changed[-1] // _SECTOR:
        return False
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        durable.overwrite(fd, changed[0], new[changed[0] : changed[-1] + 1])
    finally:
        os.close(fd)
    return True


def remove_leftovers(folder: str) -> None:
    """Of writes that a cut has ended."""
    for file_name in os.listdir(folder):
        if file_name.startswith(".updated-") and file_name.endswith(".tmp"):
            durable.remove(os.path.join(folder, file_name))


def content_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) > _MOST_BYTES:
        raise BootError("entry-corrupt", path, f"it has more than {_MOST_BYTES} bytes", "Write it anew.")
    return content


def unreadable(path: str, error: OSError) -> BootError:
    return BootError("entries-unreadable", path, f"it can't be read ({error.strerror})", mend_of(error))


def unusable(file: EntryFile) -> BootError:
    if file.absent:
        return BootError(
            "kernel-missing", file.absent, "there is no such file", f"Write it, or correct {file.path}, which names it."
        )
    return BootError("entry-corrupt", file.path, f"systemd-boot ignores it: {file.fault}", "Write it anew.")
