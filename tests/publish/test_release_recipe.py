"""The recipe of releases and of disk images that boot: judged by veritysetup, objcopy, cpio, parted and mtools."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "packaging" / "image"
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
UNITS = ("updated.service", "updated-health.service", "updated-deadline.timer", "updated-boot-count.service")
FILES = {
    "boot/initrd.img": b"initrd of the packages",
    "boot/vmlinuz-6.1.0": b"a kernel",
    "etc/group": b"root:x:0:\n",
    "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/shadow": b"root:*:1::::::\n",
    "usr/lib/modules/6.1.0/kernel/fs/btrfs/btrfs.ko": b"",
    "usr/lib/os-release": b'ID=debian\nPRETTY_NAME="Debian"\n',
    "usr/lib/systemd/boot/efi/linuxx64.efi.stub": STUB.read_bytes(),
    "var/lib/dpkg/arch": b"amd64\n",
    "var/lib/dpkg/status": b"",
    "var/log/dpkg.log": b"today\n",
}
FOLDERS = (
    "etc/nginx", "run", "tmp", "usr/bin", "usr/lib/updated/health.d", "usr/lib/sysusers.d", "var/cache",
    "var/lib/dpkg/info", "var/lib/dpkg/updates",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("base") / "base.tar"
    names = (*FILES, *(f"{folder}/x" for folder in FOLDERS))
    folders = {str(parent) for name in names for parent in Path(name).parents}
    with tarfile.open(file, "w") as tar:
        for name in sorted(folders - {"."}):
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        lib = tarfile.TarInfo("./lib")
        lib.type, lib.linkname = tarfile.SYMTYPE, "usr/lib"
        tar.addfile(lib)
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return file


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("deb")
    for folder in ("tree/DEBIAN", "tree/lib/systemd/system", "tree/usr/lib/sysusers.d"):
        (tree / folder).mkdir(parents=True)
    control = "Package: updated\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: a test\n"
    (tree / "tree/DEBIAN/control").write_text(control)
    for unit in UNITS:
        (tree / "tree/lib/systemd/system" / unit).write_text("[Install]\nWantedBy=multi-user.target\n")
    shutil.copy(REPOSITORY / "packaging/sysusers.d/updated.conf", tree / "tree/usr/lib/sysusers.d")
    file = tree / "updated.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree / "tree", file], check=True, capture_output=True)
    return file


def build(base: Path, deb: Path, output: Path, *arguments: str | Path) -> Path:
    command: list[str | Path] = [RECIPE / "build-release", "--version", "1.2.3", "--deb", deb, "--base-tar", base]
    command += ["--output", output]
    subprocess.run([*command, *arguments], check=True, capture_output=True)
    return output


@pytest.fixture(scope="module")
def release(base: Path, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(base, deb, tmp_path_factory.mktemp("release"))


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def section(kernel: Path, name: str, folder: Path) -> bytes:
    subprocess.run(["objcopy", "-O", "binary", "--only-section", name, kernel, folder / "section"], check=True)
    return (folder / "section").read_bytes()


def initrd(kernel: Path, folder: Path) -> Path:
    """What this release adds to the initrd, which the packages brought."""
    content = section(kernel, ".initrd", folder)
    assert content.startswith(FILES["boot/initrd.img"])
    tree = folder / "initrd"
    tree.mkdir()
    start = content.index(b"070701")
    assert start % 4 == 0, "the kernel looks for the next archive at multiples of four"
    subprocess.run(["cpio", "--quiet", "-id"], cwd=tree, input=content[start:], check=True)
    return tree


def tree_of(release: Path, folder: Path) -> Path:
    subprocess.run(["fsck.erofs", f"--extract={folder}", release / "rootfs.img"], check=True, capture_output=True)
    return folder


def test_the_same_release_from_the_same_files(base: Path, deb: Path, release: Path, tmp_path: Path) -> None:
    assert digests(build(base, deb, tmp_path)) == digests(release)


def test_the_kernel_pins_the_root_and_knows_no_slot(release: Path, tmp_path: Path) -> None:
    kernel = release / "kernel.efi"
    values = dict(line.split("=") for line in (initrd(kernel, tmp_path) / "conf/verity").read_text().split())
    assert values["root_hash"] == (release / "roothash").read_text().strip()
    image = release / "rootfs.img"
    verify: list[str | Path] = ["veritysetup", "verify", image, image, values["root_hash"]]
    verify.append(f"--hash-offset={values['hash_offset']}")
    subprocess.run(verify, check=True)
    with open(image, "r+b") as file:
        file.seek(8192)
        one = file.read(1)
        file.seek(8192)
        file.write(bytes([one[0] ^ 1]))
    try:
        assert subprocess.run(verify, check=False, capture_output=True).returncode != 0
    finally:
        with open(image, "r+b") as file:
            file.seek(8192)
            file.write(one)
    sections = subprocess.run(["objdump", "-h", kernel], check=True, capture_output=True, text=True).stdout
    assert ".cmdline" not in sections, "it would win over the slot that the loader passes"
    assert section(kernel, ".linux", tmp_path) == FILES["boot/vmlinuz-6.1.0"]


def test_the_package_is_installed_beside_the_links_of_usr(release: Path, tmp_path: Path) -> None:
    tree = tree_of(release, tmp_path / "tree")
    assert (tree / "lib").is_symlink()
    for unit in UNITS:
        assert (tree / "usr/lib/systemd/system" / unit).is_file()
        assert (tree / "etc/systemd/system/multi-user.target.wants" / unit).is_symlink()
    assert "updated-fetch" in (tree / "etc/passwd").read_text()
    assert "Package: updated" in (tree / "usr/share/dpkg-state/status").read_text()
    assert "IMAGE_VERSION=1.2.3" in (tree / "usr/lib/os-release").read_text()


def test_what_a_slot_does_not_need_and_what_is_of_one_machine_is_not_in_it(release: Path, tmp_path: Path) -> None:
    tree = tree_of(release, tmp_path / "tree")
    assert not list((tree / "boot").iterdir())
    assert not (tree / "usr/lib/modules/6.1.0/kernel/fs/btrfs").exists()
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert not (tree / "var/log/dpkg.log").exists()
    for mount_point in ("efi", "state"):
        assert (tree / mount_point).is_dir()


def test_overlays_of_root_and_initrd_and_the_root_of_trust(base: Path, deb: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/etc").mkdir(parents=True)
    (tmp_path / "mine/etc/motd").write_text("mine\n")
    (tmp_path / "kernel/scripts").mkdir(parents=True)
    (tmp_path / "kernel/scripts/updated").write_text("mountroot() { :; }\n")
    (tmp_path / "root.json").write_text("{}")
    arguments = ["--overlay", "mine", "--kernel-overlay", "kernel", "--root-of-trust", "root.json"]
    absolute = [word if word.startswith("--") else str(tmp_path / word) for word in arguments]
    made = build(base, deb, tmp_path / "made", *absolute)
    tree = tree_of(made, tmp_path / "tree")
    assert (tree / "etc/motd").read_text() == "mine\n"
    assert (tree / "usr/share/updated/root.json").read_text() == "{}"
    assert (initrd(made / "kernel.efi", tmp_path) / "scripts/updated").read_text() == "mountroot() { :; }\n"


def test_a_package_whose_needs_are_not_met_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/DEBIAN").mkdir(parents=True)
    control = "Package: updated\nVersion: 1\nArchitecture: all\nMaintainer: n\nDepends: nowhere\nDescription: a test\n"
    (tmp_path / "tree/DEBIAN/control").write_text(control)
    subprocess.run(["dpkg-deb", "--build", tmp_path / "tree", tmp_path / "x.deb"], check=True, capture_output=True)
    command: list[str | Path] = [RECIPE / "build-release", "--version", "1", "--deb", tmp_path / "x.deb"]
    command += ["--base-tar", base, "--output", tmp_path / "made"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("loader", ["systemd-boot", "grub"])
def test_a_disk_that_boots_slot_a(loader: str, release: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    sizes = ["--esp-size", "64M", "--slot-size", "32M", "--state-size", "16M"]
    command: list[str | Path] = [RECIPE / "build-machine", "--loader", loader, "--release", release, "--output", disk]
    subprocess.run([*command, *sizes], check=True, capture_output=True)

    lines = subprocess.run(
        ["parted", "-ms", disk, "unit", "B", "print"], check=True, capture_output=True, text=True
    ).stdout.splitlines()[2:]
    starts = {line.split(":")[5]: int(line.split(":")[1][:-1]) for line in lines}
    assert list(starts) == ["esp", "rootfs-a", "rootfs-b", "state"]
    image = (release / "rootfs.img").read_bytes()
    with open(disk, "rb") as file:
        file.seek(starts["rootfs-a"])
        assert file.read(len(image)) == image

    esp = tmp_path / "efi"
    esp.mkdir()
    subprocess.run(["mcopy", "-s", "-i", f"{disk}@@{starts['esp']}", "::/*", esp], check=True)
    assert (esp / "EFI/updated/a.efi").read_bytes() == (release / "kernel.efi").read_bytes()
    assert (esp / "EFI/BOOT/BOOTX64.EFI").is_file()
    # As the machine itself finds it: by the settings of the image, and the disk that the initrd names.
    shutil.copytree(RECIPE / "machine/usr/lib/updated/updated.toml.d", tmp_path / "usr/lib/updated/updated.toml.d")
    (tmp_path / "run/updated/updated.toml.d").mkdir(parents=True)
    (tmp_path / "run/updated/updated.toml.d/10-disk.toml").write_text('[disk]\nimage = "/disk.img"\n')
    shown = subprocess.run(
        ["python3", "-m", "bootctl", "--root", tmp_path, "doctor"],
        check=True, capture_output=True, text=True, cwd=REPOSITORY,
    ).stdout  # fmt: skip
    assert shown.startswith(f"{loader.replace('-', '_')}: a good, b empty\n")
    assert "damaged" not in shown
    if loader == "grub":
        subprocess.run(["grub-script-check", esp / "grub/grub.cfg"], check=True)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--version", "1"], ["--x"], ["--overlay", "nowhere"], ["--deb", "nowhere"]],
)
def test_wrong_usage_is_exit_status_2(arguments: list[str]) -> None:
    done = subprocess.run([RECIPE / "build-release", *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize("arguments", [[], ["--loader", "lilo", "--release", "x", "--output", "y"], ["--x"]])
def test_wrong_usage_of_the_machine_is_exit_status_2(arguments: list[str]) -> None:
    done = subprocess.run([RECIPE / "build-machine", *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr
