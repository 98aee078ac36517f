"""What a confined process tries. `deeds.py fetch|seal FOLDER DEVICE TERMINAL SLOT` prints JSON: for each try "done", or
the name of its error.

FOLDER/own belongs to the process, FOLDER/fetch/export to fetch; DEVICE is a block device, TERMINAL and SLOT are numbers
of open descriptors.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from typing import Any

from updated.confinement import MEMORY_LIMIT, confine, needs_of_fetch, needs_of_seal
from updated.libc import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, capset, prctl
from updated.task import Connection, Task

CLONE_NEWUSER = 0x10000000
THREADS = 24
FOLDER, DEVICE, TERMINAL, SLOT = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
OWN = os.path.join(FOLDER, "own")


def libc(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def write(*path: str) -> None:
    with open(os.path.join(*path), "w") as file:
        file.write("x")


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def rename_between_folders() -> None:
    os.makedirs(os.path.join(OWN, "one/two"), exist_ok=True)
    write(OWN, "one/file")
    os.rename(os.path.join(OWN, "one/file"), os.path.join(OWN, "one/two/file"))
    os.symlink("file", os.path.join(OWN, "one/two/link"))
    os.remove(os.path.join(OWN, "one/two/link"))


def listen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()


def name_a_socket() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.join(OWN, "socket"))


def threads() -> None:
    """More at once than the most connections need."""
    together = threading.Barrier(THREADS)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        assert len(list(pool.map(lambda _: together.wait(10), range(THREADS)))) == THREADS


def take_memory() -> None:
    bytearray(MEMORY_LIMIT)


def decompress() -> None:
    import zstandard

    assert zstandard.decompress(zstandard.compress(b"x" * 100_000)) == b"x" * 100_000


def read_the_web() -> None:
    from updated.http import HttpSettings, open_source

    settings = HttpSettings(ca_bundle=os.environ["PEM"], client_certificate=os.environ["PEM"], retries=0)
    assert open_source(os.environ["URL"], settings).read("x", 10) == b"hello"


def use_version_6() -> None:
    """urllib3 finds out with a bind while it is loaded, and takes no such address ever after when that fails."""
    from urllib3.util import connection

    assert connection.HAS_IPV6 is (os.environ["HAS_IPV6"] == "True")


DEEDS: dict[str, Callable[[], object]] = {
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "start a program": lambda: subprocess.run(["/bin/true"], check=True),
    "start a process": fork,
    "signal the daemon": lambda: os.kill(os.getppid(), 0),
    "signal itself": lambda: os.kill(os.getpid(), 0),
    "outlive the daemon": lambda: prctl(PR_SET_PDEATHSIG, 0),
    "show its memory": lambda: prctl(PR_SET_DUMPABLE, 1),
    "take capabilities": lambda: capset(b"\x22\x05\x08\x20" + bytes(4), b"\xff" * 24),
    "become another user": lambda: os.setuid(1),
    "make a user namespace": lambda: libc("unshare", CLONE_NEWUSER),
    "mount": lambda: libc("mount", b"none", OWN.encode(), b"tmpfs", 0, None),
    "change the root": lambda: os.chroot(OWN),
    "type on the terminal": lambda: fcntl.ioctl(TERMINAL, termios.TIOCSTI, b"x"),
    "make a pipe with a name": lambda: os.mkfifo(os.path.join(OWN, "pipe")),
    "use more memory": take_memory,
    "raise the limit": lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT * 2, MEMORY_LIMIT * 2)),
    "leave a core": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)),
    "open a socket": lambda: socket.socket().close(),
    "open a pair": socket.socketpair,
    "open a unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "use another protocol": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close(),
    "be a server": listen,
    "give a socket a name": name_a_socket,
    "read the passwords": lambda: read("/etc/shadow"),
    "read what all may read": lambda: read("/etc/passwd"),
    "read what is not its own": lambda: read(os.path.join(FOLDER, "other/file")),
    "read what was exported": lambda: read(os.path.join(FOLDER, "fetch/export/file")),
    "list the root": lambda: os.listdir("/"),
    "look at the daemon": lambda: read(f"/proc/{os.getppid()}/status"),
    "open a block device": lambda: os.open(DEVICE, os.O_RDONLY),
    "open a character device": lambda: os.open("/dev/null", os.O_WRONLY),
    "open the slot again": lambda: os.open(f"/proc/self/fd/{SLOT}", os.O_RDWR),
    "write the slot": lambda: os.pwrite(SLOT, b"x", 0),
    "write its own": lambda: write(OWN, "store"),
    "rename its own": rename_between_folders,
    "write beside its own": lambda: write(FOLDER, "beside"),
    "write what was exported": lambda: write(FOLDER, "fetch/export/file"),
    "write a library": lambda: write(os.path.dirname(os.__file__), "os-of-the-test.py"),
    "use threads": threads,
    "decompress": decompress,
    "resolve a name": lambda: socket.getaddrinfo("localhost", 443),
    "read the web": read_the_web,
    "use version 6": use_version_6,
}


def outcome(deed: Callable[[], object]) -> str:
    try:
        deed()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, f"OSError {error}")
    except Exception as error:
        return f"{type(error).__name__}"
    return "done"


def main() -> None:
    fetches = sys.argv[1] == "fetch"
    task = Task(
        store=os.path.join(OWN, "store-of-metadata"), export=os.path.join(FOLDER, "fetch/export"), root_of_trust="{}",
        system_time=0, built=0, channel="stable", running="1.0.0", floor="1.0.0", compatible="box",
        connection=Connection("https://localhost/", os.environ["PEM"], os.environ["PEM"]) if fetches else None,
    )  # fmt: skip
    notes = confine(needs_of_fetch(task) if fetches else needs_of_seal(task))
    outcomes = {name: outcome(deed) for name, deed in DEEDS.items()}
    print(json.dumps({"notes": notes, **outcomes}))


if __name__ == "__main__":
    main()
