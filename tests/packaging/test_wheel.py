"""The Python package, as an index would serve it: built, looked at, and installed into a new environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.packaging.shipped import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PROGRAMS = ("updated", "updatectl", "updated-bootctl", "updated-health", "releasectl")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, since setuptools leaves files beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for name in ("bootctl", "health", "updated", "tests/core"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml", "tests/__init__.py"):
        shutil.copy(REPOSITORY / name, tree / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", folder / "dist", tree], check=True, timeout=200)
    [built] = (folder / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"updated-{PROJECT['version']}.dist-info/METADATA").decode())


def test_it_is_for_any_machine_and_is_named_after_the_version(wheel: Path) -> None:
    assert wheel.name == f"updated-{PROJECT['version']}-py3-none-any.whl"


def test_it_carries_the_packages_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"bootctl", "health", "updated"}
    modules = {str(path.relative_to(REPOSITORY)) for top in ("bootctl", "health", "updated")
               for path in (REPOSITORY / top).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {"bootctl/py.typed", "health/py.typed", "updated/py.typed"} <= set(names)


def test_its_page_has_the_readme_the_license_and_what_one_searches_by(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == (REPOSITORY / "README.md").read_text().strip()
    assert metadata["License-Expression"] == "GPL-3.0-or-later"
    assert metadata["Summary"] == PROJECT["description"]
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier") or []
    assert "Operating System :: POSIX :: Linux" in classifiers
    # An index refuses this beside a license expression.
    assert not [each for each in classifiers if each.startswith("License ::")]


def test_its_programs_run_in_a_new_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "environment")
    binaries = tmp_path / "environment/bin"
    # The libraries are those of this environment: pyparted would be compiled for minutes, and all be fetched again.
    [site] = (tmp_path / "environment/lib").glob("python*/site-packages")
    libraries = Path(pytest.__file__).parent.parent
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "--quiet", "--no-deps", wheel], check=True, timeout=100)
    # Behind what was installed, and without the checkout, which a .pth file there leads to.
    (site / "libraries.pth").write_text(f"{libraries}\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for program in PROGRAMS:
        told = subprocess.run(
            [binaries / program, "--version"], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
            env=environment,
        )
        assert told.stdout == f"{program} {PROJECT['version']}\n", told.stderr
    found = subprocess.run(
        [binaries / "python", "-c", "import bootctl, health, updated; print(updated.__file__)"], cwd=tmp_path,
        capture_output=True, text=True, check=True, timeout=60, env=environment,
    ).stdout
    assert found.startswith(str(site))
    scripts = {path.name for path in binaries.iterdir() if re.match(r"(updat|release|boot)", path.name)}
    assert scripts == set(PROGRAMS), "and no bootctl, which is systemd's"
