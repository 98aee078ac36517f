"""A whole machine in QEMU: a disk with its boot loader, OVMF, a console, a network that reaches one port of the host.

QEMU translates the processor's code (TCG): it needs neither root nor KVM. In contrast to `tests.qemu.machine` time is
real, and the machine runs on while a test does something else.

A reset ends QEMU, and it is started anew as soon as somebody waits for the machine: after a whole boot, OVMF would need
minutes to come up again in the same process, and needs seconds in a new one. Memory is lost by that, and no write is.
"""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.e2e import hardware
from tests.e2e.console import Console, ConsoleLost, TooLong
from tests.e2e.qmp import Qmp
from tests.e2e.story import Story

BOOT_LIMIT: Final = 600.0
COMMAND_LIMIT: Final = 180.0

_OFF_LIMIT: Final = 240.0
_END_LIMIT: Final = 60.0
_POLL: Final = 2.0
_TROUBLES: Final = (
    "updatectl status", "systemctl --failed --no-pager", "networkctl status --all --no-pager",
    "journalctl --boot --no-pager --lines=60 -u updated -u updated-health -u systemd-networkd -u systemd-udevd",
)  # fmt: skip
_RESETS: Final = ("guest-reset", "host-qmp-system-reset")

Status = Mapping[str, Any]


