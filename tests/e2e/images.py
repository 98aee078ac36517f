"""What the machines run: releases good and broken, a repository for them, and disk images from the factory.

All is kept below build/e2e, under the digest of what it was made from, and made again when that changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from updated.publish.__main__ import main as releasectl

Loader = Literal["systemd-boot", "grub"]
Kind = Literal["good", "panics", "hangs", "freezes", "sick", "without-packages"]

LOADERS: Final[tuple[Loader, ...]] = ("systemd-boot", "grub")
COMPATIBLE: Final = "updated-reference-amd64"
CHANNELS: Final = ("alpha", "beta", "stable")
FACTORY: Final = "1.0.0"
ROOT: Final = Path(__file__).parent.parent.parent
BUILD: Final = ROOT / "build/e2e"
BUILDER: Final = ROOT / "packaging/image"
OVERLAY: Final = Path(__file__).parent / "overlay"

_PACKAGES: Final = "kexec-tools"
_LIMIT: Final = 900
_KEPT_FILES: Final = ("rootfs.img", "kernel.efi", "roothash")
_BEFORE_ALL: Final = """\
[Unit]
Description={what}
DefaultDependencies=no
Before=sysinit.target basic.target
After=systemd-journald.service

[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c '{command}'
"""
_WANTED: Final = "etc/systemd/system/sysinit.target.wants/e2e.service"
_UNIT: Final = "etc/systemd/system/e2e.service"
# What a kind lays over the root file system, and over the initrd. A text that begins with "->" is a link.
_FILES: Final[Mapping[Kind, Mapping[str, str]]] = {
    "hangs": {
        _UNIT: _BEFORE_ALL.format(what="Hangs for ever", command='echo "e2e: this release hangs"; exec sleep infinity'),
        _WANTED: "->../e2e.service",
    },
    # PID 1 can't be stopped. A fault of its own makes it freeze, and feed no watchdog any more.
    "freezes": {
        _UNIT: _BEFORE_ALL.format(what="Freezes PID 1", command='echo "e2e: PID 1 freezes"; kill -SEGV 1; sleep 600'),
        _WANTED: "->../e2e.service",
    },
    "sick": {"etc/systemd/system/nginx.service.d/e2e.conf": "[Service]\nExecStartPre=/bin/false\n"},
}
_INITRD_FILES: Final[Mapping[Kind, Mapping[str, str]]] = {
    "panics": {
        "scripts/init-top/ORDER": "/scripts/init-top/e2e\n",
        "scripts/init-top/e2e": "#!/bin/sh\necho 'e2e: it panics' >/dev/console\necho c >/proc/sysrq-trigger\n",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Release:
    """What `build-release` wrote into `folder`."""

    version: str
    kind: Kind
    folder: Path

    @property
    def rootfs(self) -> Path:
        """The image of a slot's partition."""
        return self.folder / "rootfs.img"

    @property
    def kernel(self) -> Path:
        """The kernel with its initrd, a file on the EFI system partition."""
        return self.folder / "kernel.efi"


@dataclass
class Images:
    """Builds what is missing, once. `deb` is the Debian package of updated."""

    deb: Path
    base_tar: Path
    trust: Path = field(default_factory=lambda: BUILD / "trust")

    def release(self, version: str, kind: Kind = "good") -> Release:
        """A release, built at most once for the same inputs: some 20 s, and for the first one a minute more."""
        files = repr((_FILES.get(kind), _INITRD_FILES.get(kind)))
        inputs = [self._recipe(), _digest(self.deb), _digest(self.root_of_trust()), version, kind, files]
        folder = BUILD / "releases" / f"{version}-{kind}-{_key(inputs)}"
        with _building(folder) as partial:
            if partial is not None:
                self._build(version, kind, partial)
        return Release(version, kind, folder)

    def machine(self, loader: Loader, release: Release) -> Path:
        """The disk image of a machine with `release` in slot a, as the factory delivers it."""
        folder = BUILD / "machines" / f"{loader}-{_key([self._recipe(), release.folder.name])}"
        with _building(folder) as partial:
            if partial is not None:
                _run(BUILDER / "build-machine", "--loader", loader, "--release", release.folder,
                     "--output", partial / "disk.img", log=partial / "log")  # fmt: skip
        return folder / "disk.img"

    def root_of_trust(self) -> Path:
        """What all images pin: the root of the one repository that all are copies of."""
        with _building(self.trust) as partial:
            if partial is not None:
                repository = str(partial / "repository")
                call("init", repository, "--keys", str(partial / "keys"))
                call("export-root", repository, str(partial / "root.json"))
        return self.trust / "root.json"

    def _build(self, version: str, kind: Kind, folder: Path) -> None:
        overlay, kernel_overlay = folder / "overlay", folder / "kernel-overlay"
        _lay(overlay, {"usr/share/e2e/release": f"{version} {kind}\n" * 1000, **_FILES.get(kind, {})})
        command: list[str | Path] = [
            BUILDER / "build-release", "--version", version, "--deb", self._package(kind, folder), "--output", folder,
            "--base-tar", self.base_tar, "--root-of-trust", self.root_of_trust(),
            "--overlay", OVERLAY, "--overlay", overlay, "--include", _PACKAGES,
        ]  # fmt: skip
        if kind in _INITRD_FILES:
            _lay(kernel_overlay, _INITRD_FILES[kind])
            command += ["--kernel-overlay", kernel_overlay]
        with _locked(self.base_tar):
            _run(*command, log=folder / "log")
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (*_KEPT_FILES, "log"):
                path.unlink()

    def _package(self, kind: Kind, folder: Path) -> Path:
        """The Debian package that goes in."""
        if kind != "without-packages":
            return self.deb
        tree, package = folder / "package", folder / "package.deb"
        subprocess.run(["dpkg-deb", "--raw-extract", self.deb, tree], check=True)
        for packages in tree.glob("usr/lib/updated/lib/python*/site-packages"):
            shutil.rmtree(packages)
            packages.mkdir()
        subprocess.run(["dpkg-deb", "--build", "-Znone", tree, package], check=True, stdout=subprocess.DEVNULL)
        return package

    def _recipe(self) -> str:
        folders = (BUILDER, OVERLAY, ROOT / "packaging/grub")
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return _key([f"{path} {_digest(path)}" for path in files])


def find_images() -> Images:
    """With the package that `make deb` leaves in dist/. E2E_DEB names another one, E2E_BASE_TAR a tar of packages."""
    named = os.environ.get("E2E_DEB")
    debs = [Path(named)] if named else sorted((ROOT / "dist").glob("updated_*.deb"))
    if not debs or not debs[-1].exists():
        raise RuntimeError("there is no Debian package of updated: run `make deb`, or name one in E2E_DEB")
    BUILD.mkdir(parents=True, exist_ok=True)
    builder = _key([_PACKAGES, *(_digest(BUILDER / name) for name in ("build-base", "build-release"))])
    base = os.environ.get("E2E_BASE_TAR")
    return Images(debs[-1].absolute(), Path(base) if base else BUILD / f"base-{builder}.tar")


class Repository:
    """A signed repository in `folder`: a copy of the one that the images trust, in which no release is yet."""

    def __init__(self, images: Images, folder: Path) -> None:
        self.images = images
        self.folder = folder / "repository"
        self.keys = folder / "keys"
        self.added: dict[str, Release] = {}
        images.root_of_trust()
        shutil.copytree(images.trust / "repository", self.folder)
        shutil.copytree(images.trust / "keys", self.keys)
        self.refresh()

    def call(self, verb: str, *arguments: str) -> None:
        """Runs releasectl on the repository."""
        call(verb, str(self.folder), "--keys", str(self.keys), *arguments)

    def add(self, version: str, kind: Kind = "good", *, patches: int = 1) -> Release:
        """Publishes a release, and ships it in no channel yet."""
        release = self.images.release(version, kind)
        self.call(
            "add", "--version", version, "--compatible", COMPATIBLE, "--level", "1", "--patches", str(patches),
            "--component", f"rootfs={release.rootfs}", "--component", f"kernel={release.kernel}",
        )  # fmt: skip
        self.added[version] = release
        return release

    def promote(self, version: str, channel: str = "stable", *options: str) -> None:
        """Ships a release in a channel."""
        self.call("promote", "--channel", channel, "--version", version, *options)

    def release(self, version: str, kind: Kind = "good", *, channels: Sequence[str] = ("stable",)) -> Release:
        """Publishes a release, and ships it in channels."""
        release = self.add(version, kind)
        for channel in channels:
            self.promote(version, channel)
        return release

    def refresh(self) -> None:
        """Signs snapshot and timestamp anew: those that were kept may have expired."""
        self.call("refresh")


def call(*arguments: str) -> None:
    """Runs releasectl; raises RuntimeError when it fails."""
    status = releasectl(arguments)
    if status:
        raise RuntimeError(f"releasectl {arguments} ended with {status}")


# ------------------------------------------------------------------------------------------------------------- within


def _run(program: str | Path, *arguments: str | Path, log: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "UPDATECTL": str(Path(sys.executable).parent / "updatectl")}
    with log.open("wb") as output:
        done = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=_LIMIT, check=False,
            env=environment,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{Path(program).name} failed:\n{log.read_text(errors='replace')[-3000:]}")


def _lay(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)


@contextmanager
def _building(folder: Path) -> Iterator[Path | None]:
    """A folder to build into, which becomes `folder` at the end; or None, if that is there already."""
    with _locked(folder):
        if folder.exists():
            yield None
            return
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        begin = time.monotonic()
        yield partial
        (partial / "seconds").write_text(f"{time.monotonic() - begin:.1f}\n")
        partial.rename(folder)
        # Only the newest of its name is kept: each is some hundred megabytes.
        name, _, key = folder.name.rpartition("-")
        for other in folder.parent.glob(f"{name}-{'?' * len(key)}") if name else ():
            if other != folder:
                shutil.rmtree(other)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Only one process at a time builds the same thing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(place.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(inputs: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:12]
