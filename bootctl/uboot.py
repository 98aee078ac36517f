"""The boot reference in U-Boot's environment, with RAUC's variables and one of our own.

`BOOT_ORDER` lists the slots that may be tried (upper-case names, the first one first), filled up with blanks to a fixed
width. Of slot X, `BOOT_X_LEFT` is the number of boots that it has left: RAUC and U-Boot read hexadecimal, and we write
one digit from 0 to 9. `BOOT_X_OK` is ours. The reader at boot is packaging/uboot/boot.cmd.

| in BOOT_ORDER | BOOT_X_LEFT | BOOT_X_OK | slot X | RAUC sees |
|---|---|---|---|---|
| yes | n > 0 | 0 | on trial, n boots left | good |
| yes | 0 | 0 | bad: its trial is used up | bad |
| yes | 9 | 1 | good, and its boots are not counted | good |
| yes | n > 0 | 2 | good, and boots n times until somebody gives it its boots again | good |
| yes | 0 | 2 | used up though it was good: the last resort | bad |
| no | 0 | any (0) | empty | bad |
| no | n > 0 | any (0) | bad: rejected | bad |

Any other `BOOT_X_OK`, such as none, and a 1 beside another number than 9, count as 2, which is RAUC's meaning: it can't
tell a trial from a good slot, and its boot script counts all boots. So a slot that RAUC has touched since we confirmed
it (it writes 3 into BOOT_X_LEFT for a new image as for `mark-good`) is counted, and falls back as with RAUC. RAUC's
`mark-bad`, with which it begins an installation too, removes the slot from BOOT_ORDER and so makes it empty. RAUC's
`mark-good` gives a trial its boots again and does not confirm it.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

from bootctl import durable, uboot_env
from bootctl.errors import BootError
from bootctl.model import MAX_PRIORITY, BootView, SlotState
from bootctl.settings import below
from bootctl.uboot_env import Environment, Place

MOST_TRIES: Final = 9
BACKUP_SUFFIX: Final = ".backup"
# That of fw_printenv and fw_setenv, which take it for reading too. They go on when they can't have it, and so do we.
LOCK_FILE: Final = "/var/lock/fw_printenv.lock"

_LOCK_SECONDS: Final = 10.0
_SECTOR: Final = 512
_LARGEST_CONFIG: Final = 1 << 16
_FLASH: Final = ("/dev/mtd", "/dev/ubi")
_SLOT: Final = re.compile(r"[A-Z0-9]+")
_OURS: Final = re.compile(r"BOOT_([A-Z0-9]+)_(?:LEFT|OK)")
_HEXADECIMAL: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,8}")
_ON_TRIAL, _UNCOUNTED, _COUNTED = "0", "1", "2"


def decode(variables: Mapping[str, str]) -> BootView:
    """The boot reference in the variables. Raises BootError `uboot-env-corrupt`, `no-slots`."""
    order = list(dict.fromkeys(variables.get("BOOT_ORDER", "").split()))
    if not all(_SLOT.fullmatch(name) for name in order):
        raise uboot_env.env_corrupt(f"BOOT_ORDER is {variables['BOOT_ORDER']!r}, which is no list of slots")
    names = sorted({*order, *(found[1] for found in map(_OURS.fullmatch, variables) if found)})
    if not names:
        raise BootError(
            "no-slots",
            uboot_env.ENVIRONMENT,
            "it names no slot",
            'Set its variables (fw_setenv BOOT_ORDER "A B", and those of each slot: packaging/uboot/README.md).',
        )
    if len(names) > MAX_PRIORITY:
        raise uboot_env.env_corrupt(f"it names {len(names)} slots")
    priorities = {name: len(names) - index for index, name in enumerate(order)}
    return BootView(tuple((name.lower(), _state(variables, name, priorities.get(name, 0))) for name in names))


def _state(variables: Mapping[str, str], name: str, priority: int) -> SlotState:
    text, mark = variables.get(f"BOOT_{name}_LEFT", ""), variables.get(f"BOOT_{name}_OK", "")
    left = _boots(text)
    if not priority or mark == _ON_TRIAL:
        return SlotState(priority, left, confirmed=False)
    if mark == _UNCOUNTED and text == str(MOST_TRIES):
        return SlotState(priority, 0, confirmed=True)
    return SlotState(priority if left else 0, left, confirmed=True)


def _boots(text: str) -> int:
    """As boot.cmd reads it: a digit, or a larger hexadecimal number of another program, which is taken for the most."""
    if len(text) == 1 and text in "0123456789":
        return int(text)
    found = _HEXADECIMAL.match(text)
    return MOST_TRIES if found and int(found[0], 16) > MOST_TRIES else 0


def encode(view: BootView) -> dict[str, str]:
    """Our variables for the boot reference `view`. Raises BootError `bad-tries`."""
    ranked = sorted(view.slots, key=lambda slot: -slot[1].priority)
    listed = [name.upper() for name, state in ranked if state.priority or state.confirmed]
    # So that a change never moves what stands behind.
    width = len(" ".join(view.names))
    variables = {"BOOT_ORDER": " ".join(listed).ljust(width)}
    for slot, state in view.slots:
        left, mark = state.tries_left, _ON_TRIAL
        if state.confirmed and not state.bootable:
            left, mark = 0, _COUNTED
        elif state.confirmed:
            left, mark = (left, _COUNTED) if left else (MOST_TRIES, _UNCOUNTED)
        if left > MOST_TRIES:
            raise BootError(
                "bad-tries",
                f"slot {slot}",
                f"{left} tries can't be counted in U-Boot's environment",
                f"Give a number from 1 to {MOST_TRIES}.",
            )
        variables[f"BOOT_{slot.upper()}_LEFT"] = str(left)
        variables[f"BOOT_{slot.upper()}_OK"] = mark
    return variables


@dataclass(frozen=True, slots=True)
class _Copy:
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
_Kind = Literal["redundant", "file", "raw"]


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there: of each copy its environment or what is wrong with it. `environment` is the one that counts, and
    `current` its index."""

    kind: _Kind
    copies: tuple[_Copy, ...]
    contents: tuple[Environment | BootError, ...]
    current: int
    environment: Environment

    @property
    def copy(self) -> _Copy:
        return self.copies[self.current]

    @property
    def view(self) -> BootView:
        with _named(str(self.copy)):
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
        with _named(str(self.copy)):
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

    def writes(self, wanted: Environment) -> list[tuple[_Copy, bytes]]:
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
        with _named(str(self.copy)):
            return uboot_env.format_environment(environment, self.copy.size)

    def _entries(self, index: int) -> tuple[bytes, ...] | None:
        content = self.contents[index]
        return content.entries if isinstance(content, Environment) else None


