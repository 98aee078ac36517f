"""What the metrics say of a node, and where."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.metadata
import itertools
import socket
import subprocess
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootctl.model import BootView, SlotState
from tests.metrics.fleet import BASE, INSTALLED, TARGET, fleet
from tests.metrics.fleet import shown as change
from updated.core.document import Object
from updated.core.effects import Record
from updated.core.errors import UpdatedError
from updated.core.events import ArmDone
from updated.core.machine import decide, first_state
from updated.core.policy import Policy
from updated.core.saved import format_state, parse_state
from updated.core.selection import Reason
from updated.core.state import BootFacts, Fallback, Hold, Phase
from updated.core.status import Progress, Report, status_document
from updated.core.surroundings import Grace
from updated.core.windows import Window, Windows
from updated.metrics import MOST_REASONS, Metrics
from updated.metrics_server import MOST_CONNECTIONS, serve

STATE = first_state(BootFacts("b", "1.2.0", "boot", BootView((("a", SlotState(1, 0, True)), ("b", SlotState())))), 0.5)


def check(name: str, kind: str, result: str, *, counts: bool) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "result": result, "duration_seconds": 0.5, "output": "", "counts": counts,
        "before": None, "note": None,
    }  # fmt: skip


def health(verdict: str, *checks: dict[str, Any], until: str | None = None, this_boot: bool = True) -> dict[str, Any]:
    return {
        "slot": "b", "version": "1.2.0", "verdict": verdict, "reason": None, "finished": "2026-11-21T10:00:00Z",
        "this_boot": this_boot, "baseline": None, "probation_until": until, "checks": list(checks),
    }  # fmt: skip


def shown(metrics: Metrics, last: dict[str, Any] | None) -> list[str]:
    metrics.state_changed(STATE, STATE, status_document(STATE, Policy(), Report(health=last), 1_800_000_000))
    return [line for line in metrics.text().decode().splitlines() if line.startswith("updated_health")]


def test_each_check_says_whether_it_passed_and_whether_it_counts() -> None:
    lines = shown(Metrics(), health(
        "confirmed", check("web", "required", "pass", counts=True), check("disk", "required", "fail", counts=False),
        check("ntp", "wanted", "timeout", counts=False),
    ))  # fmt: skip
    assert 'updated_health_check_result{check="web",kind="required"} 1.0' in lines
    assert 'updated_health_check_counts{check="web",kind="required"} 1.0' in lines
    assert 'updated_health_check_result{check="disk",kind="required"} 0.0' in lines
    assert 'updated_health_check_counts{check="disk",kind="required"} 0.0' in lines
    assert 'updated_health_check_result{check="ntp",kind="wanted"} 0.0' in lines


def test_the_end_of_the_probation_is_there_while_it_lasts_and_gone_with_the_next_verdict() -> None:
    metrics = Metrics()
    end = "updated_health_probation_until_timestamp_seconds"
    lines = shown(metrics, health("probation", until="2027-01-15T08:00:00Z"))
    assert f"{end} 1.8e+09" in lines
    assert 'updated_health_verdict_info{verdict="probation"} 1.0' in lines
    lines = shown(metrics, health("confirmed"))
    assert f"{end} 0.0" in lines
    assert 'updated_health_verdict_info{verdict="confirmed"} 1.0' in lines
    assert not any('"probation"' in line for line in lines)


def test_a_probation_that_another_boot_ended_has_no_end_to_come() -> None:
    lines = shown(Metrics(), health("probation", until="2027-01-15T08:00:00Z", this_boot=False))
    assert "updated_health_probation_until_timestamp_seconds 0.0" in lines


def test_without_a_verdict_there_are_no_checks() -> None:
    assert shown(Metrics(), None) == [
        "updated_health_verdict_timestamp_seconds 0.0", "updated_health_probation_until_timestamp_seconds 0.0",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- the update

DAY = 86400
UNREACHABLE = UpdatedError("unreachable", "the server", "does not answer", "See the network.")
FETCHING = BASE.with_changes(phase=Phase.FETCHING, target=TARGET)
SEALING = FETCHING.with_changes(phase=Phase.SEALING)
STAGED = BASE.with_changes(phase=Phase.STAGED, target=replace(TARGET, tries=3, staged=1_000_000))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    metrics.text()
    return metrics.registry.get_sample_value(f"updated_{name}", labels)


def labels_of(metrics: Metrics, name: str) -> list[dict[str, str]]:
    found = [family for family in metrics.registry.collect() if family.name == f"updated_{name}"]
    return [dict(sample.labels) for sample in found[0].samples]


@pytest.mark.parametrize("name", fleet())
def test_promtool_finds_nothing_wrong_in_any_state(name: str) -> None:
    data = fleet()[name].text()
    done = subprocess.run(["promtool", "check", "metrics"], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_version_is_that_of_the_installed_package() -> None:
    (labels,) = labels_of(Metrics(), "build_info")
    assert labels["version"] == importlib.metadata.version("updated")


def test_the_age_of_what_is_staged_outlives_a_restart_and_a_look_for_something_newer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    armed = decide(STAGED.with_changes(target=TARGET), ArmDone(1_000_000, 0.5, 3), Policy()).state
    saved = parse_state(Object(format_state(armed), ""))
    monkeypatch.setattr("time.time", lambda: 1_000_000.0 + DAY)
    metrics = change(Metrics(), saved, saved)
    assert value(metrics, "staged_age_seconds") == DAY
    change(metrics, saved, saved.with_changes(phase=Phase.CHECKING))
    assert value(metrics, "staged_age_seconds") == DAY
    change(metrics, saved, BASE)
    assert value(metrics, "staged_age_seconds") == 0


def test_a_state_from_before_the_age_was_kept_is_read() -> None:
    document = format_state(STAGED)
    del document["target"]["staged"]
    assert parse_state(Object(document, "")) == STAGED.with_changes(target=replace(TARGET, tries=3))


def test_what_is_armed_again_is_staged_since_the_first_time() -> None:
    again = decide(STAGED, ArmDone(2_000_000, 0.5, 3), Policy()).state
    assert again.target is not None
    assert again.target.staged == 1_000_000


def test_the_time_waited_is_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    held = BASE.with_changes(phase=Phase.WAITING, reasons=(Reason("held", ""), Reason("wave", "")))
    metrics = change(Metrics(), BASE, held)
    clock[0] += 30
    assert value(metrics, "waiting_seconds_total", reason="held") == 30
    clock[0] += 10
    change(metrics, held, held.with_changes(reasons=(Reason("wave", ""),)))
    clock[0] += 5
    assert value(metrics, "waiting_seconds_total", reason="held") == 40
    assert value(metrics, "waiting_seconds_total", reason="wave") == 45
    assert value(metrics, "waiting", reason="held") is None


def test_reasons_that_a_downloader_makes_up_do_not_become_ever_more_series() -> None:
    metrics = Metrics()
    for number in range(10 * MOST_REASONS):
        change(metrics, BASE, BASE.with_changes(reasons=(Reason(f"r{number}", ""),)))
    assert value(metrics, "waiting", reason="other") == 1
    assert len(labels_of(metrics, "waiting_seconds")) <= MOST_REASONS + 1


def test_an_installation_that_ends_before_its_release_is_staged_is_counted() -> None:
    metrics = change(Metrics(), FETCHING, FETCHING.with_changes(phase=Phase.WAITING, target=None))
    assert value(metrics, "install_interruptions_total") == 1
    change(metrics, FETCHING, SEALING, last_install=INSTALLED)
    change(metrics, SEALING, STAGED, last_install=INSTALLED)
    assert value(metrics, "install_interruptions_total") == 1
    change(metrics, SEALING, BASE.with_changes(phase=Phase.FAILED, error=UNREACHABLE))
    assert value(metrics, "install_interruptions_total") == 2


def test_what_an_installation_took_is_told_by_source_and_with_its_time() -> None:
    metrics = change(Metrics(), FETCHING, SEALING, last_install=INSTALLED)
    found = {source: value(metrics, "download_bytes_total", source=source) for source in ("blob", "patch", "index")}
    assert found == {"blob": 400, "patch": 150, "index": 50}
    assert value(metrics, "last_install_duration_seconds") == 12.5


def test_only_the_present_step_is_shown_and_nothing_after_it() -> None:
    metrics = change(Metrics(), BASE, FETCHING)
    metrics.progressed(Progress("compare", "rootfs", 900, 900, 0.0))
    metrics.progressed(Progress("download", "rootfs", 300, 600, 150.0))
    assert labels_of(metrics, "step_bytes_per_second") == [{"step": "download"}]
    assert value(metrics, "step_bytes_per_second", step="download") == 150
    assert value(metrics, "step_bytes", step="download", kind="total") == 600
    change(metrics, FETCHING, STAGED)
    assert labels_of(metrics, "step_bytes") == labels_of(metrics, "step_bytes_per_second") == []


def test_a_pending_release_is_named_until_it_runs() -> None:
    metrics = change(Metrics(), BASE, FETCHING)
    assert labels_of(metrics, "pending_release_info") == [{"version": "1.1.0"}]
    view = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 1, False))))
    trial = STAGED.with_changes(phase=Phase.TRIAL, facts=BootFacts("b", "1.1.0", "other", view))
    change(metrics, STAGED, trial)
    assert labels_of(metrics, "pending_release_info") == []


@pytest.mark.parametrize(("by", "reason"), [("", "fell-back"), ("ann", "rolled-back")])
def test_the_release_that_was_left_is_named_until_another_is_confirmed(by: str, reason: str) -> None:
    left = BASE.with_changes(phase=Phase.FALLEN_BACK, fallback=Fallback("1.1.0", "web failed", 5, by=by))
    metrics = change(Metrics(), BASE, left)
    assert value(metrics, "fallback_info", version="1.1.0", reason=reason) == 1
    change(metrics, left, BASE)
    assert labels_of(metrics, "fallback_info") == []


def test_an_error_is_there_while_it_lasts_and_counted_once() -> None:
    failed = BASE.with_changes(phase=Phase.FAILED, error=UNREACHABLE, failures=1)
    metrics = change(Metrics(), BASE, failed)
    change(metrics, failed, failed)
    assert value(metrics, "error", code="unreachable") == 1
    assert value(metrics, "errors_total", code="unreachable") == 1
    assert value(metrics, "failures_in_a_row") == 1
    change(metrics, failed, BASE)
    assert labels_of(metrics, "error") == []


def test_that_the_state_can_not_be_saved_is_an_error_too() -> None:
    full = UpdatedError("disk-full", "the state", "no space", "Make room.")
    document = status_document(BASE.with_changes(error=full), Policy(), Report(), 1_800_000_000)
    metrics = Metrics()
    for _ in range(3):
        metrics.state_changed(BASE, BASE, document)
    assert value(metrics, "error", code="disk-full") == 1
    assert value(metrics, "errors_total", code="disk-full") == 1


def test_an_error_of_a_former_start_is_shown_and_not_counted() -> None:
    failed = BASE.with_changes(phase=Phase.FAILED, error=UNREACHABLE)
    metrics = change(Metrics(), failed, failed)
    assert value(metrics, "error", code="unreachable") == 1
    assert labels_of(metrics, "errors") == []


def test_windows_tell_whether_they_are_open_and_when_that_changes() -> None:
    thursday = 0  # the epoch began on one
    night = Windows((Window(start=120, minutes=60),))
    metrics = change(Metrics(), BASE, BASE, now=thursday, policy=Policy(reboots=night))
    assert value(metrics, "window_open", window="reboot") == 0
    assert value(metrics, "window_change_timestamp_seconds", window="reboot") == 120 * 60
    assert value(metrics, "window_open", window="download") == 1
    assert value(metrics, "window_change_timestamp_seconds", window="download") == 0
    change(metrics, BASE, BASE, now=121 * 60, policy=Policy(reboots=night))
    assert value(metrics, "window_open", window="reboot") == 1
    assert value(metrics, "window_change_timestamp_seconds", window="reboot") == 180 * 60


@pytest.mark.parametrize(("until", "shown_until"), [(None, 0), (2_000_000_000, 2_000_000_000)])
def test_a_hold_is_told_with_its_end(until: int | None, shown_until: int) -> None:
    metrics = change(Metrics(), BASE, BASE.with_changes(hold=Hold("ann", until)), now=1_800_000_000)
    assert (value(metrics, "hold_active"), value(metrics, "hold_until_timestamp_seconds")) == (1, shown_until)
    change(metrics, BASE, BASE, now=1_800_000_000)
    assert (value(metrics, "hold_active"), value(metrics, "hold_until_timestamp_seconds")) == (0, 0)


def test_the_time_of_people_and_of_the_last_reboot() -> None:
    metrics = change(Metrics(), STAGED, STAGED.with_changes(grace=Grace("1.1.0", 1_800_000_300), reboots_took=(80, 95)))
    assert value(metrics, "users_grace_until_timestamp_seconds") == 1_800_000_300
    assert value(metrics, "last_reboot_duration_seconds") == 95


def test_a_configuration_that_is_refused_is_told_until_one_is_accepted() -> None:
    metrics = Metrics()
    accepted = value(metrics, "config_last_reload_success_timestamp_seconds")
    assert value(metrics, "config_last_reload_successful") == 1
    metrics.reloaded(successful=False)
    assert value(metrics, "config_last_reload_successful") == 0
    assert value(metrics, "config_last_reload_success_timestamp_seconds") == accepted
    metrics.reloaded(successful=True)
    assert value(metrics, "config_last_reload_successful") == 1


def test_a_recalled_release_is_told_while_it_runs() -> None:
    metrics = change(Metrics(), BASE, BASE.with_changes(recalled={BASE.facts.version: "it burns"}))
    assert value(metrics, "running_recalled") == 1
    change(metrics, BASE, BASE.with_changes(recalled={"0.0.1": "it burns"}))
    assert value(metrics, "running_recalled") == 0


def test_a_verdict_of_another_version_without_a_time_breaks_nothing() -> None:
    metrics = change(Metrics(), BASE, BASE, health={**health("healthy"), "finished": None})
    assert value(metrics, "health_verdict_timestamp_seconds") == 0
    assert value(metrics, "health_verdict_info", verdict="healthy") == 1


# ------------------------------------------------------------------------------------------------------- the places


def test_every_place_has_the_same_content(tmp_path: Path) -> None:
    metrics = change(Metrics(), BASE, BASE)
    metrics.happened(Record("fell-back", "1.1.0", ""))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def over_unix() -> bytes:
        connection = http.client.HTTPConnection("localhost")
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(tmp_path / "m.sock"))
            connection.sock = link
            connection.request("GET", "/metrics")
            return connection.getresponse().read()

    def over_http() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            data: bytes = answer.read()
            return data

    async def read_all() -> list[bytes]:
        places = (f"127.0.0.1:{port}", f"unix:{tmp_path}/m.sock", f"textfile:{tmp_path}/m.prom")
        stops = [serve(metrics, place) for place in places]
        try:
            return [await asyncio.to_thread(read) for read in (over_http, over_unix, (tmp_path / "m.prom").read_bytes)]
        finally:
            for stop in stops:
                stop()

    one, *others = asyncio.run(read_all())
    assert b'updated_rollbacks_total{reason="fell-back"} 1.0' in one
    assert others == [one, one]


def test_connections_that_say_nothing_take_no_more_threads_than_a_few(tmp_path: Path) -> None:
    path = f"{tmp_path}/m.sock"

    def connected() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        made.connect(path)
        return made

    def answers() -> bool:
        with connected() as one, contextlib.suppress(ConnectionError):
            one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return one.recv(12) == b"HTTP/1.0 200"
        return False

    async def crowd() -> None:
        stop = serve(Metrics(), f"unix:{path}")
        silent = [await asyncio.to_thread(connected) for _ in range(MOST_CONNECTIONS + 8)]
        try:
            # The first one that is closed is one too many; those before it have been taken.
            assert await asyncio.to_thread(silent[MOST_CONNECTIONS].recv, 1) == b""
            names = [each.name for each in threading.enumerate()]
            assert sum("process_request" in name for name in names) == MOST_CONNECTIONS
            assert not await asyncio.to_thread(answers)
            for each in silent:
                each.close()
            await asyncio.to_thread(lambda: next(filter(None, (answers() for _ in itertools.count()))))
        finally:
            stop()

    asyncio.run(asyncio.wait_for(crowd(), 30))
