"""The images that the benchmark installs: a real Debian server in three states, built once and kept.

`base` is Debian as of its last point release, `patch` the same with one security patch, `upgrade` has all updates.
Each is an ext4 image of the whole slot and an erofs image. One package set gives the same images, byte for byte: what
differs between two images is what differs between their packages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "build/bench"
SUITE = "bookworm"
SLOT_SIZE = 2 << 30
EPOCH = "1700000000"
UUID = "7b3c1f0e-2d54-4c6b-9a0e-5f1d8e7a4c21"
BUILD_SECONDS = 3600

# A server for containers and web applications, about 1.7 GB: much of it is compiled code, as in most images.
PACKAGES = (
    "usr-is-merged", "linux-image-amd64", "systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "kmod",
    "python3", "python3-pip", "python3-cryptography", "python3-numpy", "python3-requests", "python3-yaml",
    "openssl", "ca-certificates", "curl", "openssh-server", "rsyslog", "nftables", "iproute2", "chrony", "sudo",
    "vim", "git", "gcc", "make", "gdb", "strace", "tcpdump", "perl", "tmux",
    "containerd", "podman", "nginx-light", "postgresql-15", "openjdk-17-jre-headless", "nodejs",
    "redis-server", "haproxy",
)  # fmt: skip
# What `patch` takes from the security updates: one library that everything uses, and the tools around it.
PATCHED = ("libssl3", "openssl", "libexpat1", "haproxy", "rsyslog")
EXCLUDED = ("doc", "info", "lintian", "locale", "man", "i18n")
# Made anew by each installation, with the time or with randomness in them, or by the running system for itself. The
# initial RAM disk is one compressed file that is new whenever one of the files in it is.
LEFT_OUT = (
    "boot/initrd.img*", "etc/apt/preferences.d/bench", "etc/apt/sources.list", "etc/apt/sources.list.d/*",
    "etc/machine-id", "etc/ssh/ssh_host_*", "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/ssl/private/*",
    "etc/*-", "etc/.pwd.lock", "etc/hostname", "etc/resolv.conf", "usr/lib/jvm/*/lib/server/*.jsa",
    "var/cache/apt/*", "var/cache/debconf/*-old", "var/cache/ldconfig/*", "var/lib/apt/lists/*", "var/lib/dpkg/*-old",
    "var/lib/dbus/machine-id", "var/lib/postgresql/*", "var/lib/systemd/catalog/database", "var/log/*", "run/*",
    "tmp/*", "var/tmp/*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """One package set: which suites of Debian, and which packages from the security updates; None: all of them."""

    name: str
    suites: tuple[str, ...]
    patched: tuple[str, ...] | None = None


RECIPES = (
    Recipe("base", (SUITE,)),
    Recipe("patch", (SUITE, f"{SUITE}-security"), PATCHED),
    Recipe("upgrade", (SUITE, f"{SUITE}-updates", f"{SUITE}-security")),
)


def image(name: str, kind: str) -> Path:
    """Where the image of a recipe is kept; `kind` is ext4 or erofs."""
    return FOLDER / f"{name}.{kind}"


def package_list(name: str) -> dict[str, str]:
    """The versions of the packages in an image, by name."""
    return dict(line.split("\t") for line in (FOLDER / f"{name}.packages").read_text().splitlines())


def build_images(kinds: Sequence[str] = ("ext4", "erofs")) -> None:
    """Makes the images that are missing. Needs root, mmdebstrap, and a few gigabytes of memory and disk."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES:
        missing = [kind for kind in kinds if not image(recipe.name, kind).exists()]
        if not missing:
            continue
        tar = _packages(recipe)
        with _unpacked(tar) as tree:
            for kind in missing:
                print(f"makes {recipe.name}.{kind}", flush=True)
                partial = image(recipe.name, kind).with_suffix(".partial")
                partial.unlink(missing_ok=True)
                _MAKERS[kind](tree, partial)
                partial.replace(image(recipe.name, kind))


def _packages(recipe: Recipe) -> Path:
    """The tar file of an installed package set; kept, so that images can be made anew from the same packages."""
    tar = FOLDER / f"{recipe.name}.tar"
    if tar.exists():
        return tar
    print(f"installs the packages of {recipe.name}", flush=True)
    partial = tar.with_name(f"{recipe.name}.partial.tar")
    with tempfile.TemporaryDirectory() as work:
        sources = Path(work) / "sources.list"
        sources.write_text("".join(f"{line}\n" for line in _sources(recipe.suites)))
        command = [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar",
            f"--include={','.join(PACKAGES)}",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            '--aptopt=Apt::Install-Recommends "false"',
            *[f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in EXCLUDED],
        ]  # fmt: skip
        if recipe.patched is not None:
            pins = Path(work) / "pins"
            pins.write_text(_pins(recipe.patched))
            place = '"$1"/etc/apt/preferences.d'
            command.append(f"--setup-hook=mkdir -p {place} && cp {pins} {place}/bench")
        # Compiled Python is bound to the content of its source: all time stamps in the image are the same.
        folders = "/usr/lib/python3 /usr/lib/python3.11"
        compile_all = f"python3 -m compileall -q -f --invalidation-mode unchecked-hash {folders}"
        listing = f"dpkg-query -W -f '${{Package}}\\t${{Version}}\\n' >{FOLDER}/{recipe.name}.packages"
        command += [f'--customize-hook=chroot "$1" {compile_all} || true', f'--customize-hook=chroot "$1" {listing}']
        command += [SUITE, str(partial), str(sources)]
        log = FOLDER / f"{recipe.name}.log"
        with log.open("w") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, timeout=BUILD_SECONDS, check=False,
                env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
            )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"the packages of {recipe.name} could not be installed:\n{log.read_text()[-3000:]}")
    partial.replace(tar)
    return tar


