"""Keys in tokens, through PKCS #11: `softhsm2` keeps them, and the command signs with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.publish.node import Node
from updated.publish.repository import Repository

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "5678"
pytestmark = pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not os.path.exists(MODULE), reason="softhsm2 is not installed"
)


class Tokens:
    """Tokens of softhsm2 in a folder of their own, and the command run beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
        self.environment = {
            **os.environ, "SOFTHSM2_CONF": f"{folder}/softhsm2.conf", "PYKCS11LIB": MODULE, "RELEASECTL_PIN": PIN,
        }  # fmt: skip

    def token(self, label: str, *curves: str) -> None:
        """A token with a key on each curve, with the ids 1, 2 and so on."""
        self._softhsm("--init-token", "--free", "--label", label, "--so-pin", "1234", "--pin", PIN)
        for number, curve in enumerate(curves, 1):
            pem = self.folder / f"{label}-{number}.pem"
            subprocess.run(
                ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", str(pem)],
                check=True, capture_output=True,
            )  # fmt: skip
            self._softhsm(
                "--import", str(pem), "--token", label, "--label", f"key {number}", "--id", f"{number:02x}",
                "--pin", PIN,
            )  # fmt: skip
            pem.unlink()

    def _softhsm(self, *arguments: str) -> None:
        subprocess.run(["softhsm2-util", *arguments], env=self.environment, check=True, capture_output=True)

    def unplug(self, label: str) -> None:
        """Takes a token away."""
        self._softhsm("--delete-token", "--token", label)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs the command in the folder."""
        return subprocess.run(
            [sys.executable, "-m", "updated.publish", *arguments], cwd=self.folder,
            env={**self.environment, **variables}, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    def done(self, *arguments: str) -> str:
        """What the command prints, which must succeed."""
        result = self.run(*arguments)
        assert (result.returncode, result.stderr) == (0, ""), arguments
        return result.stdout


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


def test_a_repository_whose_offline_keys_are_in_tokens(tokens: Tokens, tmp_path: Path) -> None:
    tokens.token("anna", "P-256", "P-384")
    tokens.token("ben", "P-256")
    tokens.token("carl", "P-384")
    for name in ("anna", "ben", "carl"):
        tokens.done("key", "import", name, "--keys", "keys", "--uri", f"hsm:1?label={name}")
    tokens.done("key", "import", "targets", "--keys", "keys", "--uri", "hsm:2?label=anna")
    assert json.loads((tmp_path / "keys" / "ben.json").read_bytes())["private"] == "hsm:1?label=ben"

    tokens.done(
        "init", "repository", "--keys", "keys", "--key", "root=anna", "--key", "root=ben", "--key", "targets=targets"
    )
    listed = tokens.done("key", "list", "repository", "--keys", "keys")
    assert "can sign with keys: anna, ben\n" in listed

    root = (tmp_path / "repository" / "metadata" / "1.root.json").read_bytes()
    now = Repository(str(tmp_path / "repository")).roles.timestamp.signed.expires.timestamp() - 86400
    node = Node(tmp_path / "repository", tmp_path / "store", root, now)
    node.read()
    tokens.done("key", "rotate", "repository", "--keys", "keys", "--role", "root", "--old", "ben", "--new", "carl")
    tokens.unplug("ben")
    tokens.done("key", "new", "fresh", "--keys", "keys")
    tokens.done(
        "key", "rotate", "repository", "--keys", "keys", "--role", "stable", "--old", "stable", "--new", "fresh"
    )
    assert node.read()["root"] == 2
    assert node.read()["targets"] == 2


def test_a_token_that_is_not_there_is_named_and_does_not_hinder_what_needs_none(tokens: Tokens) -> None:
    tokens.token("anna", "P-256")
    tokens.token("ben", "P-256")
    for name in ("anna", "ben"):
        tokens.done("key", "import", name, "--keys", "keys", "--uri", f"hsm:1?label={name}")
    tokens.done("init", "repository", "--keys", "keys", "--key", "root=anna", "--key", "root=ben")
    tokens.unplug("ben")

    tokens.done("refresh", "repository", "--keys", "keys")
    lost = tokens.run("key", "threshold", "repository", "--keys", "keys", "--role", "root", "1")
    assert lost.returncode == 1
    assert "1 more of its keys is needed: ben (ValueError: No PKCS#11 token found for label ben)" in lost.stderr
    assert lost.stderr.count("\n") == 1
    assert "can sign with keys: anna\n" in tokens.done("key", "list", "repository", "--keys", "keys")


def test_what_is_missing_around_a_token_is_said(tokens: Tokens) -> None:
    tokens.token("anna", "P-256")
    arguments = ("key", "import", "anna", "--keys", "keys", "--uri", "hsm:1?label=anna")
    for variables, part in (
        ({"PYKCS11LIB": ""}, "PYKCS11LIB environment variable must be set"),
        ({"RELEASECTL_PIN": ""}, "Set RELEASECTL_PIN"),
        ({"RELEASECTL_PIN": "0000"}, "PinIncorrect"),
        ({"PYKCS11LIB": "/nowhere.so"}, "/nowhere.so"),
    ):
        failed = tokens.run(*arguments, **variables)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert part in failed.stderr
        assert failed.stderr.count("\n") == 1
    for uri in ("hsm:7?label=anna", "hsm:1?label=nobody", "hsm:one", "hsm:1"):
        tokens.run("key", "import", "x", "--keys", "keys", "--uri", uri)
    assert "hsm:1?label=anna" in (tokens.folder / "keys" / "x.json").read_text()  # the only token needs no label
    tokens.token("ben", "P-256")
    ambiguous = tokens.run("key", "import", "y", "--keys", "keys", "--uri", "hsm:1")
    assert "Multiple PKCS#11 tokens" in ambiguous.stderr


def test_another_key_in_the_place_of_the_known_one_is_refused(tokens: Tokens) -> None:
    tokens.token("anna", "P-256")
    tokens.done("key", "import", "anna", "--keys", "keys", "--uri", "hsm:1?label=anna")
    tokens.unplug("anna")
    tokens.token("anna", "P-256")
    failed = tokens.run("init", "repository", "--keys", "keys", "--key", "stable=anna")
    assert "is another one at hsm:1?label=anna" in failed.stderr
    assert not (tokens.folder / "repository").exists()


def test_a_request_is_signed_with_a_token(tokens: Tokens, tmp_path: Path) -> None:
    tokens.token("anna", "P-256")
    tokens.done("key", "import", "anna", "--keys", "annas", "--uri", "hsm:1?label=anna")
    (tmp_path / "anna.json").write_text(tokens.done("key", "show", "anna", "--keys", "annas"))
    tokens.done("key", "import", "anna", "--keys", "keys", "--record", "anna.json")
    tokens.done("init", "repository", "--keys", "keys")
    tokens.done(
        "key", "rotate", "repository", "--keys", "keys", "--role", "stable", "--old", "stable", "--new", "anna",
        "--request", "request.json",
    )
    assert "Signed stable with anna." in tokens.done("request", "sign", "request.json", "--keys", "annas")
    tokens.done("request", "publish", "repository", "request.json", "--keys", "keys")
    assert "stable\n" in tokens.done("key", "list", "repository", "--keys", "annas")
    assert "can sign with annas: anna" in tokens.done("key", "list", "repository", "--keys", "annas")
