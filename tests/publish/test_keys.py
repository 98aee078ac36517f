"""The key folder; `openssl` judges the format of its private keys."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer  # type: ignore[attr-defined]

from updated.core.errors import UpdatedError
from updated.publish.keyfile import PASSPHRASE_VARIABLE, SCHEMES
from updated.publish.keyrecord import KeyRecord
from updated.publish.keys import KeyFolder, passphrase


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(UpdatedError) as caught:
        call(*arguments)
    assert caught.value.code == "bad-key"
    return str(caught.value)


def opened_by_openssl(file: str, password: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["openssl", "pkey", "-in", file, "-passin", f"pass:{password}", "-noout", "-text"],
        capture_output=True, check=False,
    )  # fmt: skip


def openssl_key(file: Path, *options: str) -> str:
    subprocess.run(["openssl", "genpkey", *options, "-out", str(file)], check=True, capture_output=True)
    return str(file)


def signer(keys: KeyFolder, record: KeyRecord) -> Signer:
    (found,) = keys.signers([record.keyid]).signers
    return found


def test_a_key_file_is_for_its_owner_only_and_opens_with_openssl(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path / "keys"))
    keys.generate("targets")
    assert stat.S_IMODE(os.stat(keys.file("targets")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o700
    assert b"ED25519" in opened_by_openssl(keys.file("targets"), "").stdout


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_with_a_passphrase_opens_with_it_alone(tmp_path: Path, scheme: str) -> None:
    keys = KeyFolder(str(tmp_path), b"open sesame")
    made = keys.generate("targets", scheme)
    assert b"ENCRYPTED PRIVATE KEY" in Path(keys.file("targets")).read_bytes()
    if scheme != "ml-dsa-65":  # which the openssl of Debian 12 does not know
        assert opened_by_openssl(keys.file("targets"), "open sesame").returncode == 0
        assert opened_by_openssl(keys.file("targets"), "wrong").returncode != 0
    made.key.verify_signature(signer(keys, made).sign(b"release"), b"release")
    for wrong in (None, b"wrong"):
        assert "passphrase" in refused(KeyFolder(str(tmp_path), wrong).signers, [made.keyid])


def test_a_key_without_passphrase_opens_beside_others_that_have_one(tmp_path: Path) -> None:
    made = KeyFolder(str(tmp_path)).generate("timestamp")
    signer(KeyFolder(str(tmp_path), b"open sesame"), made)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path / "keys"))
    other = keys.generate("other")
    made = keys.generate("targets")
    before = {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    pem = openssl_key(tmp_path / "new.pem", "-algorithm", "ed25519")
    record = tmp_path / "record.json"
    record.write_bytes(KeyRecord("x", other.key).format())
    for call in (
        lambda: keys.generate("targets"),
        lambda: keys.import_file("targets", pem),
        lambda: keys.import_uri("targets", "hsm:2"),
        lambda: keys.import_record("targets", str(record)),
    ):
        assert "never overwritten" in refused(call)
    os.unlink(tmp_path / "keys" / "targets.json")
    assert "never overwritten" in refused(keys.generate, made.name)
    assert {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == {
        path: data for path, data in before.items() if path.name != "targets.json"
    }


@pytest.mark.parametrize("name", ["", "Root", "../root", "a/b", "1", "x" * 41])
def test_a_key_has_a_plain_name(tmp_path: Path, name: str) -> None:
    assert "has no name for a key" in refused(KeyFolder(str(tmp_path)).generate, name)


def test_signers_are_found_by_key_id_whatever_their_names(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    made = keys.generate("anna")
    theirs = KeyFolder(str(tmp_path / "elsewhere")).generate("root")
    (tmp_path / "ben.record").write_bytes(theirs.public.format())
    keys.import_record("ben", str(tmp_path / "ben.record"))
    lost = keys.generate("lost")
    os.unlink(keys.file("lost"))

    found = keys.signers([lost.keyid, "f" * 64, made.keyid, theirs.keyid])

    assert [each.public_key.keyid for each in found.signers] == [made.keyid]
    assert found.absent == (
        f"lost ({keys.file('lost')} is not there)", f"ffffffffffffffff (no record of it in {tmp_path})",
        "ben (its private key is somebody else's)",
    )  # fmt: skip


def test_a_folder_that_is_not_there_has_no_keys(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path / "nowhere"))
    assert keys.records() == {}
    assert keys.signers(["0" * 64]).signers == ()


def test_a_public_record_says_nothing_of_where_the_key_is(tmp_path: Path) -> None:
    made = KeyFolder(str(tmp_path)).generate("anna")
    document = json.loads(made.public.format())
    assert set(document) == {"schema", "name", "keyid", "key"}
    assert "anna.pem" in (tmp_path / "anna.json").read_text()


def test_one_key_is_known_by_one_name(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    made = keys.generate("anna")
    (tmp_path / "again").write_bytes(made.public.format())
    assert "is there already, as anna" in refused(keys.import_record, "ben", str(tmp_path / "again"))
    assert "is there already, as anna" in refused(keys.import_file, "ben", keys.file("anna"))
    assert set(keys.records()) == {"anna"}


@pytest.mark.parametrize(
    ("options", "scheme"),
    [
        (["-algorithm", "ed25519"], "ed25519"),
        (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "ecdsa-sha2-nistp256"),
        (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "ecdsa-sha2-nistp384"),
        (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "rsassa-pss-sha256"),
    ],
)
def test_a_key_of_openssl_is_imported_and_encrypted(tmp_path: Path, options: list[str], scheme: str) -> None:
    file = openssl_key(tmp_path / "other.pem", *options)
    keys = KeyFolder(str(tmp_path / "keys"), b"open sesame")
    made = keys.import_file("other", file)
    assert made.key.scheme == scheme
    assert b"ENCRYPTED PRIVATE KEY" in Path(keys.file("other")).read_bytes()
    made.key.verify_signature(signer(keys, made).sign(b"release"), b"release")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "1024 bits"),
        (["-algorithm", "X25519"], "can't sign"),
        (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "can't sign"),
    ],
)
def test_a_key_that_nodes_can_not_or_should_not_verify_is_refused(
    tmp_path: Path, options: list[str], cause: str
) -> None:
    file = openssl_key(tmp_path / "weak.pem", *options)
    assert cause in refused(KeyFolder(str(tmp_path / "keys")).import_file, "weak", file)
    assert not (tmp_path / "keys").exists()


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    made = keys.generate("stable")
    Path(keys.file("stable")).write_text("no key at all")
    assert "PEM" in refused(keys.signers, [made.keyid])


def test_a_file_with_another_key_than_its_record_says_is_refused(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    made = keys.generate("stable")
    keys.generate("beta")
    Path(keys.file("stable")).write_bytes(Path(keys.file("beta")).read_bytes())
    assert "not the one that its record is about" in refused(KeyFolder(str(tmp_path)).signers, [made.keyid])


def changed(document: dict[str, Any], path: str, value: Any) -> bytes:
    *parents, last = path.split(".")
    inner = document
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("schema", 2, "schema"),
        ("name", "../x", "name"),
        ("keyid", "0" * 64, "keyid is not that of the key"),
        ("key.scheme", "rsassa-pss-sha256", "scheme"),
        ("key.keytype", "rsa", "holds no key"),
        ("key.keyval.public", "00", "holds no key"),
        ("key.keyval.private", "00", "not a known key"),
        ("key.more", 1, "not a known key"),
        ("more", 1, "not a known key"),
    ],
)
def test_a_record_is_read_strictly(tmp_path: Path, path: str, value: Any, cause: str) -> None:
    made = KeyFolder(str(tmp_path / "theirs")).generate("anna")
    file = tmp_path / "record"
    file.write_bytes(changed(json.loads(made.public.format()), path, value))
    assert cause in refused(KeyFolder(str(tmp_path / "ours")).import_record, "anna", str(file))
    assert not (tmp_path / "ours").exists()


def test_a_key_in_a_second_form_would_count_twice_and_is_refused(tmp_path: Path) -> None:
    made = KeyFolder(str(tmp_path / "theirs")).generate("anna", "ecdsa-p256")
    document = json.loads(made.public.format())
    file = tmp_path / "record"
    file.write_bytes(changed(document, "key.keyval.public", document["key"]["keyval"]["public"] + "\n"))
    assert "another form" in refused(KeyFolder(str(tmp_path / "ours")).import_record, "anna", str(file))


def test_a_record_under_another_name_than_its_own_is_refused(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path))
    keys.generate("anna")
    os.rename(tmp_path / "anna.json", tmp_path / "ben.json")
    assert "says that it is anna" in refused(keys.records)


def test_a_record_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    outside = KeyFolder(str(tmp_path)).generate("outside")
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "anna.json").write_bytes(KeyRecord("anna", outside.key, "file:../outside.pem").format())
    assert "has no name for a key" in refused(KeyFolder(str(folder)).signers, [outside.keyid])


@pytest.mark.parametrize(
    "uri", ["awskms:alias/root", "gcpkms:projects/x", "azurekms://v.vault.azure.net/keys/k", "hv:k"]
)
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path: Path, uri: str) -> None:
    extra = "vault" if uri == "hv:k" else uri.partition(":")[0]
    assert f"pip install 'updated[{extra}]'" in refused(KeyFolder(str(tmp_path)).import_uri, "root", uri)


def test_a_place_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    assert "hsm:" in refused(KeyFolder(str(tmp_path)).import_uri, "root", "ftp://keys/root")


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
