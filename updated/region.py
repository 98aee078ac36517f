"""A slot's component as an open file descriptor and a window into it.

A partition device is its own window. In a disk image file the window is what keeps a write inside the slot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from updated.core.errors import UpdatedError
from updated.record import storage_error


@dataclass(frozen=True, slots=True)
class Region:
    """`size` bytes at `offset` of the open file `fd`."""

    fd: int
    offset: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """The bytes [start, start + length) of the region. Raises `UpdatedError` ("disk-error")."""
        self._check(start, length)
        parts = []
        done = 0
        try:
            while done < length:
                data = os.pread(self.fd, length - done, self.offset + start + done)
                if not data:
                    raise UpdatedError(
                        "disk-error", "the slot", f"ends at byte {start + done}, before its partition does",
                        "The partition table does not fit the disk: look at it with sgdisk -v.",
                    )
                parts.append(data)
                done += len(data)
        except OSError as error:
            raise storage_error("the slot", error) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, start: int, data: memoryview) -> None:
        """Writes `data` at `start` of the region; not durable before a sync. Raises `UpdatedError` ("disk-error")."""
        self._check(start, len(data))
        try:
            while data:
                written = os.pwrite(self.fd, data, self.offset + start)
                start += written
                data = data[written:]
        except OSError as error:
            raise storage_error("the slot", error) from None

    def _check(self, start: int, length: int) -> None:
        if start < 0 or length < 0 or start + length > self.size:
            raise UpdatedError(
                "internal", "an access to the slot", f"leaves it: bytes {start} to {start + length} of {self.size}",
                "Report it.",
            )
