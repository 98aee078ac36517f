"""The whole life of a node, with real parts: `make demo`.

Real: Debian root file systems, releasectl, the signed repository on nginx, the GPT disk image, the daemon with its
children on a message bus, health inside the booted slot, updatectl, and the metrics. A model: the firmware, which reads
the boot reference from the disk image as gptprio.next does, and starts what lies in the slot.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bootctl import gpt
from tests.demo.images import ROOT, build_images
from tests.demo.terminal import Terminal
from tests.fakes import nginx
from tests.fakes.bus import private_bus
from tests.fakes.machine import Machine, as_root_within, remove_tree
from updated.core.document import format_time

WORK = ROOT / "build/demo"
SLOT_SIZE = "256M"
HEALTH = "python3 -m health    # in the booted slot, as updated-health.service runs it"
RATE = "30m"
CONFIG = """\
[repository]
url = "{url}"
channel = "stable"

[identity]
compatible = "demo-amd64"

[updates]
interval_seconds = 3

[health]
probation_seconds = 0

[fetch]
user = ""

[metrics]
listen = "127.0.0.1:{port}"
"""
BROKEN_BEFORE = 'type = "mount"\npath = "/mnt/backup"\nretries = 0\n'


class Demo:
    """The story, chapter by chapter. `failures` counts the promises that were not kept."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.rows: list[tuple[str, str]] = []
        self.figures: list[tuple[str, str]] = []
        self.failures = 0
        self.booted_at = ""
        self.repository = WORK / "repository"
        self.keys = WORK / "keys"
        self.images: dict[str, Path] = {}
        self.machine: Machine
        self.bin = Path(sys.executable).parent

    # ------------------------------------------------------------------------------------------------------- tools

    def check(self, promise: str, kept: object, detail: str = "") -> None:
        """Looks at a promise."""
        self.terminal.checked(promise, bool(kept), detail)
        self.rows.append((("✓ " if kept else "✗ ") + promise, detail))
        self.failures += not kept

    def releasectl(self, verb: str, *options: str, show: bool = True) -> None:
        """Runs releasectl as the publisher."""
        command = [str(self.bin / "releasectl"), verb, str(self.repository), "--keys", str(self.keys), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if show or done.returncode:
            words = [Path(word).name if "/" in word and "=" not in word else word for word in options]
            shown = [word.split("=")[0] + "=" + Path(word).name if "=/" in word else word for word in words]
            line = " ".join(["releasectl", verb, "repository", "--keys", "keys", *shown])
            self.terminal.command(line, done.stdout + done.stderr)
        if done.returncode:
            raise SystemExit("releasectl failed")

    def release(self, version: str, channels: tuple[str, ...]) -> None:
        """Adds a release and promotes it."""
        self.releasectl(
            "add", "--version", version, "--compatible", "demo-amd64", "--component",
            f"rootfs={self.images[version]}",
        )
        for channel in channels:
            self.releasectl("promote", "--channel", channel, "--version", version)

    def updatectl(self, *arguments: str, show: bool = True) -> str:
        """Runs updatectl on the node."""
        command = [str(self.bin / "updatectl"), "--root", str(self.machine.root), *arguments]
        environment = {**os.environ, **self.machine.environment}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
        if show:
            self.terminal.command(f"updatectl {' '.join(arguments)}", done.stdout + done.stderr)
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """The status document, or an empty one while there is none."""
        path = self.machine.root / "run/updated/status.json"
        document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return document

    def wait(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Waits, and shows the progress of the node meanwhile."""
        end = time.monotonic() + seconds
        while not condition():
            if self.machine.daemon is not None and self.machine.daemon.poll() is not None:
                raise SystemExit(f"the daemon ended:\n{self.machine.tail()}")
            if time.monotonic() > end:
                raise SystemExit(f"it took longer than {seconds} s:\n{self.machine.tail()}")
            self.terminal.progress(self.status().get("progress"))
            time.sleep(0.1)

    def at_rest(self) -> bool:
        """Whether the daemon looked for a release since this boot, and found that there is nothing to do."""
        document = self.status()
        return document.get("phase") in ("idle", "fallen-back") and (document["last_check"] or "") >= self.booted_at

    def reboot_asked(self) -> bool:
        """Whether the daemon wants to reboot."""
        return self.machine.reboot_asked.exists()

    def reboot(self) -> str:
        """What a reboot does: firmware, kernel, health; then the daemon starts."""
        before = len(self.machine.boots)
        self.booted_at = format_time(time.time())
        slot = self.machine.power_on()
        tried = self.machine.boots[before:]
        for number, each in enumerate(tried):
            self.terminal.say(f"⏻ the firmware reads the GPT attribute bits and starts slot {each}")
            if number == len(tried) - 1:
                self.terminal.command(HEALTH, self.machine.health_output)
        self.machine.start_daemon()
        return slot

    def slot_digest(self, slot: str) -> str:
        """The SHA-256 of a slot's partition."""
        with self.machine.disk.open("rb") as disk:
            table = gpt.read_table(disk.fileno())
            partition = table.partition(f"rootfs-{slot}")
            disk.seek(partition.offset(table.sector_size))
            return hashlib.sha256(disk.read(partition.size(table.sector_size))).hexdigest()

    def running(self) -> str:
        """The version that runs, from the tree that was booted."""
        text = (self.machine.root / "usr/lib/os-release").read_text()
        return next(line.partition("=")[2].strip('"') for line in text.splitlines() if line.startswith("IMAGE_VERSION"))

    def note_install(self, what: str) -> dict[str, Any]:
        """Keeps the figures of the last installation."""
        install = self.status()["last_install"]
        rootfs: dict[str, Any] = install["components"]["rootfs"]
        rate = rootfs["image"] / 1e6 / install["seconds"]
        self.figures += [
            (f"{what}: image, downloaded, from slot that runs, in place", " / ".join(
                f"{rootfs[key] / 1e6:.1f}" for key in ("image", "downloaded", "copied", "in_place")) + " MB"),
            (f"{what}: time, image bytes per second", f"{install['seconds']:.1f} s, {rate:.1f} MB/s"),
            (f"{what}: peak memory of fetch, of seal",
             f"{install['peak_memory_bytes'] / 1e6:.0f} MB, {install['seal_peak_memory_bytes'] / 1e6:.0f} MB"),
        ]
        return rootfs

    # ---------------------------------------------------------------------------------------------------- chapters

    def build(self) -> None:
        """1: real root file systems."""
        self.terminal.chapter(1, "Root file systems of real releases")
        self.images = build_images(self.terminal)
        different = len({path.read_bytes()[:1 << 20] for path in self.images.values()})
        self.check("four releases of a real Debian system are there", len(self.images) == 4 and different > 1)

    def found(self) -> None:
        """2: the signed repository."""
        self.terminal.chapter(2, "A signed repository")
        self.releasectl("init")
        self.terminal.say("Two of three root keys sign the root; each channel has its own key, and so have builds.")
        self.release("1.0.0", ("alpha", "beta", "stable"))
        root = json.loads((self.repository / "metadata/1.root.json").read_text())["signed"]["roles"]["root"]
        targets = json.loads((self.repository / "metadata/1.targets.json").read_text())["signed"]
        keys = {role["name"]: tuple(role["keyids"]) for role in targets["delegations"]["roles"]}
        self.check("the root needs two of three keys", (root["threshold"], len(root["keyids"])) == (2, 3))
        own = len(set(keys.values())) == 4
        self.check("releases and channels have keys of their own", own, ", ".join(sorted(keys)))

    def install_factory(self, url: str, port: int) -> None:
        """3: a machine from the factory."""
        self.terminal.chapter(3, "A machine with two slots, from the factory")
        root_json = WORK / "root.json"
        subprocess.run(
            [str(self.bin / "releasectl"), "export-root", str(self.repository), str(root_json)],
            check=True, capture_output=True,
        )
        self.machine.config = CONFIG.format(url=url, port=port)
        self.machine.root_of_trust = root_json.read_bytes()
        self.machine.health = [
            *(as_root_within() or ["unshare"]), "--root={root}", "--wd=/", "--",
            "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH=/usr/lib/updated",
            "/usr/bin/python3", "-BPs", "-m", "health",
        ]
        self.machine.provision(self.images["1.0.0"], SLOT_SIZE)
        layout = subprocess.run(
            ["parted", "--script", str(self.machine.disk), "unit", "MiB", "print"],
            capture_output=True, text=True, check=False,
        )
        self.terminal.command("parted disk.img unit MiB print", "\n".join(layout.stdout.splitlines()[-6:]))
        slot = self.reboot()
        self.wait(self.at_rest)
        self.updatectl("status")
        names = [name for name in ("esp", "rootfs-a", "rootfs-b", "state") if f" {name}" in layout.stdout]
        self.check("parted reads the layout: EFI system partition, two slots, state", len(names) == 4)
        healthy = "slot a (1.0.0) is healthy" in self.machine.health_output
        self.check("the factory's slot a boots 1.0.0, and is healthy", healthy and slot == "a")
        loops = subprocess.run(["losetup", "-j", str(self.machine.disk)], capture_output=True, text=True, check=False)
        self.check("slots are found and written inside the image file, without a loop device", not loops.stdout)

    def update(self, port: int) -> None:
        """4 and 5: a good release."""
        self.terminal.chapter(4, "1.1.0 comes: downloaded, sealed, armed")
        old = self.slot_digest("a")
        self.release("1.1.0", ("alpha", "beta", "stable"))
        self.terminal.say("The daemon polls channel stable by itself.")
        self.wait(self.reboot_asked)
        self.terminal.say("The release is written, read back, and armed; the daemon asks for the reboot.")
        baseline = json.loads((self.machine.state / "health/baseline.json").read_text())
        passed = sum(check["result"] == "pass" for check in baseline["checks"])
        self.check("what the checks say of 1.0.0 is kept before the reboot, to compare 1.1.0 with",
                   (baseline["version"], baseline["target"]) == ("1.0.0", "1.1.0"), f"{passed} checks pass")
        rootfs = self.note_install("1.0.0 to 1.1.0")
        self.check("what the running slot has is not downloaded", rootfs["copied"] > rootfs["image"] // 2,
                   f"{rootfs['downloaded'] / 1e6:.1f} MB came from the network")
        self.updatectl("status")
        self.terminal.chapter(5, "Health runs in the booted slot, and confirms it")
        slot = self.reboot()
        self.wait(self.at_rest)
        self.updatectl("status")
        self.check("1.1.0 boots from slot b, and health confirms it",
                   (slot, self.running(), self.status()["running"]["confirmed"]) == ("b", "1.1.0", True))
        self.check("the update did not touch slot a", self.slot_digest("a") == old)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        wanted = ("updated_slot", "updated_os", "updated_health", "updated_tuf")
        shown = "\n".join(line for line in lines if line.startswith(wanted))
        self.terminal.command(f"curl -s http://127.0.0.1:{port}/metrics | grep -E 'slot|os_info|health|tuf'", shown)
        self.check("the metrics say the same", 'updated_slot_info{slot="b",state="good",version="1.1.0"} 1.0' in lines)

    def roll_back(self) -> None:
        """6, first part: by a person's word."""
        self.terminal.chapter(6, "Roll back by hand, and forward again")
        self.updatectl("rollback")
        self.wait(self.reboot_asked)
        slot = self.reboot()
        self.wait(self.at_rest)
        self.check("updatectl rollback boots 1.0.0 again", (slot, self.running()) == ("a", "1.0.0"))
        self.updatectl("check")
        denied = [denial["version"] for denial in self.status()["denied"]]
        self.check("what was rolled back is not taken again by itself", denied == ["1.1.0"])
        self.updatectl("allow", "1.1.0")
        self.terminal.say("The next check finds 1.1.0 again; it is installed, and the daemon asks for the reboot.")
        self.wait(self.reboot_asked)
        rootfs = self.note_install("1.1.0 again")
        self.check("what is in place already is not downloaded again", rootfs["downloaded"] == 0,
                   f"{rootfs['in_place'] / 1e6:.0f} of {rootfs['image'] / 1e6:.0f} MB were there")
        self.reboot()
        self.wait(self.at_rest)
        self.check("after updatectl allow it is taken, and confirmed", self.running() == "1.1.0")

    def fall_back(self) -> None:
        """6, second part: by health's verdict."""
        self.terminal.chapter(7, "1.2.0 comes, and is sick: the node falls back by itself")
        self.release("1.2.0", ("alpha", "beta", "stable"))
        self.wait(self.reboot_asked)
        self.note_install("1.1.0 to 1.2.0")
        self.terminal.say("It is signed, written and sealed: nothing is wrong with it but that it does not work.")
        before = len(self.machine.boots)
        slot = self.machine.boot_once()
        self.terminal.say(f"⏻ the firmware starts slot {self.machine.boots[-1]}, on trial; health judges it:")
        self.terminal.command(HEALTH, self.machine.health_output)
        self.check("health rejects 1.2.0", slot is None and self.machine.boots[-1] == "a")
        slot = self.reboot()
        self.wait(self.at_rest)
        text = self.updatectl("status")
        self.check("the node is back on 1.1.0 by itself", (slot, self.running()) == ("b", "1.1.0"),
                   f"boots: {' '.join(self.machine.boots[before:])}")
        told = "from 1.2.0" in text and "required check web-config failed" in text
        self.check("status says why it fell back from 1.2.0", told)
        self.updatectl("check")
        disk = self.slot_digest("a")
        time.sleep(5)
        self.check("1.2.0 is denied, and not tried again",
                   [denial["version"] for denial in self.status()["denied"]] == ["1.2.0"]
                   and not self.reboot_asked() and self.slot_digest("a") == disk)

    def cut_power(self) -> None:
        """6, third part, and 7: another channel, and a power cut."""
        self.terminal.chapter(8, "Channel beta has the mend; the power fails in the middle of it")
        active = self.slot_digest("b")
        self.release("1.3.0", ("alpha", "beta"))
        self.updatectl("check")
        self.check("stable does not ship it yet", self.status()["target"] is None and not self.reboot_asked())
        self.machine.write_for_site("health.d/required.d/backup-disk.toml", BROKEN_BEFORE)
        self.terminal.say("The disk for backups breaks, on 1.1.0: from now on a required check of the site fails.")
        # So slow that the cut falls into the download.
        with nginx.serve(self.repository, rate_limit="500k") as slow:
            fast = self.machine.config
            self.machine.stop_daemon()
            lines = [f'url = "{slow}"' if line.startswith("url = ") else line for line in fast.splitlines()]
            self.machine.write_config("\n".join(lines) + "\n")
            self.machine.start_daemon()
            self.wait(lambda: "daemon-not-running" not in self.updatectl("unhold", "--json", show=False))
            self.updatectl("channel", "beta", "--no-wait")
            share = random.SystemRandom().uniform(0.15, 0.75)
            self.wait(lambda: self.downloaded() >= share)
            self.machine.power_cut()
        self.terminal.say(f"⚡ The power fails at {share:.0%} of the download: kill -9 of all processes of the node.")
        self.machine.config = fast
        slot = self.reboot()
        self.check("the node boots its old slot", (slot, self.running()) == ("b", "1.1.0"))
        self.check("the running slot was not touched", self.slot_digest("b") == active)
        self.wait(self.reboot_asked)
        rootfs = self.note_install("1.1.0 to 1.3.0, after the cut")
        self.check("it goes on from what is verified on the disk", rootfs["in_place"] > 0,
                   f"{rootfs['in_place'] / 1e6:.0f} of {rootfs['image'] / 1e6:.0f} MB were there")
        slot = self.reboot()
        self.wait(self.at_rest)
        self.updatectl("status")
        self.updatectl("health")
        self.check("what was broken before does not throw 1.3.0 out", "does not count, it failed before the update"
                   in self.updatectl("health", show=False))
        self.updatectl("history")
        self.check("1.3.0 of channel beta ends confirmed",
                   (slot, self.running(), self.updatectl("channel", show=False).strip()) == ("a", "1.3.0", "beta"))

    def downloaded(self) -> float:
        """The share of the download that is done."""
        progress = self.status().get("progress")
        if not progress or progress["step"] != "download" or not progress["total"]:
            return 0.0
        return float(progress["done"] / progress["total"])

    def measure(self) -> None:
        """Figures of the node at rest."""
        assert self.machine.daemon is not None
        text = Path(f"/proc/{self.machine.daemon.pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
        self.figures.append(("memory of the daemon at rest", f"{resident / 1000:.0f} MB"))
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            self.updatectl("status", show=False)
            times.append(time.perf_counter() - begun)
        self.figures.append(("updatectl status, median of 7", f"{sorted(times)[3] * 1000:.0f} ms"))

    def run(self) -> int:
        """All of it; the exit status."""
        self.build()
        remove_tree(WORK)
        WORK.mkdir(parents=True)
        self.found()
        port = 20000 + os.getpid() % 20000
        self.machine = Machine(WORK / "machine", "", b"")
        with private_bus() as bus, nginx.serve(self.repository, rate_limit=RATE) as url:
            self.machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
            try:
                self.install_factory(url, port)
                self.update(port)
                self.roll_back()
                self.fall_back()
                self.cut_power()
                self.measure()
            finally:
                self.machine.stop_daemon()
        self.terminal.table("What was shown and checked", self.rows)
        self.terminal.table("Figures of this run", self.figures)
        verdict = "Every step was as promised." if not self.failures else f"{self.failures} promises were NOT kept."
        self.terminal.say("")
        self.terminal.say(verdict)
        return 1 if self.failures else 0


if __name__ == "__main__":
    sys.exit(Demo(Terminal()).run())
