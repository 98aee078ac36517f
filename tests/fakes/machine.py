"""A machine: a real GPT disk image, the state partition's content, and the tree of the slot that was booted.

What stands in for hardware is the firmware (`tests.fakes.firmware`, a model of gptprio.next) and the kernel, of which
only what the programs read of it is there: its command line, the boot id, and the root tree, which is extracted from
the slot's own partition. Disk, daemon, health and bus are the real ones.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from tests.fakes import firmware

SLOT_FOLDER = "root"
HEALTH_REJECTED = 3
MOST_BOOTS = 8
# Stands in for `systemctl start UNIT`: does what the unit does, and ends with it.
START = """\
#!/bin/sh
echo "$1" >>{folder}/started-units
case $1 in
    updated-baseline@*.service) exec {baseline} ;;
    updated-warning.service) cat {folder}/root/run/updated/warning >>{folder}/warnings ;;
    updated-hooks@pre-reboot.service) if [ -x {hook} ]; then exec {hook}; fi ;;
    *) echo "Unit $1 not found." >&2; exit 5 ;;
esac
"""


class NothingBoots(Exception):
    """The firmware found no slot to start."""


@dataclass
class Machine:
    """Everything lies below `folder`. As a context, it is off at the end.

    `config` is the daemon's configuration, without [disk] and reboot command. `health` is the command that judges the
    booted tree, with `{root}` for the tree; the baseline is taken with it as well. `environment` is added to that of
    the programs. `site` are files below /etc/updated, which each slot gets. `log` takes what the programs print.
    """

    folder: Path
    config: str
    root_of_trust: bytes
    environment: Mapping[str, str] = field(default_factory=dict)
    health: Sequence[str] = (sys.executable, "-m", "health", "--root", "{root}")
    python: str = sys.executable
    panics: Callable[[Path], bool] = lambda root: False
    site: dict[str, str] = field(default_factory=dict)
    boots: list[str] = field(default_factory=list)
    daemon: subprocess.Popen[bytes] | None = None
    health_output: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.power_off()

    @property
    def disk(self) -> Path:
        """The disk image."""
        return self.folder / "disk.img"

    @property
    def root(self) -> Path:
        """The root tree of the slot that runs."""
        return self.folder / SLOT_FOLDER

    @property
    def state(self) -> Path:
        """The content of the state partition, where it is mounted now."""
        mounted = self.root / "var/lib/updated"
        return mounted if mounted.exists() else self.folder / "state"

    @property
    def esp(self) -> Path:
        """The content of the EFI system partition, where it is mounted now; it is there when a test makes it."""
        mounted = self.root / "efi"
        return mounted if mounted.exists() else self.folder / "esp"

    @property
    def log(self) -> Path:
        """What the daemon and health printed."""
        return self.folder / "log"

    @property
    def reboot_asked(self) -> Path:
        """Exists once the daemon asked for a reboot."""
        return self.folder / "reboot-asked"

    @property
    def hook(self) -> Path:
        """Where a test puts the program that is run before a reboot."""
        return self.folder / "pre-reboot-hook"

    def started_units(self) -> list[str]:
        """The units that the daemon started since the machine was made."""
        file = self.folder / "started-units"
        return file.read_text().splitlines() if file.exists() else []

    def provision(self, image: Path, slot_size: str) -> None:
        """Lays out the disk, and installs `image` into slot a, as a factory does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run(
            "updated.cli", "provision", str(self.disk), "--slot-size", slot_size, "--state-size", "16M",
            "--image", str(image),
        )
        (self.folder / "state").mkdir()

    def clone(self, folder: Path, config: str) -> Self:
        """The machine once more below `folder`, as it is now, with a configuration of its own; no daemon runs on it."""
        subprocess.run(
            ["cp", "--archive", "--sparse=always", str(self.folder), str(folder)], check=True, timeout=60
        )
        made = replace(self, folder=folder, site=dict(self.site), boots=[*self.boots], daemon=None)
        made.write_config(config)
        return made

    def run(self, module: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs one of our programs, and returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], env=self._environment(), capture_output=True, text=True,
            timeout=120, check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{module} {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def updatectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs updatectl on this machine."""
        return self.run("updated.cli", "--root", str(self.root), *arguments, check=check)

    # ---------------------------------------------------------------------------------------------- power and boots

    def power_on(self) -> str:
        """Boots until a slot stays up; the slot. Health judges it, and a rejected slot reboots, as its unit does."""
        for _ in range(MOST_BOOTS):
            slot = self.boot_once()
            if slot is not None:
                return slot
        raise NothingBoots(f"nothing stayed up after {MOST_BOOTS} boots: {self.boots}")

    def boot_once(self) -> str | None:
        """One boot: the slot, or None when it panicked or health rejected it."""
        self.power_off()
        partition = firmware.next_boot(self.disk)
        if partition is None:
            raise NothingBoots("the firmware found no slot to start")
        slot = partition.name.rpartition("-")[2]
        self.boots.append(slot)
        self._extract(partition)
        self._install_runtime(slot, partition.uuid)
        if self.panics(self.root):
            return None
        done = subprocess.run(
            self._health_command(), env=self._environment(), capture_output=True, text=True, timeout=120, check=False
        )
        self.health_output = done.stdout + done.stderr
        with self.log.open("a") as log:
            log.write(self.health_output)
        return None if done.returncode == HEALTH_REJECTED else slot

    def power_off(self) -> None:
        """Takes the state partition and the EFI system partition out of the tree, and the tree away."""
        self.stop_daemon()
        for partition, place in (("state", "var/lib/updated"), ("esp", "efi")):
            mounted = self.root / place
            if mounted.exists():
                os.rename(mounted, self.folder / partition)
        if self.root.exists():
            remove_tree(self.root)
        self.reboot_asked.unlink(missing_ok=True)

    def power_cut(self) -> None:
        """Kills the daemon and its children at once, without a word."""
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGSTOP)
            victims = _family(self.daemon.pid)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.daemon.wait(30)
            self.daemon = None
        self.power_off()

    def _health_command(self, *verb: str) -> list[str]:
        words = [word.format(root=self.root) for word in self.health]
        place = words.index("health") + 1
        return [*words[:place], *verb, *words[place:]]

    def _extract(self, partition: firmware.BootedPartition) -> None:
        """Copies the slot's partition out, and unpacks its file system: what a mount shows."""
        copy = self.folder / "slot.erofs"
        with self.disk.open("rb") as disk, copy.open("wb") as file:
            disk.seek(partition.offset)
            left = partition.size
            while left:
                data = disk.read(min(left, 1 << 20))
                left -= len(data)
                if data.count(0) == len(data):
                    file.seek(len(data), os.SEEK_CUR)
                else:
                    file.write(data)
            file.truncate(partition.size)
        done = subprocess.run(
            ["fsck.erofs", f"--extract={self.root}", "--force", str(copy)], capture_output=True, text=True, check=False
        )
        copy.unlink()
        if not (self.root / "usr/lib/os-release").exists():
            raise NothingBoots(f"the file system of {partition.name} is damaged: {done.stderr[-400:]}")

    def _install_runtime(self, slot: str, partition_uuid: str) -> None:
        """What the kernel and the state partition bring into the tree."""
        root = self.root
        for name in ("proc/sys/kernel/random", "etc/updated", "usr/share/updated", "run", "var/lib", "dev"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "proc/cmdline").write_text(f"root=PARTUUID={partition_uuid} ro updated.slot={slot}\n")
        (root / "proc/sys/kernel/random/boot_id").write_text(f"{uuid.uuid4()}\n")
        os.link(self.disk, root / "disk.img")
        shutil.rmtree(root / "var/lib/updated", ignore_errors=True)
        os.rename(self.folder / "state", root / "var/lib/updated")
        if self.esp.exists():
            os.rename(self.esp, root / "efi")
        null = root / "dev/null"
        if not null.exists():
            null.touch()
        (root / "usr/share/updated/root.json").write_bytes(self.root_of_trust)
        for name, text in self.site.items():
            self.write_for_site(name, text)
        self.write_config(self.config)

    def write_for_site(self, name: str, text: str) -> None:
        """Puts a file below /etc/updated of the slot that runs, and of each that boots after it."""
        self.site[name] = text
        file = self.root / "etc/updated" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def write_config(self, config: str) -> None:
        """Replaces the configuration of the node that runs."""
        self.config = config
        baseline = shlex.join(self._health_command("baseline", "--target"))
        version = '"$(systemd-escape --unescape --instance "$1")"'
        start = self.folder / "start"
        start.write_text(
            START.format(
                folder=shlex.quote(str(self.folder)), hook=shlex.quote(str(self.hook)),
                baseline=baseline.replace("--target", f"--target={version}", 1),
            )
        )
        start.chmod(0o755)
        commands = f'reboot_command = ["touch", "{self.reboot_asked}"]\nstart_command = ["{start}"]'
        text = config.replace("[updates]\n", f"[updates]\n{commands}\n") + '\n[disk]\nimage = "/disk.img"\n'
        (self.root / "etc/updated/updated.toml").write_text(text)

    # --------------------------------------------------------------------------------------------------- the daemon

    def start_daemon(self) -> None:
        """Starts the daemon on the slot that runs; it is on the bus soon after."""
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [self.python, "-m", "updated", "--root", str(self.root)],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def stop_daemon(self) -> None:
        """Asks the daemon to end, and waits for it."""
        if self.daemon is not None:
            self.daemon.terminate()
            try:
                self.daemon.wait(20)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait(10)
            self.daemon = None

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Polls `condition`; raises AssertionError with the log when it does not come true."""
        end = time.monotonic() + seconds
        while not condition():
            if self.daemon is not None and self.daemon.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.daemon.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                raise AssertionError(f"it did not happen within {seconds} seconds:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}


def as_root_within() -> list[str]:
    """A prefix under which a command has the users of a system of its own, also without root (see /etc/subuid)."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--map-auto"]


def remove_tree(path: Path) -> None:
    """Removes what a booted system left, with files of its users in it."""
    subprocess.run([*as_root_within(), "rm", "-rf", "--", str(path)], check=True, timeout=60)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [pid, *(each for child in direct for each in _family(child))]
