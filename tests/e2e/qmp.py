"""QEMU's machine protocol (QMP): JSON lines on a socket; commands, their answers, and events meanwhile."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

_LIMIT: Final = 30.0


class Qmp:
    """The connection. Each event goes to `happened`, from a thread: its name and its data."""

    def __init__(self, line: socket.socket, happened: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._line = line
        self._happened = happened
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """What the command returns. Raises RuntimeError when QEMU refuses it or is gone."""
        try:
            self._line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            answer = self._answers.get(timeout=_LIMIT)
        except (OSError, queue.Empty) as error:
            raise RuntimeError(f"QEMU does not answer {command}: {error!r}") from error
        if "return" not in answer:
            raise RuntimeError(f"QEMU refused {command}: {answer}")
        return answer["return"]

    def close(self) -> None:
        """Gives the connection up."""
        self._reader.join(5)
        self._line.close()

    def _read(self) -> None:
        pending = b""
        while data := self._receive():
            *ended, pending = (pending + data).split(b"\n")
            for line in ended:
                message = json.loads(line)
                if "event" in message:
                    self._happened(message["event"], message.get("data", {}))
                elif "QMP" not in message:
                    self._answers.put(message)
        self._answers.put({"error": "the machine is off"})

    def _receive(self) -> bytes:
        try:
            return self._line.recv(65536)
        except OSError:
            return b""
