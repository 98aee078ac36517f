"""The story of a machine as a person reads it: each line of its console, each command, each cut, with time stamps."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Final

_WIDTH: Final = 8


class Story:
    """A log at `path`, begun anew. Its times are seconds since its begin. May be called from threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._begin = time.monotonic()
        self._file = path.open("w", buffering=1, errors="replace")
        self._lock = threading.Lock()
        self.tell(f"{path.stem}, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}")

    def close(self) -> None:
        """Ends the log; what is told later is lost."""
        with self._lock:
            self._file.close()

    def has(self, pattern: str) -> bool:
        """Whether a line so far fits the regular expression, of whichever boot."""
        return any(re.search(pattern, line) for line in self.path.read_text(errors="replace").splitlines())

    def heard(self, line: str) -> None:
        """A line of the machine's console: firmware, boot loader, kernel, systemd."""
        if line.strip():
            self._write("   ", line)

    def tell(self, text: str) -> None:
        """What the harness did to the machine."""
        self._write("---", text)

    def command(self, command: str) -> None:
        """What was typed on the console."""
        self._write("  #", command)

    def answer(self, status: int, output: str) -> None:
        """What it printed; the status only if it is not 0."""
        for line in output.splitlines():
            self._write("   |", line)
        if status:
            self._write("   |", f"(exit status {status})")

    def _write(self, mark: str, text: str) -> None:
        at = f"{time.monotonic() - self._begin:{_WIDTH}.2f}"
        with self._lock:
            if not self._file.closed:
                for line in text.splitlines() or [""]:
                    self._file.write(f"{at} {mark} {line}\n")