def _sources(suites: Sequence[str]) -> list[str]:
    """The sources.list lines of `suites`, from where this machine itself gets Debian."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(SITE)|$(RELEASE)|$(COMPONENT)"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    rows = {tuple(target.split("|")) for target in targets}
    lines = sorted(f"deb {row[1]} {row[2]} main" for row in rows if row[0] == "Packages" and row[3] == "main")
    lines = [line for line in lines if line.split()[2] in suites]
    if len(lines) < len(suites):
        raise SystemExit(f"apt on this machine has no source for all of {', '.join(suites)}. Add them to its sources.")
    return lines


def _pins(patched: Sequence[str]) -> str:
    """Preferences of apt: nothing from the security updates but these packages."""
    return (
        f"Package: *\nPin: release n={SUITE}-security\nPin-Priority: 1\n\n"
        f"Package: {' '.join(patched)}\nPin: release n={SUITE}-security\nPin-Priority: 500\n"
    )


@contextmanager
def _unpacked(tar: Path) -> Iterator[Path]:
    """The tree of a tar file, in memory: a tmpfs lists its files in the order in which they came, a disk does not."""
    folder = Path(tempfile.mkdtemp(prefix="bench-tree-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noatime,size=4g,mode=0755", "tmpfs", str(folder)], check=True)
    try:
        subprocess.run(
            ["tar", "-C", str(folder), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", str(tar)],
            check=True, timeout=BUILD_SECONDS,
        )  # fmt: skip
        subprocess.run(["sh", "-c", f"rm -rf {' '.join(LEFT_OUT)}"], check=True, cwd=folder)
        for name, text in (("machine-id", ""), ("resolv.conf", ""), ("hostname", "localhost\n")):
            (folder / "etc" / name).write_text(text)
        subprocess.run(["find", str(folder), "-exec", "touch", "-h", "-d", f"@{EPOCH}", "{}", "+"], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _ext4(tree: Path, target: Path) -> None:
    """The file system as large as the slot. Without a journal: nothing writes to a slot but its installer."""
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": EPOCH}
    with target.open("wb") as file:
        file.truncate(SLOT_SIZE)
    subprocess.run(
        [
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-U", UUID, "-O", "^has_journal",
            "-E", f"hash_seed={UUID},lazy_itable_init=0,root_owner=0:0,nodiscard", "-d", str(tree), str(target),
        ],
        check=True, env=environment, timeout=BUILD_SECONDS,
    )  # fmt: skip
    # mke2fs copies the time at which the tree was unpacked as the time of change.
    numbers = sum(1 for _ in _walk(tree)) + 11
    script = "".join(f"sif <{number}> ctime @{EPOCH}\n" for number in [2, *range(11, numbers + 1)])
    subprocess.run(
        ["debugfs", "-w", "-f", "/dev/stdin", str(target)], input=script.encode(), env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=BUILD_SECONDS,
    )  # fmt: skip
    check = subprocess.run(["e2fsck", "-fn", str(target)], capture_output=True, text=True, timeout=600, check=False)
    if check.returncode != 0:
        raise SystemExit(f"{target.name} is no clean file system:\n{check.stdout[-2000:]}")


def _walk(tree: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(tree):
        yield from (os.path.join(folder, name) for name in folders + files)


def _erofs(tree: Path, target: Path) -> None:
    """As packaging/image makes it: not compressed, file data apart from inodes."""
    subprocess.run(
        ["mkfs.erofs", "--quiet", "--chunksize=65536", "-x-1", "-T", EPOCH, "-U", UUID, str(target), str(tree)],
        check=True, stdout=subprocess.DEVNULL, timeout=BUILD_SECONDS,
    )  # fmt: skip


_MAKERS = {"ext4": _ext4, "erofs": _erofs}


def main() -> None:
    """Builds what is missing, and says what there is."""
    if shutil.which("mmdebstrap") is None:
        raise SystemExit("mmdebstrap is missing; packaging/install-system-packages installs it")
    build_images()
    base = package_list("base")
    for recipe in RECIPES:
        packages = package_list(recipe.name)
        changed = sum(base.get(name) != version for name, version in packages.items())
        sizes = ", ".join(f"{kind} {image(recipe.name, kind).stat().st_size / 1e6:.0f} MB" for kind in _MAKERS)
        print(f"{recipe.name}: {len(packages)} packages, {changed} others than in base; {sizes}")


if __name__ == "__main__":
    main()
