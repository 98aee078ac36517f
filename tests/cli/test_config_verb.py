"""`updatectl config`: every setting with its value and where it comes from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bootctl.health_settings import HealthSettings
from tests.cli.schema import misfits
from tests.cli.states import NOW, RESTING
from tests.documents import FOLDER, rows, section
from updated import record
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.merged import config_text
from updated.cli.paper import Paper
from updated.config import KEYS
from updated.core.machine import first_state
from updated.core.saved import format_state
from updated.core.state import BootFacts, Hold

MAIN = """\
[repository]
url = "https://updates.example.org/os"

[identity]
compatible = "box"
[disk]
image = "/disk.img"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/updated/updated.toml.d").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text(MAIN)
    return tmp_path


def entries(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], tuple[Any, str]]:
    assert main(["--root", str(root), "config", "--json"]) == exits.DONE
    found = json.loads(capsys.readouterr().out)
    assert not misfits("config", found)
    return {(each["table"], each["key"]): (each["value"], each["origin"]) for each in found}


def test_each_value_is_told_with_file_and_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop_in = root / "etc/updated/updated.toml.d/50-site.toml"
    drop_in.write_text("# of this site\n[updates]\nreboot = 'sentinel'\n")
    found = entries(root, capsys)
    assert found["repository", "url"] == ("https://updates.example.org/os", f"{root}/etc/updated/updated.toml:2")
    assert found["updates", "reboot"] == ("sentinel", f"{drop_in}:3")
    assert found["updates", "interval_seconds"] == (3600, "default")
    assert found["disk", "device"] == (None, "default")


def test_every_setting_of_the_manual_is_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / "configuration.md").read_text()
    tables = [*KEYS, "health", "disk", "boot"]
    documented = {(table, row[0]) for table in tables for row in rows(section(text, f"[{table}]"))}
    assert set(entries(root, capsys)) == documented
    assert {key for table, key in documented if table == "health"} == set(HealthSettings.__dataclass_fields__)


def test_the_choices_that_people_made_are_told_as_such(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = first_state(BootFacts("a", "1.0.0", "boot", RESTING), 0.5)
    state = state.with_changes(channel="beta", hold=Hold("eva", NOW))
    record.write(str(root / "var/lib/updated/state"), format_state(state))
    found = entries(root, capsys)
    assert found["repository", "channel"] == ("beta", "updatectl channel")
    assert found["choice", "hold"] == ("2027-01-15T08:00:00Z", "updatectl hold")


def test_the_switch_of_the_image_wins(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "usr").mkdir()
    (root / "usr/.noupdate").touch()
    assert entries(root, capsys)["updates", "enabled"] == (False, f"{root}/usr/.noupdate")


def test_a_fault_is_told_as_the_daemon_tells_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/updated/updated.toml").write_text(MAIN + "[updates]\nintervall = 1\n")
    assert main(["--root", str(root), "config"]) == exits.FAILED
    assert "updated.toml:9: updates.intervall: there is no such key. Use one of: " in capsys.readouterr().err


def test_people_read_it_as_a_configuration_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(root), "config"]) == exits.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[repository]"
    assert any(line.startswith("reboot = \"reboot\" ") and line.endswith("# default") for line in lines)
    assert any(line.startswith("#device ") and line.endswith("# not set") for line in lines)


def test_tables_within_a_list_are_written_as_in_the_file() -> None:
    windows = [{"start": "02:00", "length_minutes": 60}, {"days": ["Sat", "Sun"], "start": "04:00"}]
    entry = {"table": "windows", "key": "reboot", "value": windows, "origin": "updated.toml:7"}
    text = config_text([entry], Paper())
    assert tomllib.loads(text)["windows"]["reboot"] == windows
    assert '{ start = "02:00", length_minutes = 60 }' in text
