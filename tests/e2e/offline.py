"""Is a disk that a power cut left still good? Judged by the tools that own each format, without booting it.

What was found out about a content is kept: a slot is hashed again only after a write to it (see `Replay.generation`).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from bootctl.errors import BootError
from bootctl.grub import Grub
from bootctl.model import next_boot
from bootctl.systemd_boot import SystemdBoot
from tests.e2e.images import Loader, Release
from tests.e2e.writelog import TABLE, Replay
from tests.fakes import systemd_boot

Found = TypeVar("Found")

SLOTS: Final = ("a", "b")
_KERNEL: Final = "EFI/updated/{}.efi"
_BLOCK: Final = 1 << 20
# Files that a boot of a slot reads. Of others, and of the file system as a whole, fsck.vfat always finds something
# after a cut; whether the loader still comes to its files is judged by reading them.
_NEEDED: Final = ("efi/boot/bootx64", "loader/loader.conf", "efi/updated/{}.efi", "grub/")


class Judge:
    """Looks at the disk as `replay` has it now. `releases` are all that a slot may hold as a whole."""

    def __init__(self, replay: Replay, loader: Loader, releases: Sequence[Release]) -> None:
        self._replay = replay
        self._loader = loader
        self._work = replay.path(TABLE).parent / "judge"
        self._known: dict[tuple[str, int], dict[str, Release]] = {}
        for release in releases:
            for name, path in (("rootfs", release.rootfs), ("kernel", release.kernel)):
                self._known.setdefault((name, path.stat().st_size), {})[_digest(path, path.stat().st_size)] = release
        self._kept: dict[tuple[str, int], object] = {}
        self.looked = 0

    def problems(self) -> list[str]:
        """All that is wrong; empty if the machine starts a whole release from here and finds its state."""
        slot = self.boots()
        if slot not in SLOTS:
            return [f"nothing boots: {slot}"]
        return [
            *self._once("table", TABLE, self._table),
            *self._once("state", "state", self._state),
            *self._once(f"files-{slot}", "esp", lambda: self._files(slot)),
            *([] if self.holds(slot) else [f"slot {slot}, which boots next, holds no whole release"]),
        ]

    def boots(self) -> str:
        """The slot that the loader would start next, or why none."""
        return self._once("boots", "esp", self._boots)

    def holds(self, slot: str) -> str | None:
        """The version of the release that a slot holds as a whole, root and kernel; None if it does not."""
        roots = self._once(f"rootfs-{slot}", f"rootfs-{slot}", lambda: self._root(slot))
        kernels = self._once(f"kernel-{slot}", "esp", lambda: self._kernel(slot))
        return next((version for version in roots if version in kernels), None)

    # ----------------------------------------------------------------------------------------------------- within

    def _once(self, what: str, region: str, look: Callable[[], Found]) -> Found:
        key = what, self._replay.generation(region)
        if key not in self._kept:
            self._kept[key] = look()
            self.looked += 1
        found: Found = self._kept[key]  # type: ignore[assignment]
        return found

    def _table(self) -> list[str]:
        said = _output("sgdisk", "--verify", self._replay.path(TABLE))
        return [] if "No problems found" in said else [f"sgdisk: {said}"]

    def _state(self) -> list[str]:
        """Nothing may be left to mend after the journal was replayed."""
        copy = self._work / "state.img"
        self._work.mkdir(exist_ok=True)
        subprocess.run(["cp", "--sparse=always", self._replay.path("state"), copy], check=True)
        found = []
        for options, allowed in ((["-p", "-E", "journal_only"], (0, 1)), (["-fn"], (0,))):
            status, said = _run("e2fsck", *options, copy)
            if status not in allowed:
                found.append(f"e2fsck {options} ended with {status}: {said}")
        return found

    def _files(self, slot: str) -> list[str]:
        """What fsck.vfat says of the files that a boot of `slot` needs."""
        needed = [name.format(slot) for name in _NEEDED]
        said = _complaints(self._esp())
        return [f"fsck.vfat: {words}" for path, words in said if path.lower().startswith(tuple(needed))]

    def _boots(self) -> str:
        tree = self._work / "esp"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        for folder in ("loader", "loader/entries", "grub", "EFI/updated"):
            (tree / folder).mkdir(parents=True, exist_ok=True)
            for line in _output("mdir", "-b", "-a", "-i", self._esp(), f"::/{folder}").splitlines():
                name = line.removeprefix("::/")
                if folder == "EFI/updated":
                    (tree / name).touch()
                elif line.startswith("::/") and not name.endswith("/"):
                    # One by one: a file without content, such as one that was being written, stops mcopy.
                    _output("mcopy", "-n", "-i", self._esp(), line, tree / name)
        try:
            return self._next(tree)
        except BootError as error:
            return str(error)

    def _next(self, esp: Path) -> str:
        variables = self._work / "efivars"
        shutil.rmtree(variables, ignore_errors=True)
        variables.mkdir()
        if self._loader == "grub":
            return next_boot(Grub(str(esp / "grub/grubenv")).read())[0] or "no slot may boot"
        loader = systemd_boot.Loader(esp, variables)
        loader.tell_features()
        ours, _ = next_boot(SystemdBoot(str(esp), str(variables)).read())
        entries = {path.name: path.read_bytes() for path in (esp / "loader/entries").iterdir()}
        started = loader.boot()
        words = entries.get(started or "", b"").split()
        if f"/{_KERNEL.format(ours)}".encode() in words and f"updated.slot={ours}".encode() in words:
            return ours or ""
        return f"systemd-boot starts {started}, and bootctl says {ours}"

    def _root(self, slot: str) -> tuple[str, ...]:
        return tuple(self._versions("rootfs", self._replay.path(f"rootfs-{slot}")))

    def _kernel(self, slot: str) -> tuple[str, ...]:
        self._work.mkdir(exist_ok=True)
        copy = self._work / "kernel.efi"
        copy.unlink(missing_ok=True)
        _output("mcopy", "-n", "-i", self._esp(), f"::/{_KERNEL.format(slot)}", copy)
        return tuple(self._versions("kernel", copy)) if copy.exists() else ()

    def _versions(self, component: str, path: Path) -> Iterator[str]:
        """The releases with whose image the file begins."""
        for (name, size), releases in self._known.items():
            if name == component and path.stat().st_size >= size:
                release = releases.get(_digest(path, size))
                if release is not None:
                    yield release.version

    def _esp(self) -> Path:
        return self._replay.path("esp")


def _complaints(esp: Path) -> Iterator[tuple[str, str]]:
    """What fsck.vfat says of each file: its path, and the words."""
    path = ""
    for line in _output("fsck.vfat", "-n", esp).splitlines():
        if line.startswith("/"):
            path = line.strip().strip("/")
        elif path and line.startswith("  "):
            yield path, f"{path}: {line.strip()}"
        else:
            path = ""


def _output(*command: str | Path) -> str:
    return _run(*command)[1]


def _run(*command: str | Path) -> tuple[int, str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def _digest(path: Path, length: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length and (data := file.read(min(length, _BLOCK))):
            digest.update(data)
            length -= len(data)
    return digest.hexdigest()