class UBoot:
    """The backend for the environment that the fw_env.config at `config` tells of; the paths in it lie below `root`.

    The environment knows an order and no numbers: what was committed with the priorities 1 and 0 is read back as 2 and
    0.
    """

    def __init__(self, config: str, root: str = "/") -> None:
        self.name = "uboot"
        self.most_tries = MOST_TRIES
        self.counts_confirmed = True
        self._config = config
        self._root = root

    def read(self) -> BootView:
        """From the second copy of a file if the first one is corrupt, as boot.cmd does.

        Raises BootError `uboot-config-missing`, `uboot-config-unreadable`, `uboot-config-corrupt`,
        `uboot-device-unsupported`, `uboot-env-missing`, `uboot-env-unreadable`, `uboot-env-corrupt`, `no-slots`,
        `uboot-busy`.
        """
        with self._locked():
            return self._find().view

    def commit(self, view: BootView) -> None:
        """All of a change is one write of one copy. Raises BootError: what `read` raises, `uboot-env-full`,
        `uboot-env-not-writable`, `unknown-slot`, `bad-tries`, `read-back-differs`.
        """
        with self._locked():
            found = self._find()
            for name in {*found.view.names, *view.names}:
                for one in (found.view, view):
                    one.state(name)
            wanted = found.changed(view)
            writes = found.writes(wanted)
            for copy, data in writes:
                _write(copy, data, found.kind)
            after = self._find() if writes else found
            if after.environment.entries != wanted.entries or after.damages:
                raise BootError(
                    "read-back-differs",
                    str(after.copy),
                    "it does not hold what was written to it",
                    "The disk doesn't keep what is written to it: replace it.",
                )

    def problems(self) -> tuple[str, ...]:
        with self._locked():
            found = self._find()
        return tuple(f"{found.copies[index]}: {damage}" for index, damage in found.damages.items())

    def limits(self) -> tuple[str, ...]:
        with self._locked():
            found = self._find()
        limits = []
        count = uboot_env.boot_count(found.environment.variables)
        if count is not None:
            limits.append(_words(count))
        if found.kind == "file":
            limits.append(
                f"U-Boot writes {found.copies[0]} in place when it counts, and reads no second copy by itself: let "
                f"boot.cmd read {found.copies[1]}, or give U-Boot a redundant environment"
            )
        if found.kind == "raw":
            limits.append(
                f"{found.copy} is the only copy of U-Boot's environment: if it is damaged, U-Boot starts with the "
                "variables that it was built with; give it a redundant environment"
            )
            if not found.is_confined():
                limits.append(
                    f"the next change of {found.copy} goes beyond its first sector, because of variables of others: a "
                    "power cut during it would damage the environment; later changes stay within, if nobody else adds "
                    "variables"
                )
        return tuple(limits)

    def begin_reboot(self) -> str:
        return ""

    def _find(self) -> _Found:
        copies = [self._copy(place) for place in self._places()]
        kind: _Kind = "redundant" if len(copies) == 2 else "file" if _is_whole_file(copies[0]) else "raw"
        if kind == "redundant" and _overlap(copies[0], copies[1]):
            raise BootError(
                "uboot-config-corrupt", self._config, "its two places overlap", "Give each copy a place of its own."
            )
        if kind == "file":
            copies.append(replace(copies[0], path=copies[0].path + BACKUP_SUFFIX))
        contents = tuple(_content(copy, redundant=kind == "redundant") for copy in copies)
        whole = {index: content for index, content in enumerate(contents) if isinstance(content, Environment)}
        if not whole:
            errors = [content for content in contents if isinstance(content, BootError)]
            raise next((error for error in errors if error.code.endswith("-corrupt")), errors[0])
        current = min(whole)
        if kind == "redundant" and len(whole) == 2 and uboot_env.is_newer(whole[1].flag or 0, whole[0].flag or 0):
            current = 1
        return _Found(kind, tuple(copies), contents, current, whole[current])

    def _places(self) -> tuple[Place, ...]:
        try:
            with open(self._config, "rb") as file:
                data = file.read(_LARGEST_CONFIG)
        except FileNotFoundError:
            raise BootError(
                "uboot-config-missing",
                self._config,
                "there is no such file",
                "Write it (packaging/uboot/README.md), or set fw_env_config in the table [boot].",
            ) from None
        except OSError as error:
            raise BootError(
                "uboot-config-unreadable", self._config, f"it can't be read ({error.strerror})", "Run this as root."
            ) from error
        with _named(self._config):
            return uboot_env.parse_config(data)

    def _copy(self, place: Place) -> _Copy:
        # A link is followed, as fw_setenv does; a rename would replace it.
        path = os.path.realpath(below(self._root, place.device))
        try:
            mode = os.stat(path).st_mode
            size = _size(path) if place.offset < 0 else 0
        except FileNotFoundError:
            mode, size = stat.S_IFREG, 0
        except OSError as error:
            raise _unreadable(path, error) from error
        # Flash has to be erased before it is written, past bad blocks, and UBI volumes are written by ioctl.
        if place.device.startswith(_FLASH) or not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise BootError(
                "uboot-device-unsupported",
                path,
                "it is neither a disk nor a file, and flash is not written by this program",
                "Keep U-Boot's environment on a disk, eMMC or file system; for flash there are only the tools of "
                "libubootenv (fw_printenv, fw_setenv).",
            )
        offset = place.offset + size if place.offset < 0 else place.offset
        if offset < 0:
            raise BootError(
                "uboot-config-corrupt",
                self._config,
                f"the offset {place.offset} lies before the beginning of {path}",
                "Give an offset within it.",
            )
        return _Copy(path, offset, place.size)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            fd = os.open(below(self._root, LOCK_FILE), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            fd = -1
        try:
            if fd >= 0:
                self._wait_for(fd)
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def _wait_for(self, fd: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BootError(
                        "uboot-busy",
                        below(self._root, LOCK_FILE),
                        f"another program has kept U-Boot's environment locked for {_LOCK_SECONDS:.0f} seconds",
                        "See which one (lslocks), and try again.",
                    ) from None
                time.sleep(0.05)


def _content(copy: _Copy, *, redundant: bool) -> Environment | BootError:
    try:
        with open(copy.path, "rb") as file:
            file.seek(copy.offset)
            data = file.read(copy.size)
    except FileNotFoundError:
        return BootError(
            "uboot-env-missing",
            str(copy),
            "there is no such file",
            "Run saveenv at U-Boot's prompt, or correct fw_env.config.",
        )
    except OSError as error:
        return _unreadable(str(copy), error)
    try:
        with _named(str(copy)):
            return uboot_env.parse(data, copy.size, redundant=redundant)
    except BootError as error:
        return error


def _is_whole_file(copy: _Copy) -> bool:
    if copy.offset:
        return False
    try:
        status = os.stat(copy.path)
    except OSError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size <= copy.size


def _overlap(one: _Copy, other: _Copy) -> bool:
    return one.path == other.path and abs(one.offset - other.offset) < one.size


def _mode(path: str) -> int:
    """That of the file, or of the one that it is a second copy of: there may be passwords in it."""
    for known in (path, path.removesuffix(BACKUP_SUFFIX)):
        if os.path.exists(known):
            return stat.S_IMODE(os.stat(known).st_mode)
    return 0o600


def _write(copy: _Copy, data: bytes, kind: _Kind) -> None:
    try:
        if not _overwritten(copy, data, kind):
            durable.write_file(copy.path, data, mode=_mode(copy.path))
        if stat.S_ISREG(os.stat(copy.path).st_mode):
            durable.sync_filesystem_of(copy.path)
    except OSError as error:
        raise BootError(
            "uboot-env-not-writable",
            str(copy),
            f"it can't be written ({error.strerror})",
            "Check that its file system is mounted for writing and has room, and run this as root; the boot partition "
            "of an eMMC needs a 0 in its force_ro (/sys/class/block/mmcblk0boot0/force_ro).",
        ) from error


def _overwritten(copy: _Copy, data: bytes, kind: _Kind) -> bool:
    """Write in place, where a cut can't do harm: a copy that does not count, or within a sector. On FAT always, since a
    cut during a rename can lose both names there; the second copy is whole then.

    The first sector, with the checksum and normally with all that changes, comes last.
    """
    try:
        fd = os.open(copy.path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if kind == "file" and durable.filesystem_magic(fd) != durable.FAT_MAGIC:
            return False
        status = os.fstat(fd)
        if copy.offset == 0 and stat.S_ISREG(status.st_mode) and status.st_size < len(data):
            return False
        head, rest = data[: copy.first_sector], data[copy.first_sector :]
        behind = copy.offset + len(head)
        if rest and os.pread(fd, len(rest), behind) != rest:
            durable.overwrite(fd, behind, rest)
        durable.overwrite(fd, copy.offset, head)
    finally:
        os.close(fd)
    return True


def _size(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def _unreadable(what: str, error: OSError) -> BootError:
    return BootError("uboot-env-unreadable", what, f"it can't be read ({error.strerror})", "Run this as root.")


def _words(count: uboot_env.BootCount) -> str:
    words = [f"U-Boot itself {'counts' if count.counting else 'does not count now'}: bootcount {count.count}"]
    words[0] += f" of bootlimit {count.limit}" if count.limit else " without bootlimit"
    if count.upgrade_available is not None:
        words.append(f"upgrade_available={count.upgrade_available}")
    if count.limit:
        words.append("then altbootcmd" if count.alternative else "then nothing, since altbootcmd is not set")
    return ", ".join(words)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors about a format name the file."""
    try:
        yield
    except BootError as error:
        if error.what in (uboot_env.ENVIRONMENT, uboot_env.CONFIG):
            raise BootError(error.code, what, error.cause, error.mend) from error
        raise
