"""Key files; `openssl` judges their format."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from updated.core.errors import UpdatedError
from updated.publish.keys import PASSPHRASE_VARIABLE, KeyFolder, passphrase


def code_of(caught: pytest.ExceptionInfo[UpdatedError]) -> str:
    return caught.value.code


def opened_by_openssl(file: str, password: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["openssl", "pkey", "-in", file, "-passin", f"pass:{password}", "-noout", "-text"],
        capture_output=True, check=False,
    )  # fmt: skip


def test_a_key_file_is_for_its_owner_only_and_opens_with_openssl(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path / "keys"))
    keys.generate("targets")
    assert stat.S_IMODE(os.stat(keys.file("targets")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o700
    assert b"ED25519" in opened_by_openssl(keys.file("targets"), "").stdout


def test_a_key_with_a_passphrase_opens_with_it_alone(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path), b"open sesame")
    made = keys.generate("targets")
    keyid = made.public_key.keyid

    assert opened_by_openssl(keys.file("targets"), "open sesame").returncode == 0
    assert opened_by_openssl(keys.file("targets"), "wrong").returncode != 0
    signer = keys.signer("targets", [keyid])
    assert signer is not None
    made.public_key.verify_signature(signer.sign(b"release"), b"release")
    for wrong in (None, b"wrong"):
        with pytest.raises(UpdatedError, match="passphrase") as caught:
            KeyFolder(str(tmp_path), wrong).signer("targets", [keyid])
        assert code_of(caught) == "bad-key"


def test_a_key_without_passphrase_opens_beside_others_that_have_one(tmp_path: Path) -> None:
    keyid = KeyFolder(str(tmp_path)).generate("timestamp").public_key.keyid
    assert KeyFolder(str(tmp_path), b"open sesame").signer("timestamp", [keyid]) is not None


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    keys.generate("targets")
    before = Path(keys.file("targets")).read_bytes()
    with pytest.raises(UpdatedError, match="never overwritten"):
        keys.generate("targets")
    assert Path(keys.file("targets")).read_bytes() == before


def test_a_key_that_is_not_there_is_no_error_and_a_wrong_one_is(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    keyid = keys.generate("targets").public_key.keyid
    assert keys.signer("snapshot", [keyid]) is None
    keys.generate("snapshot")
    with pytest.raises(UpdatedError, match="not the one that the repository names"):
        keys.signer("snapshot", [keyid])


def test_a_file_that_holds_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", keys.file("stable")],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(UpdatedError, match="Ed25519"):
        keys.signer("stable", [])
    Path(keys.file("stable")).write_text("no key at all")
    with pytest.raises(UpdatedError, match="PEM"):
        keys.signer("stable", [])


def test_the_passphrase_comes_from_a_file_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    assert passphrase(None) is None
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "from the environment")
    assert passphrase(None) == b"from the environment"
    file = tmp_path / "passphrase"
    file.write_bytes(b"from the file\nnot this\n")
    assert passphrase(str(file)) == b"from the file"
    file.write_bytes(b"\n")
    for name in (str(file), str(tmp_path / "missing")):
        with pytest.raises(UpdatedError):
            passphrase(name)
