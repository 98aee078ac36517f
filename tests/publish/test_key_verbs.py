"""The verbs about keys and requests, as people type them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.publish.test_releasectl import Run, add, image, releasectl

__all__ = ["image", "releasectl"]


def done(run: Run, *arguments: str) -> str:
    code, out, error = run(*arguments)
    assert (code, error) == (0, ""), error
    return out


def fails(run: Run, *arguments: str, status: int = 1) -> str:
    code, out, error = run(*arguments)
    assert (code, out) == (status, "")
    assert error.count("\n") == 1
    return error


def people(run: Run, *names: str) -> None:
    """Each makes a key on a machine of their own, and sends its record; `office` knows all of them."""
    for name in names:
        done(run, "key", "new", name, "--keys", f"{name}s")
        Path(f"{name}.json").write_text(done(run, "key", "show", name, "--keys", f"{name}s"))
        done(run, "key", "import", name, "--keys", "office", "--record", f"{name}.json")


def test_a_ceremony_of_three_people(releasectl: Run) -> None:
    people(releasectl, "anna", "ben", "carl")
    os.rename("anna.json", "anna.record")
    Path("office/anna.json").unlink()
    done(releasectl, "key", "import", "anna", "--keys", "office", "--file", "annas/anna.pem")
    done(
        releasectl, "init", "repository", "--keys", "office", "--channels", "stable", "--key", "root=anna",
        "--threshold", "root=1",
    )  # fmt: skip
    done(releasectl, "key", "add", "repository", "--keys", "office", "--role", "root", "ben")
    out = done(
        releasectl, "key", "add", "repository", "--keys", "office", "--role", "root", "carl", "--threshold", "2",
        "--request", "carl.request",
    )  # fmt: skip
    assert out.startswith("Nothing is published yet; carl.request asks for it.\n")
    assert "root: 1 of 2 signatures (by anna (" in out
    assert "; 1 missing, of ben (" in out

    shown = done(releasectl, "request", "show", "carl.request", "--keys", "bens")
    assert "root: takes in a key that is not known here, ed25519, key id " in shown
    assert "root: needs 2 signatures instead of 1" in shown
    signed = done(releasectl, "request", "sign", "carl.request", "--keys", "bens")
    assert "Signed root with ben.\n" in signed
    assert signed.count("; enough") == 2
    assert done(releasectl, "request", "publish", "repository", "carl.request", "--keys", "office") == (
        "Published: root.\n"
    )
    assert "root: 2 of 3\n" in done(releasectl, "key", "list", "repository")
    done(releasectl, "verify", "repository")


def test_key_new_says_its_key_id_and_never_overwrites(releasectl: Run) -> None:
    out = done(releasectl, "key", "new", "anna", "--keys", "keys", "--scheme", "ecdsa-p256")
    keyid = json.loads(Path("keys/anna.json").read_bytes())["keyid"]
    assert out == f"The key anna is made, with the key id {keyid}.\n"
    assert "never overwritten" in fails(releasectl, "key", "new", "anna", "--keys", "keys")


def test_key_list_of_a_folder_says_where_each_key_is(releasectl: Run) -> None:
    people(releasectl, "anna")
    done(releasectl, "key", "new", "ci", "--keys", "office", "--scheme", "rsa-pss")
    assert re.fullmatch(
        r"anna: ed25519, the key of somebody else\n  [0-9a-f]{64}\n"
        r"ci: rsassa-pss-sha256, file:ci\.pem\n  [0-9a-f]{64}\n",
        done(releasectl, "key", "list", "--keys", "office"),
    )
    assert "Name a REPOSITORY" in fails(releasectl, "key", "list", status=2)


def test_keys_are_named_or_begun(releasectl: Run) -> None:
    done(releasectl, "init", "repository", "--keys", "keys")
    done(releasectl, "key", "new", "next", "--keys", "keys")
    keyid = json.loads(Path("keys/root-1.json").read_bytes())["keyid"]
    rotation = ("key", "rotate", "repository", "--keys", "keys", "--role", "root", "--new", "next", "--old")
    assert "is neither in keys nor a key of this role" in fails(releasectl, *rotation, keyid[:7])
    assert "is not one of those of root" in fails(releasectl, *rotation, "f" * 64)
    Path("keys/root-1.json").unlink()
    assert "root-1" in fails(releasectl, *rotation, "root-1")
    Path("keys/root-1.pem").unlink()
    assert done(releasectl, *rotation, keyid[:8]) == f"next signs root from now on, in place of {keyid[:8]}.\n"
    assert "already" in done(releasectl, *rotation, keyid)


def test_revoke_and_threshold(releasectl: Run) -> None:
    done(releasectl, "init", "repository", "--keys", "keys")
    options = ("repository", "--keys", "keys", "--role", "root")
    assert done(releasectl, "key", "threshold", *options, "3") == "root needs 3 signatures from now on.\n"
    assert "would need 3 of 2 keys" in fails(releasectl, "key", "revoke", *options, "root-3")
    done(releasectl, "key", "threshold", *options, "1")
    assert done(releasectl, "key", "revoke", *options, "root-3") == "root-3 signs root no longer.\n"
    assert "root: 1 of 2\n" in done(releasectl, "key", "list", "repository")


def test_a_change_is_asked_for_where_the_key_is_not(releasectl: Run, image: str) -> None:
    done(releasectl, "init", "repository", "--keys", "keys")
    os.makedirs("offline")
    os.rename("keys/releases.pem", "offline/releases.pem")
    Path("offline/releases.json").write_bytes(Path("keys/releases.json").read_bytes())
    assert "--request" in fails(
        releasectl, "add", "repository", "--keys", "keys", "--version", "1.0.0", "--compatible", "demo",
        "--component", f"rootfs={image}",
    )  # fmt: skip
    assert "asks for it" in add(releasectl, "1.0.0", image, "--request", "add.request")
    done(releasectl, "request", "sign", "add.request", "--keys", "offline")
    done(releasectl, "request", "publish", "repository", "add.request", "--keys", "keys")
    assert "in no channel: 1.0.0" in done(releasectl, "status", "repository")


def test_signing_nothing_is_said(releasectl: Run) -> None:
    done(releasectl, "init", "repository", "--keys", "keys")
    done(releasectl, "key", "threshold", "repository", "--keys", "none", "--role", "root", "3", "--request", "request")
    assert "Nothing was signed: the request asks for no key in none" in done(
        releasectl, "request", "sign", "request", "--keys", "none"
    )


def test_a_request_inside_of_the_repository_is_refused(releasectl: Run) -> None:
    done(releasectl, "init", "repository", "--keys", "keys")
    assert "would be published" in fails(
        releasectl, "key", "threshold", "repository", "--keys", "keys", "--role", "root", "3",
        "--request", "repository/request",
    )  # fmt: skip


@pytest.mark.parametrize("file", ["missing", "."])
def test_a_request_that_can_not_be_read_is_named(releasectl: Run, file: str) -> None:
    assert f"the request {file}" in fails(releasectl, "request", "show", file)


def test_an_interrupted_rotation_is_told_by_status_and_refused_by_verify(
    releasectl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(releasectl, "init", "repository", "--keys", "keys")
    done(releasectl, "key", "new", "fresh", "--keys", "keys")
    Path("keys/timestamp.pem").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("bootctl.durable.rename", lambda *paths: sys.exit(1))
        with pytest.raises(SystemExit):
            releasectl(
                "key", "rotate", "repository", "--keys", "keys", "--role", "timestamp", "--old", "timestamp",
                "--new", "fresh",
            )  # fmt: skip
    code, out, error = releasectl("status", "repository")
    assert code == 0
    assert "timestamp" in out
    assert "a change of its keys was interrupted" in error
    assert "Run `releasectl refresh`" in fails(releasectl, "verify", "repository")
    done(releasectl, "refresh", "repository", "--keys", "keys")
    done(releasectl, "verify", "repository")


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        (["--key", "root"], 2, "--key root: is not ROLE=NAME. Write it so: --key stable=my-key."),
        (["--threshold", "root=two"], 2, "'two' is no number. Write it so: --threshold root=2."),
        (["--threshold", "root=1", "--threshold", "root=2"], 2, "--threshold root=2: gives root a second time. "),
        (["--key", "root=anna"], 1, "anna.json"),
    ],
)
def test_a_wrong_option_of_init_is_named(releasectl: Run, options: list[str], status: int, part: str) -> None:
    assert part in fails(releasectl, "init", "repository", "--keys", "keys", *options, status=status)
    assert not Path("repository").exists()
