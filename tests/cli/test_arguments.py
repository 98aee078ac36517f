"""The command line: whole helps, for completions and manuals are made of them."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.states import PHASES
from tests.documents import FOLDER, rows, section
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.arguments import parser
from updated.cli.journal import UNITS, command

ROOT = FOLDER.parent.parent


def verbs() -> dict[str, argparse.ArgumentParser]:
    action = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


def options(child: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from (each for each in child._actions if not isinstance(each, argparse._SubParsersAction))


@pytest.mark.parametrize("name", verbs())
def test_each_argument_has_a_help_of_one_line_and_a_name_for_its_value(name: str) -> None:
    for each in (*options(verbs()[name]), *options(parser())):
        assert each.help, each.dest
        assert "\n" not in each.help
        if each.nargs != 0:
            assert each.metavar, each.dest
            assert str(each.metavar).isupper()


@pytest.mark.parametrize("name", verbs())
def test_each_verb_can_print_json_and_takes_a_colour(name: str) -> None:
    assert {"--json", "--color"} <= {option for each in options(verbs()[name]) for option in each.option_strings}


@pytest.mark.parametrize("words", [["--color=always", "status"], ["status", "--color=always"]])
def test_the_colour_is_taken_before_the_verb_and_behind_it(words: list[str]) -> None:
    assert parser().parse_args(words).color == "always"
    assert parser().parse_args(["status"]).color == "auto"


@pytest.mark.parametrize(("verb", "waits"), [("check", True), ("install", True), ("unhold", False), ("channel", True)])
def test_a_request_waits_or_not_as_wanted(verb: str, waits: bool) -> None:
    assert parser().parse_args([verb]).wait is waits
    assert parser().parse_args([verb, "--wait"]).wait is True
    assert parser().parse_args([verb, "--no-wait"]).wait is False


def test_without_a_verb_it_is_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps(PHASES["idle"]))
    for words in ([], ["status"]):
        assert main(["--root", str(tmp_path), *words]) == exits.DONE
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]


@pytest.mark.parametrize(
    ("word", "hint"),
    [("stats", "the verb 'stats': is not known. Did you mean status?"), ("rolback", "Did you mean rollback?"),
     ("xyzzy", "'updatectl --help' says what there is."), ("history --lnes=5", "Did you mean --lines?"),
     ("--jsn", "Did you mean --json?"), ("status --root /", "the option --root: stands in the wrong place"),
     ("hold 1d 2d", "the argument '2d': is one too many. 'updatectl hold --help'")],
)  # fmt: skip
def test_a_mistyped_word_is_answered_with_the_nearest_one(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(word.split()) == exits.USAGE
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--json"], ["--json", "status"], ["status", "--json"]], ids=" ".join)
def test_json_is_taken_before_the_verb_behind_it_and_without_one(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps(PHASES["idle"]))
    assert main(["--root", str(tmp_path), *words]) == exits.DONE
    assert json.loads(capsys.readouterr().out)["phase"] == "idle"


@pytest.mark.parametrize("status", [None, {**PHASES["could-not-start"], "channel": ""}])
def test_the_channel_is_that_of_the_configuration_where_the_status_has_none(
    status: dict[str, Any] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/updated").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text(
        '[repository]\nchannel = "beta"\n[identity]\ncompatible = "box"\n[disk]\nimage = "/disk"\n'
    )
    if status is not None:
        (tmp_path / "run/updated").mkdir(parents=True)
        (tmp_path / "run/updated/status.json").write_text(json.dumps(status))
    assert main(["--root", str(tmp_path), "channel"]) == exits.DONE
    assert capsys.readouterr().out == "beta\n"


def test_every_option_is_in_the_manual() -> None:
    text = section((FOLDER / "operating.md").read_text(), "Verbs")
    documented = {name.split()[0]: name for name, *_ in rows(text)}
    for name, child in verbs().items():
        for each in options(child):
            long = next((option for option in each.option_strings if option.startswith("--")), None)
            if long in (None, "--help", "--json", "--color"):
                continue
            assert any(option in documented[name] for option in each.option_strings), f"{name} {long}"


def test_the_log_has_every_unit_of_the_package() -> None:
    shipped = {path.name for path in (ROOT / "packaging/systemd").glob("updated*.service")}
    assert {unit.replace("@*", "@") + ".service" for unit in UNITS} == shipped


def test_the_log_is_asked_for_as_journalctl_takes_it() -> None:
    words = command(parser().parse_args(["--root", "/mnt", "log", "-f", "-n", "5", "--boot", "-1", "--json"]))
    assert words[0] == "journalctl"
    rest = " ".join(words[words.index("--root") :])
    assert rest == "--root /mnt --follow --lines 5 --boot=-1 --output=json"
    assert re.search(r"-u updated -u updated-health ", " ".join(words))


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment}
    )


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="journalctl is not installed")
@pytest.mark.parametrize("boot", ["0", "nonsense"])
def test_the_log_ends_as_journalctl_does(boot: str) -> None:
    ours = run(sys.executable, "-m", "updated.cli", "log", "-n", "1", f"--boot={boot}")
    real = run("journalctl", "-u", "updated", "-n", "1", f"--boot={boot}")
    assert ours.returncode == real.returncode
    assert ours.stderr == real.stderr


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [("status", ""), ("status", "1"), ("status --json", ""), ("explain", ""), ("explain", "1"), ("--help", "")],
)
def test_an_output_that_has_no_room_is_a_failure_with_one_clear_line(
    words: str, unbuffered: str, tmp_path: Path
) -> None:
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps(PHASES["idle"]))
    command = [sys.executable, "-m", "updated.cli", "--root", str(tmp_path), *words.split()]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=60
        )
    told = "updatectl: the output: No space left on device. Free some space on its file system.\n"
    assert (done.returncode, done.stderr) == (exits.FAILED, told)


@pytest.mark.parametrize("words", [["status"], ["explain"]], ids=" ".join)
def test_a_reader_that_went_away_needs_no_words(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "run/updated").mkdir(parents=True)
    (tmp_path / "run/updated/status.json").write_text(json.dumps(PHASES["idle"]))
    command = [sys.executable, "-m", "updated.cli", "--root", str(tmp_path), *words]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (exits.FAILED, "")


def test_without_journalctl_there_is_one_clear_line() -> None:
    done = run(sys.executable, "-m", "updated.cli", "log", PATH="/nonexistent")
    assert done.returncode == exits.REFUSED
    assert done.stderr.startswith("updatectl: the log: journalctl is not installed. ")
    assert done.stderr.count("\n") == 1
