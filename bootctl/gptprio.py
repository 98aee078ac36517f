"""The boot reference in the attributes of GPT partitions, as ChromeOS, CoreOS and Flatcar keep it.

Bits 48-51 of a slot partition's attributes are its priority, 52-55 the tries left, 56 says that it was successful. The
reader at boot is `gptprio.next` of Flatcar's GRUB (grub-core/commands/gptprio.c). It takes the partition of its type
that has the highest priority, the first one of equals, and takes its tries down if it has any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from bootctl import gpt
from bootctl.errors import BootError, mend_of
from bootctl.lock import lock
from bootctl.model import EMPTY, MAX_TRIES, REJECTED, BootView, SlotState

SLOT_TYPE_GUID: Final = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"

_PRIORITY_SHIFT: Final = 48
_TRIES_SHIFT: Final = 52
_CONFIRMED_SHIFT: Final = 56
_MASK: Final = 0x1FF << _PRIORITY_SHIFT
_LOCK_SECONDS: Final = 10.0


def decode(attributes: int) -> SlotState:
    """The state in the 64 attribute bits of a slot partition.

    Without a priority it never boots, and the tries of a successful one end nothing.
    """
    priority, tries = attributes >> _PRIORITY_SHIFT & 0xF, attributes >> _TRIES_SHIFT & 0xF
    confirmed = bool(attributes >> _CONFIRMED_SHIFT & 1)
    if not priority:
        return REJECTED if tries or confirmed else EMPTY
    return SlotState(priority, 0 if confirmed else tries, confirmed)


def encode(attributes: int, state: SlotState) -> int:
    """`attributes` with `state` in bits 48-56 and all other bits as they are."""
    bits = (
        state.priority << _PRIORITY_SHIFT | state.tries_left << _TRIES_SHIFT | int(state.confirmed) << _CONFIRMED_SHIFT
    )
    return attributes & ~_MASK | bits


class GptPrio:
    """The backend for the disk or image `path`, whose slots are the partitions `<component>-<slot>`."""

    def __init__(self, path: str, component: str = "rootfs") -> None:
        self.name = "gptprio"
        self.most_tries = MAX_TRIES
        self.counts_confirmed = False
        self._path = path
        self._component = component

    def read(self) -> BootView:
        """Raises BootError `disk-unreadable`, `gpt-damaged`, `gpt-unreadable`, `no-slots`, `slot-type`."""
        with self._opened(os.O_RDONLY) as fd:
            return self._view(gpt.read_table(fd))

    def commit(self, view: BootView) -> None:
        """Also mends a damaged copy of the table. Raises BootError: what `read` raises, `disk-busy`,
        `disk-not-writable`, `unknown-slot`, `read-back-differs`.
        """
        with self._opened(os.O_RDONLY) as fd:
            before = gpt.read_table(fd)
        if self._changed(before, view) == before and not before.damage:
            return  # without opening the disk for writing, which would make udev probe it anew
        with self._opened(os.O_RDWR) as fd, self._locked(fd):
            try:
                gpt.write_table(fd, self._changed(gpt.read_table(fd), view))
            except OSError as error:
                raise self._error(
                    "disk-not-writable",
                    f"it can't be written ({error.strerror})",
                    f"{mend_of(error)} The machine still boots, as before or as was asked.",
                ) from error
            after = gpt.read_table(fd)
        if self._view(after) != view or after.damage:
            raise self._error(
                "read-back-differs",
                f"it holds {self._view(after)} instead of {view}{''.join(f'; {text}' for text in after.damage)}",
                "The disk doesn't keep what is written to it: replace it.",
            )

    def problems(self) -> tuple[str, ...]:
        with self._opened(os.O_RDONLY) as fd:
            return gpt.read_table(fd).damage

    def limits(self) -> tuple[str, ...]:
        return ("The boots of a confirmed slot are not counted: nothing falls back from one that breaks later.",)

    def begin_reboot(self) -> str:
        return ""

    def _view(self, table: gpt.Table) -> BootView:
        slots = self._slots(table)
        return BootView(tuple((slot, decode(partition.attributes)) for slot, partition in slots.items()))

    def _changed(self, table: gpt.Table, view: BootView) -> gpt.Table:
        slots = self._slots(table)
        for slot in {*slots, *view.names}:
            self._view(table).state(slot)
            partition, state = slots[slot], view.state(slot)
            if decode(partition.attributes) != state:
                table = table.with_attributes(partition.number, encode(partition.attributes, state))
        return table

    def _slots(self, table: gpt.Table) -> Mapping[str, gpt.Partition]:
        slots = gpt.slot_partitions(table, self._component)
        if not slots:
            raise self._error(
                "no-slots",
                f"no partition is named {self._component}-a or the like",
                "Name the right disk, or lay this one out (updatectl provision).",
            )
        for slot, partition in slots.items():
            if partition.type_guid != SLOT_TYPE_GUID:
                raise self._error(
                    "slot-type",
                    f"the bootloader can't see slot {slot}, since its partition has the type {partition.type_guid}",
                    f"Set its type (sgdisk -t {partition.number}:{SLOT_TYPE_GUID}), or choose another backend.",
                )
        return slots

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        try:
            fd = os.open(self._path, flags | os.O_CLOEXEC)
        except OSError as error:
            verb = "read" if flags == os.O_RDONLY else "written"
            raise self._error(
                "disk-unreadable" if flags == os.O_RDONLY else "disk-not-writable",
                f"it can't be {verb} ({error.strerror})",
                mend_of(error, "Name the right disk."),
            ) from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _locked(self, fd: int) -> Iterator[None]:
        """Keep udev and other programs off the disk meanwhile (https://systemd.io/BLOCK_DEVICE_LOCKING)."""
        if not lock(fd, _LOCK_SECONDS):
            raise self._error(
                "disk-busy",
                f"another program has kept it locked for {_LOCK_SECONDS:.0f} seconds",
                "See which one (lslocks), and try again.",
            )
        yield

    def _error(self, code: str, cause: str, mend: str) -> BootError:
        return BootError(code, f"disk {self._path}", cause, mend)