class Machine:
    """A machine in `folder`, whose disk is disk.img there; OVMF's variables are in vars.fd, and outlive the power.

    `port` is what it reaches of the host (see `hardware.network`). A context manager: it is off at the end.
    """

    def __init__(self, folder: Path, story: Story, *, port: int | None = None) -> None:
        self.folder = folder
        self.story = story
        self.port = port
        self.resets = 0
        self.boots: list[str] = []
        self._boot_id = ""
        self._seen_resets = 0
        self._was_reset = False
        self._plugged = True
        self._log_writes: Path | None = None
        self._more: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._console: Console | None = None
        self._qmp: Qmp | None = None
        self._changed = threading.Condition()

    @classmethod
    def from_image(cls, image: Path, folder: Path, story: Story, *, port: int | None = None) -> Self:
        """A machine with a copy of a disk image; holes of the image stay holes."""
        folder.mkdir(parents=True, exist_ok=True)
        copy_disk(image, folder / "disk.img")
        return cls(folder, story, port=port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.power_cut()

    @property
    def disk(self) -> Path:
        """The disk, which may be looked into at any time."""
        return self.folder / "disk.img"

    @property
    def running(self) -> bool:
        """Whether the machine is on."""
        return self._process is not None and (self._was_reset or self._process.poll() is None)

    # ----------------------------------------------------------------------------------------------------- power

    def start(self, *, log_writes: Path | None = None, drives: Sequence[Path] = (), extra: Sequence[str] = ()) -> None:
        """Switch on. `log_writes` gets each write and flush of the disk, which then is /dev/vda: see
        `tests.e2e.writelog`. `drives` are further disks; `extra` are arguments for QEMU, such as a kernel of its own.
        """
        assert self._process is None, "the machine is on"
        self.story.tell("power on")
        self._log_writes, self._more = log_writes, (*hardware.more_disks(drives), *extra)
        self._launch(again=False)
        self._seen_resets = self.resets

    def power_cut(self) -> None:
        """Kill QEMU at once (kill -9): what was not written yet never is."""
        assert self._process is not None, "the machine is off"
        self._process.send_signal(signal.SIGKILL)
        self._gone("power cut")

    def stop(self, limit: float = _OFF_LIMIT) -> None:
        """Switch off in good order, with systemctl. Raises TooLong."""
        self.story.tell("switch off")
        self.type("systemctl poweroff")
        self.wait_off(limit)

    def wait_off(self, limit: float = _OFF_LIMIT) -> None:
        """Wait until the machine has switched itself off. Raises TooLong."""
        deadline = time.monotonic() + limit
        while self.running:
            self._go_on()
            if time.monotonic() > deadline:
                raise TooLong(f"the machine did not switch off; the console says:\n{self.tail()}")
            time.sleep(0.1)
        self._gone("power off")

    def reset(self) -> None:
        """Press the button for a reset: what a watchdog in hardware does."""
        self.story.tell("reset by the harness")
        self.qmp("system_reset")

    def qmp(self, command: str, **arguments: object) -> Any:
        """A command for QEMU itself."""
        assert self._qmp is not None, "the machine is off"
        return self._qmp.execute(command, **arguments)

    def network(self, *, up: bool) -> None:
        """Plug the network cable in, or pull it: it stays so over resets and while the machine is off."""
        self.story.tell("network cable: in" if up else "network cable: out")
        self._plugged = up
        if self._qmp is not None:
            self.qmp("set_link", name="card", up=up)

    # --------------------------------------------------------------------------------------------------- console

    def wait_boot(self, limit: float = BOOT_LIMIT) -> str:
        """Wait until a root shell of the boot that is on its way answers, through further resets; the slot.

        Raises TooLong, and ConsoleLost when the machine switches off.
        """
        deadline = time.monotonic() + limit
        while True:
            self._go_on()
            with self._changed:
                self._seen_resets = self.resets
            try:
                self._shell().log_in(max(deadline - time.monotonic(), 0))
                boot_id = self.run("cat /proc/sys/kernel/random/boot_id", echo=False)[1].strip()
                slot = self.slot()
            except ConsoleLost:
                if not self.running:
                    raise
                time.sleep(0.1)
                continue
            if boot_id != self._boot_id:
                self._boot_id = boot_id
                self.boots.append(slot)
                self.story.tell(f"a shell of slot {slot} answers: boot {len(self.boots)}")
            return slot

    def wait_reset(self, limit: float = BOOT_LIMIT) -> None:
        """Wait until the machine reset itself after the last `wait_boot`, as by a reboot or a panic. Raises TooLong."""
        deadline = time.monotonic() + limit
        with self._changed:
            while self.resets == self._seen_resets:
                if time.monotonic() > deadline or not self.running:
                    raise TooLong(f"the machine did not reboot; the console says:\n{self.tail()}")
                self._changed.wait(0.5)
            self._seen_resets += 1
        self._go_on()

    def wait_kexec(self, limit: float = BOOT_LIMIT) -> str:
        """Wait until the machine starts a kernel without its firmware, and for a shell of that; the slot."""
        deadline = time.monotonic() + limit
        while not self.story.has(r"Command line: .*\bupdated\.kexec=1\b"):
            if time.monotonic() > deadline:
                raise TooLong(f"the machine did not kexec; the console says:\n{self.tail()}")
            time.sleep(_POLL)
        self._shell().lose("another kernel was started")
        return self.wait_boot(limit)

    def run(
        self, command: str, limit: float = COMMAND_LIMIT, *, check: bool = True, echo: bool = True
    ) -> tuple[int, str]:
        """Run a command of the shell as root: its exit status, and what it printed on both outputs.

        Raises AssertionError if it fails and `check` is set; TooLong; ConsoleLost if the machine goes down meanwhile.
        """
        if echo:
            self.story.command(command)
        status, output = self._shell().run(command, limit)
        if echo:
            self.story.answer(status, output)
        if check and status:
            raise AssertionError(f"{command!r} ended with {status}:\n{output}")
        return status, output

    def type(self, command: str) -> None:
        """Start a command and don't wait for its end, for one after which the shell is gone."""
        self.story.command(command)
        with contextlib.suppress(ConsoleLost):
            self._shell().run(f"setsid sh -c {_quoted('sleep 0.2; ' + command)} >/dev/null 2>&1 &", COMMAND_LIMIT)

    def reboot(self, limit: float = BOOT_LIMIT) -> str:
        """Reboot by hand; the slot that came up."""
        self.type("systemctl reboot")
        self.wait_reset(limit)
        return self.wait_boot(limit)

    def write(self, path: str, text: str) -> None:
        """Put a file on the machine."""
        self.story.command(f"write {path}")
        for line in text.splitlines():
            self.story.answer(0, line)
        code = base64.b64encode(text.encode()).decode()
        self.run(f'mkdir -p "$(dirname {path})"; echo {code} | base64 -d >{path}', echo=False)

    def read(self, path: str) -> str:
        """A text file of the machine."""
        return self.run(f"cat {path}", echo=False)[1]

    def tail(self) -> str:
        """What the console said last."""
        return self._console.tail() if self._console is not None else ""

    # ------------------------------------------------------------------------------------------------- the node

    def slot(self) -> str:
        """The slot that runs, as the kernel was told."""
        words = self.read("/proc/cmdline").split()
        return next((word.partition("=")[2] for word in words if word.startswith("updated.slot=")), "")

    def version(self) -> str:
        """The release that runs."""
        return self.run("sed -n 's/^IMAGE_VERSION=//p' /usr/lib/os-release", echo=False)[1].strip().strip("\"'")

    def status(self) -> Status:
        """The status document of the daemon; empty while there is none."""
        status, output = self.run("updatectl status --json", check=False, echo=False)
        if status:
            return {}
        try:
            document: Status = json.loads(output)
        except ValueError:
            return {}
        return document

    def tell_status(self, title: str) -> None:
        """Put what `updatectl status` shows a person into the story."""
        self.story.tell(f"status {title}")
        self.run("updatectl status", check=False)

    def wait_for(self, condition: Callable[[Status], object], limit: float, *, what: str = "the condition") -> Status:
        """Poll the status until `condition` says yes, through reboots; that status. Raises TooLong."""
        deadline = time.monotonic() + limit
        summary = ""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self._tell_troubles()
                raise TooLong(f"{what} did not come true in {limit:.0f} s; last: {summary!r}\n{self.tail()}")
            try:
                status = self.status()
            except ConsoleLost:
                self.wait_boot(left)
                continue
            if status and (new := f"{status['phase']}: {status['summary']}") != summary:
                self.story.tell(summary := new)
            if status and condition(status):
                return status
            time.sleep(_POLL)

    # --------------------------------------------------------------------------------------------------- within

    def _tell_troubles(self) -> None:
        """Put into the story what a person would look at."""
        for command in _TROUBLES:
            with contextlib.suppress(ConsoleLost, TooLong):
                self.run(command, check=False)

    def _shell(self) -> Console:
        assert self._console is not None, "the machine is off"
        return self._console

    def _happened(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "SHUTDOWN" and data["reason"] in _RESETS:
            self.story.tell(f"the machine resets ({data['reason']})")
            if self._console is not None:
                self._console.lose("the machine was reset")
            with self._changed:
                self._was_reset = True
                self.resets += 1
                self._changed.notify_all()
        elif event in ("SHUTDOWN", "GUEST_PANICKED", "WATCHDOG"):
            self.story.tell(f"QEMU tells of {event} {json.dumps(dict(data))}")

    def _launch(self, *, again: bool) -> None:
        serial, their_serial = socket.socketpair()
        monitor, their_monitor = socket.socketpair()
        command = [
            *hardware.machine(self.folder), *hardware.disk(self.disk, self._log_writes, again=again),
            *hardware.network(self.port), *self._more,
        ]  # fmt: skip
        for name, theirs in (("serial", their_serial), ("monitor", their_monitor)):
            command += ["-chardev", f"socket,id={name},fd={theirs.fileno()}"]
        command += ["-serial", "chardev:serial", "-mon", "chardev=monitor,mode=control"]
        # PR_SET_PDEATHSIG outlives exec: QEMU ends with the thread that started it, even if that is killed.
        with their_serial, their_monitor, (self.folder / "qemu.log").open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                pass_fds=(their_serial.fileno(), their_monitor.fileno()),
            )  # fmt: skip
        self._was_reset = False
        self._console = Console(serial, self.story.heard)
        try:
            self._qmp = Qmp(monitor, self._happened)
        except RuntimeError as error:
            words = (self.folder / "qemu.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"QEMU did not start: {words}") from error
        if not self._plugged:
            self.qmp("set_link", name="card", up=False)

    def _go_on(self) -> None:
        """If the machine was reset, start it anew: in the thread of the test, with which QEMU ends."""
        if self._process is not None and self._process.poll() is not None and self._qmp is not None:
            self._qmp.close()  # all events were heard then
        if self._was_reset:
            self._end()
            self._launch(again=True)

    def _gone(self, how: str) -> None:
        self._end()
        self._was_reset = False
        self.story.tell(how)

    def _end(self) -> None:
        assert self._process is not None
        assert self._console is not None
        self._process.wait(_END_LIMIT)
        self._console.close()
        if self._qmp is not None:
            self._qmp.close()
        self._process = self._console = self._qmp = None

def copy_disk(source: Path, target: Path) -> None:
    """A copy in which holes stay holes."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
