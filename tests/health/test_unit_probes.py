"""Units, asked for through the systemctl of tests/fakes, whose own promises stand in test_fake_systemctl.py."""

import os
from pathlib import Path

import pytest

from health.check import Attempt, Check, Pace, Probe
from health.commands import Commands
from health.probes import Surroundings, attempt
from health.probes.units import FailedUnitsProbe, UnitProbe
from tests.health.conftest import FAKES

BOOTED = Surroundings("/", True, Commands())


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SYSTEMD_UNITS", str(tmp_path))
    return tmp_path


def try_once(probe: Probe, around: Surroundings = BOOTED, timeout_seconds: float = 20) -> Attempt:
    return attempt(Check("required", "it", probe, Pace(timeout_seconds=timeout_seconds)), around)


def test_an_active_unit_passes(units: Path) -> None:
    (units / "web.service").write_text("ActiveState=active\nSubState=running\n")
    assert try_once(UnitProbe("web.service")) == Attempt("pass", "web.service is active (running)")


@pytest.mark.parametrize("state", ["inactive", "activating", "deactivating", "reloading"])
def test_a_unit_that_is_not_active_fails_but_may_become_so(units: Path, state: str) -> None:
    (units / "web.service").write_text(f"ActiveState={state}\n")
    made = try_once(UnitProbe("web.service"))
    assert (made.result, made.final) == ("fail", False)
    assert f"web.service is {state}" in made.output


def test_a_failed_unit_is_told_with_its_result(units: Path) -> None:
    (units / "web.service").write_text("ActiveState=failed\nSubState=failed\nResult=exit-code\n")
    assert try_once(UnitProbe("web.service")).output == "web.service is failed (failed), result exit-code"


def test_a_unit_that_does_not_exist_is_told_as_such(units: Path) -> None:
    assert "load state not-found" in try_once(UnitProbe("web.service")).output


def test_no_failed_units_passes_when_none_failed(units: Path) -> None:
    (units / "web.service").write_text("ActiveState=active\n")
    assert try_once(FailedUnitsProbe()).result == "pass"


def test_failed_units_are_named(units: Path) -> None:
    for name in ("a.service", "b.mount"):
        (units / name).write_text("ActiveState=failed\n")
    assert try_once(FailedUnitsProbe()) == Attempt("fail", "failed: a.service, b.mount")


def test_ignored_units_may_fail_by_name_or_pattern(units: Path) -> None:
    for name in ("a.service", "b@1.service", "b@2.service"):
        (units / name).write_text("ActiveState=failed\n")
    assert try_once(FailedUnitsProbe(("a.service", "b@*.service"))).result == "pass"
    assert try_once(FailedUnitsProbe(("b@*.service",))) == Attempt("fail", "failed: a.service")


@pytest.mark.parametrize("probe", [UnitProbe("web.service"), FailedUnitsProbe()])
def test_without_an_answer_from_systemd_nothing_passes(
    units: Path, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    monkeypatch.delenv("FAKE_SYSTEMD_UNITS")
    made = try_once(probe)
    assert made.result == "fail"
    assert "Failed to connect to bus" in made.output


@pytest.mark.parametrize("probe", [UnitProbe("web.service"), FailedUnitsProbe()])
def test_a_systemd_that_hangs_is_a_time_out(units: Path, monkeypatch: pytest.MonkeyPatch, probe: Probe) -> None:
    monkeypatch.setenv("FAKE_SYSTEMD_DELAY", "1000")
    assert try_once(probe, timeout_seconds=0.3).result == "timeout"


@pytest.mark.parametrize("probe", [UnitProbe("web.service"), FailedUnitsProbe()])
def test_below_another_root_unit_checks_are_skipped(tmp_path: Path, probe: Probe) -> None:
    made = try_once(probe, Surroundings.of(str(tmp_path)))
    assert made == Attempt("skip", "no systemd below --root")


def test_where_systemd_is_not_the_init_system_unit_checks_are_skipped() -> None:
    made = try_once(FailedUnitsProbe(), Surroundings("/", False, Commands()))
    assert made == Attempt("skip", "no systemd runs here")
