"""The check that comes with the package: a release whose daemon can't start is not confirmed."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bootctl.health_settings import HealthSettings
from health.check import Attempt, Check
from health.checkfile import parse_check
from health.probes import Surroundings, attempt
from health.probes.programs import ExecProbe
from tests.packaging.shipped import PACKAGING, REPOSITORY
from updated.__main__ import NEEDED

FILE = PACKAGING / "health.d/required.d/updated-loads.toml"
HOME = "/usr/lib/updated"
LIBRARIES = ("cryptography", "dbus_next", "prometheus_client", "requests", "securesystemslib", "tuf", "zstandard")
# What updatectl and releasectl alone need, and a node may be built without.
NOT_OF_THE_DAEMON = ("parted", "_ped", "numpy", "pkcs11", "asn1crypto")


def shipped() -> Check:
    return parse_check(FILE.read_bytes(), f"{HOME}/health.d/required.d/{FILE.name}", "required", FILE.stem)


class Tree:
    """A copy of /usr/lib/updated as the package lays it out, elsewhere: its programs name the place where they lie."""

    def __init__(self, folder: Path) -> None:
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        home = HOME.lstrip("/")
        self.home = folder / home
        self.packages = self.home / f"lib/python{minor}/site-packages"
        self.packages.mkdir(parents=True)
        publisher = folder / "publisher"
        (publisher / home / "lib").mkdir(parents=True)
        make = [str(each) for each in (PACKAGING / "debian/environment-files", folder, publisher, home, minor)]
        subprocess.run(["sh", *make], check=True, timeout=60)
        interpreter = self.home / "bin/python3"
        interpreter.unlink()
        interpreter.symlink_to(os.path.realpath(sys.executable))
        configuration = self.home / "pyvenv.cfg"
        configuration.write_text(configuration.read_text().replace("/usr/bin", os.path.dirname(interpreter.readlink())))
        program = self.home / "bin/updated"
        program.write_text(program.read_text().replace(f"#!{HOME}", f"#!{self.home}"))
        (self.packages / "updated.pth").write_text(f"{self.home}\n")
        shutil.copytree(REPOSITORY / "bootctl", self.home / "bootctl")
        without = shutil.ignore_patterns("publish")
        shutil.copytree(REPOSITORY / "updated", self.packages / "updated", ignore=without)
        for each in Path(sysconfig.get_path("purelib")).iterdir():
            if "updated" not in each.name and not each.name.endswith(".pth"):
                (self.packages / each.name).symlink_to(each)
        about = self.home / "updated-0.1.0.dist-info/METADATA"
        about.parent.mkdir()
        about.write_text("Metadata-Version: 2.1\nName: updated\nVersion: 0.1.0\n")

    def without(self, *names: str) -> Tree:
        for name in names:
            for path in (*self.packages.glob(name), *self.packages.glob(f"{name}.*")):
                path.unlink()
        return self

    def judged(self) -> Attempt:
        """What the shipped check says of it, in the environment that the unit gives to health."""
        probe = shipped().probe
        assert isinstance(probe, ExecProbe)
        command = tuple(word.replace(HOME, str(self.home)) for word in probe.command)
        check = Check("required", FILE.stem, ExecProbe(command), shipped().pace)
        return attempt(check, Surroundings.of("/"))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    # As in updated-health.service: where these packages are, so that they would be found if the check looked there.
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}:{sysconfig.get_path('purelib')}")
    return Tree(tmp_path)


def test_a_daemon_with_all_of_its_packages_passes(tree: Tree) -> None:
    assert tree.judged() == Attempt("pass", "updated and its packages can be loaded\n")


def test_it_writes_nothing_even_where_nobody_compiled_the_packages(tree: Tree) -> None:
    for folder in [each for each in tree.home.rglob("__pycache__") if not each.is_symlink()]:
        shutil.rmtree(folder)
    before = sorted(tree.home.rglob("*"))
    assert tree.judged().result == "pass"
    assert sorted(tree.home.rglob("*")) == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_package_that_is_missing_fails_it_and_is_named(tree: Tree, library: str) -> None:
    told = tree.without(library).judged()
    assert (told.result, told.final) == ("fail", True)
    assert f"No module named '{library}" in told.output
    assert "Traceback" not in told.output
    assert told.output.count("\n") == 2  # the status, and one line for a person


def test_a_library_of_which_the_compiled_part_is_damaged_fails_it(tree: Tree) -> None:
    package = tree.packages / "cryptography"
    whole = package.resolve()
    package.unlink()
    shutil.copytree(whole, package)
    [compiled] = (package / "hazmat/bindings").glob("_rust.*.so")
    compiled.write_bytes(b"this is no library")
    told = tree.judged()
    assert told.result == "fail"
    assert "can't be loaded (ImportError:" in told.output


def test_a_module_that_is_damaged_fails_it(tree: Tree) -> None:
    (tree.packages / "updated/seal.py").write_text("this is no module\n")
    told = tree.judged()
    assert told.result == "fail"
    assert "updated.seal can't be loaded (SyntaxError:" in told.output


def test_a_package_that_does_not_know_its_version_fails_it(tree: Tree) -> None:
    """Each request names it."""
    shutil.rmtree(tree.home / "updated-0.1.0.dist-info")
    told = tree.judged()
    assert told.result == "fail"
    assert "No package metadata was found for updated" in told.output


def test_an_environment_that_is_gone_fails_it(tree: Tree) -> None:
    shutil.rmtree(tree.packages)
    told = tree.judged()
    assert told.result == "fail"
    assert "No module named 'updated'" in told.output


def test_a_program_that_is_gone_fails_it(tree: Tree) -> None:
    (tree.home / "bin/updated").unlink()
    assert tree.judged().result == "fail"


def test_what_only_a_person_at_a_desk_needs_may_be_missing(tree: Tree) -> None:
    assert tree.without(*NOT_OF_THE_DAEMON).judged().result == "pass"


def test_a_wrong_configuration_tells_nothing_against_the_image(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "etc/updated").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text("nonsense = = 1\n")
    command = [str(tree.home / "bin/updated"), "--root", str(tmp_path)]
    starts = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False, timeout=60)
    assert (starts.returncode, "nonsense" in starts.stderr or "updated.toml" in starts.stderr) == (2, True)
    checked = subprocess.run([*command, "--self-check"], capture_output=True, text=True, check=False, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_it_counts_whatever_was_before_and_ends_long_before_the_deadline() -> None:
    check = shipped()
    assert check.count == "always"
    pace = check.pace
    longest = (pace.retries + 1) * pace.timeout_seconds + pace.retries * pace.retry_delay_seconds
    assert longest < HealthSettings().deadline_seconds / 4


def test_nothing_that_the_daemon_and_its_children_load_later_is_left_out() -> None:
    """Of ours: libraries are imported at the head of a module."""
    later = set()
    for path in (REPOSITORY / "updated").rglob("*.py"):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        if name.startswith(("updated.cli.", "updated.publish.")):
            continue
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if "Function" in type(node).__name__]
        for node in (each for function in functions for each in ast.walk(function)):
            if isinstance(node, ast.Import):
                later |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                parent = node.module == "updated"
                later |= {f"updated.{alias.name}" for alias in node.names} if parent else {node.module}
    libraries = {each for each in later if each.split(".")[0] not in {*sys.stdlib_module_names, "updated"}}
    assert not libraries
    assert {each for each in later if each.startswith("updated.")} == {each for each in NEEDED if "updated" in each}


def test_the_package_installs_it_among_the_required_checks_of_the_image() -> None:
    lines = (PACKAGING / "debian/install-files").read_text().splitlines()
    assert f'put 0644 "$node{HOME}/health.d/required.d" packaging/health.d/required.d/*' in lines
