"""What the systemctl of tests/fakes does as the real one of systemd 252 does."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.health.conftest import FAKES


@pytest.fixture
def units(tmp_path: Path) -> Path:
    (tmp_path / "good.service").write_text("ActiveState=active\nSubState=running\n")
    (tmp_path / "bad.service").write_text("ActiveState=failed\nResult=exit-code\nDescription=A bad one\n")
    return tmp_path


def systemctl(units: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]} | ({"FAKE_SYSTEMD_UNITS": str(units)} if units else {})
    return subprocess.run(
        [FAKES / "systemctl", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_show_prints_the_wanted_properties_in_its_own_order(units: Path) -> None:
    shown = systemctl(units, "show", "--property=ActiveState,Result", "--", "good.service")
    assert (shown.returncode, shown.stdout) == (0, "Result=success\nActiveState=active\n")


def test_show_succeeds_for_a_unit_that_does_not_exist(units: Path) -> None:
    shown = systemctl(units, "show", "--property=LoadState,ActiveState", "--", "no.service")
    assert (shown.returncode, shown.stdout) == (0, "LoadState=not-found\nActiveState=inactive\n")


def test_list_units_prints_a_line_for_each_failed_unit(units: Path) -> None:
    listed = systemctl(units, "--no-pager", "list-units", "--state=failed", "--plain", "--no-legend", "--full")
    assert (listed.returncode, listed.stdout) == (0, "bad.service loaded failed failed A bad one\n")


def test_an_unknown_option_or_verb_is_refused(units: Path) -> None:
    assert systemctl(units, "show", "--propperty=Id").returncode == 1
    assert systemctl(units, "shwo").returncode == 1


def test_without_systemd_it_says_so_as_the_real_one_does() -> None:
    refused = systemctl(None, "show", "--", "good.service")
    assert refused.returncode == 1
    assert "System has not been booted with systemd as init system" in refused.stderr
