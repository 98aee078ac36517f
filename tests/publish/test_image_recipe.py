"""The recipe of images: the same image from the same files, and what it puts into it. Judged by erofs-utils."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "packaging" / "image"
FILES = {
    "usr/lib/os-release": b"ID=debian\nIMAGE_VERSION=of the distribution\n",
    "etc/hostname": b"the-machine-that-built-it\n",
    "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "etc/nginx/nginx.conf": b"# of the package\n",
    "var/log/dpkg.log": b"today\n",
    "var/lib/apt/lists/index": b"of a mirror\n",
    **{f"usr/share/data/{number}": os.urandom(300) for number in range(200)},
}


VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def base_tar(file: Path, *, reverse: bool = False, more: Mapping[str, bytes] | None = None) -> Path:
    files = {**FILES, **(more or {})}
    folders = {str(parent) for name in files for parent in Path(name).parents if parent.name}
    with tarfile.open(file, "w") as tar:
        for name in sorted(folders | {"etc", "run", "tmp", "usr/lib", "var/cache"}, reverse=reverse):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name in sorted(files, reverse=reverse):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(files[name]), 1_500_000_000 if reverse else 1_000_000_000
            with_bytes = file.with_suffix(".part")
            with_bytes.write_bytes(files[name])
            with open(with_bytes, "rb") as part:
                tar.addfile(entry, part)
    return file


def build(base: Path, image: Path, *arguments: str) -> Path:
    subprocess.run(
        [RECIPE / "build-rootfs", "--version", "1.2.3", "--base-tar", base, "--output", image, *arguments], check=True
    )
    return image


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def extracted(image: Path, folder: Path) -> Path:
    subprocess.run(["fsck.erofs", f"--extract={folder}", image], check=True, capture_output=True)
    return folder


def test_the_order_and_the_times_of_files_do_not_matter(tmp_path: Path) -> None:
    one = build(base_tar(tmp_path / "one.tar"), tmp_path / "one.img")
    other = build(base_tar(tmp_path / "other.tar", reverse=True), tmp_path / "other.img")
    assert digest(one) == digest(other)


def test_the_image_says_which_one_it_is_and_carries_its_health_checks(tmp_path: Path) -> None:
    tree = extracted(build(base_tar(tmp_path / "base.tar"), tmp_path / "image"), tmp_path / "tree")
    assert (tree / "etc/os-release").read_text() == "ID=debian\nIMAGE_ID=demo\nIMAGE_VERSION=1.2.3\n"
    assert (tree / "usr/lib/updated/health/__main__.py").is_file()
    assert (tree / "usr/lib/updated/bootctl/model.py").is_file()
    assert os.access(tree / "usr/lib/updated/health.d/required.d/trust-store", os.X_OK)
    assert (tree / "usr/share/data/7").read_bytes() == FILES["usr/share/data/7"]


def test_nothing_of_the_building_machine_is_in_the_image(tmp_path: Path) -> None:
    tree = extracted(build(base_tar(tmp_path / "base.tar"), tmp_path / "image"), tmp_path / "tree")
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert (tree / "etc/hostname").read_text() == "localhost\n"
    assert not (tree / "var/log/dpkg.log").exists()
    assert not (tree / "var/lib/apt/lists/index").exists()
    assert {file.stat().st_mtime for file in tree.rglob("*") if file.is_file()} == {1_700_000_000}


def test_the_health_check_is_compiled_and_needs_no_time_stamps(tmp_path: Path) -> None:
    here = subprocess.run(["python3", "-c", VERSION], capture_output=True, text=True, check=True).stdout.strip()
    base = base_tar(tmp_path / "base.tar", more={f"usr/lib/python{here}/os.py": b""})
    image = build(base, tmp_path / "image")
    tree = extracted(image, tmp_path / "tree")
    sources = [*(tree / "usr/lib/updated/health").rglob("*.py"), *(tree / "usr/lib/updated/bootctl").rglob("*.py")]
    assert len(sources) > 50
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-{here.replace('.', '')}.pyc")
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")  # PEP 552
        assert flags == 0b01, "it is not bound to a hash, or the hash is checked at each start"
        assert str(tmp_path).encode() not in compiled.read_bytes()
    assert digest(build(base, tmp_path / "again")) == digest(image)


def test_an_image_of_another_python_is_not_compiled_for_the_one_here(tmp_path: Path) -> None:
    base = base_tar(tmp_path / "base.tar", more={"usr/lib/python2.7/os.py": b""})
    tree = extracted(build(base, tmp_path / "image"), tmp_path / "tree")
    assert not list(tree.rglob("*.pyc"))


def test_a_later_overlay_wins(tmp_path: Path) -> None:
    (tmp_path / "mine/etc/nginx").mkdir(parents=True)
    (tmp_path / "mine/etc/nginx/nginx.conf").write_text("# mine\n")
    base = base_tar(tmp_path / "base.tar")
    plain = extracted(build(base, tmp_path / "plain"), tmp_path / "tree")
    laid = extracted(build(base, tmp_path / "laid", "--overlay", str(tmp_path / "mine")), tmp_path / "laid-tree")
    assert "of the package" not in (plain / "etc/nginx/nginx.conf").read_text()
    assert (laid / "etc/nginx/nginx.conf").read_text() == "# mine\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--version", "1"],
        ["--version", "1", "--output", "x", "--sources", "some"],
        ["--overlay", "nowhere"],
        ["--x"],
    ],
)
def test_wrong_usage_is_exit_status_2(arguments: list[str]) -> None:
    done = subprocess.run([RECIPE / "build-rootfs", *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr
