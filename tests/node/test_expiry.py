"""Expired metadata is refused unless the configuration has a grace, which is loud; and that it will expire is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.node.bench import DONE, FAILED, Bench, bench
from updated.config import read_settings
from updated.daemon import one_cycle
from updated.engine import Engine
from updated.metrics import Metrics

DAY = 86400
EARLIER = 'path = "/media/updates"\n'
ROLES = {"root", "timestamp", "snapshot", "targets", "stable", "releases"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    """A node whose repository lies at a path; 1.1.0 is there."""
    with bench(tmp_path) as made:
        made.ship()
        text = made.machine.config.replace("[updates]\n", '[updates]\nreboot = "sentinel"\n')
        url = next(line for line in text.splitlines() if line.startswith("url"))
        made.machine.write_config(text.replace(url + "\n", EARLIER))
        (made.root / "media").mkdir()
        (made.root / "media/updates").symlink_to(made.repository)
        yield made


def with_grace(node: Bench, days: int) -> None:
    text = node.machine.config.replace(EARLIER, f"{EARLIER}expired_grace_days = {days}\n")
    node.machine.write_config(text)


Cycle = Callable[..., Metrics]


@pytest.fixture
def cycle(node: Bench, caplog: pytest.LogCaptureFixture) -> Cycle:
    """A cycle so many days from now. The children get the time from the daemon."""

    def at(days: float, expected: int = DONE) -> Metrics:
        caplog.clear()
        clock = time.time() + days * DAY
        engine = Engine(read_settings(str(node.root)), clock=lambda: clock)
        metrics = Metrics()
        engine.audience.listeners.append(metrics)
        with caplog.at_level(logging.WARNING):
            assert asyncio.run(one_cycle(engine)) == expected, caplog.text
        return metrics

    return at


def history(node: Bench) -> list[tuple[str, str]]:
    lines = (node.root / "var/lib/updated/history.jsonl").read_text().splitlines()
    return [(entry["kind"], entry["text"]) for entry in map(json.loads, lines)]


def value(metrics: Metrics, name: str, role: str) -> float | None:
    return metrics.registry.get_sample_value(f"updated_tuf_metadata_{name}", {"role": role})


def warned(node: Bench) -> dict[str, bool]:
    """By role: whether it has expired."""
    return {each["role"]: each["expired"] for each in node.status()["expiry_warnings"]}


# ----------------------------------------------------------------------------------------------------------- grace


def test_without_a_grace_expired_metadata_is_refused(node: Bench, cycle: Cycle) -> None:
    before = node.active()
    cycle(4, FAILED)
    assert node.status()["error"]["code"] == "metadata-expired"
    assert node.active() == before


def test_with_a_grace_it_is_accepted_and_that_is_loud(
    node: Bench, cycle: Cycle, caplog: pytest.LogCaptureFixture
) -> None:
    with_grace(node, 2)
    metrics = cycle(4)
    assert node.status()["phase"] == "staged", "the seal accepts it as well"
    text = "expired metadata was accepted, since [repository] expired_grace_days allows it: timestamp"
    assert text in caplog.messages
    assert node.status()["notes"] == [text]
    assert ("expired", text) in history(node)
    assert value(metrics, "expired_accepted", "timestamp") == 1
    assert value(metrics, "expired_accepted", "root") == 0
    (warning,) = (each for each in node.status()["expiry_warnings"] if each["role"] == "timestamp")
    assert (warning["expired"], warning["accepted"]) == (True, True)
    cycle(4)
    assert text in caplog.messages, "it is said at each check"


def test_the_grace_ends_too(node: Bench, cycle: Cycle) -> None:
    with_grace(node, 2)
    cycle(5.5, FAILED)
    assert node.status()["error"]["code"] == "metadata-expired"


def test_fresh_metadata_needs_no_grace_and_leaves_no_word(node: Bench, cycle: Cycle) -> None:
    with_grace(node, 2)
    metrics = cycle(0)
    assert node.status()["notes"] == []
    assert "expired" not in {kind for kind, _ in history(node)}
    assert value(metrics, "expired_accepted", "timestamp") == 0


# --------------------------------------------------------------------------------------------------------- warnings


def test_what_expires_soon_is_told_in_log_status_and_metrics(
    node: Bench, cycle: Cycle, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = cycle(2.5)
    assert warned(node)["timestamp"] is False
    assert "the metadata of timestamp expires in 11 hours" in caplog.text or "in 12 hours" in caplog.text
    assert "Expiry:    the metadata of timestamp expires in 1" in node.machine.updatectl("status").stdout
    assert value(metrics, "expiry_warning", "timestamp") == 1
    assert value(metrics, "expiry_warning", "root") == 0
    assert set(node.status()["expiries"]) == ROLES


def test_nothing_is_told_of_what_lasts_long_enough(node: Bench, cycle: Cycle) -> None:
    cycle(0)
    assert warned(node) == {}, "a timestamp of three days always has less than a week left"


def test_a_repository_that_stands_still_is_noticed_also_after_a_restart(
    node: Bench, cycle: Cycle, caplog: pytest.LogCaptureFixture
) -> None:
    cycle(0)
    metrics = cycle(3.5, FAILED)  # an engine of its own: nothing is known but what was saved
    assert warned(node)["timestamp"] is True
    assert "the metadata of timestamp expired 1" in caplog.text
    assert value(metrics, "expiry_warning", "timestamp") == 1
    assert value(metrics, "expiry_timestamp_seconds", "timestamp") is not None


def test_the_log_tells_each_change_once(node: Bench, caplog: pytest.LogCaptureFixture) -> None:
    clock = time.time() + 2.5 * DAY
    engine = Engine(read_settings(str(node.root)), clock=lambda: clock)

    async def live() -> None:
        nonlocal clock
        work = asyncio.create_task(engine.run())
        engine.start()
        engine.tick()
        await engine.rest()
        for _ in range(3):
            engine.tick()
        clock += DAY
        for _ in range(3):
            engine.tick()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    with caplog.at_level(logging.WARNING):
        asyncio.run(live())
    said = [line for line in caplog.messages if line.startswith("the metadata of timestamp")]
    assert [line.split()[4] for line in said] == ["expires", "expired"]
