"""A machine that nobody set up for updates: each verb says what to do first, and none sends a person in a circle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from updated.cli import exits
from updated.cli.__main__ import main

WORDS = [["status"], ["check"], ["channel"], ["channel", "beta"], ["watch"], ["hold"], ["unhold"], ["rollback"]]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_without_any_configuration_each_verb_says_how_to_begin(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path), *words]) == exits.NO_DAEMON
    printed = capsys.readouterr()
    assert printed.err == (
        f"updatectl: this machine is not configured for updates: {tmp_path}/etc/updated/updated.toml is not there. "
        "Copy /usr/share/updated/updated.toml.example there, set url, compatible and device, then: "
        "systemctl start updated.\n"
    )
    assert printed.out == ""


def test_the_doctor_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "doctor", "--json"]) == exits.FAILED
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert "not configured for updates" in found["configuration"]["text"]
    assert "updated.toml.example" in found["configuration"]["mend"]
    assert found["daemon"]["severity"] == "skipped"


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_an_image_that_is_not_to_be_updated_says_so(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/.noupdate").touch()
    assert main(["--root", str(tmp_path), *words]) == exits.NO_DAEMON
    assert f"this machine is not to be updated: {tmp_path}/usr/.noupdate is there. " in capsys.readouterr().err


@pytest.mark.parametrize("place", ["etc/updated/updated.toml", "usr/lib/updated/updated.toml.d/10-vendor.toml"])
def test_where_there_is_any_configuration_the_daemon_is_what_lacks(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("[updates]\ninterval_seconds = 60\n")
    assert main(["--root", str(tmp_path), "watch"]) == exits.NO_DAEMON
    assert "the daemon: has not written" in capsys.readouterr().err
