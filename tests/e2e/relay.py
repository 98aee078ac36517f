"""Joins standard input and output with a port of the host's loopback: what QEMU starts for each connection of a guest.

Run as `python3 -SE relay.py PORT`. It is all that a machine can reach: its network is restricted otherwise.
"""

from __future__ import annotations

import os
import select
import socket
import sys


def main(port: int) -> None:
    """Returns when one side has closed."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        while True:
            ready, _, _ = select.select([0, server.fileno()], [], [])
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                server.sendall(data)
            if server.fileno() in ready:
                data = server.recv(1 << 16)
                if not data:
                    return
                while data:
                    data = data[os.write(1, data) :]


if __name__ == "__main__":
    main(int(sys.argv[1]))
