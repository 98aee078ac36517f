"""A machine that nobody set up for updates: each verb says what to do first, and none sends a person in a circle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from updated import daemon
from updated.cli import exits
from updated.cli.__main__ import main
from updated.config import KEYS

WORDS = [["status"], ["check"], ["channel"], ["channel", "beta"], ["watch"], ["hold"], ["unhold"], ["rollback"]]
NOT_THERE = (
    "/etc/updated/updated.toml: it is not there, so this machine is not set up for updates. "
    "Write it as /usr/share/doc/updated/getting-started.md says, then: systemctl start updated.\n"
)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_without_any_configuration_each_verb_says_how_to_begin(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path), *words]) == exits.NO_DAEMON
    printed = capsys.readouterr()
    assert printed.err == f"updatectl: {tmp_path}{NOT_THERE}"
    assert printed.out == ""


def test_every_program_says_the_same(tmp_path: Path) -> None:
    said = {
        program: subprocess.run(
            [sys.executable, "-m", program, "--root", str(tmp_path), *words], capture_output=True, text=True,
            check=False, timeout=60,
        ).stderr
        for program, words in (("updated", ["--once"]), ("updated.cli", ["config"]), ("bootctl", ["show"]),
                               ("health", []))
    }  # fmt: skip
    assert {program: text.partition(str(tmp_path))[2] for program, text in said.items()} == dict.fromkeys(
        said, NOT_THERE
    )


@pytest.mark.parametrize("words", [*WORDS, ["reboot"]], ids=" ".join)
def test_a_daemon_that_was_started_nevertheless_changes_no_advice(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert daemon.main(str(tmp_path), once=True) == daemon.USAGE
    assert (tmp_path / "run/updated/status.json").exists()
    capsys.readouterr()
    assert main(["--root", str(tmp_path), *words]) == exits.NO_DAEMON
    assert capsys.readouterr().err == f"updatectl: {tmp_path}{NOT_THERE}"


@pytest.mark.parametrize("text", ["", "# [identity]\n# compatible = \"box\"\n"])
@pytest.mark.parametrize("place", ["etc/updated/updated.toml", "etc/updated/updated.toml.d/10-mine.toml"])
def test_a_file_that_sets_nothing_is_told_as_one_with_what_it_must_set(
    place: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)
    keys = [(table, name, key) for table, each in KEYS.items() for name, key in each.items()]
    (required,) = [f"{name} in the table [{table}]" for table, name, key in keys if key.required]
    for words in (["status"], ["config"], ["hold"]):
        assert main(["--root", str(tmp_path), *words]) in (exits.NO_DAEMON, exits.FAILED)
        told = capsys.readouterr().err
        assert told.startswith(f"updatectl: {tmp_path}/{place}: it sets nothing, and has to set at least {required}. ")
        assert "is not there" not in told


def test_the_doctor_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "doctor", "--json"]) == exits.FAILED
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert "not set up for updates" in found["configuration"]["text"]
    assert "getting-started.md" in found["configuration"]["mend"]
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
