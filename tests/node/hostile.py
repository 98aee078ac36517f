"""A downloader that was taken over by the network, in the place of `updated.child`: it gives up nothing, and says that
all went well. `DEED` names what it does, `MEANS` is JSON for it.

It needs what the honest one leaves behind as much as any attacker does, so it uses its code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from updated.core.state import Target
from updated.fetch import check, fetch
from updated.region import Region
from updated.task import Connection, Task, report

MEANS: Mapping[str, str] = json.loads(os.environ.get("MEANS", "{}"))
NOTHING: Mapping[str, Any] = {
    "reasons": [], "expiries": {}, "lifetimes": {}, "expired": {}, "notes": [], "installed": {},
}  # fmt: skip


def claim(result: Mapping[str, Any]) -> None:
    report({"type": "result", "peak_memory_bytes": 1, **result})


def offer(version: str, manifest: str) -> None:
    claim({**NOTHING, "offer": {"version": version, "manifest": manifest, "size": 1, "urgent": True}})


def slot(task: Task) -> Region:
    """The passive slot, for writes of any length."""
    region = task.regions["rootfs"]
    fcntl.fcntl(region.fd, fcntl.F_SETFL, fcntl.fcntl(region.fd, fcntl.F_GETFL) & ~os.O_DIRECT)
    return region


def overwrite(task: Task, start: int, data: bytes) -> None:
    region = slot(task)
    assert os.pwrite(region.fd, data, region.offset + start) == len(data)


def after_an_honest_download(deed: Callable[[Task], None]) -> Callable[[Task, str], None]:
    def do(task: Task, verb: str) -> None:
        if verb == "check":
            claim(check(task))
            return
        result = fetch(task)
        deed(task)
        claim(result)

    return do


def write_another_image(task: Task) -> None:
    with open(MEANS["image"], "rb") as file:
        overwrite(task, 0, file.read())


def change_one_byte(task: Task) -> None:
    region = slot(task)
    place = int(MEANS["place"])
    (byte,) = os.pread(region.fd, 1, region.offset + place)
    overwrite(task, place, bytes([byte ^ 1]))


def cut_the_image(task: Task) -> None:
    half = int(MEANS["size"]) // 2
    overwrite(task, half, bytes(half))


def change_the_kernel(task: Task) -> None:
    """The component that is a file."""
    fd, size = task.regions["kernel"].fd, int(MEANS["size"])
    match MEANS["how"]:
        case "longer":
            os.pwrite(fd, b"x", size)
        case "shorter":
            os.ftruncate(fd, size - 1)
        case "altered":
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT)
            os.pwrite(fd, b"x", size // 2)


def write_nothing(task: Task, verb: str) -> None:
    if verb == "check":
        claim(check(task))
        return
    check(task)
    claim(NOTHING)


def use_another_repository(task: Task, verb: str) -> None:
    """One that is signed as well as can be, by others."""
    with open(MEANS["root"]) as file:
        root = file.read()
    other = dataclasses.replace(
        task, root_of_trust=root, connection=Connection(MEANS["url"]), store=task.store + "-other", seeds={}
    )
    claim({"check": check, "install": fetch}[verb](other))


def use_an_old_repository(task: Task, verb: str) -> None:
    """As it was once, with a release of then under a number that is new; all of it genuine."""
    if verb == "check":
        offer(MEANS["as"], MEANS["manifest"])
        return
    old = dataclasses.replace(
        task, connection=Connection(MEANS["url"]), store=task.store + "-old", seeds={}, running="0.0.1",
        floor="", target=Target(MEANS["version"], MEANS["manifest"], "b"), denied={},
    )  # fmt: skip
    claim(fetch(old))


def offer_what_is_old(task: Task, verb: str) -> None:
    offer(MEANS["version"], MEANS["manifest"])


def always_say_urgent(task: Task, verb: str) -> None:
    if verb == "install":
        claim(fetch(task))
        return
    found = check(task)
    claim({**found, "offer": found["offer"] and {**found["offer"], "urgent": True}})


def spoil_the_export(task: Task) -> None:
    path = os.path.join(task.export, MEANS["name"]) if MEANS["name"] else task.export
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
    match MEANS["with"]:
        case "link":
            os.symlink(MEANS["to"], path)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            os.mkdir(path)
        case "huge file":
            with open(path, "wb") as file:
                file.truncate(1 << 40)
        case "file":
            with open(path, "wb") as file:
                file.write(b"{}")


def _sealing(daemon: int) -> bool:
    with open(f"/proc/{daemon}/task/{daemon}/children") as file:
        children = file.read().split()
    for child in children:
        with contextlib.suppress(OSError), open(f"/proc/{child}/cmdline", "rb") as command:
            if command.read().endswith(b"\0updated\0seal\0"):
                return True
    return False


def leave_somebody_behind(task: Task) -> None:
    """Who holds the slot open, in a session of its own, and writes to it as soon as it is being sealed."""
    ready, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        for fd in (0, 1, 2):
            os.close(fd)
        with open(MEANS["pid"], "w") as file:
            file.write(str(os.getpid()))
        os.write(tell, b"x")
        end = time.monotonic() + 60
        while not _sealing(task.parent) and time.monotonic() < end:
            time.sleep(0.001)
        while time.monotonic() < end:
            overwrite(task, 4096, b"written after the download")
        os._exit(0)
    os.read(ready, 1)


def say(task: Task, verb: str) -> None:
    """Whatever it was given, and nothing else."""
    with open(MEANS["words"], "rb") as file:
        sys.stdout.buffer.write(file.read())
    sys.stdout.flush()


DEEDS: Mapping[str, Callable[[Task, str], None]] = {
    "another image": after_an_honest_download(write_another_image),
    "one byte": after_an_honest_download(change_one_byte),
    "half an image": after_an_honest_download(cut_the_image),
    "the kernel": after_an_honest_download(change_the_kernel),
    "nothing": write_nothing,
    "another repository": use_another_repository,
    "old repository": use_an_old_repository,
    "old release": offer_what_is_old,
    "urgent": always_say_urgent,
    "export": after_an_honest_download(spoil_the_export),
    "somebody behind": after_an_honest_download(leave_somebody_behind),
    "words": say,
}


def main(arguments: list[str]) -> int:
    """Stands in for `updated.child.main`."""
    DEEDS[os.environ["DEED"]](Task.from_json(sys.stdin.buffer.read()), arguments[1])
    return 0
