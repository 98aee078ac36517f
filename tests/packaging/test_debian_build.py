"""Packages are built once for the same sources, and anew for others: here of a small tree that needs no libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.shipped import PACKAGING

pytestmark = pytest.mark.skipif(shutil.which("dpkg-buildpackage") is None, reason="needs dpkg-buildpackage")

EPOCH = 1_700_000_000
NAMES = ("updated", "updated-publisher")
CONTROL = """\
Source: updated
Maintainer: The updated project <updated@localhost>
Rules-Requires-Root: no
""" + "".join(f"\nPackage: {name}\nArchitecture: any\nDescription: a program\n" for name in NAMES)
RULES = """\
#!/usr/bin/make -f
clean build:
binary:
\tfor each in updated updated-publisher; do \\
\t    mkdir -p debian/$$each/DEBIAN && cp -r updated debian/$$each/program && \\
\t    dpkg-gencontrol -p$$each -Pdebian/$$each && \\
\t    dpkg-deb --root-owner-group -Znone --build debian/$$each .. || exit 1; \\
\tdone
"""
# Makes an environment in which nothing is to be fetched.
PYTHON = """\
#!/bin/sh
mkdir -p "$3/bin"
ln -s /bin/true "$3/bin/pip"
"""
FILES = {
    "LICENSE": "", "Makefile": "", "README.md": "", "bootctl/model.py": "", "health/judge.py": "",
    "pyproject.toml": 'version = "1.0.0"\n', "updated/program.py": "print(1)\n",
    "packaging/requirements.lock": "", "packaging/requirements-publisher.lock": "",
    "packaging/requirements-build.lock": "", "packaging/debian/control": CONTROL, "packaging/debian/rules": RULES,
    "python": PYTHON,
}  # fmt: skip


class Tree:
    """Sources in `folder`, and what was built from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def packages(self) -> list[Path]:
        """Both packages."""
        return sorted((self.folder / "dist").iterdir())

    def build(self, epoch: int = EPOCH, path: str = os.environ["PATH"]) -> bool:
        """Whether packages were built, and not found; with the programs of `path`."""
        before = self._identity()
        built = subprocess.run(
            [self.folder / "packaging/debian/build", self.folder / "build/deb", self.folder / "dist"],
            capture_output=True, text=True, check=False, timeout=170,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PATH": path},
        )  # fmt: skip
        assert built.returncode == 0, built.stdout + built.stderr
        assert len(self.packages) >= len(NAMES)
        return self._identity() != before

    def _identity(self) -> list[tuple[int, int]]:
        if not (self.folder / "dist").exists():
            return []
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in self.packages]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree whose packages were built, for tests that leave it as it is."""
    tree = Tree(tmp_path_factory.mktemp("built") / "tree")
    for name, text in FILES.items():
        path = tree.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    build = tree.folder / "packaging/debian/build"
    text = (PACKAGING / "debian/build").read_text()
    assert "\npython=/usr/bin/python3\n" in text
    build.write_text(text.replace("\npython=/usr/bin/python3\n", '\npython="$repository/python"\n'))
    for program in (build, build.with_name("rules"), tree.folder / "python"):
        program.chmod(0o755)
    assert tree.build()
    return tree


@pytest.fixture
def tree(built: Tree, tmp_path: Path) -> Tree:
    """The same once more."""
    shutil.copytree(built.folder, tmp_path / "tree")
    return Tree(tmp_path / "tree")


def test_nothing_is_built_again_from_the_same_sources(tree: Tree) -> None:
    assert not tree.build()
    # Neither what Python leaves in a tree nor the time of a checkout counts.
    (tree.folder / "updated/__pycache__").mkdir()
    (tree.folder / "updated/__pycache__/program.pyc").write_bytes(b"\0")
    os.utime(tree.folder / "updated/program.py", (EPOCH, EPOCH))
    assert not tree.build()


def rewrite(path: Path) -> None:
    path.write_text("print(2)\n")


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("updated/program.py", rewrite),
        ("updated/another.py", rewrite),
        ("updated/program.py", lambda path: path.chmod(0o755)),
        ("dist/updated-publisher_1.0.0-1_*.deb", damage),
        ("dist/updated_1.0.0-1_*.deb", Path.unlink),
    ],
    ids=["changed", "added", "mode", "damaged", "missing"],
)
def test_a_change_is_packaged(tree: Tree, path: str, change: Callable[[Path], None]) -> None:
    [found] = tree.folder.glob(path) if "*" in path else [tree.folder / path]
    change(found)
    assert tree.build()
    packed = tree.folder / "packed"
    subprocess.run(["dpkg-deb", "--extract", tree.packages[-1], packed], check=True)
    for source in sorted((tree.folder / "updated").glob("*.py")):
        held = packed / "program" / source.name
        assert (held.read_bytes(), held.stat().st_mode) == (source.read_bytes(), source.stat().st_mode)
    assert not tree.build()


def test_another_time_is_packaged(tree: Tree) -> None:
    assert tree.build(EPOCH + 1)


def test_of_another_version_only_what_somebody_else_put_there_stays(tree: Tree) -> None:
    other = tree.folder / "dist/updated_0.9.0-1_all.deb"
    other.write_bytes(tree.packages[-1].read_bytes())
    (tree.folder / "pyproject.toml").write_text('version = "2.0.0"\n')
    assert tree.build()
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout
    built = [f"{name}_2.0.0-1_{architecture.strip()}.deb" for name in NAMES]
    assert [path.name for path in tree.packages] == sorted([other.name, *built])
    assert not tree.build()


MOVE = """\
#!/bin/sh
/bin/mv "$@" || exit 1
for last; do :; done
case $last in */dist/) for each in "$last"*.deb; do echo of other sources >>"$each"; done ;; esac
"""


def test_what_another_build_put_there_meanwhile_is_not_taken_for_its_own(tree: Tree) -> None:
    (tree.folder / "updated/program.py").write_text("print(2)\n")
    move = tree.folder / "programs/mv"
    move.parent.mkdir()
    move.write_text(MOVE)
    move.chmod(0o755)
    assert tree.build(path=f"{move.parent}:{os.environ['PATH']}")
    assert all(path.read_bytes().endswith(b"of other sources\n") for path in tree.packages)
    assert tree.build()
    assert not tree.build()
